"""Runs a graph many times: ancestral sampling, node by node, many traces together.

A trace that fails (an exception, NaN, infinity, a value outside of a declared support) is never dropped
in silence: conditioning on success changes the prior to p(theta | success).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np
from tqdm.auto import tqdm

from simgraph.dsl import Index, Plate
from simgraph.errors import DeclarationError, SamplingBiasWarning, ShapeError, SimulationError, warn
from simgraph.graph import Graph
from simgraph.graph.ragged import stacked
from simgraph.traces.batch import Batch, Inputs, Raised
from simgraph.traces.by_size import evaluate_by_size
from simgraph.traces.evaluate import draws_in_blocks
from simgraph.traces.given import below, rows_of
from simgraph.traces.points import check_points, drawn_points, evaluate_function, with_numbers
from simgraph.traces.seeds import BLOCK, check_seed
from simgraph.traces.sizes import check_sizes, existing, sizes_of_traces
from simgraph.traces.store import Column, Traces

__all__ = ["simulate"]

_NOTHING = np.empty(0, dtype=object)
"""Stands for the curves of a node that failed in all traces."""

OnFailure = Literal["raise", "drop", "missing"]


def simulate(
    graph: Graph,
    num_simulations: int | None = None,
    *,
    given: Mapping[Any, Any] | None = None,
    sizes: Mapping[Any, Any] | None = None,
    at: Mapping[Any, Any] | None = None,
    seed: int = 0,
    start: int = 0,
    on_failure: OnFailure = "raise",
    progress: bool = True,
) -> Traces:
    """Draws traces: joint draws of all nodes of a graph.

    Trace number i depends on the seed and on i alone, so a longer run repeats a shorter one and goes on.

    Args:
        graph: The graph.
        num_simulations: Number of traces; as many as there are rows in ``given`` if left out.
        given: Rows (num_simulations, *plate sizes, *event_shape) by name or node, such as draws from a model: these
            nodes are not run, and all others see them. Nodes above them are not run either, and left out of the
            traces, unless they are functions of given ones.
        sizes: Numbers of elements of plates whose size varies, by name of the plate: one for all traces, or an array
            (num_simulations,). Those that are left out are told by ``given`` rows, or drawn uniformly. Numbers of
            points of an index are sizes as well.
        at: Points by name of an index, (points,) for all traces or (num_simulations, points), in place of random ones.
        seed: A whole number of 0 or more.
        start: Number of the first trace.
        on_failure: What to do with traces that fail in a node: ``"raise"`` an error that counts them (the
            other traces are kept in its attribute ``traces``), ``"drop"`` them, or keep them with the
            values of that node and of all below it ``"missing"``.
        progress: Whether to show a progress bar when the simulation takes longer than two seconds.

    Returns:
        The traces.

    Raises:
        QueryError, EvidenceError, ShapeError: If given values do not fit, or a node that is neither given nor a
            function of given ones lies above a given node and is needed by another.
        DeclarationError: If an argument is no valid number or policy, or a size is out of its plate's range.
        UnknownNameError: If ``sizes`` names no plate of the graph.
        SimulationError: If traces failed under ``on_failure="raise"``, or all of them did.
        NodeReturnError, ShapeError: If a node function does not keep what it declares.
    """
    rows, told = (None, {}) if given is None else rows_of(graph, given)
    placed = check_points(graph, at, None)
    graph = with_numbers(graph, placed)
    handed = check_sizes(graph, sizes, None)
    num_simulations = _count(num_simulations, rows, handed)
    for name, value, low in (("num_simulations", num_simulations, 1), ("start", start, 0)):
        if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or value < low:
            raise DeclarationError(f"{name}={value!r} is not a whole number of {low} or more.")
    if on_failure not in ("raise", "drop", "missing"):
        raise DeclarationError(f"on_failure={on_failure!r} is not known; choose 'raise', 'drop' or 'missing'.")
    if not len(graph):
        raise DeclarationError("the graph has no nodes to simulate.")
    handed, placed = check_sizes(graph, sizes, num_simulations), check_points(graph, at, num_simulations)
    for name, own in told.items():
        if name in handed and (own != handed[name]).any():
            raise ShapeError(
                f"simulate(given=...) has {own.flat[0]} elements of plate {name!r}, and sizes= says otherwise.\n"
                "  Leave the plate out of sizes=: given rows tell its size."
            )
    handed |= told
    seed = check_seed(seed)
    graph = graph if rows is None else below(graph, rows, start)

    one_by_one = [name for name, node in graph.items() if not draws_in_blocks(node)]
    # Opaque objects of all traces can be large; they are kept for one block at a time.
    heavy = any(
        (node.is_opaque and not node.vectorized) or (node.index is not None and graph.children(name))
        for name, node in graph.items()
    )
    step = BLOCK if heavy else num_simulations
    parts: list[_Run] = []
    with tqdm(
        total=num_simulations * len(one_by_one), desc="simulating", unit="call", delay=2, disable=not progress
    ) as bar:
        for first in range(start, start + num_simulations, step):
            stop = min(first + step, start + num_simulations)
            parts.append(_Run(graph, first, stop, seed, bar, handed, placed, start))
    return _judged(graph, parts, num_simulations, seed, start, on_failure, joint=rows is None)


def _count(num_simulations: int | None, rows: Mapping[str, np.ndarray] | None, sizes: Mapping[str, np.ndarray]) -> int:
    """Returns the number of traces."""
    if rows is None:
        several = next((len(own) for own in sizes.values() if own.ndim), None)
        if num_simulations is None and several is not None:
            return several
        if num_simulations is None:
            raise DeclarationError("simulate(...) needs a number of traces, or given= rows of values.")
        return num_simulations
    count = len(next(iter(rows.values())))
    if num_simulations is not None and num_simulations != count:
        raise DeclarationError(
            f"num_simulations={num_simulations!r}, and simulate(given=...) has {count} rows.\n  Leave the number out."
        )
    return count


class _Run:
    """Consecutive traces of a graph.

    Attributes:
        values: Array by node, with the requested traces alone.
        failed: Boolean array by node: traces that failed in this node or above it.
        reasons: Reason by trace number, for each node in which traces failed themselves.
        raised: The first exception of the first node that raised one, or None.
        sizes: Sizes of ragged plates by name, one for each trace.
        points: Points (traces, largest number, coordinates) by name of their index.

    Args:
        graph: The graph.
        first: Number of the first trace.
        stop: Number after the last one.
        seed: Seed of the simulation.
        bar: Counts what is run one by one.
        handed: Checked sizes of ragged plates; the others are drawn.
        placed: Checked points of indices; the others are drawn.
        start: Number of the trace to which the first size, and the first row of points, of an array belongs.
    """

    def __init__(
        self,
        graph: Graph,
        first: int,
        stop: int,
        seed: int,
        bar: tqdm,
        handed: Mapping[str, np.ndarray],
        placed: Mapping[str, np.ndarray],
        start: int,
    ) -> None:
        self.values: dict[str, np.ndarray] = {}
        self._curves: dict[str, np.ndarray] = {}
        self.failed: dict[str, np.ndarray] = {}
        self.reasons: dict[str, dict[int, str]] = {}
        self.raised: Raised | None = None
        begin = _first_rows(graph, first)
        lowest = min([first, *begin.values()])
        self.sizes = sizes_of_traces(graph, handed, seed, lowest, stop, start)
        self.points = {
            name: _points(index, self.sizes, placed.get(name), seed, lowest, stop, start)
            for name, index in graph.indices.items()
        }
        for name in graph.order:
            node = graph[name]
            inputs, inherited = self._inputs(graph, name, begin, stop)
            if inputs.usable.any():
                counted = {plate: self.sizes[plate][begin[name] - lowest :] for plate in stacked(graph, name)}
                if node.index is None:
                    batch = evaluate_by_size(node, inputs, counted, seed, bar.update)
                else:
                    points, called = self.points[node.index.name][begin[name] - lowest :], bool(graph.children(name))
                    batch, curves = evaluate_function(node, inputs, points, counted, seed, bar.update, called=called)
                    if curves is not None:
                        self._curves[name] = curves
            else:
                batch = Batch(np.full((inputs.rows, *node.plate_shape, *(node.shape or ())), np.nan))
            self.values[name] = batch.values
            own = np.zeros(inputs.rows, dtype=bool)
            own[list(batch.failures)] = True
            self.failed[name] = inherited | own
            reasons = {row + begin[name]: reason for row, reason in batch.failures.items()}
            self.reasons[name] = {trace: reason for trace, reason in sorted(reasons.items()) if trace >= first}
            asked = [row for row in batch.errors if row + begin[name] >= first]
            if self.raised is None and asked:
                self.raised = Raised(name, min(asked) + begin[name], batch.errors[min(asked)])
        self.sizes = {plate: own[first - lowest :] for plate, own in self.sizes.items()}
        self.points = {name: own[first - lowest :] for name, own in self.points.items()}
        for name, low in begin.items():
            self.values[name] = self.values[name][first - low :]
            self.failed[name] = self.failed[name][first - low :]
        self._curves.clear()

    def _inputs(self, graph: Graph, name: str, begin: Mapping[str, int], stop: int) -> tuple[Inputs, np.ndarray]:
        node, low = graph[name], begin[name]
        values: dict[str, np.ndarray] = {}
        axes: dict[str, Sequence[Plate]] = {}
        inherited = np.zeros(stop - low, dtype=bool)
        for parameter, parent in node.signature.parents:
            offset = low - begin[parent]
            function = graph[parent].index is not None
            values[parameter] = (self._curves.get(parent, _NOTHING) if function else self.values[parent])[offset:]
            axes[parameter] = graph[parent].plates[:-1] if function else graph[parent].plates
            inherited |= self.failed[parent][offset:]
        rows = stop - low
        sizes = {plate: own[-rows:] for plate, own in self.sizes.items()}
        plates = node.plates if node.index is None else node.plates[:-1]  # all points of a function are looked at
        exists = existing([plate.name for plate in plates], sizes, [plate.most for plate in plates], rows)
        return Inputs(values, axes, low, rows, ~inherited, exists), inherited


def _points(
    index: Index,
    sizes: Mapping[str, np.ndarray],
    handed: np.ndarray | None,
    seed: int,
    first: int,
    stop: int,
    start: int,
) -> np.ndarray:
    """Returns the points of traces ``first`` to ``stop``, (stop - first, largest number, coordinates)."""
    if handed is None:
        return drawn_points(index, sizes.get(index.name, np.full(stop - first, index.most)), seed, first)
    return handed[np.clip(np.arange(first, stop) - start, 0, len(handed) - 1)]


def _first_rows(graph: Graph, first: int) -> dict[str, int]:
    """Returns the first trace that each node has to run: the start of a block, where a block is drawn below it."""
    begin: dict[str, int] = {}
    for name in reversed(graph.order):
        own = first - first % BLOCK if draws_in_blocks(graph[name]) else first
        begin[name] = min([own, *(begin[child] for child in graph.children(name))])
    return begin


def _judged(
    graph: Graph, parts: Sequence[_Run], count: int, seed: int, start: int, on_failure: OnFailure, *, joint: bool
) -> Traces:
    """Joins the parts and applies the failure policy; traces of a ``joint`` draw know their source."""
    failed = {name: np.concatenate([part.failed[name] for part in parts]) for name in graph}
    sizes = {plate: np.concatenate([part.sizes[plate] for part in parts]) for plate in parts[0].sizes}
    plates = {name: [plate.name for plate in graph[name].plates] for name in graph.variables}
    values = {name: _cut(_joined(parts, name), plates[name], sizes) for name in graph.variables}
    for name, index in graph.indices.items():
        points = index.arranged(np.concatenate([part.points[name] for part in parts]))
        plates[name] = [name]
        values[name] = _cut(points, plates[name], sizes)
    any_failed = np.logical_or.reduce(list(failed.values()))
    source = [(seed, start, count)] if joint else []
    if not any_failed.any():
        return Traces(values, plates=plates, sizes=sizes, sources=source)

    columns = {name: _with_missing(values[name], failed.get(name, np.zeros(count, dtype=bool))) for name in values}
    missing = Traces(columns, plates=plates, sizes=sizes, sources=source)
    summary = _failure_summary(graph, parts, count, seed)
    raised = next((part.raised for part in parts if part.raised is not None), None)
    if raised is not None:
        summary += f"\n  {raised}"
    if on_failure == "raise" or any_failed.all():
        kept = None if any_failed.all() else missing
        if any_failed.all():
            advice = "  No trace is left, so there is nothing to train on: mend the node first,"
        else:
            advice = (
                "  Dropping them changes the prior to p(theta | success). Choose"
                ' simulate(..., on_failure="drop" | "missing"),'
            )
        failed_traces = (trace for part in parts for reasons in part.reasons.values() for trace in reasons)
        trace = next(failed_traces) if raised is None else raised.trace
        again = "1" if joint else f"given=<row {trace - start}>"
        advice += f"\n  or reproduce one with graph.simulate({again}, seed={seed}, start={trace})."
        raise SimulationError(f"{summary}\n{advice}", kept) from (None if raised is None else raised.error)
    if on_failure == "drop":
        warn(
            f"{summary}\n  They were dropped: what is left follows the prior p(theta | success).",
            SamplingBiasWarning,
        )
        dropped = missing[~any_failed]
        complete = {name: dropped.column(name).values for name in dropped}
        return Traces(complete, plates=plates, sizes=dropped.sizes, sources=source)
    warn(
        f"{summary}\n  Their values are missing; the model learns the node's law among successful traces.",
        SamplingBiasWarning,
    )
    return missing


def _joined(parts: Sequence[_Run], name: str) -> np.ndarray:
    """Joins the values of one node; a part in which all traces failed does not know their shape and type."""
    if len(parts) == 1:
        return np.require(parts[0].values[name], requirements="W")  # a constant is one value, seen many times
    known = next((part.values[name] for part in parts if not part.failed[name].all()), parts[0].values[name])
    empty = (np.zeros((len(part.values[name]), *known.shape[1:]), known.dtype) for part in parts)
    return np.concatenate(
        [zeros if part.failed[name].all() else part.values[name] for part, zeros in zip(parts, empty, strict=True)]
    )


def _cut(values: np.ndarray, plates: Sequence[str], sizes: Mapping[str, np.ndarray]) -> np.ndarray:
    """Returns values without the elements that traces do not have: NaN, or 0 for whole numbers."""
    exists = existing(plates, sizes, values.shape[1 : 1 + len(plates)], len(values))
    if exists is None:
        return values
    nothing = np.asarray(np.nan if values.dtype.kind == "f" else 0, dtype=values.dtype)
    return np.where(exists.reshape(*exists.shape, *[1] * (values.ndim - exists.ndim)), values, nothing)


def _with_missing(values: np.ndarray, failed: np.ndarray) -> Column:
    if not failed.any():
        return Column(values)
    values = values.copy()
    values[failed] = np.nan if values.dtype.kind == "f" else 0
    present = np.broadcast_to(~failed.reshape(-1, *(1,) * (values.ndim - 1)), values.shape)
    return Column(values, present.copy())


def _failure_summary(graph: Graph, parts: Sequence[_Run], count: int, seed: int) -> str:
    lines = []
    for name in graph.order:
        reasons = {trace: reason for part in parts for trace, reason in part.reasons[name].items()}
        if reasons:
            counts = ", ".join(f"{number} x {reason}" for reason, number in Counter(reasons.values()).most_common())
            lines.append(
                f"{len(reasons)} of {count} traces failed in node {name!r} ({counts});"
                f" first: trace {min(reasons)}, seed {seed}."
            )
    return "\n".join(lines)
