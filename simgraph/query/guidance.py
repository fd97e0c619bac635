r"""Guided diffusion: the denoised mean is pushed to where a demand is satisfied.

With residuals :math:`U_j(x_0) \le 0`, the guide at noise level :math:`\sigma` is

.. math:: \log g(x, \sigma) = \sum_j \log \operatorname{sigmoid}\left(-U_j(D(x, \sigma)) / \tau_j(\sigma)\right),

whose width :math:`\tau_j` falls with the standard deviation :math:`\sigma / \sqrt{1 + \sigma^2}` that is left in a
draw, and the guided denoised mean is :math:`D + \sigma^2 \nabla_x \log g`. Each step is repeated with noise put back
between (self-recurrence). The law is approximate: D stands for all draws that it is the mean of.

References:
    Gloeckler et al. (2024), section 3.4 and appendix A2.2. Bansal et al., "Universal guidance for diffusion
    models" (2023), algorithm 1.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from simgraph.processor import workers
from simgraph.query.budget import Budget
from simgraph.query.methods import Guided
from simgraph.query.problem import Problem
from simgraph.query.solvers import Denoise
from simgraph.simformer.schedule import karras_grid

__all__ = ["guided"]

_SIGMA_MAX, _SIGMA_MIN, _RHO = 8.0, 0.005, 7.0

_SHARPNESS = 0.25
"""Width of the guide, in units of what is left to be drawn."""


def guided(
    problem: Problem,
    residuals: Callable[[Tensor], Tensor],
    scale: Tensor,
    count: int,
    method: Guided,
    generator: torch.Generator,
    budget: Budget,
) -> Tensor:
    """Draws under guidance, for one piece of evidence.

    Args:
        problem: The query, of one piece of evidence.
        residuals: Maps tokens (rows, slots, width) to residuals (rows, demands), differentiably.
        scale: Typical size of each residual, (demands,).
        count: Number of draws.
        method: Steps, recurrence and strength.
        generator: Source of randomness.
        budget: When to give up.

    Returns:
        Tokens (count, slots, width).

    Raises:
        OutOfTimeError: If the budget is spent.
    """
    active = len(problem.active)
    width = problem.values.shape[-1]
    grid = karras_grid(method.steps, _SIGMA_MAX, _SIGMA_MIN, _RHO).tolist()
    noise = torch.randn(count, active, width, generator=generator)
    seeds = torch.randint(2**62, (count,), generator=generator)

    def run(rows: Tensor) -> Tensor:
        evidence = torch.zeros(len(rows), dtype=torch.long)
        denoise = problem.denoise(evidence)
        own = torch.Generator().manual_seed(int(seeds[rows[0]]))

        def pushed(x: Tensor, sigma: float) -> Tensor:
            budget.check()
            return _pushed(denoise, lambda d: residuals(problem.filled(evidence, d)), scale, method.strength, x, sigma)

        with torch.no_grad():
            x = denoise(torch.zeros_like(noise[rows]), grid[0]) + grid[0] * noise[rows]
        for sigma, lower in itertools.pairwise(grid):
            for again in reversed(range(method.recurrence if lower > 0 else 1)):
                mean = pushed(x, sigma)
                ahead = mean + lower / sigma * (x - mean)
                fresh = torch.randn(x.shape, generator=own)
                x = ahead + (sigma**2 - lower**2) ** 0.5 * fresh if again else ahead
        return problem.filled(evidence, x)

    with workers() as pool:
        return torch.cat(list(pool.map(run, torch.arange(count).split(problem.chunk))))


def _pushed(
    denoise: Denoise,
    residuals: Callable[[Tensor], Tensor],
    scale: Tensor,
    strength: float,
    x: Tensor,
    sigma: float,
) -> Tensor:
    """Returns the guided denoised mean."""
    with torch.enable_grad():
        x = x.detach().requires_grad_()
        mean = denoise(x, sigma)
        width = _SHARPNESS * scale * sigma / (1 + sigma**2) ** 0.5
        guide = logsigmoid(-residuals(mean) / width).sum()
        (push,) = torch.autograd.grad(guide, x)
    # A guide may be steeper than any step can follow; no token is pushed further than the noise reaches.
    step = strength * sigma**2 * torch.nan_to_num(push)
    reach = step.square().sum((1, 2), keepdim=True).sqrt()
    return (mean + step * (sigma / reach.clamp_min(1e-30)).clamp_max(1.0)).detach()
