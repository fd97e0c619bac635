"""Values that a continuous variable takes again and again: it rains not at all, a gauge is at its end.

Such a value is an atom: it has a probability, not a density. It is set apart from the rest of the values in a zone of
its own beyond their range, over which it is spread at random, as a count is over its cell. There are at most two, the
lower one below the rest and the higher one above; a single one goes to the side on which fewer of the rest lie.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

__all__ = ["WIDTH", "Zone", "frequent", "room_for", "zones"]

WIDTH = 1.0
"""Width of a zone, in standard deviations of the rest."""

_GAP = 1.0
"""Distance between a zone and the rest; the middle of it, the end of the room, tells them apart."""

_MARGIN = 0.1
"""Values that are no atoms stay so far away from the end of the room."""

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


def room_for(atoms: list[float], rest: np.ndarray, places: np.ndarray) -> dict[str, float]:
    """Returns the statistics of the zones of one element: which there are, their atoms, and the ends of the room.

    Args:
        atoms: The atoms, none to two in rising order.
        rest: The other values.
        places: Where these lie, centred and scaled.
    """
    if len(atoms) == 1:
        below, above = (atoms, []) if (rest < atoms[0]).mean() <= 0.5 else ([], atoms)
    else:
        below, above = atoms[:1], atoms[1:]
    return {
        "has_below": float(bool(below)),
        "below": below[0] if below else 0.0,
        "floor": float(places.min()) - 0.5 * _GAP if below else 0.0,
        "has_above": float(bool(above)),
        "above": above[0] if above else 0.0,
        "ceiling": float(places.max()) + 0.5 * _GAP if above else 0.0,
    }


@dataclass(frozen=True)
class Zone:
    """The zones on one side of the room, of all tokens.

    Attributes:
        sign: -1 below the room, 1 above it.
        exists: Which tokens have one, boolean (tokens,).
        atom: Their atoms, float64 (tokens,).
        end: The end of the room on this side, (tokens,).
    """

    sign: int
    exists: Tensor
    atom: Tensor
    end: Tensor

    def holds(self, values: Tensor) -> Tensor:
        """Tells which values (..., tokens) are atoms, up to single precision."""
        return self.exists & (values.float() == self.atom.float())

    def covers(self, places: Tensor) -> Tensor:
        """Tells which places (..., tokens) lie in the zone."""
        return self.exists & (self.sign * (places - self.end) > 0)

    def moved(self, places: Tensor, values: Tensor, generator: torch.Generator | None) -> Tensor:
        """Moves the places of atoms into the zone, and all others out of it.

        Atoms go anywhere in the zone at random, or to its middle without a generator.
        """
        kept = self.sign * (self.sign * places).minimum(self.sign * self.end - _MARGIN)
        share = 0.5 if generator is None else torch.rand(places.shape, generator=generator, dtype=torch.float64)
        within = self.end + self.sign * (0.5 * _GAP + WIDTH * share)
        return torch.where(self.holds(values), within, torch.where(self.exists, kept, places))


def zones(statistics: Mapping[str, np.ndarray]) -> list[Zone]:
    """Returns the zones that fitted statistics of :func:`room_for` tell of; none where no token has any."""
    names = ((-1, "has_below", "below", "floor"), (1, "has_above", "above", "ceiling"))
    return [
        Zone(sign, torch.as_tensor(statistics[has] > 0), *(torch.as_tensor(statistics[name]) for name in (atom, end)))
        for sign, has, atom, end in names
        if np.any(statistics[has])
    ]
