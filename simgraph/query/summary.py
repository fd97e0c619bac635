r"""What a set of draws says about each element: moments, quantiles, intervals.

Of n sorted draws, the highest-density interval of level p is the shortest of the n - k + 1 intervals
:math:`[x_{(i)}, x_{(i + k - 1)}]` that hold k = ceil(p n) draws.

References:
    Chen and Shao, "Monte Carlo estimation of Bayesian credible and HPD intervals" (1999), section 2.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from simgraph.errors import QueryError, UnknownNameError, did_you_mean
from simgraph.query.elements import Axes, rows
from simgraph.query.numbers import numbers
from simgraph.text import table

__all__ = ["KINDS", "Summary", "interval", "quantile", "summarise"]

KINDS = ("equal", "hdi")
"""Kinds of intervals: with equal tails, and of the highest density."""

_MOST = 20
"""Rows of the printed table."""

_ROUNDING = 1e-9
"""What floating-point error may add to a number of draws: 0.55 * 100 is a little more than 55."""


class Summary(Mapping[str, Mapping[str, float]]):
    """A table of draws: a mapping from the name of a column to its numbers by element.

    ``pandas.DataFrame(dict(summary))`` is the same table.

    Args:
        columns: Numbers by element, by column.

    Example:
        >>> print(Summary({"mean": {"a": 0.5, "b": 2.0}, "sd": {"a": 1.0, "b": 0.1}}))
           mean  sd
        a  0.5   1
        b  2     0.1
    """

    def __init__(self, columns: Mapping[str, Mapping[str, float]]) -> None:
        self._columns = {name: dict(column) for name, column in columns.items()}

    def __getitem__(self, column: str) -> dict[str, float]:
        try:
            return self._columns[column]
        except KeyError:
            raise UnknownNameError(
                f"{column!r} is no column of the summary.\n  {did_you_mean(str(column), self._columns, 'Columns')}"
            ) from None

    def __contains__(self, column: object) -> bool:
        return column in self._columns

    def __iter__(self) -> Iterator[str]:
        return iter(self._columns)

    def __len__(self) -> int:
        return len(self._columns)

    def __repr__(self) -> str:
        labels = list(next(iter(self._columns.values())))
        rows = [(label, *(f"{column[label]:.4g}" for column in self._columns.values())) for label in labels[:_MOST]]
        more = f"\n... and {len(labels) - _MOST} more elements" if len(labels) > _MOST else ""
        return table(("", *self._columns), rows) + more


def summarise(values: Mapping[str, Tensor], ess: float, *, batched: bool, axes: Axes | None = None) -> Summary:
    """Returns mean, standard deviation, quantiles and effective number of draws of each element.

    Args:
        values: Tensors ([batch,] num_samples, *event_shape) by name.
        ess: Effective number of draws, for each piece of evidence.
        batched: Whether the first axis runs over pieces of evidence; each has rows of its own.
        axes: What the other axes are called.
    """
    drawn = rows(values, batched=batched, axes=axes)
    low, median, high = (
        {label: float(number) for label, number in zip(drawn, quantiles, strict=True)}
        for quantiles in np.quantile(np.stack(list(drawn.values())), [0.05, 0.5, 0.95], axis=1)
    )
    return Summary(
        {
            "mean": {label: float(draws.mean()) for label, draws in drawn.items()},
            "sd": {label: float(draws.std()) for label, draws in drawn.items()},
            "5%": low,
            "50%": median,
            "95%": high,
            "ess": dict.fromkeys(drawn, ess),
        }
    )


def quantile(values: Mapping[str, Tensor], q: Any, *, batched: bool) -> dict[str, Tensor]:
    """Returns quantiles over the draws, by name.

    Args:
        values: Tensors ([batch,] num_samples, *event_shape) by name.
        q: Levels from 0 to 1: a number, or a sequence, whose axis comes first in the result.
        batched: Whether the first axis runs over pieces of evidence.

    Raises:
        QueryError: If a level is no number from 0 to 1.
    """
    levels = numbers("quantile(...)", q)
    if levels.ndim > 1 or not levels.size or not ((levels >= 0) & (levels <= 1)).all():
        raise QueryError(
            f"quantile({q!r}) has levels other than numbers from 0 to 1.\n  For example: samples.quantile([0.05, 0.95])"
        )
    axis = 1 if batched else 0
    return {
        name: torch.from_numpy(np.asarray(np.quantile(value.numpy().astype(np.float64), levels, axis=axis)))
        for name, value in values.items()
    }


def interval(values: Mapping[str, Tensor], level: float, kind: str, *, batched: bool) -> dict[str, Tensor]:
    """Returns the ends of an interval that holds a share of the draws, element by element.

    Args:
        values: Tensors ([batch,] num_samples, *event_shape) by name.
        level: The share, above 0 and up to 1.
        kind: ``"equal"``: as many draws lie below as above; ``"hdi"``: the shortest such interval.
        batched: Whether the first axis runs over pieces of evidence.

    Returns:
        Float64 tensors ([batch,] *event_shape, 2): the lower and the upper end.

    Raises:
        QueryError: If the level or the kind is not one of these.
    """
    if isinstance(level, bool) or not isinstance(level, (int, float)) or not 0 < level <= 1:
        raise QueryError(f"level={level!r} is no number above 0 and up to 1.\n  For example: level=0.9")
    if kind not in KINDS:
        raise QueryError(f"kind={kind!r} is no kind of interval.\n  {did_you_mean(str(kind), KINDS, 'Kinds')}")
    if kind == "equal":
        ends = quantile(values, [(1 - level) / 2, (1 + level) / 2], batched=batched)
        return {name: value.movedim(0, -1) for name, value in ends.items()}
    axis = 1 if batched else 0
    return {
        name: torch.from_numpy(_shortest(np.moveaxis(value.numpy().astype(np.float64), axis, -1), level))
        for name, value in values.items()
    }


def _shortest(draws: np.ndarray, level: float) -> np.ndarray:
    """Returns the ends (..., 2) of the shortest intervals that hold a share of the draws (..., num_samples)."""
    count = draws.shape[-1]
    inside = max(1, math.ceil(level * count - _ROUNDING))
    ordered = np.sort(draws, axis=-1)
    low, high = ordered[..., : count - inside + 1], ordered[..., inside - 1 :]
    first = (high - low).argmin(-1, keepdims=True)
    return np.concatenate([np.take_along_axis(end, first, -1) for end in (low, high)], -1)
