"""Traces that show what others do not: through these, lines are drawn in search of jumps.

What a density does along a token can hang on the values of others. Of those that are read and have few distinct values
(categories, counts, flags, whatever their type), a trace with each is chosen; of others traces from their smallest
value to their largest one; and traces at the ends of each token.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import NamedTuple

import numpy as np
from torch import Tensor

__all__ = ["Telling", "telling"]

_PLAIN = 4
"""The first traces, whatever they are."""

_MOST_DISTINCT, _SPREAD = 64, 17
"""Distinct values that are all looked at, and how many of more of them."""

_MOST_COLUMNS = 32
"""Elements of the events of one variable that are looked at."""


class Telling(NamedTuple):
    """A trace, and the element of plates, by name, that has the value for which it was chosen."""

    row: int
    element: Mapping[str, int]


def telling(tokens: Tensor, read: Mapping[str, tuple[np.ndarray, tuple[str, ...]]], most_ends: int) -> list[Telling]:
    """Chooses traces.

    Args:
        tokens: Values of tokens (traces, tokens), one of each kind.
        read: Values (traces, *plate sizes, *event_shape) of what else is read, and the names of the plates, by name.
        most_ends: How many traces are chosen for the ends of tokens.
    """
    ends = [Telling(int(row), {}) for pair in zip(tokens.argmin(0), tokens.argmax(0), strict=True) for row in pair]
    found = [Telling(row, {}) for row in range(min(_PLAIN, len(tokens)))]
    for values, plates in read.values():
        found += _with_each_value(values, plates)
    return found + ends[:most_ends]


def _with_each_value(values: np.ndarray, plates: tuple[str, ...]) -> Iterator[Telling]:
    shape = values.shape[: 1 + len(plates)]
    for column in values.reshape(*shape, -1).T[:_MOST_COLUMNS]:
        column = column.T.reshape(-1)
        distinct, first = np.unique(column, return_index=True)
        if len(distinct) > _MOST_DISTINCT:
            first = first[np.linspace(0, len(first) - 1, _SPREAD).round().astype(int)]
        for place in first.tolist():
            row, *element = (int(index) for index in np.unravel_index(place, shape))
            yield Telling(row, dict(zip(plates, element, strict=True)))
