r"""Noise levels where there is something to learn.

Let :math:`e(\sigma) = E |x_0 - D(x_\sigma, \sigma)|^2 / \sigma^2` be the denoiser's error on held-out tokens, averaged
over questions and features. It falls from one, where noise is too weak to be told from the law of a token itself, to
zero, where noise is far stronger than that law is wide. It turns where both are alike: at low levels for tokens that
the evidence nearly fixes, at high ones for the others. So :math:`1 - e` is the distribution function of a law of
:math:`\ln \sigma`, that of the widths of the laws to be learned, spread by about a factor of e.

Levels come from a distribution that is the same for all graphs, but for half of those widths that lie below its
median: the low levels that precise data ask for.

References:
    Dieleman et al., "Continuous diffusion for categorical data" (2022), section 3.3: time warping, which draws levels
    by a loss in the same way.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from simgraph.simformer.schedule import SIGMA_MIN, NoiseLevels

__all__ = ["Levels"]

_SHARE = 0.5
"""Share of the narrow laws whose widths are drawn as levels."""

_LEAST, _BINS = 512, 32
"""Held-out rows that it takes to tell the error, and the number of levels at which their mean is taken."""


class Levels:
    """The distribution of noise levels in training, which follows the error of the denoiser.

    Args:
        base: The distribution that is the same for all graphs.

    Attributes:
        log_sigma: Levels at which the error was found, rising; empty before that.
        passed: 1 - e there: the share of widths below.
    """

    def __init__(self, base: NoiseLevels) -> None:
        self.base = base
        self.log_sigma = self.passed = np.empty(0)

    def follow(self, sigma: Tensor, error: Tensor) -> None:
        """Finds where the error turns.

        Args:
            sigma: Noise levels of held-out rows, (rows,).
            error: The mean error e of each row, (rows,).
        """
        if len(sigma) < _LEAST or not bool(error.isfinite().all()):
            return
        bins = np.array_split(sigma.argsort().numpy(), _BINS)
        levels, errors = sigma.log().double().numpy(), error.double().numpy()
        falling = _falling(np.array([errors[rows].mean() for rows in bins]))
        self.log_sigma = np.array([math.log(SIGMA_MIN), *(levels[rows].mean() for rows in bins)])
        self.passed = np.array([0.0, *(1 - np.minimum(falling, 1.0))])

    def sample(self, count: int, generator: torch.Generator) -> Tensor:
        """Draws noise levels (count,), stratified over their quantiles."""
        narrow = float(np.interp(self.base.mean, self.log_sigma, self.passed)) if len(self.passed) else 0.0
        followed = round(_SHARE * narrow * count)
        levels = self.base.sample(count - followed, generator)
        if not followed:
            return levels
        unit = (torch.arange(followed) + torch.rand(followed, generator=generator)) / followed
        own = np.exp(np.interp(narrow * unit.double().numpy(), self.passed, self.log_sigma))
        return torch.cat([levels, torch.from_numpy(own).float()])[torch.randperm(count, generator=generator)]


def _falling(values: np.ndarray) -> np.ndarray:
    """Returns the falling sequence that is nearest to the values: neighbours that rise are averaged."""
    pools: list[tuple[float, int]] = []
    for value in values:
        pools.append((float(value), 1))
        while len(pools) > 1 and pools[-2][0] < pools[-1][0]:
            (late, of_late), (early, of_early) = pools.pop(), pools.pop()
            size = of_early + of_late
            pools.append(((early * of_early + late * of_late) / size, size))
    return np.concatenate([np.full(size, mean) for mean, size in pools])
