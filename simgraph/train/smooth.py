"""Finds jumps of functions of one number, and slopes that are wrong.

A gradient says nothing of a jump: it is the same on both sides. Along a line, the difference of two values is the
integral of the slope, unless the function jumps between them; so cells in which the trapezoidal rule is off are halved
until they are too short for anything but a jump to show.

Where the rule stays off, in proportion to the length of cells that are short already, the slope is not that of the
function: a part of it was computed past autograd, in NumPy or from a detached tensor.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

__all__ = ["POINTS", "smooth"]

_CELLS = 32
"""Cells of a line to begin with."""

_GOLDEN = 0.618033988749895
"""Multiples of it spread evenly between whole numbers, however many there are."""

_SUSPECTS = 12
"""Cells of a line that are halved, the worst."""

_DEPTH = 60.0
"""How far below the largest value of a line nothing counts: there, a density is nil."""

_HALVINGS = 24
_JUMP, _GRAINS = 1e-3, 64.0
"""Difference of values that is a jump, where it remains in the shortest cell, and that is more than rounding."""

_ASIDE, _SHORT, _SHORTER = 2.0**-6, 2.0**-12, 2.0**-15
"""How far aside slopes are looked at a second time, and the lengths of cells there, as shares of the line."""

_WRONG = 1e-3
"""Error of a slope of 1 that is too much."""

POINTS = _CELLS + 1 + 6
"""Evaluations of each function, but for those in cells that are halved."""

Function = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]
"""Maps numbers of lines and places on them to values and slopes, all of one shape (points,)."""


class _Cells(NamedTuple):
    """Cells of lines, all of one shape: the line, both ends, the values there, and the slopes."""

    line: Tensor
    left: Tensor
    right: Tensor
    low: Tensor
    high: Tensor
    first: Tensor
    last: Tensor

    @property
    def errors(self) -> Tensor:
        """By how much the trapezoidal rule misses the difference of values; infinite where that is no number."""
        found = (self.high - self.low - (self.right - self.left) * (self.first + self.last) / 2).abs()
        found = torch.where(found.isnan(), torch.inf, found)
        return torch.where(self.low.isneginf() & self.high.isneginf(), 0.0, found)  # where nothing is, nothing jumps

    def jumps(self, floor: Tensor, grain: float) -> Tensor:
        """Tells in which cells there may be a jump, where values above a floor (lines,) count."""
        size = torch.maximum(self.low.abs(), self.high.abs())
        noise = torch.where(size.isfinite(), _GRAINS * grain * size, 0.0)
        return (self.errors > _JUMP + noise) & ~(torch.maximum(self.low, self.high) <= floor[self.line])

    def at(self, chosen: Tensor) -> _Cells:
        return _Cells(*(part[chosen] for part in self))

    def worse_half(self, function: Function) -> _Cells:
        """Returns the halves in which the rule is worse."""
        middle = (self.left + self.right) / 2
        value, slope = function(self.line, middle)
        halves = (
            self._replace(right=middle, high=value, last=slope),
            self._replace(left=middle, low=value, first=slope),
        )
        later = halves[1].errors > halves[0].errors
        return _Cells(*(torch.where(later, b, a) for a, b in zip(*halves, strict=True)))


def smooth(function: Function, at: Tensor, low: Tensor, high: Tensor, grain: float = 2.0**-52) -> Tensor:
    """Tells which functions have no jumps and right slopes, as far as lines show.

    Args:
        function: The functions; minus infinity and far below the largest value of a line, nothing counts.
        at: Where the slope of each is looked at, (lines,).
        low: Where the line of each begins, (lines,).
        high: Where it ends.
        grain: Relative error of values.

    Returns:
        Boolean (lines,).
    """
    cells = _cells(function, low, high)
    values = torch.cat([cells.low[:, :1], cells.high], 1)
    fine = ~(values.isnan() | values.isposinf()).any(1) & _right_slopes(function, at, high - low, grain)
    floor = values.amax(1) - _DEPTH
    errors = torch.where(cells.jumps(floor, grain), cells.errors, -1.0)
    worst = errors.topk(_SUSPECTS, dim=1).indices
    cells = _Cells(*(part.gather(1, worst)[fine].flatten() for part in cells))
    for _ in range(_HALVINGS):
        cells = cells.at(cells.jumps(floor, grain))
        if not len(cells.line):
            break
        cells = cells.worse_half(function)
    fine[cells.line[cells.jumps(floor, grain)]] = False
    return fine


def _cells(function: Function, low: Tensor, high: Tensor) -> _Cells:
    """Returns the cells of all lines to begin with, (lines, cells) each."""
    # Each line has its cells elsewhere, so that what is narrower than a cell ends within one of some line.
    shift = (torch.arange(len(low), dtype=low.dtype) * _GOLDEN).frac().unsqueeze(1)
    share = ((torch.arange(_CELLS + 1) - shift) / (_CELLS - 1)).clamp(0, 1)
    places = low[:, None] + (high - low)[:, None] * share
    line = torch.arange(len(low)).unsqueeze(1).expand(places.shape)
    values, slopes = (part.reshape(places.shape) for part in function(line.reshape(-1), places.reshape(-1)))
    ends = [end for part in (places, values, slopes) for end in (part[:, :-1], part[:, 1:])]
    return _Cells(line[:, 1:], *ends)


def _right_slopes(function: Function, at: Tensor, length: Tensor, grain: float) -> Tensor:
    """Tells which slopes are right, at a place of each line or a little aside of it, (lines,): a corner may lie there.

    Of right ones the error falls with the square of the length of a cell, of wrong ones it does not.
    """
    length = length[:, None]
    begin = at[:, None] + length * torch.tensor([0.0, _ASIDE], dtype=at.dtype)
    line = torch.arange(len(at)).unsqueeze(1).expand(begin.shape)
    parts = [function(line.reshape(-1), (begin + length * part).reshape(-1)) for part in (0.0, _SHORTER, _SHORT)]
    (value, slope), *ends = [(value.reshape(begin.shape), slope.reshape(begin.shape)) for value, slope in parts]
    shorter, short = (
        ((other - value) / (length * part) - (slope + end) / 2).abs()
        for part, (other, end) in zip((_SHORTER, _SHORT), ends, strict=True)
    )
    noise = 4 * grain * value.abs() / (length * _SHORTER)
    wrong = (shorter > _WRONG * (1 + slope.abs()) + noise) & (shorter > short / 4)
    return ~wrong.all(1)
