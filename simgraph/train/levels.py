r"""Noise levels where there is something to learn.

Let :math:`e(\sigma) = E |x_0 - D(x_\sigma, \sigma)|^2 / \sigma^2` be the denoiser's error on held-out tokens, averaged
over questions and features. It falls from one, where noise is too weak to be told from the law of a token itself, to
zero, where noise is far stronger than that law is wide. It turns where both are alike: at low levels for tokens that
the evidence nearly fixes, at high ones for the others. So :math:`1 - e` is the distribution function of a law of
:math:`\ln \sigma`, that of the widths of the laws to be learned.

Levels come from a distribution that is the same for all graphs, but for half of those widths that lie below its
median: the low levels that precise data ask for.

By the relation between information and estimation, :math:`e(\sigma) / \sigma` is the rate at which noise takes
information from tokens.

References:
    Guo, Shamai and Verdu, "Mutual information and minimum mean-square error in Gaussian channels" (2005), equation 1.
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
"""Tokens of so many rows tell the error, at so many levels."""


class Levels:
    """The distribution of noise levels in training, which follows the error of the denoiser.

    Args:
        base: The distribution that is the same for all graphs.
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
        if len(sigma) < _LEAST:
            return
        bins = np.array_split(sigma.argsort().numpy(), _BINS)
        levels, errors = sigma.log().double().numpy(), error.double().numpy()
        mean = np.array([errors[rows].mean() for rows in bins])
        falling = (np.minimum.accumulate(mean) + np.maximum.accumulate(mean[::-1])[::-1]) / 2
        self.log_sigma = np.array([math.log(SIGMA_MIN), *(levels[rows].mean() for rows in bins)])
        self.passed = np.array([0.0, *(1 - falling / max(1.0, falling[0]))])

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
