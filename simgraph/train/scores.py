r"""What the graph knows of the law that a model learns: the score of the traces themselves.

Where the densities of a variable and of its children are known, so is the slope of the joint log density at a trace,
:math:`g_i = \partial_i \log p(x)`, by token. It is the same for all questions: the joint density and that of some
variables given the others have the same slope. Training uses it, and how fast it changes, to aim at less noisy targets
(:mod:`simgraph.simformer.control`).

Tokens are left out whose variable, or a child of it, is a black box or a function of its parents, and such as have
densities that jump: counts, bounds that move with a parent, thresholds. Those are found along lines
(:mod:`simgraph.train.smooth`), and traces are held against what must be true of them (:mod:`simgraph.train.stein`).
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import numpy as np
import torch
from torch import Tensor
from tqdm.auto import tqdm

from simgraph.compile import Compiled
from simgraph.compile.layout import Tokens
from simgraph.errors import SimgraphWarning, listed, warn
from simgraph.processor.tuned import tuned
from simgraph.traces import Traces
from simgraph.train.densities import factors, readable, ways_of
from simgraph.train.local_scores import LocalScores, Values, nothing
from simgraph.train.smooth import POINTS
from simgraph.train.stein import breaks_stein, breaks_stein_inside
from simgraph.train.telling import telling

__all__ = ["Scores"]

_LEAST = 100
"""Traces below which nothing is computed: checks would tell little."""

_MOST_TOKENS, _MOST_GROUPS, _MOST_KINDS = 512, 64, 64
"""Known tokens, groups of such as depend on one another, and sizes of plates, beyond which scores take too long."""

_FEW = 32
"""Traces on which it is found out how to evaluate nodes."""

_LEAST_SECONDS = 1.0
"""Time below which it is not worth finding out how to compute scores."""

_PACE = 1e9
"""Bytes of the graphs of densities that are made in a second, about: what is made tells the time before it passes."""

_LINES = 1_000
"""Lines in search of jumps that traces at the ends of tokens may add."""

_BAR_DELAY = 1.0
"""Seconds after which there is a progress bar."""

Kind = tuple[int, ...]
"""Sizes of the plates whose size varies."""


class Scores:
    """Computes scores of traces, in the main thread, while no other one runs a graph's functions.

    Args:
        compiled: The compiled graph, its tokenizers fitted.
        names: Variables whose scores are asked for.
        progress: Whether to show a progress bar where it takes long.

    Attributes:
        parts: What computes scores, by the sizes of plates.
        rows: How many traces are evaluated together.
        lost: Identifiers of tokens that have no scores after all, boolean (identifiers,).
    """

    def __init__(self, compiled: Compiled, names: Sequence[str], progress: bool = False) -> None:
        assert compiled.graph is not None
        self.compiled, self.progress, graph = compiled, progress, compiled.graph
        nodes = factors(graph, names)
        self.read = sorted(nodes | {parent for name in nodes for parent in graph[name].parents})
        axes = {plate for name in self.read for plate in compiled.layout.plates.get(name, ())}
        self.plates = [plate for plate in compiled.layout.ragged if plate in axes]
        self.parts: dict[Kind, LocalScores] = {}
        self.rows = 1
        self.lost = torch.zeros(len(compiled.layout.widths), dtype=torch.bool)

    @staticmethod
    def of(
        compiled: Compiled, traces: Traces, tokens: Tokens, seconds: float = torch.inf, progress: bool = False
    ) -> tuple[Scores, Tensor] | None:
        """Computes the scores of traces that are joint draws of the graph, none missing.

        Args:
            compiled: The compiled graph, its tokenizers fitted.
            traces: Traces.
            tokens: Their tokens.
            seconds: How long that may take, as far as it can be foreseen.
            progress: Whether to show a progress bar.

        Returns:
            What computes scores of further traces, and the scores as :meth:`__call__` returns them; None where none are
            known.
        """
        graph, layout = compiled.graph, compiled.layout
        names = [] if graph is None else readable(graph, layout)
        count = sum(layout.slots(name).stop - layout.slots(name).start for name in names)
        if not names or count > _MOST_TOKENS or len(tokens) < _LEAST or seconds < _LEAST_SECONDS:
            return None
        found = Scores(compiled, names, progress)
        with _quietly():
            try:
                prepared = found._prepare(names, traces, tokens.values, seconds)
            except Exception:  # densities are the user's code, and not all of them have second derivatives
                return None
            scores = found(traces, tokens.values) if prepared else nothing(*tokens.values.shape[:2])
        found._check(scores, tokens)
        return (found, scores) if scores[..., 1].isfinite().any() else None

    def __call__(self, traces: Traces, tokens: Tensor) -> Tensor:
        """Returns g, lambda and its slope: float (traces, tokens, 3); 0, infinity and 0 where they are not known.

        A token that some trace has no density or no slope of is lost, and so are all that share its identifier: what
        is added to targets has mean zero only if it is there for all traces.
        """
        found, ids = nothing(*tokens.shape[:2]), self.compiled.layout.ids
        bar = tqdm(total=len(tokens), desc="scores", unit="trace", delay=_BAR_DELAY, disable=not self.progress)
        with _quietly(), bar:
            for kind, all_rows in self._kinds(traces):
                if kind not in self.parts:  # sizes that came up among fresh traces alone
                    continue
                slots = self._slots(kind)
                for rows in np.array_split(all_rows, -(-len(all_rows) // self.rows)):
                    try:
                        part, lost = self.parts[kind](tokens[rows][:, slots], self._values(traces, rows, kind))
                    except Exception:  # a user's code can raise anything
                        self.lost[:] = True
                        return self.without_lost(found)
                    found[torch.from_numpy(rows)[:, None], slots] = part
                    self.lost[ids[slots[lost]]] = True
                    bar.update(len(rows))
        return self.without_lost(found)

    def without_lost(self, scores: Tensor) -> Tensor:
        """Returns scores (traces, tokens, 3) without those of lost tokens, in place."""
        scores[:, self.lost[self.compiled.layout.ids]] = nothing(1)
        return scores

    def _prepare(self, names: Sequence[str], traces: Traces, tokens: Tensor, seconds: float) -> bool:
        """Finds out how to compute scores; returns whether there are any, and few enough of what takes time."""
        kinds = sorted(self._kinds(traces), key=lambda kind: -len(kind[1]))  # the one with the most traces first
        if len(kinds) > _MOST_KINDS:
            return False
        sized = {kind: self._sized(kind) for kind, _ in kinds}
        kind, rows = kinds[0]
        graph = sized[kind].graph
        assert graph is not None
        few = self._values(traces, rows[:_FEW], kind)
        ways = ways_of(graph, factors(graph, names), few)
        names = [name for name in names if factors(graph, [name]) <= set(ways)]
        if not names:
            return False
        wanted = factors(graph, names)
        ways = {name: way for name, way in ways.items() if name in wanted}
        part = LocalScores(sized[kind], names, ways)
        if not 0 < len(part.groups) <= _MOST_GROUPS:
            return False
        own = tokens[rows[:_FEW]][:, self._slots(kind)]
        self.rows = part.rows(own, few)
        if len(tokens) * part.memory(own, few) > _PACE * seconds:
            return False
        rough: set[int] = set()
        for kind, rows in {kind: (kind, rows) for kind, rows in (kinds[0], min(kinds), max(kinds))}.values():
            part = LocalScores(sized[kind], names, ways)
            found = self._rough(part, traces, tokens, kind, rows, seconds)
            if found is None:
                return False
            rough |= found
        rough |= part.beside(rough)
        self.parts = {kind: LocalScores(own, names, ways, sorted(rough)) for kind, own in sized.items()}
        return True

    def _rough(
        self, part: LocalScores, traces: Traces, tokens: Tensor, kind: Kind, rows: np.ndarray, seconds: float
    ) -> set[int] | None:
        """Returns identifiers of tokens along which there are jumps, None if it took too long to find that out."""
        own = tokens[rows][:, self._slots(kind)]
        z = part.coordinates(own)
        ends = z.amin(0), z.amax(0)
        first = part.of_each(0)
        count = len(first)
        through = telling(z[:, first], dict(self._conditions(part, traces, rows, kind)), _LINES // count)
        numbers = np.array([number for number, _ in through])
        own, values = own[numbers], self._values(traces, rows[numbers], kind)
        if len(through) * count * POINTS * part.memory(own, values, part.groups[:1]) > _PACE * seconds:
            return None
        return part.rough(own, values, [element for _, element in through], ends, self.rows)

    def _conditions(
        self, part: LocalScores, traces: Traces, rows: np.ndarray, kind: Kind
    ) -> Iterator[tuple[str, tuple[np.ndarray, tuple[str, ...]]]]:
        """Yields what densities depend on and has no scores: names, values and the names of their plates."""
        parents = {parent for name in part.ways for parent in part.graph[name].parents}
        for name in sorted(parents.difference(part.names)):
            yield name, (self._array(traces, name, rows, kind), tuple(traces.plates[name]))

    def _check(self, scores: Tensor, tokens: Tokens) -> None:
        """Takes out scores that traces do not follow; if they follow another law, the user should know."""
        layout, values = self.compiled.layout, tokens.values[..., 0]
        off = breaks_stein(scores, values)
        if not off.any():
            return
        wrong = breaks_stein_inside(scores, values)
        self.lost[layout.ids[off]] = True
        if wrong.any():
            self.lost[:] = True
            names = dict.fromkeys(layout.tokens[slot][0] for slot in wrong.nonzero().flatten().tolist())
            warn(
                f"the traces do not follow the density that the graph states for {listed(names)}; training goes by the"
                " traces alone.\n"
                "  Were they simulated by this very graph, and is log_prob of the distributions right? Where densities"
                " have jumps that are hard to find, preset=sg.Settings(scores=False) goes without.",
                SimgraphWarning,
            )
        self.without_lost(scores)

    def _kinds(self, traces: Traces) -> Iterator[tuple[Kind, np.ndarray]]:
        """Yields the sizes of plates that vary, with the rows of the traces that have them."""
        none = np.zeros((traces.num_simulations, 0), int)
        sizes = np.stack([traces.sizes[plate] for plate in self.plates], 1) if self.plates else none
        kinds, which = np.unique(sizes, axis=0, return_inverse=True)
        for number, kind in enumerate(kinds.tolist()):
            yield tuple(kind), np.flatnonzero(which.reshape(-1) == number)

    def _sized(self, kind: Kind) -> Compiled:
        """Returns the compiled graph at these sizes."""
        return self.compiled.sized(dict(zip(self.plates, kind, strict=True)))

    def _slots(self, kind: Kind) -> Tensor:
        """Returns the tokens that exist at these sizes."""
        return self.compiled.layout.within(dict(zip(self.plates, kind, strict=True))).nonzero().flatten()

    def _values(self, traces: Traces, rows: np.ndarray, kind: Kind) -> Values:
        """Returns what is read of some traces, all of them of these sizes."""
        found = {name: self._array(traces, name, rows, kind) for name in self.read}
        types = {name: np.float64 if array.dtype.kind == "f" else np.int64 for name, array in found.items()}
        return {name: torch.from_numpy(np.array(array, types[name])) for name, array in found.items()}

    def _array(self, traces: Traces, name: str, rows: np.ndarray, kind: Kind) -> np.ndarray:
        ends = dict(zip(self.plates, kind, strict=True))
        return traces[name][rows][(slice(None), *(slice(ends.get(plate)) for plate in traces.plates[name]))]


@contextmanager
def _quietly() -> Iterator[None]:
    """Runs torch as it is fastest, without what it or a user's code says at places where no trace is."""
    with tuned(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
