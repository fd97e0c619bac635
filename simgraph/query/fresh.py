"""Where a training gets fresh traces from: the simulator, or new noise around what was simulated."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterable

import numpy as np

from simgraph.compile.compiled import name_of
from simgraph.dsl import Node
from simgraph.errors import TrainingError, UnknownNameError, did_you_mean, listed
from simgraph.graph import Graph
from simgraph.traces import Traces
from simgraph.traces.seeds import BLOCK, integer_seed
from simgraph.train.stock import Fresh

__all__ = ["endless", "redrawn"]

_STOCK = 10 * BLOCK
"""Traces that a training begins with where further ones are simulated as it goes on."""


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

    Noise that is added as a training goes on is common practice where the signal is dear and its noise cheap.
    Functions that have a shape are stored as well; the results of others are computed again.

    Args:
        graph: The graph.
        names: The nodes; those below them are drawn anew, too.
        seed: Seed of the draws.

    Raises:
        UnknownNameError: If a name is not in the graph.
        TrainingError: If sizes or points vary by trace; or, once there are traces, if a stored value is missing.

    References:
        Dax et al., "Real-time gravitational wave science with neural posterior estimation" (2021): noise is drawn in
        training, for waveforms that were simulated before.
    """
    named = {name_of(name) for name in names}
    for name in sorted(named):
        if name not in graph:
            raise UnknownNameError(f"redraw={name!r} is not in the graph.\n  {did_you_mean(name, list(graph))}")
    if graph.indices or any(plate.least != plate.most for plate in graph.plates.values()):
        raise TrainingError("redraw= needs plates of fixed sizes, and no functions.\n  Leave it out.")
    anew = named | {name for name in graph if named & graph.ancestors(name)}

    def fresh(traces: Traces) -> Fresh:
        stored = {name: traces[name] for name in graph if name in traces and name not in anew}
        if gaps := [name for name in stored if not traces.present(name).all()]:
            raise TrainingError(f"redraw= needs all values of {listed(gaps)}, and some are missing.\n  Leave it out.")
        starts = itertools.count(0, BLOCK)

        def simulate() -> Traces:
            start = next(starts)
            rows = np.arange(start, start + BLOCK) % traces.num_simulations
            given = {name: values[rows] for name, values in stored.items()}
            return graph.simulate(given=given, seed=integer_seed(seed, "redraw"), start=start, progress=False)

        return Fresh(simulate, BLOCK, 0.0)

    return fresh
