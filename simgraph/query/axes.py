"""The axes of draws: ([batch,] num_samples, *event_shape), and which draws a key chooses."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from torch import Tensor

from simgraph.errors import QueryError, ShapeError, UnknownNameError, did_you_mean
from simgraph.query.elements import Axes

__all__ = ["check_axes", "check_sizes", "chosen"]


def check_sizes(values: Mapping[str, Tensor], lead: int) -> None:
    """Checks that values agree in their ``lead`` first axes, and hold something."""
    axes = "(batch, num_samples)" if lead == 2 else "(num_samples,)"
    if not values:
        raise QueryError("Samples(...) needs a variable or more.")
    sizes = {name: tuple(value.shape[:lead]) for name, value in values.items()}
    if len(set(sizes.values())) > 1 or any(len(size) < lead for size in sizes.values()):
        raise ShapeError(f"Samples(...) needs values that agree in their first axes {axes}; they have {sizes}.")
    if 0 in next(iter(sizes.values())):
        raise QueryError(f"Samples(...) needs a draw or more; {axes} is {next(iter(sizes.values()))}.")


def check_axes(values: Mapping[str, Tensor], axes: Axes, lead: int) -> None:
    """Checks that names of axes, and points along them, fit the axes after the ``lead`` first ones."""
    found: dict[str, int] = {}
    for name, own in axes.dims.items():
        if name not in values:
            raise UnknownNameError(f"dims name {name!r}.\n  {did_you_mean(name, values, 'Sampled')}")
        shape = tuple(values[name].shape[lead:])
        if len(own) > len(shape) or len(set(own)) < len(own):
            raise ShapeError(f"dims name the axes of {name!r} {tuple(own)}; its values have the shape {shape}.")
        for axis, size in zip(own, shape, strict=False):
            if found.setdefault(axis, size) != size:
                raise ShapeError(f"the axis {axis!r} has the sizes {found[axis]} and {size} in two variables.")
    for axis, points in axes.coords.items():
        if axis not in found:
            raise UnknownNameError(f"coords name the axis {axis!r}.\n  {did_you_mean(axis, found, 'Axes')}")
        if not points.ndim or points.dtype.kind not in "iuf" or len(np.unique(points, axis=0)) < len(points):
            raise ShapeError(f"coords name a point of {axis!r} twice, or are no numbers.")
        if len(points) != found[axis]:
            raise ShapeError(f"coords have {len(points)} points along {axis!r}, an axis of size {found[axis]}.")


def chosen(key: Any, count: int) -> np.ndarray:
    """Returns the numbers of the chosen draws."""
    if isinstance(key, slice):
        rows = np.arange(count)[key].copy()  # torch takes no array that runs backwards
    else:
        array = np.asarray(key)
        if array.dtype == bool and array.shape == (count,):
            rows = array.nonzero()[0]
        elif array.dtype.kind in "iu" and array.ndim <= 1 and not isinstance(key, tuple):
            rows = array.reshape(-1).astype(np.int64)
        else:
            raise QueryError(
                f"samples[...] takes a name, a slice, numbers of draws, or {count} booleans; not {key!r}.\n"
                "  Elements of a variable: samples['theta'][..., 0]"
            )
        beyond = rows[(rows < -count) | (rows >= count)]
        if len(beyond):
            raise QueryError(f"samples[...] chooses draw {beyond[0]}; there are {count}, numbered from 0.")
        rows = rows % count
    if not len(rows):
        raise QueryError(f"samples[...] chooses none of the {count} draws.")
    return rows
