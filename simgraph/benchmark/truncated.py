"""Standard Gaussians cut off on both sides, drawn by inverting their distribution function."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.special import log_ndtr, ndtri

__all__ = ["mass", "truncated"]


def mass(low: Tensor, high: Tensor) -> Tensor:
    """Returns the probability of intervals under the standard Gaussian."""
    low, high, _ = _in_the_lower_tail(low, high)
    return _below(high) - _below(low)


def truncated(low: Tensor, high: Tensor, uniform: Tensor) -> Tensor:
    """Maps uniform numbers to draws of the standard Gaussian on intervals.

    Args:
        low: Lower bounds.
        high: Upper bounds, above the lower ones.
        uniform: Numbers in [0, 1), float64.
    """
    low, high, mirrored = _in_the_lower_tail(low, high)
    # Rounding in the distribution function must not lead outside.
    noise = ndtri(_below(low) + uniform * (_below(high) - _below(low)))
    noise = torch.minimum(torch.maximum(noise, low), high)
    return torch.where(mirrored, -noise, noise)


def _in_the_lower_tail(low: Tensor, high: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Mirrors intervals that lie above the centre, since distribution functions are exact in the lower tail only."""
    mirrored = low + high > 0
    return torch.where(mirrored, -high, low), torch.where(mirrored, -low, high), mirrored


def _below(value: Tensor) -> Tensor:
    """Returns the distribution function; ``torch.special.ndtr`` is 0 from nine standard deviations on."""
    return log_ndtr(value).exp()
