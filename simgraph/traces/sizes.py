r"""Sizes of ragged plates: one for each trace, uniform between the ends of its plate.

The size of a plate in trace i is :math:`low + \lfloor u (high - low + 1) \rfloor`. In half of the traces u is the same
for all plates, from the stream of (seed, i): were they always independent, hardly any trace would have few elements
everywhere, or many, as data sets do. In the others it is from the stream of (seed, name of the plate, i). It changes
nothing else: a ragged plate is drawn at its largest size, so that the first elements of a trace are the same whatever
its size.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from torch import Tensor

from simgraph.dsl import Plate
from simgraph.errors import DeclarationError, ShapeError, TracesError, UnknownNameError, did_you_mean
from simgraph.graph import Graph
from simgraph.graph.ragged import ragged_plates
from simgraph.traces.seeds import integer_seed

__all__ = ["check_room", "check_sizes", "existing", "sizes_of_traces", "stand_in", "told_sizes"]


_ALL = "*"
"""In place of the name of a plate, where all plates share what is drawn; no plate has this name."""


def _drawn(plate: Plate, seed: int, first: int, count: int) -> np.ndarray:
    """Draws the sizes of a ragged plate in consecutive traces, (count,)."""
    span = plate.most - plate.least + 1
    words = (_word(plate, seed, trace) for trace in range(first, first + count))
    return np.array([plate.least + (word * span >> 63) for word in words], dtype=np.int64)


def _word(plate: Plate, seed: int, trace: int) -> int:
    """Returns 63 random bits: those of all plates, or the plate's own."""
    shared = integer_seed(seed, _ALL, trace)
    return shared if shared & 1 else integer_seed(seed, plate.name, trace)


def check_sizes(graph: Graph, sizes: Mapping[str, Any] | None, count: int | None) -> dict[str, np.ndarray]:
    """Checks sizes that a user hands over for ragged plates.

    Args:
        graph: The graph.
        sizes: A whole number for all traces, or an array with one for each, by name of the plate (or the plate).
        count: Number of traces; None if the sizes may tell it.

    Returns:
        Arrays (count,), or () for one number, by name.

    Raises:
        UnknownNameError: If there is no such plate.
        DeclarationError: If a plate has a fixed size, or a size is no whole number in its range.
        ShapeError: If there is not one size for each trace.
    """
    found: dict[str, np.ndarray] = {}
    for key, value in (sizes or {}).items():
        name = key.name if isinstance(key, Plate) else key
        if name not in graph.plates:
            raise UnknownNameError(
                f"sizes= names {name!r}, which is no plate of this graph.\n"
                f"  {did_you_mean(str(name), graph.plates, 'Plates')}"
            )
        plate = graph.plates[name]
        if not plate.is_ragged:
            raise DeclarationError(
                f"sizes= names plate {name!r}, which always has {plate.size} elements.\n"
                f"  For sizes that vary declare it as plate({name!r}, size=(low, high))."
            )
        array = np.asarray(value.numpy() if isinstance(value, Tensor) else value)
        if array.dtype.kind not in "iu" or not ((array >= plate.least) & (array <= plate.most)).all():
            raise DeclarationError(
                f"sizes={{{name!r}: ...}} holds {_first_wrong(array, plate)}; plate {name!r} has {plate.least} to"
                f" {plate.most} elements."
            )
        if array.ndim > 1 or (array.ndim == 1 and count is not None and len(array) != count):
            raise ShapeError(
                f"sizes={{{name!r}: ...}} has shape {array.shape}.\n"
                f"  Give one number, or one for each of the {count} traces."
            )
        found[name] = array.astype(np.int64)
    return found


def sizes_of_traces(
    graph: Graph, handed: Mapping[str, np.ndarray], seed: int, first: int, stop: int, start: int
) -> dict[str, np.ndarray]:
    """Returns the sizes of all ragged plates in traces ``first`` to ``stop``, (stop - first,) by name.

    Args:
        graph: The graph.
        handed: Checked sizes; arrays begin at trace ``start``, and traces before it repeat their first size.
        seed: Seed of the sizes that are drawn.
        first: Number of the first trace.
        stop: Number after the last one.
        start: Number of the trace to which the first size of an array belongs.
    """
    found = {}
    for name, plate in ragged_plates(graph).items():
        if name not in handed:
            found[name] = _drawn(plate, seed, first, stop - first)
        elif handed[name].ndim:
            found[name] = handed[name][np.maximum(np.arange(first, stop) - start, 0)]
        else:
            found[name] = np.full(stop - first, handed[name])
    return found


def told_sizes(
    ragged: Mapping[str, Plate],
    axes: Mapping[str, Sequence[Plate]],
    shapes: Mapping[str, Sequence[int]],
    call: str,
) -> dict[str, int]:
    """Returns the sizes of ragged plates as the shapes of values tell them.

    Args:
        ragged: The plates whose size is not known yet, by name.
        axes: Plates of each variable, outermost first.
        shapes: Shapes (*plate sizes, *event_shape) of values by name.
        call: What the user called, for messages: ``"given(...)"``.

    Raises:
        ShapeError: If a size is out of its plate's range, or two values disagree.
    """
    found: dict[str, int] = {}
    by: dict[str, str] = {}
    for name, shape in shapes.items():
        for plate, size in zip((axis.name for axis in axes[name]), shape, strict=False):
            if plate not in ragged:
                continue
            low, high = ragged[plate].least, ragged[plate].most
            if not low <= size <= high:
                raise ShapeError(
                    f"{call} has {size} elements of {name!r}; plate {plate!r} has {low} to {high}.\n"
                    f"  For other sizes declare plate({plate!r}, size=(low, high)) with a wider range."
                )
            if found.setdefault(plate, size) != size:
                raise ShapeError(
                    f"{call} has {found[plate]} elements of {by[plate]!r} and {size} of {name!r}.\n"
                    f"  Both are in plate {plate!r}, which has one size."
                )
            by.setdefault(plate, name)
    return found


def check_room(
    sizes: Mapping[str, np.ndarray], axes: Mapping[str, Sequence[str]], shapes: Mapping[str, Sequence[int]]
) -> None:
    """Checks the sizes of ragged plates against the arrays that lie in them.

    Args:
        sizes: Sizes by name of the plate.
        axes: Names of the plates of each variable, outermost first.
        shapes: Shape (rows, *plate sizes, *event_shape) of the array of each variable.

    Raises:
        TracesError: If they are not whole numbers, one for each row, within the arrays.
    """
    for plate, own in sizes.items():
        inside = [name for name in axes if plate in axes[name]]
        if not inside:
            raise TracesError(f"sizes= names {plate!r}, which is a plate of no variable: plates={dict(axes)}.")
        for name in inside:
            rows, room = shapes[name][0], shapes[name][1 + axes[name].index(plate)]
            if own.dtype.kind not in "iu" or own.shape != (rows,):
                raise TracesError(
                    f"sizes of {plate!r} are {own.dtype} of shape {own.shape};"
                    f" they are whole numbers, one for each of {rows} traces."
                )
            if rows and not 1 <= own.min() <= own.max() <= room:
                raise TracesError(
                    f"sizes of {plate!r} go from {own.min()} to {own.max()}; {name!r} has room for 1 to {room}."
                )


def existing(
    axes: Sequence[str], sizes: Mapping[str, np.ndarray], shape: Sequence[int], rows: int
) -> np.ndarray | None:
    """Returns which elements of a variable exist, boolean (rows, *plate sizes); None if all do.

    Args:
        axes: Names of its plates, outermost first.
        sizes: Sizes (rows,) of ragged plates by name.
        shape: Sizes of its plates in the array that holds it.
        rows: Number of traces.
    """
    if not any(name in sizes for name in axes):
        return None
    found = np.ones((rows, *shape), dtype=bool)
    for axis, name in enumerate(axes):
        if name in sizes:
            inside = np.arange(shape[axis]) < sizes[name][:, None]
            found &= inside.reshape(rows, *(shape[axis] if other == axis else 1 for other in range(len(shape))))
    return found


def stand_in(values: np.ndarray, exists: np.ndarray | None) -> np.ndarray:
    """Returns values (rows, *plate sizes, *event_shape) in which elements that do not exist repeat the first one."""
    if exists is None or exists.all():
        return values
    plates = exists.ndim - 1
    first = values[(slice(None), *(slice(1) for _ in range(plates)))]
    return np.where(exists.reshape(*exists.shape, *[1] * (values.ndim - exists.ndim)), values, first)


def _first_wrong(array: np.ndarray, plate: Plate) -> str:
    if array.dtype.kind not in "iu":
        return f"{array.dtype} values, no whole numbers" if array.ndim else f"{array.item()!r}, no whole number"
    wrong = array[(array < plate.least) | (array > plate.most)]
    return str(wrong.ravel()[0])
