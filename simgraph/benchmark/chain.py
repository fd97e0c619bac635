r"""A hidden Markov chain of any length that is linear and Gaussian, and the loss of its exact denoiser.

:math:`\theta_0 \sim N(0, 1)`, :math:`\theta_i \sim N(a \theta_{i-1}, 1 - a^2)` and
:math:`x_i \sim N(\theta_i, s^2)` with :math:`a = 0.9` and :math:`s = 0.5`, so that
:math:`\operatorname{cov}(\theta_i, \theta_j) = a^{|i-j|}`.

For latent values l, noised to :math:`l + \sigma n`, and observed values o,

.. math:: E[l \mid l + \sigma n, o] = m + K (K + \sigma^2)^{-1} (l + \sigma n - m), \qquad
    m = \mu_l + C_{lo} C_{oo}^{-1} (o - \mu_o), \quad K = C_{ll} - C_{lo} C_{oo}^{-1} C_{ol}.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.distributions import Normal

from simgraph.compile.layout import Layout
from simgraph.compile.masks import LATENT, OBSERVED
from simgraph.dsl import node
from simgraph.graph import Graph

__all__ = ["covariance", "exact_loss", "linear_chain", "standardised"]

_COUPLING = 0.9
_NOISE = 0.5


def _first() -> Normal:
    return Normal(0.0, 1.0)


def _next(previous: Tensor) -> Normal:
    return Normal(_COUPLING * previous, (1 - _COUPLING**2) ** 0.5)


def _datum(state: Tensor) -> Normal:
    return Normal(state, _NOISE)


def linear_chain(steps: int) -> Graph:
    """Returns the graph of a chain: states theta_0, theta_1, ... and data x_0, x_1, ..., a node each."""
    states = [node(name="theta_0")(_first)]
    for step in range(1, steps):
        states.append(node(name=f"theta_{step}", parents={"previous": f"theta_{step - 1}"})(_next))
    data = [node(name=f"x_{step}", parents={"state": f"theta_{step}"})(_datum) for step in range(steps)]
    return Graph(*states, *data)


def covariance(steps: int) -> Tensor:
    """Returns the covariance of theta_0, theta_1, ..., x_0, x_1, ..., float64 (2 steps, 2 steps); means are zero."""
    step = torch.arange(steps, dtype=torch.float64)
    states = _COUPLING ** (step[:, None] - step).abs()
    return states.repeat(2, 2) + torch.diag(torch.arange(2 * steps) >= steps) * _NOISE**2


def standardised(layout: Layout) -> tuple[Tensor, Tensor]:
    """Returns mean and covariance of a chain's tokens, float64 (tokens,) and (tokens, tokens).

    Args:
        layout: The tokens of a chain, fitted to traces: each is its value, shifted and scaled.
    """
    steps = len(layout.names) // 2
    numbers = [steps * name.startswith("x") + int(name.partition("_")[2]) for name in layout.names]
    ends = torch.tensor([0.0, 1.0], dtype=torch.float64)
    ends = torch.cat([layout.tokenizers[name].tokenize(ends)[:, 0] for name in layout.names], 1).double()
    scale = ends[1] - ends[0]
    return ends[0], scale[:, None] * covariance(steps)[numbers][:, numbers] * scale


def exact_loss(mean: Tensor, spread: Tensor, x_0: Tensor, noise: Tensor, sigma: Tensor, states: Tensor) -> Tensor:
    """Returns the loss of each token under the exact denoiser, (batch, tokens): zero where it is not latent.

    Args:
        mean: Mean of the tokens, float64 (tokens,).
        spread: Their covariance, (tokens, tokens).
        x_0: Clean tokens (batch, tokens).
        noise: Standard normal noise (batch, tokens).
        sigma: Noise levels (batch,).
        states: Condition states (batch, tokens).
    """
    losses = torch.zeros(x_0.shape, dtype=torch.float64)
    for row, (clean, level) in enumerate(zip(x_0.double(), sigma.double(), strict=True)):
        latent, observed = ((states[row] == state).nonzero().flatten() for state in (LATENT, OBSERVED))
        between, centre, within = spread[latent][:, observed], mean[latent], spread[latent][:, latent]
        if len(observed):
            gain = torch.linalg.solve(spread[observed][:, observed], between.T).T
            centre = centre + gain @ (clean[observed] - mean[observed])
            within = within - gain @ between.T
        noised = clean[latent] + level * noise[row, latent]
        total = within + level**2 * torch.eye(len(latent), dtype=torch.float64)
        denoised = centre + within @ torch.linalg.solve(total, noised - centre)
        losses[row, latent] = (1 + level**2) / level**2 * (denoised - clean[latent]).square()
    return losses
