"""An index: points at which functions are evaluated.

A node with an index is a *function-valued* variable. In each trace it is looked at in points of the trace's own, drawn
uniformly from the range of the index; so a trained model answers at any points. Unlike the elements of a plate, points
have a place, and the values of a function at different points depend on one another.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from simgraph.dsl.axes import Plate
from simgraph.errors import DeclarationError

__all__ = ["Index", "index"]

_LEAST_GRID = 2


@dataclass(frozen=True)
class Index(Plate):
    """A named axis of points.

    Attributes:
        name: Name of the axis, and of the parameter by which functions receive the points.
        size: Number of points in a trace; or the least and the largest number, where it varies.
        low: The least value of each coordinate.
        high: The largest value of each coordinate.
        grid: Number of points of the fixed grid on which children see the function.
    """

    low: tuple[float, ...]
    high: tuple[float, ...]
    grid: int

    def __post_init__(self) -> None:
        example = f"\n  For example: index({self.name!r}, 0, 10, num=(5, 20))"
        counts = self.size if isinstance(self.size, tuple) and len(self.size) == 2 else (self.size,)
        whole = all(isinstance(end, int) and not isinstance(end, bool) and end >= 1 for end in counts)
        if not whole or counts[0] > counts[-1]:
            raise DeclarationError(
                f"num={self.size!r} of index {self.name!r} is no number of points: a whole number of 1 or more, or two"
                f" of them, the smaller one first.{example}"
            )
        super().__post_init__()
        ends = (*self.low, *self.high)
        if len(self.low) != len(self.high) or not self.low or not all(map(math.isfinite, ends)):
            raise DeclarationError(
                f"index {self.name!r} goes from {self.low} to {self.high}; both are finite numbers, or vectors of one"
                f" length.{example}"
            )
        if any(low >= high for low, high in zip(self.low, self.high, strict=True)):
            raise DeclarationError(f"index {self.name!r} goes from {self.low} to {self.high}, which is empty.{example}")
        if isinstance(self.grid, bool) or not isinstance(self.grid, int) or self.grid < _LEAST_GRID:
            raise DeclarationError(
                f"grid={self.grid!r} of index {self.name!r} is not a whole number of {_LEAST_GRID} or more.{example}"
            )

    @property
    def dims(self) -> int:
        """Number of coordinates of a point."""
        return len(self.low)

    @property
    def grid_points(self) -> np.ndarray:
        """The fixed grid, (grid,); of an index with one coordinate."""
        return np.linspace(self.low[0], self.high[0], self.grid)

    def arranged(self, points: np.ndarray) -> np.ndarray:
        """Returns points (..., dims) as functions and users see them: (...) where there is one coordinate."""
        return points[..., 0] if self.dims == 1 else points

    def coordinates(self, points: np.ndarray) -> np.ndarray:
        """Returns points as users write them as an array (..., dims)."""
        return points[..., None] if self.dims == 1 else points

    def unit(self, points: np.ndarray) -> np.ndarray:
        """Returns points (..., dims) with the range of each coordinate mapped to (-1, 1)."""
        low, high = np.array(self.low), np.array(self.high)
        return np.asarray(2 * (points - low) / (high - low) - 1)

    def of_unit(self, unit: np.ndarray) -> np.ndarray:
        """Inverts :meth:`unit`."""
        low, high = np.array(self.low), np.array(self.high)
        return np.asarray(low + (unit + 1) / 2 * (high - low))

    def __repr__(self) -> str:
        low, high = (ends[0] if self.dims == 1 else ends for ends in (self.low, self.high))
        return f"index({self.name!r}, {low}, {high}, num={self.size})"


def index(
    name: str,
    low: float | Sequence[float],
    high: float | Sequence[float],
    *,
    num: int | tuple[int, int],
    grid: int = 200,
) -> Index:
    """Declares an index: points at which functions are evaluated.

    A node with ``index=t`` takes the points as a parameter named ``t``, an array (points,), in rising order, and
    returns one value for each. A node that names it as a parent receives a callable :class:`Curve`. Nodes that share
    an index share their points.

    Args:
        name: Name of the axis, and of the parameter; reserved in every graph that uses the index.
        low: The least value of a point; a vector for points of several coordinates (a field), which functions
            receive as an array (points, coordinates) in no order.
        high: The largest value.
        num: Number of points in each trace, or two ends ``(low, high)``, both included, between which it varies.
            Questions may have any number of points; the model is at home in this range.
        grid: Number of points of the fixed grid on which a child sees the function, linear in between.

    Returns:
        The index, to be handed to ``node(index=...)``.

    Raises:
        DeclarationError: If the name is no identifier, the range is empty, or a number is none.

    Example:
        >>> index("t", 0, 15, num=(10, 30))
        index('t', 0.0, 15.0, num=(10, 30))
    """
    try:
        ends = [tuple(float(end) for end in np.atleast_1d(np.asarray(ends, dtype=float))) for ends in (low, high)]
    except (TypeError, ValueError):
        raise DeclarationError(
            f"index {name!r} goes from {low!r} to {high!r}; both are numbers, or vectors of one length.\n"
            f"  For example: index({name!r}, 0, 10, num=(5, 20))"
        ) from None
    return Index(name, num, ends[0], ends[1], grid)
