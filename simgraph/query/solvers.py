r"""Solvers of the probability-flow equation: plain noise becomes a draw, deterministically.

With the denoiser D, the flow is :math:`dx / d\sigma = (x - D(x, \sigma)) / \sigma` (Karras et al. 2022,
equation 1 with s(t) = 1 and sigma(t) = t). A sampler counts its cost in network evaluations.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

from simgraph.errors import QueryError
from simgraph.simformer.schedule import SIGMA_MAX, SIGMA_MIN, karras_grid

__all__ = ["DEFAULT_SAMPLER", "Denoise", "Heun", "Multistep", "Sampler"]

Denoise = Callable[[Tensor, float], Tensor]
"""Maps noised latents and a noise level to denoised latents."""


@dataclass(frozen=True)
class Sampler(ABC):
    """Choices of a deterministic solver.

    Attributes:
        evaluations: Network evaluations per draw.
        sigma_max: Noise level to start from, in standard deviations of a token.
        sigma_min: Last noise level before zero.
        rho: Bends the grid of noise levels towards the small ones.
    """

    evaluations: int = 24
    sigma_max: float = 20.0
    sigma_min: float = SIGMA_MIN
    rho: float = 7.0

    def __post_init__(self) -> None:
        if isinstance(self.evaluations, bool) or not isinstance(self.evaluations, int) or self.evaluations < 2:
            raise QueryError(f"evaluations={self.evaluations!r} is not a whole number of 2 or more.")
        if not SIGMA_MIN <= self.sigma_min < self.sigma_max <= SIGMA_MAX:
            raise QueryError(
                f"sigma_min={self.sigma_min!r} and sigma_max={self.sigma_max!r} must rise within the range that the"
                f" network is trained on, {SIGMA_MIN} to {SIGMA_MAX}."
            )
        if not self.rho > 0:
            raise QueryError(f"rho={self.rho!r} is not a positive number.")

    def grid(self) -> list[float]:
        """Returns the decreasing noise levels, ending in 0."""
        return karras_grid(self.levels, self.sigma_max, self.sigma_min, self.rho).tolist()

    @property
    @abstractmethod
    def levels(self) -> int:
        """Number of noise levels that ``evaluations`` pay for."""

    @abstractmethod
    def solve(self, denoise: Denoise, noise: Tensor) -> Tensor:
        """Turns standard normal noise into draws.

        Args:
            denoise: The denoiser of the latents.
            noise: Standard normal numbers of the latents' shape.

        Returns:
            Draws of the same shape.
        """


@dataclass(frozen=True)
class Heun(Sampler):
    """Heun's method: second order, two evaluations per step and one for the last.

    References:
        Karras et al. (2022), algorithm 1.
    """

    @property
    def levels(self) -> int:
        return (self.evaluations + 1) // 2

    def solve(self, denoise: Denoise, noise: Tensor) -> Tensor:
        grid = self.grid()
        x = noise * grid[0]
        for sigma, lower in zip(grid[:-1], grid[1:], strict=True):
            slope = (x - denoise(x, sigma)) / sigma
            ahead = x + (lower - sigma) * slope
            if lower > 0:
                slope = (slope + (ahead - denoise(ahead, lower)) / lower) / 2
            x = x + (lower - sigma) * slope
        return x


@dataclass(frozen=True)
class Multistep(Sampler):
    r"""A two-step method: second order with one evaluation per step.

    It integrates the flow in :math:`\lambda = -\ln \sigma` exactly for a denoiser that is linear in
    :math:`\lambda`, extrapolated from the last two evaluations.

    References:
        Lu et al., "DPM-Solver++: fast solver for guided sampling of diffusion probabilistic models"
        (2022), algorithm 2, with alpha = 1.
    """

    @property
    def levels(self) -> int:
        return self.evaluations

    def solve(self, denoise: Denoise, noise: Tensor) -> Tensor:
        grid = self.grid()
        x = noise * grid[0]
        before: Tensor | None = None
        step_before = 1.0
        for sigma, lower in zip(grid[:-1], grid[1:], strict=True):
            denoised = denoise(x, sigma)
            if lower == 0:
                return denoised
            step = math.log(sigma / lower)
            target = denoised
            if before is not None:
                target = denoised + (step / step_before) / 2 * (denoised - before)
            x = (lower / sigma) * x + (1 - lower / sigma) * target
            before, step_before = denoised, step
        return x


DEFAULT_SAMPLER = Heun()
