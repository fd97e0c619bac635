"""Rows of a batch without the tokens that are absent in them.

Traces that look at functions in few points, small plates and questions that leave variables out have many absent
tokens, which nothing attends to. Where they are enough, each row is packed to its tokens that are present.
"""

from __future__ import annotations

import torch
from torch import Tensor

from simgraph.compile.masks import ABSENT

__all__ = ["packed", "packing", "sparse"]

_LEAST = 24
"""Rows of up to so many tokens stay as they are: their tokens take little time."""

_WORTH = 0.8
"""Share of tokens that are present, up to which packing pays."""


def sparse(states: Tensor) -> bool:
    """Tells whether rows with condition states (rows, tokens) lack so many tokens that packing pays."""
    return states.shape[1] > _LEAST and float((states != ABSENT).float().mean()) < _WORTH


def packing(states: Tensor) -> Tensor | None:
    """Returns the slots that stay in each row, (rows, most), those that are present in front; None if nearly all do.

    Args:
        states: Condition states (rows, tokens).
    """
    present = states != ABSENT
    most = max(1, int(present.sum(1).max()))
    if states.shape[1] <= _LEAST or most > _WORTH * states.shape[1]:
        return None
    return present.byte().argsort(dim=1, descending=True, stable=True)[:, :most]


def packed(values: Tensor, slots: Tensor) -> Tensor:
    """Returns what belongs to the slots (rows, most) of values (rows, tokens, ...): (rows, most, ...)."""
    return torch.take_along_dim(values, slots.reshape(*slots.shape, *[1] * (values.dim() - 2)), 1)
