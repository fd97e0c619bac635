"""Two sets of draws, put on one scale before they are compared."""

from __future__ import annotations

from typing import Any

import numpy as np

from simgraph.errors import ShapeError

__all__ = ["standardised"]


def standardised(reference: Any, samples: Any) -> tuple[np.ndarray, np.ndarray]:
    """Returns two sets of draws (count, dimensions), standardised by mean and standard deviation of the first.

    Args:
        reference: Draws (count, dimensions), or (count,) for one dimension.
        samples: Draws (count, dimensions).

    Raises:
        ShapeError: If the two sets have different dimensions.
    """
    first, second = (np.asarray(draws, dtype=np.float64).reshape(len(draws), -1) for draws in (reference, samples))
    if first.shape[1] != second.shape[1]:
        raise ShapeError(f"draws of one dimension are compared, not of {first.shape[1]} and {second.shape[1]}.")
    centre, scale = first.mean(0), first.std(0, ddof=1)
    scale = np.where(scale > 0, scale, 1.0)
    return (first - centre) / scale, (second - centre) / scale
