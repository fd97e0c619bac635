r"""Noise levels and preconditioning of a variance-exploding diffusion.

A latent token at noise level :math:`\sigma` is :math:`x_\sigma = x_0 + \sigma \varepsilon`. With tokens
standardised to unit variance, the denoiser is

.. math:: D(x, \sigma) = c_{skip}(\sigma) x + c_{out}(\sigma) F(c_{in}(\sigma) x, c_{noise}(\sigma)),

    c_{skip} = \frac{1}{1 + \sigma^2}, \quad c_{out} = \frac{\sigma}{\sqrt{1 + \sigma^2}}, \quad
    c_{in} = \frac{1}{\sqrt{1 + \sigma^2}}, \quad c_{noise} = \tfrac14 \ln \sigma,

so that the network F sees inputs, and is asked for outputs, of unit variance at every noise level.

References:
    Karras, Aittala, Aila and Laine, "Elucidating the design space of diffusion-based generative models"
    (2022), table 1 and equations 5 and 7, with sigma_data = 1.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

__all__ = ["SIGMA_MAX", "SIGMA_MIN", "NoiseLevels", "karras_grid", "preconditioning"]

SIGMA_MIN, SIGMA_MAX = 2e-3, 40.0
"""Range of noise levels that the network is trained on, in units of a token's standard deviation."""


@dataclass(frozen=True)
class NoiseLevels:
    """The distribution of noise levels in training: log-normal, cut to [SIGMA_MIN, SIGMA_MAX].

    Attributes:
        mean: Mean of log sigma.
        sd: Standard deviation of log sigma.
    """

    mean: float = -1.5
    sd: float = 1.6

    def sample(self, count: int, generator: torch.Generator) -> Tensor:
        """Draws noise levels (count,), stratified over their quantiles to lower the gradient's variance."""
        strata = torch.randperm(count, generator=generator)
        unit = (strata + torch.rand(count, generator=generator)) / count
        log_sigma = self.mean + self.sd * torch.special.ndtri(unit.double())
        return log_sigma.exp().clamp(SIGMA_MIN, SIGMA_MAX).float()


def preconditioning(sigma: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Returns (c_skip, c_out, c_in, c_noise) at noise levels ``sigma``, each of its shape."""
    total = 1 + sigma.square()
    return 1 / total, sigma * total.rsqrt(), total.rsqrt(), sigma.log() / 4


def karras_grid(levels: int, sigma_max: float, sigma_min: float, rho: float) -> Tensor:
    """Returns decreasing noise levels from ``sigma_max`` to ``sigma_min``, then 0: shape (levels + 1,).

    References:
        Karras et al. (2022), equation 5.
    """
    ramp = torch.linspace(0, 1, levels, dtype=torch.float64)
    ends = sigma_max ** (1 / rho), sigma_min ** (1 / rho)
    grid = (ends[0] + ramp * (ends[1] - ends[0])) ** rho
    return torch.cat([grid, torch.zeros(1, dtype=torch.float64)])
