"""Evidence that is known only up to an interval: low < x < high, element by element."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from simgraph.errors import EvidenceError, ShapeError
from simgraph.query.numbers import numbers

__all__ = ["Interval", "above", "below", "between"]


@dataclass(frozen=True)
class Interval:
    """Where a value lies; see :func:`between`, :func:`above` and :func:`below`.

    Attributes:
        low: Lower ends, float64; minus infinity where there is none.
        high: Upper ends of the same shape, above the lower ones; infinity where there is none.
    """

    low: np.ndarray
    high: np.ndarray

    @property
    def ends(self) -> tuple[np.ndarray, np.ndarray]:
        """The lower and the upper ends."""
        return self.low, self.high


def between(low: Any, high: Any) -> Interval:
    """Says that a value lies between two ends.

    Args:
        low: A number, or an array with one end per element; minus infinity leaves an element open below.
        high: The same, broadcast against ``low``; infinity leaves an element open above.

    Returns:
        Evidence for ``given``.

    Raises:
        EvidenceError: If an end is NaN or no number, or ``low`` is not below ``high`` everywhere.
        ShapeError: If the shapes of the ends do not fit together.

    Example:
        >>> between([0.0, 1.0], 2.0)
        Interval(low=array([0., 1.]), high=array([2., 2.]))
    """
    return _interval("between", low=low, high=high)


def above(low: Any) -> Interval:
    """Says that a value lies above an end.

    Args:
        low: A number, or an array with one end per element.

    Returns:
        Evidence for ``given``.

    Raises:
        EvidenceError: If an end is NaN or no number, or infinity is the low end of an element.

    Example:
        >>> above(0.5)
        Interval(low=array(0.5), high=array(inf))
    """
    return _interval("above", low=low)


def below(high: Any) -> Interval:
    """Says that a value lies below an end.

    Args:
        high: A number, or an array with one end per element.

    Returns:
        Evidence for ``given``.

    Raises:
        EvidenceError: If an end is NaN or no number, or minus infinity is the high end of an element.

    Example:
        >>> below(0.5)
        Interval(low=array(-inf), high=array(0.5))
    """
    return _interval("below", high=high)


def _interval(function: str, **ends: Any) -> Interval:
    """Checks the ends ``low`` and ``high``, of which one may be left out; ``function`` is what the user called."""
    said = {side: numbers(f"{function}(...)", end) for side, end in ends.items()}
    count = sum(int(np.isnan(end).sum()) for end in said.values())
    if count:
        open_end = {"between": "-numpy.inf, 1.0", "above": "[-numpy.inf, 1.0]", "below": "[numpy.inf, 1.0]"}[function]
        mend = f"Leave an element open with an infinite end: sg.{function}({open_end})"
        if function != "between" and not any(end.ndim for end in said.values()):
            mend = "A variable whose end is not known is left out of given(...)."
        raise EvidenceError(f"{function}(...) holds {count} NaN.\n  {mend}")
    low, high = said.get("low", np.array(-np.inf)), said.get("high", np.array(np.inf))
    try:
        low, high = (end.copy() for end in np.broadcast_arrays(low, high))
    except ValueError:
        raise ShapeError(
            f"{function}(...) has ends of shapes {low.shape} and {high.shape}, which do not fit together.\n"
            "  Each end is one number, or an array with one number per element."
        ) from None
    empty = ~(low < high)
    if empty.any():
        first = {"low": low[empty][0], "high": high[empty][0]}
        called = ", ".join(f"{first[side]:g}" for side in said)
        which = f"; {int(empty.sum())} of {empty.size} elements are empty" if empty.ndim else ""
        raise EvidenceError(
            f"{function}({called}) is empty: no number lies between {first['low']:g} and {first['high']:g}{which}.\n"
            "  The low end comes first and is smaller. A value that is known is given as it is: given(x=1.0)"
        )
    return Interval(low, high)
