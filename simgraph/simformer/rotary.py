r"""Queries and keys turned by the points of functions, so that attention sees how far two points are apart.

Feature pairs of each head are rotated by an angle in proportion to the point; a product of query and key then depends
on the difference of their points alone, beside what they say. Values of a function that lie close together find one
another from the start, where an embedding of the points has to be learned first.

References:
    Su et al., "RoFormer: enhanced transformer with rotary position embedding" (2021), equations 15 and 34.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

__all__ = ["Turn", "rotate", "turn"]

Turn = tuple[Tensor, Tensor]
"""Cosines and sines (tokens, batch or 1, 1, pairs)."""

_OCTAVES = 5
"""Angles go from a quarter turn over half of the range to 2 ** 5 times that."""


def turn(places: Tensor, features: int) -> Turn:
    """Returns how far the pairs of a head are turned.

    Args:
        places: Points (batch or 1, tokens, coordinates), each between -1 and 1; 0 for tokens that have none.
        features: Features of a head. Its pairs take turns in belonging to a coordinate.
    """
    pairs, coordinates = features // 2, places.shape[-1]
    angles = places.new_zeros(*places.shape[:2], pairs)
    for number in range(min(coordinates, pairs)):
        mine = angles[..., number::coordinates]
        frequency = 0.5 * math.pi * torch.logspace(0, _OCTAVES, mine.shape[-1], base=2.0, device=places.device)
        mine.copy_(places[..., number, None] * frequency)
    angles = angles.transpose(0, 1).unsqueeze(2)
    return angles.cos(), angles.sin()


def rotate(x: Tensor, by: Turn, heads: int) -> Tensor:
    """Turns queries or keys (tokens, batch, width), the width made of heads * features."""
    cos, sin = by
    pairs = cos.shape[-1]
    left, right, rest = x.unflatten(-1, (heads, -1)).split((pairs, pairs, x.shape[-1] // heads - 2 * pairs), -1)
    return torch.cat([left * cos - right * sin, left * sin + right * cos, rest], -1).flatten(-2)
