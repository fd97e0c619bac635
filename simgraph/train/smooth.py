"""Finds jumps of a log density along single coordinates, and slopes that are wrong.

A gradient says nothing of a jump: it is the same on both sides. Along a line, the difference of two values is the
integral of the slope, unless the function jumps between them; so cells in which the trapezoidal rule is off are halved
until they are too short for anything but a jump to show. Where the rule is off in most cells, the slope is not that of
the function: a part of it was computed past autograd, in NumPy or from a detached tensor.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

__all__ = ["smooth"]

_CELLS = 64
"""Cells of a line to begin with."""

_SUSPECTS = 8
"""Cells of a line that are halved."""

_HALVINGS = 24
_JUMP = 1e-3
"""Difference of log densities that is a jump, where it remains in the shortest cell."""

_WRONG = 0.1
"""Error of the trapezoidal rule in the median cell, as a share of the difference, from which on slopes are wrong."""

Function = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]
"""Maps points (points, coordinates) and their rows to values (points,) and gradients (points, coordinates)."""


def smooth(function: Function, at: Tensor, columns: Tensor, low: Tensor, high: Tensor) -> Tensor:
    """Tells along which coordinates a function has no jumps and its slope is right, as far as a few lines show.

    Args:
        function: The function; rows tell which of ``at`` a point is a neighbour of.
        at: Points (rows, coordinates), through each of which there is a line along each of the columns.
        columns: Numbers of the coordinates (columns,).
        low: Where lines begin, by coordinate (coordinates,).
        high: Where they end.

    Returns:
        Boolean (columns,).
    """
    rows = torch.arange(len(at)).repeat_interleave(len(columns))
    line = columns.repeat(len(at))
    share = torch.linspace(0, 1, _CELLS + 1, dtype=at.dtype)
    places = low[line, None] + (high - low)[line, None] * share  # lines, ends of cells
    values, slopes = _along(function, at, rows, line, places)
    left, right = places[:, :-1], places[:, 1:]
    ends = [values[:, :-1], values[:, 1:], slopes[:, :-1], slopes[:, 1:]]
    error = _error(left, right, ends)
    right_slope = (error / (error + (ends[1] - ends[0]).abs()).clamp_min(1e-9)).median(1).values < _WRONG
    worst = error.topk(_SUSPECTS, dim=1).indices
    left, right, *ends = (part.gather(1, worst) for part in (left, right, *ends))
    for _ in range(_HALVINGS):
        middle = (left + right) / 2
        value, slope = _along(function, at, rows, line, middle)
        first, second = [ends[0], value, ends[2], slope], [value, ends[1], slope, ends[3]]
        later = _error(middle, right, second) > _error(left, middle, first)
        left, right = torch.where(later, middle, left), torch.where(later, right, middle)
        ends = [torch.where(later, b, a) for a, b in zip(first, second, strict=True)]
    fine = values.isfinite().all(1) & right_slope & (_error(left, right, ends) < _JUMP).all(1)
    return fine.reshape(len(at), len(columns)).all(0)


def _along(function: Function, at: Tensor, rows: Tensor, line: Tensor, places: Tensor) -> tuple[Tensor, Tensor]:
    """Returns values and slopes along lines, both of the shape of the places (lines, places)."""
    count = places.shape[1]
    points = at[rows].repeat_interleave(count, 0)
    index = line.repeat_interleave(count).unsqueeze(1)
    points.scatter_(1, index, places.reshape(-1, 1))
    values, gradients = function(points, rows.repeat_interleave(count))
    return values.reshape(places.shape), gradients.gather(1, index).reshape(places.shape)


def _error(left: Tensor, right: Tensor, ends: list[Tensor]) -> Tensor:
    """Returns by how much the trapezoidal rule misses the difference of values; infinite where that is no number."""
    found = (ends[1] - ends[0] - (right - left) * (ends[2] + ends[3]) / 2).abs()
    return torch.where(found.isnan(), torch.inf, found)
