r"""Squared maximum mean discrepancy: how far apart two sets of draws lie in the eyes of a kernel.

With the Gaussian kernel :math:`k(x, y) = \exp(-|x - y|^2 / (2 l^2))`, the unbiased estimate is

.. math:: \frac{1}{m (m - 1)} \sum_{i \ne j} k(x_i, x_j) + \frac{1}{n (n - 1)} \sum_{i \ne j} k(y_i, y_j)
          - \frac{2}{m n} \sum_{i, j} k(x_i, y_j),

whose mean is 0 where the laws are equal; a single estimate may lie below 0.

References:
    Gretton, Borgwardt, Rasch, Schoelkopf and Smola, "A kernel two-sample test" (2012), equation 3, and section 8 for
    the median of distances as bandwidth.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from simgraph.diagnostics.standard import standardised
from simgraph.errors import DeclarationError, ShapeError

__all__ = ["mmd"]


def mmd(reference: Any, samples: Any, *, bandwidth: float | None = None) -> float:
    """Returns the unbiased estimate of the squared maximum mean discrepancy of two sets of draws.

    Both sets are standardised by the mean and standard deviation of the reference.

    Args:
        reference: Draws (count, dimensions), or (count,) for one dimension.
        samples: Draws (count, dimensions).
        bandwidth: Length l of the kernel, in standard deviations of the reference; by default the median distance
            between two draws, of either set.

    Raises:
        ShapeError: If the two sets have different dimensions, or fewer than two draws.
        DeclarationError: If the bandwidth is not positive.

    Example:
        >>> mmd([0.0, 1.0, 2.0], [100.0, 101.0, 102.0], bandwidth=1.0) > 0.8
        True
    """
    first, second = (torch.from_numpy(draws) for draws in standardised(reference, samples))
    if min(len(first), len(second)) < 2:
        raise ShapeError(f"mmd compares two draws a side or more, not {len(first)} and {len(second)}.")
    if bandwidth is not None and not bandwidth > 0:
        raise DeclarationError(f"bandwidth={bandwidth!r} is not a positive number.")
    # Pairs inside of a set are listed once each, and no draw is paired with itself: that is what makes it unbiased.
    # Distances by matrix products would lose the digits of small ones.
    inside = torch.pdist(first), torch.pdist(second)
    across = torch.cdist(first, second, compute_mode="donot_use_mm_for_euclid_dist").flatten()
    length = float(torch.cat([*inside, across]).median()) if bandwidth is None else bandwidth
    length = length or 1.0  # more than half of the draws are one and the same

    def mean_kernel(distance: Tensor) -> Tensor:
        return torch.exp(-0.5 * (distance / length) ** 2).mean()

    return float(mean_kernel(inside[0]) + mean_kernel(inside[1]) - 2 * mean_kernel(across))
