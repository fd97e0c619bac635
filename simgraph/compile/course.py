"""How location and scale of a function's values change along its index.

An epidemic spans ten orders of magnitude at its end, and half of one at its beginning, where what is seen says most.
Standardised by one scale, the beginning would be too narrow for a network to resolve.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

__all__ = ["COURSE", "KNOTS", "course", "interpolated"]

COURSE = ("course_mean", "course_sd", "course_low", "course_high")
"""Names of what is fitted among the statistics of a tokenizer."""

KNOTS = 17
"""Places at which moments are fitted, evenly over the range of the index; between them they are interpolated."""

_STIFFNESS = 10.0
"""How many values weigh as much as a step between knots: where there are few, knots follow their neighbours."""

_TOWARDS_ALL = 1e-3
"""How many values the moments of all are worth at each knot: they decide where nothing else does."""

_LEAST_VARIANCE = 1e-8
"""Of standardised values: its logarithm is finite where all are equal."""

_MARGIN, _FOR_FEW = 0.1, 10.0
"""By how much of their range new values may leave it: a tenth, and more where only some tens of values tell it."""

_ANYWHERE = 1e6
"""In standard deviations, beyond all values: the range where no value was seen."""

_FARTHEST = 8.0
"""No value lies farther out than about so many standard deviations of its place: rare ones would swamp the loss."""


def course(values: np.ndarray, points: np.ndarray) -> dict[str, np.ndarray]:
    """Returns means and standard deviations of standardised values at each knot, and the ranges of tokens, (KNOTS,).

    Moments are broken lines that fit best under a penalty for steps (Eilers and Marx, "Flexible smoothing with
    B-splines and penalties", 1996, equation 5, of order one): the mean to the values, the logarithm of the variance to
    averages of what is left around each knot.

    Args:
        values: Standardised values (count,).
        points: Where they were looked at, (count,), from -1 to 1.
    """
    below, share = (part.numpy() for part in _between(torch.from_numpy(points)))
    before, after = 1 - share, share

    def total(lower: np.ndarray, upper: np.ndarray) -> np.ndarray:
        """Returns the sums at each knot of terms that belong to the knot below a point, and to that above it."""
        return np.bincount(below, lower, KNOTS) + np.bincount(below + 1, upper, KNOTS)

    beside = np.bincount(below, before * after, KNOTS)[:-1]
    products = np.diag(total(before**2, after**2)) + np.diag(beside, 1) + np.diag(beside, -1)
    mean = _smooth(products, total(before * values, after * values))

    left = values - before * mean[below] - after * mean[below + 1]
    count = total(before, after)
    known = count > 0
    variance = np.ones(KNOTS)
    variance[known] = total(before * left**2, after * left**2)[known] / count[known]
    weights = count / 2  # the logarithm of a variance has itself a variance of 2 / count
    log = _smooth(np.diag(weights), weights * np.log(np.maximum(variance, _LEAST_VARIANCE)))
    largest = np.zeros(KNOTS)
    np.maximum.at(largest, below + (after > 0.5), np.abs(left))
    sd = np.maximum(np.exp(log / 2), largest / _FARTHEST)

    low, high = _ends(left / (before * sd[below] + after * sd[below + 1]), below)
    return dict(zip(COURSE, (mean, sd, low, high), strict=True))


def _ends(tokens: np.ndarray, below: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns the lowest and the highest of the tokens on either side of each knot, with a margin, (KNOTS,) each."""
    low, high = np.full(KNOTS, _ANYWHERE), np.full(KNOTS, -_ANYWHERE)
    number = np.zeros(KNOTS)
    for knots in (below, below + 1):
        np.minimum.at(low, knots, tokens)
        np.maximum.at(high, knots, tokens)
        number += np.bincount(knots, minlength=KNOTS)
    margin = (_MARGIN + _FOR_FEW / np.maximum(number, 1)) * (high - low)
    return np.where(number, low - margin, -_ANYWHERE), np.where(number, high + margin, _ANYWHERE)


def _smooth(products: np.ndarray, sums: np.ndarray) -> np.ndarray:
    """Solves a least-squares problem over the knots under the penalty, given its normal equations."""
    steps = np.diff(np.eye(KNOTS), axis=0)
    return np.linalg.solve(products + _STIFFNESS * steps.T @ steps + _TOWARDS_ALL * np.eye(KNOTS), sums)


def interpolated(moments: Tensor, points: Tensor) -> Tensor:
    """Returns the moments (KNOTS, tokens) between the knots, at points (...) from -1 to 1: (..., tokens)."""
    below, share = _between(points)
    return torch.lerp(moments[below], moments[below + 1], share.unsqueeze(-1))


def _between(points: Tensor) -> tuple[Tensor, Tensor]:
    """Returns the knot below each point, and the share of the way to the next."""
    place = ((points.double() + 1) / 2 * (KNOTS - 1)).clamp(0, KNOTS - 1)
    below = place.long().clamp_max(KNOTS - 2)
    return below, place - below
