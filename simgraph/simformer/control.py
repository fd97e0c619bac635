r"""Less noisy targets, where the score of the clean law is known.

A denoiser learns E[x_0 | x_sigma, observed] from the target x_0, most of whose variance at low noise is the noise
itself. Let :math:`g_i = \partial_i \log p(x_0)` and a be a function of x_0. By Stein's identity for the law of
:math:`x_{0,i}` given all other tokens and its noised value :math:`x_{0,i} + \sigma n_i`,

.. math:: t_i = \sigma^2 \partial_i a_i + a_i (\sigma n_i + \sigma^2 g_i)

has mean zero given what the denoiser sees, so that x_0 + w t has the same mean as x_0, for any weight w that depends on
what the denoiser sees alone. With :math:`a_i = 1 / (1 + \sigma^2 \lambda_i)` and the precision :math:`\lambda_i` of a
Gaussian law, the target is exactly the mean given the other tokens; of other laws, some of the noise stays. The weights
w are learned with the network: they minimise the same loss.

References:
    De Bortoli, Hutchinson, Wirnsberger and Doucet, "Target score matching" (2024), propositions 2.1 and 2.3: the score
    of the noised law as a mean of clean scores, and its mixture with the usual target.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from simgraph.simformer.schedule import SIGMA_MAX, SIGMA_MIN

__all__ = ["Control"]

_KNOTS = 12
"""Noise levels at which weights are kept; between them, they are interpolated along the logarithm."""

_MOST = 1.3
"""Largest weight."""


class Control(nn.Module):
    """What is added to the targets of tokens whose score is known.

    Args:
        identifiers: Number of token identifiers; each has weights of its own.
    """

    def __init__(self, identifiers: int) -> None:
        super().__init__()
        levels = torch.linspace(math.log(SIGMA_MIN), math.log(SIGMA_MAX), _KNOTS)
        begin = (1 / (1 + (2 * levels).exp())).clamp(0.02, 0.98)  # as for a law of the token's own width
        self.shares = nn.Parameter(torch.logit(begin).repeat(identifiers, 1))

    def forward(self, noise: Tensor, sigma: Tensor, scores: Tensor, ids: Tensor) -> Tensor:
        """Returns w t / c_out (see :mod:`simgraph.simformer.schedule`), (batch, tokens).

        Args:
            noise: The noise n of each token, (batch, tokens).
            sigma: Noise levels (batch,).
            scores: g, lambda and its slope, (batch, tokens, 3); an infinite lambda adds nothing.
            ids: Identifiers (tokens,), or (batch, tokens).
        """
        score, precision, slope = scores.unbind(-1)
        level, variance = sigma.unsqueeze(1), sigma.square().unsqueeze(1)
        share = 1 / (1 + variance * precision)
        added = share * (noise + level * score) - level * variance * slope * share.square()
        return self._weights(sigma, ids) * (1 + variance).sqrt() * added

    def _weights(self, sigma: Tensor, ids: Tensor) -> Tensor:
        """Returns w, (batch, tokens)."""
        unit = (sigma / SIGMA_MIN).log() / math.log(SIGMA_MAX / SIGMA_MIN)
        place = (unit * (_KNOTS - 1)).clamp(0, _KNOTS - 1)
        below = place.long().clamp_max(_KNOTS - 2)
        part = (place - below).unsqueeze(1)
        table = _MOST * self.shares.sigmoid()
        ids = ids.expand(len(sigma), -1)
        first, second = (table[ids, (below + step).unsqueeze(1)] for step in (0, 1))
        return torch.lerp(first, second, part)
