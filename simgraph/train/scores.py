r"""What the graph knows of the law that a model learns: the score of the traces themselves.

Where the densities of a variable and of its children are known, so is the slope of the joint log density at a trace,
:math:`g_i = \partial_i \log p(x)`, by token. It is the same for all questions: the joint density and that of some
variables given the others have the same slope. Training uses it, and how fast it changes, to aim at less noisy targets
(:mod:`simgraph.simformer.control`).

Tokens are left out whose variable, or a child of it, is a black box or a function of its parents, and such as have
densities that jump: counts, bounds that move with a parent, thresholds.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from simgraph.compile import Compiled
from simgraph.compile.atoms import zones
from simgraph.compile.elements import Elements
from simgraph.compile.layout import Layout
from simgraph.errors import QueryError, SimgraphWarning, listed, warn
from simgraph.graph import Graph
from simgraph.traces import Traces
from simgraph.traces.conditional import Way, choose_way
from simgraph.train.local_scores import LocalScores, Values, parents_of

__all__ = ["Scores", "readable"]

_LEAST = 100
"""Traces below which nothing is computed: checks would tell little."""

_MOST_TOKENS, _MOST_GROUPS, _MOST_KINDS = 512, 64, 64
"""Known tokens, groups of such as depend on one another, and sizes of plates, beyond which scores take too long."""

_FEW = 32
"""Traces on which it is found out how to evaluate nodes."""

_MANY = 2_000
"""Traces that are held against their density."""

_DOUBT = 6.0
"""Standard errors by which traces may miss what their density says."""

Kind = tuple[int, ...]
"""Sizes of the plates whose size varies."""


def readable(graph: Graph, layout: Layout) -> list[str]:
    """Returns the variables whose scores can be computed, as far as the kinds of nodes tell."""
    plain = {name for name in layout.names if graph[name].index is None and graph[name].kind != "constant"}
    factors = {name for name in plain if graph[name].kind == "distribution" and set(graph[name].parents) <= plain}
    return [
        name
        for name in layout.names
        if name in factors
        and set(graph.children(name)) <= factors
        and isinstance(tokenizer := layout.tokenizers[name], Elements)
        and not tokenizer.counts
        and not zones(tokenizer.statistics)
    ]


class Scores:
    """Computes scores of traces.

    Args:
        compiled: The compiled graph, its tokenizers fitted.
        names: Variables whose scores are asked for.

    Attributes:
        parts: What computes scores, by the sizes of plates.
    """

    def __init__(self, compiled: Compiled, names: Sequence[str]) -> None:
        assert compiled.graph is not None
        self.compiled, graph = compiled, compiled.graph
        factors = _factors(graph, names)
        self.read = sorted(factors | {parent for name in factors for parent in graph[name].parents})
        axes = {plate for name in self.read for plate in compiled.layout.plates[name]}
        self.plates = [plate for plate in compiled.layout.ragged if plate in axes]
        self.parts: dict[Kind, LocalScores] = {}

    @staticmethod
    def of(compiled: Compiled, traces: Traces, tokens: Tensor) -> Scores | None:
        """Prepares the scores of traces that are joint draws of the graph, none missing.

        Args:
            compiled: The compiled graph, its tokenizers fitted.
            traces: Traces.
            tokens: Their tokens (traces, tokens, width).

        Returns:
            What computes scores; None where none are known.
        """
        graph, layout = compiled.graph, compiled.layout
        names = [] if graph is None else readable(graph, layout)
        count = sum(layout.slots(name).stop - layout.slots(name).start for name in names)
        if not names or count > _MOST_TOKENS or len(tokens) < _LEAST:
            return None
        found = Scores(compiled, names)
        try:
            prepared = found._prepare(names, traces, tokens)
            scores = found(traces[:_MANY], tokens[:_MANY]) if prepared else None
        except Exception:  # densities are the user's code, and not all of them have second derivatives
            return None
        return found if scores is not None and found._hold(scores, tokens[:_MANY]) else None

    def _prepare(self, names: Sequence[str], traces: Traces, tokens: Tensor) -> bool:
        """Finds out how to compute scores; returns whether there are any, and few enough of what takes time."""
        kinds = sorted(self._kinds(traces), key=lambda kind: -len(kind[1]))  # the one with the most traces first
        if len(kinds) > _MOST_KINDS:
            return False
        ways: dict[str, Way] = {}
        jumping = torch.zeros(0, dtype=torch.long)
        for number, (kind, rows) in enumerate(kinds):
            own, values = tokens[rows][:, self._slots(kind)], self._values(traces, rows, kind)
            compiled = self.compiled.sized(dict(zip(self.plates, kind, strict=True)))
            assert compiled.graph is not None
            if not number:
                ways = _ways(compiled.graph, _factors(compiled.graph, names), values)
                names = [name for name in names if _factors(compiled.graph, [name]) <= set(ways)]
                ways = {name: way for name, way in ways.items() if name in _factors(compiled.graph, names)}
                if not names:
                    return False
            part = LocalScores(compiled, names, ways)
            if not number:
                jumping = part.jumping(own, values)
            part.find_groups(own, values, jumping)
            if not 0 < len(part.groups) <= _MOST_GROUPS:
                return False
            self.parts[kind] = part
        return True

    def __call__(self, traces: Traces, tokens: Tensor) -> Tensor:
        """Returns g, lambda and its slope: float (traces, tokens, 3); 0, infinity and 0 where they are not known."""
        found = torch.zeros(*tokens.shape[:2], 3)
        found[..., 1] = torch.inf
        for kind, rows in self._kinds(traces):
            if kind not in self.parts:  # sizes that came up among fresh traces alone
                continue
            slots = self._slots(kind)
            part = self.parts[kind](tokens[rows][:, slots], self._values(traces, rows, kind))
            found[torch.from_numpy(rows)[:, None], slots] = part
        return found

    def _kinds(self, traces: Traces) -> Iterator[tuple[Kind, np.ndarray]]:
        """Yields the sizes of plates that vary, with the rows of the traces that have them."""
        nothing = np.zeros((traces.num_simulations, 0), int)
        sizes = np.stack([traces.sizes[plate] for plate in self.plates], 1) if self.plates else nothing
        kinds, which = np.unique(sizes, axis=0, return_inverse=True)
        for number, kind in enumerate(kinds.tolist()):
            yield tuple(kind), np.flatnonzero(which.reshape(-1) == number)

    def _slots(self, kind: Kind) -> Tensor:
        """Returns the tokens that exist at these sizes."""
        return self.compiled.layout.within(dict(zip(self.plates, kind, strict=True))).nonzero().flatten()

    def _values(self, traces: Traces, rows: np.ndarray, kind: Kind) -> Values:
        """Returns what is read of some traces, all of them of these sizes."""
        ends = dict(zip(self.plates, kind, strict=True))
        found: Mapping[str, np.ndarray] = {
            name: traces[name][rows][(slice(None), *(slice(ends.get(plate)) for plate in traces.plates[name]))]
            for name in self.read
        }
        types = {name: np.float64 if array.dtype.kind == "f" else np.int64 for name, array in found.items()}
        return {name: torch.from_numpy(np.array(array, types[name])) for name, array in found.items()}

    def _hold(self, scores: Tensor, tokens: Tensor) -> bool:
        """Tells whether traces follow the densities; if not, the user should know.

        With phi = 1 / (1 + lambda), E[phi' + phi g] and E[(z phi)' + z phi g] are 0 under the density, for any phi.
        """
        g, precision, slope = scores.double().unbind(-1)
        z = tokens[..., 0].double()
        known = precision.isfinite()
        phi = 1 / (1 + precision)
        change = -slope * phi.square()
        moments = torch.stack([change + phi * g, phi + z * change + z * phi * g])
        count = known.sum(0).clamp_min(1)
        mean = moments.sum(1) / count
        error = (moments.square().sum(1) / count - mean.square()).clamp_min(0).sqrt() / count**0.5
        off = ((mean.abs() > _DOUBT * error) & (error > 0)).any(0)
        if not off.any():
            return True
        names = dict.fromkeys(self.compiled.layout.tokens[slot][0] for slot in off.nonzero().flatten().tolist())
        warn(
            f"the traces do not follow the density that the graph states for {listed(names)}; training goes by the"
            " traces alone.\n"
            "  Were they simulated by this very graph? Check as well that log_prob of the distributions is right.",
            SimgraphWarning,
        )
        return False


def _factors(graph: Graph, names: Iterable[str]) -> set[str]:
    """Returns the nodes whose densities depend on variables: these and their children."""
    return {factor for name in names for factor in (name, *graph.children(name))}


def _ways(graph: Graph, names: set[str], values: Values) -> dict[str, Way]:
    """Returns how nodes are evaluated, in topological order, of those that can be for many traces together."""
    few = {name: value[:_FEW] for name, value in values.items()}
    found = {}
    for name in graph.order:
        if name in names:
            try:
                way = choose_way(graph[name], few[name], *parents_of(graph, name, few))
            except QueryError:  # its distribution has no log_prob
                continue
            if way.together:  # else it takes long, and numbers may be taken out of tensors on the way
                found[name] = way
    return found
