r"""Cells of counts <-> the real line, so that noise is as wide everywhere.

A count k is spread over its cell [k, k + 1), and the place u in it passes through the transform that stabilises the
variance of a Poisson count, or of a binomial one where there is a highest count:

.. math:: \sqrt{u - low}, \qquad \arcsin \sqrt{(u - low) / (high + 1 - low)} .

One more among three then shows as well as thirty more among a thousand.

References:
    Anscombe, "The transformation of Poisson, binomial and negative-binomial data" (1948), sections 2 and 3.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

__all__ = ["Cells"]

_TINY = 1e-300

_MOST_ROOT = 1e75
"""Square roots of counts are cut off there, so that their squares are numbers."""


@dataclass(frozen=True)
class Cells:
    """The cells of counts.

    Attributes:
        low: The lowest count, or -inf; a scalar or an array of the event shape.
        high: The highest count, or inf; likewise.
    """

    low: np.ndarray
    high: np.ndarray

    def unconstrain(self, places: Tensor) -> Tensor:
        """Maps float64 places u in [low, high + 1] to the real line."""
        left, right, has_low, has_high = self._rooms(places)
        free = torch.where(has_low, left.sqrt(), torch.where(has_high, -right.sqrt(), places))
        return torch.where(has_low & has_high, torch.atan2(left.sqrt(), right.sqrt()), free)

    def constrain(self, free: Tensor) -> Tensor:
        """Maps real numbers to places in [low, high + 1]: what lies beyond an end comes back to it."""
        low, end, has_low, has_high = self._ends()
        root = free.clamp(-_MOST_ROOT, _MOST_ROOT)
        places = torch.where(has_high, end - root.clamp_max(0).square(), root)
        places = torch.where(has_low, low + root.clamp_min(0).square(), places)
        share = free.clamp(0, math.pi / 2).sin().square()
        return torch.where(has_low & has_high, low + (end - low) * share, places)

    def log_abs_det(self, places: Tensor) -> Tensor:
        """Returns log |d unconstrain / du| at float64 places u."""
        left, right, has_low, has_high = self._rooms(places)
        roots = torch.where(has_low, left.log(), 0.0) + torch.where(has_high, right.log(), 0.0)
        return torch.where(has_low | has_high, -0.5 * roots - math.log(2), 0.0)

    def _rooms(self, places: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Returns how far places are from both ends, 1 where there is none; and where there are ends."""
        low, end, has_low, has_high = self._ends()
        left, right = (room.clamp_min(_TINY) for room in (places - low, end - places))
        return torch.where(has_low, left, 1.0), torch.where(has_high, right, 1.0), has_low, has_high

    def _ends(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Returns both ends, 0 where there is none; and where there are ends."""
        low, end = torch.as_tensor(self.low), torch.as_tensor(self.high) + 1
        has_low, has_high = low.isfinite(), end.isfinite()
        return torch.where(has_low, low, 0.0), torch.where(has_high, end, 0.0), has_low, has_high
