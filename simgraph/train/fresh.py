"""Where a training gets fresh traces from: the simulator, or new noise around what was simulated."""

from __future__ import annotations

import contextlib
import itertools
import time
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any

import numpy as np

from simgraph.compile.names import name_of
from simgraph.dsl import Node
from simgraph.errors import SamplingBiasWarning, SimulationError, TrainingError, UnknownNameError, did_you_mean, listed
from simgraph.graph import Graph
from simgraph.traces import Traces
from simgraph.traces.given import below
from simgraph.traces.seeds import BLOCK, integer_seed
from simgraph.traces.store import Column
from simgraph.train.ranges import extremes
from simgraph.train.stock import Fresh

__all__ = ["endless", "redrawn"]

_STOCK = 10 * BLOCK
"""Traces that a training begins with where further ones are simulated as it goes on."""

_TIMED = 1.0
"""Seconds that a longer look at how long drawing takes may last, as far as a shorter one can tell."""


def endless(graph: Graph, seed: int, progress: bool) -> tuple[Traces, Callable[[Traces], Fresh]]:
    """Returns the first traces of a graph, and where those after them come from, a block each time."""
    began = time.monotonic()
    traces = graph.simulate(_STOCK, seed=seed, progress=progress)
    seconds = (time.monotonic() - began) * BLOCK / _STOCK
    starts = itertools.count(_STOCK, BLOCK)

    def simulate() -> Traces:
        return graph.simulate(BLOCK, seed=seed, start=next(starts), progress=False)

    return traces, lambda _: Fresh(simulate, BLOCK, lambda: seconds)


def redrawn(graph: Graph, names: Iterable[str | Node], seed: int) -> Callable[[Traces], Fresh]:
    """Returns what makes, of the traces that are learned from, traces in which some nodes are drawn anew.

    Noise that is added as a training goes on is common practice where the signal is dear and its noise cheap. Functions
    that have a shape are stored as well; the results of others are computed again. Where a draw fails, gives another
    value to a number that never varied, or has one where none was, the trace stays as it was: what is missing, and how
    often, is no other than before.

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
    varying = [*graph.indices, *(name for name, plate in graph.plates.items() if plate.is_ragged)]
    if varying:
        raise TrainingError(
            "redraw= needs plates of fixed sizes, and no functions:"
            f" {listed(map(str, varying))} may differ from trace to trace.\n  Leave out redraw=."
        )
    anew = named | {name for name in graph if named & graph.ancestors(name)}
    drawn = {name for name, node in graph.items() if node.kind not in ("constant", "deterministic")}
    if not drawn & anew:
        raise TrainingError(
            f"redraw={sorted(named)} draws nothing anew: nothing random is among it or below it.\n"
            "  Name nodes that are drawn, such as the data."
        )
    if not drawn - anew:
        raise TrainingError(
            "redraw= leaves nothing of the traces as it was.\n  For fresh traces throughout: sg.fit(graph)"
        )

    def fresh(traces: Traces) -> Fresh:
        columns = {name: traces.column(name) for name in graph if name in traces}
        kept = [name for name in columns if name not in anew]
        if gaps := [name for name in kept if not traces.present(name).all()]:
            raise TrainingError(f"redraw= needs all values of {listed(gaps)}, and some are missing.\n  Leave it out.")
        own = {name: traces.plates[name] for name in columns}
        stored = _Stored(graph, Traces(columns, plates=own), kept, integer_seed(seed, "redraw"))
        count = min(BLOCK, traces.num_simulations)

        def blocks() -> Iterator[Traces]:
            for number in itertools.count():
                block = stored.again(stored.rows, number)
                yield from (block[first : first + count] for first in range(0, stored.rows, count))

        return Fresh(partial(next, blocks()), count, stored.seconds, repeats=True)

    return fresh


@dataclass(frozen=True)
class _Stored:
    """Traces of which some nodes are drawn anew, as often as it is asked for.

    Attributes:
        graph: The graph.
        traces: The traces, of variables of the graph alone.
        kept: Nodes whose values stay.
        seed: Seed of the draws.
    """

    graph: Graph
    traces: Traces
    kept: Sequence[str]
    seed: int

    @cached_property
    def rows(self) -> int:
        """How many traces are drawn anew at a time: of few traces many draws, where a block of them costs as much."""
        count = min(BLOCK, self.traces.num_simulations)
        one_by_one = any(
            not (node.vectorized or node.kind in ("constant", "distribution"))
            for name, node in self.graph.items()
            if name not in self.kept
        )
        return count if one_by_one else BLOCK // count * count

    def again(self, count: int, number: int) -> Traces:
        """Returns so many traces with new draws, the first of a numbered block; blocks go over them round and round.

        A trace that fails, in which a number varies that never did, or in which others are missing, stays as it was.
        """
        first, start = number * self.rows, number * BLOCK
        old = self.traces[np.arange(first, first + count) % self.traces.num_simulations]
        given = {name: old[name].astype(np.int64 if old[name].dtype.kind in "iub" else float) for name in self.kept}
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", SamplingBiasWarning)  # failures were the user's to judge before
            try:
                new = below(self.graph, given, start).simulate(
                    count, seed=self.seed, start=start, on_failure="missing", progress=False
                )
            except SimulationError:  # all of them failed, as others will where those of the first block do
                if number == 0:
                    raise
                return old
        whole = np.ones(count, dtype=bool)
        for name, constant in self._constant.items():
            present = old.present(name)
            alike = (new.present(name) == present) & (~(present & constant) | (new[name] == old[name]))
            whole &= alike.reshape(count, -1).all(1)
        columns = {}
        for name in old:
            rows = whole.reshape(-1, *(1,) * (old[name].ndim - 1))
            columns[name] = Column(_typed(np.where(rows, new[name], old[name]), old[name].dtype), old.present(name))
        return Traces(columns, plates=old.plates)

    @cached_property
    def _constant(self) -> dict[str, np.ndarray]:
        """Which elements of events always have one value, in all elements of plates, by name."""
        found = {}
        for name in self.traces:
            low, high = extremes(self.traces, name, self.traces[name].ndim - 1 - len(self.graph[name].plates))
            found[name] = low == high
        return found

    def seconds(self) -> float:
        """Returns how long drawing anew may take, by a few draws: nodes draw one by one, or a block whatever is asked.

        More are drawn as long as they come soon.
        """
        taken = self._timed(1)
        if taken < _TIMED:
            taken = self._timed(1)  # the first draw takes the time that torch needs to get ready
        count, each = 1, 0.0
        for more in (2, 8, 64, 256):
            longer = self._timed(more)
            each = max(0.0, (longer - taken) / (more - count))
            count, taken = more, longer
            if taken + 3 * each * count > _TIMED:
                break
        return taken + each * max(0, self.rows - count)

    def _timed(self, count: int) -> float:
        began = time.monotonic()
        with contextlib.suppress(SimulationError):  # few draws may all fail
            self.again(count, 0)
        return time.monotonic() - began


def _typed(values: np.ndarray, dtype: np.dtype[Any]) -> np.ndarray:
    """Returns values in a type, except fractions in one of whole numbers."""
    cast = values.astype(dtype)
    return values if dtype.kind in "iub" and (cast != values).any() else cast
