"""Values that are handed over for the nodes of a graph, by name: arrays, tensors, traces or samples.

A variable has one shape, (*plate sizes, *event_shape). What a distribution node looks like follows from its
function alone, so a trace or two are simulated where no declaration tells.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from torch import Tensor

from simgraph.dsl import Node
from simgraph.errors import EvidenceError, MissingValueError, QueryError, SimulationError, UnknownNameError, listed
from simgraph.graph import Graph
from simgraph.traces.store import Traces

__all__ = ["by_name", "few_traces", "lead"]


def by_name(graph: Graph, values: Any, call: str) -> dict[str, np.ndarray]:
    """Checks the names and the numbers of values; their shapes are the caller's to check.

    Args:
        graph: The graph.
        values: A mapping from names or nodes to numbers, arrays or tensors; :class:`Traces` are one.
        call: What the user called, for messages: ``"log_prob(...)"``.

    Returns:
        Arrays by name, in the order they were handed over, without NaN; those of traces are as long as the largest
        one, and what does not exist repeats the first element.

    Raises:
        UnknownNameError: If a name is not a variable of the graph.
        QueryError: If ``values`` is no mapping, names a variable twice, or names a function.
        EvidenceError: If a value is no array of numbers.
        MissingValueError: If a value holds NaN, or traces miss some.
    """
    if not isinstance(values, Mapping):
        raise QueryError(f"{call} takes a mapping from names to values, not {type(values).__name__}.")
    _refuse_functions(graph, values, call)
    found: dict[str, np.ndarray] = {}
    for key, value in (values.filled() if isinstance(values, Traces) else values).items():
        name = key.name if isinstance(key, Node) else key
        if graph[name].is_opaque:
            raise UnknownNameError(
                f"{name!r} is an object without a shape, so {call} takes no values for it.\n"
                f"  declared at {graph[name].where}\n  It is computed from its parents; hand these over."
            )
        if name in found:
            raise QueryError(f"{call} names {name!r} twice.\n  Give it by node or by name, not both.")
        found[name] = _numbers(name, value, call)
        absent = int((values.missing(name) if isinstance(values, Traces) else np.isnan(found[name])).sum())
        if absent:
            raise MissingValueError(
                f"{call} holds {absent} NaN or missing values of {name!r}.\n"
                '  Leave such rows out; simulate(..., on_failure="drop") leaves out traces that failed.'
            )
    return found


def _refuse_functions(graph: Graph, values: Mapping[Any, Any], call: str) -> None:
    names = (key.name if isinstance(key, Node) else key for key in values)
    functions = [name for name in names if name in graph and graph[name].index is not None]
    if functions:
        raise QueryError(
            f"{call} takes no values of functions, which {listed(functions)} is.\n"
            "  Hand over plain variables above them; functions are drawn from these."
        )


def _numbers(name: str, value: Any, call: str) -> np.ndarray:
    if isinstance(value, Tensor):
        value = value.detach().cpu().numpy()
    try:
        array = np.asarray(value)
    except ValueError as error:
        raise EvidenceError(f"{call} takes an array for {name!r}: {error}.") from None
    if array.dtype.kind not in "iubf":
        kind = "text" if array.dtype.kind in "US" else f"values of type {array.dtype}"
        raise EvidenceError(f"{call} takes numbers for {name!r}, not {kind}.")
    return array.astype(np.int64) if array.dtype.kind in "iub" else array


def few_traces(graph: Graph, count: int = 1) -> Traces:
    """Simulates a few traces, to see what values look like; only those that succeed are returned.

    Raises:
        SimulationError: If all of them failed.
    """
    try:
        return graph.simulate(count, progress=False)
    except SimulationError as error:
        if error.traces is None:
            raise
        traces: Traces = error.traces
    whole = [(~traces.missing(name)).reshape(traces.num_simulations, -1).all(1) for name in traces]
    kept = traces[np.logical_and.reduce(whole)]
    return Traces({name: kept[name] for name in kept}, plates=kept.plates, sizes=kept.sizes)


def lead(shape: tuple[int, ...], event: tuple[int, ...]) -> tuple[int, ...] | None:
    """Returns the axes before ``event`` in ``shape``: (), (rows,), or None if it is neither one value nor rows of them.

    Example:
        >>> lead((5, 2), (2,)), lead((2,), (2,)), lead((3,), (2,))
        ((5,), (), None)
    """
    if shape == event:
        return ()
    return shape[:1] if len(shape) == len(event) + 1 and shape[1:] == event and shape[0] else None
