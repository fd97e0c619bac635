"""Draws as flat columns, one per element: ``theta[0]`` holds the draws of the first element of ``theta``."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
from torch import Tensor

from simgraph.errors import QueryError

__all__ = ["Axes", "columns", "elements", "rows"]


@dataclass(frozen=True)
class Axes:
    """What the axes of variables are called, those of evidence and draws aside, and which points lie along them.

    Attributes:
        dims: Names of the first axes of a variable, by its name.
        coords: Points along an axis, (size,), or (size, coordinates), by its name.
    """

    dims: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    coords: Mapping[str, np.ndarray] = field(default_factory=dict)

    def label(self, name: str, element: Sequence[int]) -> str:
        """Names an element of a variable: by points along the axes that have them, and by numbers.

        Example:
            >>> Axes({"level": ("tank", "day")}, {"day": np.array([0.5, 10.0])}).label("level", (3, 1))
            'level[3, day=10]'
        """
        named = dict(enumerate(self.dims.get(name, ())))
        places = [self._place(named.get(axis), number) for axis, number in enumerate(element)]
        return f"{name}[{', '.join(places)}]" if places else name

    def _place(self, axis: str | None, number: int) -> str:
        points = None if axis is None else self._points.get(axis)
        return str(number) if points is None else f"{axis}={points[number]}"

    @cached_property
    def _points(self) -> dict[str, list[str]]:
        """The points along each axis as text: in six digits where these tell them apart, in all digits otherwise."""
        found = {}
        for axis, points in self.coords.items():
            short = [_written(point, "{:.6g}".format) for point in points]
            alike = len(set(short)) < len(short)
            found[axis] = [_written(point, repr) for point in points.tolist()] if alike else short
        return found


def _written(point: Any, form: Callable[[float], str]) -> str:
    numbers = [form(number) for number in np.atleast_1d(point).tolist()]
    return numbers[0] if len(numbers) == 1 else f"({', '.join(numbers)})"


def elements(values: Mapping[str, Tensor], *, batched: bool, axes: Axes | None = None) -> dict[str, np.ndarray]:
    """Returns the draws of each element, ([batch,] num_samples), by labels like ``theta[0]``.

    Args:
        values: Tensors ([batch,] num_samples, *event_shape) by name.
        batched: Whether the first axis runs over pieces of evidence.
        axes: What the other axes are called.
    """
    axes = axes or Axes()
    found: dict[str, np.ndarray] = {}
    lead = 2 if batched else 1
    for name, value in values.items():
        array = value.numpy()
        for element in np.ndindex(*array.shape[lead:]):
            found[axes.label(name, element)] = array[(slice(None),) * lead + element]
    return found


def rows(values: Mapping[str, Tensor], *, batched: bool, axes: Axes | None = None) -> dict[str, np.ndarray]:
    """Returns the draws (num_samples,) of each element, those of each piece of evidence by a label of their own."""
    found = elements(values, batched=batched, axes=axes)
    if not batched:
        return found
    return {f"batch {piece}: {label}": draws for label, both in found.items() for piece, draws in enumerate(both)}


def columns(values: Mapping[str, Tensor], *, batched: bool, axes: Axes | None = None) -> dict[str, np.ndarray]:
    """Returns one flat column per element; pieces of evidence are stacked, and numbered in a column ``batch``.

    Raises:
        QueryError: If a variable is called ``batch`` where that column is needed.
    """
    found = elements(values, batched=batched, axes=axes)
    if not batched:
        return found
    if "batch" in found:
        raise QueryError(
            "the column 'batch' numbers the pieces of evidence, and a variable has that name too.\n"
            "  Rename the variable, or use samples.to_numpy()"
        )
    pieces, draws = next(iter(found.values())).shape
    number = np.repeat(np.arange(pieces), draws)
    return {"batch": number} | {label: column.ravel() for label, column in found.items()}
