"""Points of an index, and the functions that are looked at there.

Points of trace i are uniform in the range of their index, from the stream of (seed, name of the index, i). As with a
ragged plate, as many as the largest number are always drawn: those that the trace has come first, in rising order.
A function is evaluated once at all of them, and on the fixed grid of its index where children see it, so that what
children do never depends on where the function is looked at.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from simgraph.dsl import Curve, Index, Node
from simgraph.errors import DeclarationError, ShapeError, UnknownNameError, did_you_mean
from simgraph.graph import Graph
from simgraph.graph.ragged import sized
from simgraph.traces.batch import Batch, Inputs
from simgraph.traces.by_size import evaluate_by_size
from simgraph.traces.seeds import numpy_stream

__all__ = ["at_points", "check_points", "drawn_points", "evaluate_function", "with_numbers"]


def check_points(graph: Graph, at: Mapping[Any, Any] | None, count: int | None) -> dict[str, np.ndarray]:
    """Checks points that a user hands over for indices of a graph.

    Args:
        graph: The graph.
        at: Points (points,), or (traces, points), by index or its name; with one more axis for several coordinates.
        count: Number of traces; None if it is not known.

    Returns:
        Arrays (traces or 1, points, coordinates) by name.

    Raises:
        UnknownNameError: If there is no such index.
        ShapeError, DeclarationError: If the points do not fit.
    """
    if at is not None and not isinstance(at, Mapping):
        raise DeclarationError(f"at={at!r} maps no index to points.\n  For example: at={{'t': [0.0, 1.0]}}")
    found: dict[str, np.ndarray] = {}
    for key, value in (at or {}).items():
        name = key.name if isinstance(key, Index) else key
        if name not in graph.indices:
            raise UnknownNameError(
                f"at= names {name!r}, which is no index of this graph.\n"
                f"  {did_you_mean(str(name), graph.indices, 'Indices')}"
            )
        found[name] = points_of(graph.indices[name], value, f"at={{{name!r}: ...}}")
        if count is not None and len(found[name]) not in (1, count):
            raise ShapeError(f"at={{{name!r}: ...}} has points for {len(found[name])} traces, not for {count}.")
    return found


def points_of(index: Index, value: Any, said: str) -> np.ndarray:
    """Returns points that a user wrote as an array (rows or 1, points, coordinates).

    Args:
        index: Their index.
        value: Points (points,) or (rows, points), with one more axis for several coordinates.
        said: What the user wrote, for messages.

    Raises:
        ShapeError: If the array has another shape.
        DeclarationError: If a point is no finite number, or lies outside of the range.
    """
    try:
        array = index.coordinates(np.asarray(value, dtype=np.float64))
    except (TypeError, ValueError):
        raise DeclarationError(f"{said} holds no array of numbers.") from None
    if array.ndim not in (2, 3) or array.shape[-1] != index.dims or not array.shape[-2]:
        own = "" if index.dims == 1 else f", {index.dims}"
        raise ShapeError(
            f"{said} has shape {np.shape(value)}; points of {index.name!r} have shape (points{own}) for all, or"
            f" (rows, points{own}).\n"
            "  A single point is a list of one."
        )
    outside = ~((array >= index.low) & (array <= index.high)).all(-1)
    if outside.any():
        first = index.arranged(array[outside][:1])[0]
        raise DeclarationError(
            f"{said} has points outside of the range of {index!r}: {int(outside.sum())} of {outside.size}."
            f" First: {first}\n"
            "  A function is known where it was declared: widen the index to look further."
        )
    return array.reshape(-1, *array.shape[-2:])


def with_numbers(graph: Graph, points: Mapping[str, np.ndarray]) -> Graph:
    """Returns the graph in which indices have as many points as were handed over."""
    return sized(graph, {name: own.shape[1] for name, own in points.items()})


def drawn_points(index: Index, numbers: np.ndarray, seed: int, first: int) -> np.ndarray:
    """Draws the points of consecutive traces, (traces, largest number, coordinates).

    Args:
        index: The index.
        numbers: Number of points of each trace, (traces,).
        seed: Seed of the simulation.
        first: Number of the first trace.
    """
    found = np.empty((len(numbers), index.most, index.dims))
    for row, number in enumerate(numbers.tolist()):
        rng = numpy_stream(seed, index.name, first + row, 1)  # the number of points has the stream without the 1
        found[row] = rng.uniform(index.low, index.high, size=(index.most, index.dims))
        if index.dims == 1:
            found[row, :number].sort(0)
            found[row, number:].sort(0)
    return found


def at_points(node: Node, count: int) -> Node:
    """Returns a function-valued node as a plain one with so many values, whose points are a parent."""
    index = node.index
    assert index is not None
    signature = replace(node.signature, parents=(*node.signature.parents, (index.name, index.name)))
    shape = None if node.shape is None else (count, *node.shape)
    return replace(node, plates=node.plates[:-1], signature=signature, shape=shape)


def evaluate_function(
    node: Node,
    inputs: Inputs,
    points: np.ndarray,
    sizes: Mapping[str, np.ndarray],
    seed: int,
    tick: Callable[[], Any],
    *,
    called: bool,
) -> tuple[Batch, np.ndarray | None]:
    """Evaluates a function-valued node for many traces.

    Args:
        node: The node.
        inputs: Its parents' values.
        points: Points of each trace, (rows, points, coordinates).
        sizes: Sizes of ragged plates that it receives as stacks.
        seed: Seed of the simulation.
        tick: Called after each trace that is run by itself.
        called: Whether children call the function.

    Returns:
        Values (rows, *plate sizes, points, *event_shape) with the traces that failed; and the functions as children
        see them, objects (rows, *plate sizes), if they are called.

    Raises:
        ShapeError: If the function does not return one value for each point.
    """
    index = node.index
    assert index is not None
    rows, count = points.shape[:2]
    seen, place = points, np.broadcast_to(np.arange(count), (rows, count))
    if called:
        grid = np.broadcast_to(index.grid_points[:, None], (rows, index.grid, 1))
        seen = np.concatenate([points, grid], 1)
        place = np.broadcast_to(np.arange(seen.shape[1]), seen.shape[:2])
    if index.dims == 1:
        order = np.argsort(seen[..., 0], 1, kind="stable")
        seen = np.take_along_axis(seen, order[..., None], 1)
        place = np.argsort(order, 1)
    plain = at_points(node, seen.shape[1])
    arguments = replace(
        inputs,
        values={**inputs.values, index.name: np.ascontiguousarray(index.arranged(seen))},
        axes={**inputs.axes, index.name: ()},
    )
    try:
        batch = evaluate_by_size(plain, arguments, sizes, seed, tick)
    except ShapeError as error:
        if node.vectorized or sizes:
            raise
        event = "".join(f" {size}," for size in node.shape or ())
        raise ShapeError(
            f"{str(error).splitlines()[0]}\n  declared at {node.where}\n"
            f"  A function of {index.name!r} returns one value for each point:"
            f" an array of shape (len({index.name}),{event})."
        ) from error
    axis = 1 + len(plain.plates)
    if len(batch.failures) == inputs.usable.sum():  # what values look like is not known
        nothing = np.full((rows, *plain.plate_shape, count, *(node.shape or ())), np.nan)
        curves = np.full((rows, *plain.plate_shape), None, dtype=object) if called else None
        return Batch(nothing, batch.failures, batch.errors), curves
    if batch.values.ndim <= axis or batch.values.shape[axis] != seen.shape[1]:
        raise ShapeError(
            f"node {node.name!r} returned values of shape {batch.values.shape[axis:]} at {seen.shape[1]} points.\n"
            f"  declared at {node.where}\n  A function of {index.name!r} returns one value for each point."
        )
    wide = place.reshape(rows, *[1] * (axis - 1), -1, *[1] * (batch.values.ndim - axis - 1))
    values = np.take_along_axis(batch.values, wide, axis)
    at_own = (slice(None),) * axis
    own = Batch(values[(*at_own, slice(count))], batch.failures, batch.errors)
    return own, _curves(index, values[(*at_own, slice(count, None))], axis) if called else None


def _curves(index: Index, values: np.ndarray, lead: int) -> np.ndarray:
    """Returns curves (*first axes) from values (*first axes, grid, *event_shape)."""
    found = np.empty(values.shape[:lead], dtype=object)
    for place in np.ndindex(*found.shape):
        found[place] = Curve(index.grid_points, values[place])
    return found
