"""How location and scale of a function's values change along its index.

An epidemic spans ten orders of magnitude at its end, and half of one at its beginning, where what is seen says most.
Standardised by one scale, the beginning would be too narrow for a network to resolve.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

__all__ = ["COURSE", "KNOTS", "course", "interpolated"]

COURSE = frozenset({"course_mean", "course_sd"})
"""Names of the moments."""

KNOTS = 17
"""Places at which moments are fitted, evenly over the range of the index; between them they are interpolated."""

_PRIOR = 3.0
"""So many values weigh as much as a bend of one, and as the variance of all: it matters where there are few traces."""

_LEAST_SD = 0.01
"""Values that hardly differ at a knot keep this share of the scale of all."""


def course(values: np.ndarray, points: np.ndarray) -> dict[str, np.ndarray]:
    """Returns means and standard deviations of standardised values at each knot, (KNOTS,).

    The mean is the broken line of least squares with a penalty for bends (Eilers and Marx, "Flexible smoothing with
    B-splines and penalties", 1996, equation 5, with lines for splines), the variance a local average of what is left.

    Args:
        values: Standardised values (count,).
        points: Where they were looked at, (count,), from -1 to 1.
    """
    below, share = (part.numpy() for part in _between(torch.from_numpy(points)))
    knots, weights = np.stack([below, below + 1]), np.stack([1 - share, share])
    products = np.zeros((KNOTS, KNOTS))
    np.add.at(products, (knots[:, None], knots[None]), weights[:, None] * weights[None])
    bends = np.diff(np.eye(KNOTS), 2, axis=0)
    penalty = _PRIOR * bends.T @ bends + 1e-3 * np.eye(KNOTS)
    mean = np.linalg.solve(products + penalty, np.bincount(knots.ravel(), (weights * values).ravel(), KNOTS))
    left = (values - (weights * mean[knots]).sum(0)) ** 2
    count = np.bincount(knots.ravel(), weights.ravel(), KNOTS) + _PRIOR
    variance = (np.bincount(knots.ravel(), (weights * left).ravel(), KNOTS) + _PRIOR) / count
    return {"course_mean": mean, "course_sd": np.maximum(np.sqrt(variance), _LEAST_SD)}


def interpolated(moments: Tensor, points: Tensor) -> Tensor:
    """Returns the moments (KNOTS, tokens) between the knots, at points (...) from -1 to 1: (..., tokens)."""
    below, share = _between(points)
    return torch.lerp(moments[below], moments[below + 1], share.unsqueeze(-1))


def _between(points: Tensor) -> tuple[Tensor, Tensor]:
    """Returns the knot below each point, and the share of the way to the next."""
    place = ((points.double() + 1) / 2 * (KNOTS - 1)).clamp(0, KNOTS - 1)
    below = place.long().clamp_max(KNOTS - 2)
    return below, place - below
