"""Values that a continuous variable takes again and again: it rains not at all, a gauge is at its end.

Such a value is an atom: it has a probability, not a density. It is set apart from the rest of the values in a zone of
its own beyond their range, over which it is spread at random, as a count is over its cell. There are at most two, the
lower one below the rest and the higher one above; a single one goes to the side on which fewer of the rest lie.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

__all__ = ["MARGIN", "WIDTH", "apart", "frequent", "sides", "zone"]

WIDTH = 1.0
"""Width of a zone, in standard deviations of the rest."""

_GAP = 1.0
"""Distance between a zone and the rest; the middle of it tells them apart."""

MARGIN = 0.1
"""Other values stay so far away from the middle of the gap."""

_LEAST_SHARE = 0.01
_LEAST_COUNT = 10
_APART = 10
"""An atom comes up so many times as often as the next value: not so what was rounded to a grid."""


def frequent(values: np.ndarray) -> list[float]:
    """Returns the atoms among values (traces,), none to two in rising order.

    Example:
        >>> frequent(np.concatenate([np.zeros(50), np.linspace(1, 2, 50)]))
        [0.0]
    """
    found, counts = np.unique(values, return_counts=True)
    order = np.argsort(-counts, kind="stable")
    most = counts[order]
    least = max(_LEAST_COUNT, _LEAST_SHARE * len(values))
    for number in (1, 2):
        if number < len(most) and most[number - 1] >= max(least, _APART * most[number]):
            return sorted(found[order[:number]].tolist())
    return []


def sides(atoms: list[float], rest: np.ndarray) -> tuple[float | None, float | None]:
    """Returns the atom that goes below the rest of the values, and the one that goes above it."""
    if len(atoms) == 1:
        below = (rest < atoms[0]).mean() <= 0.5
        return (atoms[0], None) if below else (None, atoms[0])
    return (atoms[0], atoms[1]) if atoms else (None, None)


def apart(low: float, high: float) -> tuple[float, float]:
    """Returns the ends of the room of values that lie from ``low`` to ``high``; zones begin half a gap behind them."""
    return low - 0.5 * _GAP, high + 0.5 * _GAP


def zone(end: Tensor, sign: int, generator: torch.Generator | None, shape: torch.Size) -> Tensor:
    """Returns places in the zone behind an end of the room: anywhere at random, or in the middle without a generator.

    Args:
        end: The end, broadcastable to the shape.
        sign: -1 below the room, 1 above it.
        generator: Source of randomness.
        shape: Shape of the places.
    """
    place = 0.5 if generator is None else torch.rand(shape, generator=generator, dtype=torch.float64)
    return (end + sign * (0.5 * _GAP + WIDTH * place)).expand(shape)
