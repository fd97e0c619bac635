"""Where a training gets fresh traces from: the simulator, or new noise around what was simulated."""

from __future__ import annotations

import itertools
import time
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property, partial

import numpy as np

from simgraph.compile.names import name_of
from simgraph.dsl import Node
from simgraph.errors import SamplingBiasWarning, SimulationError, TrainingError, UnknownNameError, did_you_mean, listed
from simgraph.graph import Graph
from simgraph.traces import Traces
from simgraph.traces.given import below
from simgraph.traces.seeds import BLOCK, integer_seed
from simgraph.traces.store import Column
from simgraph.train.stock import Fresh

__all__ = ["endless", "redrawn"]

_STOCK = 10 * BLOCK
"""Traces that a training begins with where further ones are simulated as it goes on."""

_TIMED = 0.1
"""Seconds of drawing that foretell how long more of it takes."""


def endless(graph: Graph, seed: int, progress: bool) -> tuple[Traces, Callable[[Traces], Fresh]]:
    """Returns the first traces of a graph, and where those after them come from, a block each time."""
    began = time.monotonic()
    traces = graph.simulate(_STOCK, seed=seed, progress=progress)
    seconds = (time.monotonic() - began) * BLOCK / _STOCK
    starts = itertools.count(_STOCK, BLOCK)

    def simulate() -> Traces:
        return graph.simulate(BLOCK, seed=seed, start=next(starts), progress=False)

    return traces, lambda _: Fresh(simulate, BLOCK, seconds)


def redrawn(graph: Graph, names: Iterable[str | Node], seed: int) -> Callable[[Traces], Fresh]:
    """Returns what makes, of the traces that are learned from, traces in which some nodes are drawn anew.

    Noise that is added as a training goes on is common practice where the signal is dear and its noise cheap. Functions
    that have a shape are stored as well; the results of others are computed again. Where a draw fails, or gives another
    value to a number that never varied, the trace stays as it was.

    Args:
        graph: The graph.
        names: The nodes; those below them are drawn anew, too.
        seed: Seed of the draws.

    Raises:
        UnknownNameError: If a name is not in the graph.
        TrainingError: If nothing random is drawn anew, or nothing is kept; if sizes or points vary by trace; or, once
            there are traces, if a stored value is missing.

    References:
        Dax et al., "Real-time gravitational wave science with neural posterior estimation" (2021): noise is drawn in
        training, for waveforms that were simulated before.
    """
    named = {name_of(name) for name in names}
    for name in sorted(named):
        if name not in graph:
            raise UnknownNameError(f"redraw={name!r} is not in the graph.\n  {did_you_mean(name, list(graph))}")
    if graph.indices or any(plate.is_ragged for plate in graph.plates.values()):
        raise TrainingError("redraw= needs plates of fixed sizes, and no functions.\n  Leave it out.")
    anew = named | {name for name in graph if named & graph.ancestors(name)}
    random = {name for name, node in graph.items() if node.kind not in ("constant", "deterministic")}
    if not random & anew:
        raise TrainingError(
            f"redraw={sorted(named)} draws nothing anew: nothing random is among it or below it.\n"
            "  Name nodes that are drawn, such as the data."
        )
    if not random - anew:
        raise TrainingError(
            "redraw= leaves nothing of the traces as it was.\n  For fresh traces throughout: sg.fit(graph)"
        )

    def fresh(traces: Traces) -> Fresh:
        names = [name for name in graph if name in traces and name not in anew]
        if gaps := [name for name in names if not traces.present(name).all()]:
            raise TrainingError(f"redraw= needs all values of {listed(gaps)}, and some are missing.\n  Leave it out.")
        stored = _Stored(graph, traces, names, integer_seed(seed, "redraw"))
        # Few traces are drawn many times at once, and handed out as many as they are.
        count = min(BLOCK, traces.num_simulations)
        each = BLOCK // count * count

        def blocks() -> Iterator[Traces]:
            for start in itertools.count(0, each):
                drawn = stored.again(each, start)
                yield from (drawn[first : first + count] for first in range(0, each, count))

        return Fresh(partial(next, blocks()), count, stored.seconds(), repeats=True)

    return fresh


@dataclass(frozen=True)
class _Stored:
    """Traces of which some nodes are drawn anew, as often as it is asked for.

    Attributes:
        graph: The graph.
        traces: The traces.
        names: Nodes whose values stay.
        seed: Seed of the draws.
    """

    graph: Graph
    traces: Traces
    names: Sequence[str]
    seed: int

    def again(self, count: int, start: int) -> Traces:
        """Returns so many traces with new draws; the numbers of the traces go on from ``start``, round and round.

        A trace that fails, or in which a number varies that never did, stays as it was.
        """
        old = self.traces[np.arange(start, start + count) % self.traces.num_simulations]
        given = {name: old[name].astype(np.int64 if old[name].dtype.kind in "iub" else float) for name in self.names}
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", SamplingBiasWarning)  # failures were the user's to judge before
            try:
                new = below(self.graph, given, start).simulate(
                    count, seed=self.seed, start=start, on_failure="missing", progress=False
                )
            except SimulationError:  # all of them failed
                return old
        whole = np.ones(count, dtype=bool)
        for name, varying in self._varying.items():
            kept = new.present(name) & (varying | (new[name] == old[name]))
            whole &= kept.reshape(count, -1).all(1)
        columns = {}
        for name in old:
            rows = whole.reshape(-1, *(1,) * (old[name].ndim - 1))
            values = np.where(rows, new[name], old[name]).astype(old[name].dtype)
            columns[name] = Column(values, np.where(rows, new.present(name), old.present(name)))
        return Traces(columns, plates=old.plates)

    @cached_property
    def _varying(self) -> dict[str, np.ndarray]:
        return {name: (self.traces[name] != self.traces[name][0]).any(0) for name in self.traces}

    def seconds(self) -> float:
        """Returns how long drawing a block anew may take, by a few draws: more of them where they are fast."""
        taken = 0.0
        for count in (1, 16, 256):
            began = time.monotonic()
            self.again(count, 0)
            taken = (time.monotonic() - began) * BLOCK / count
            if taken * count > _TIMED * BLOCK:
                break
        return taken
