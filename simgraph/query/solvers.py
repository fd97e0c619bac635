r"""Solvers of the probability-flow equation: plain noise becomes a draw, deterministically.

With the denoiser D, the flow is :math:`dx / d\sigma = (x - D(x, \sigma)) / \sigma` (Karras et al. 2022,
equation 1 with s(t) = 1 and sigma(t) = t). A sampler counts its cost in network evaluations.
"""

from __future__ import annotations

import itertools
import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
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
        evaluations: Network evaluations per draw, one of them for the start.
        sigma_max: Noise level to start from, in standard deviations of a token.
        sigma_min: Last noise level before zero.
        rho: Bends the grid of noise levels towards the small ones.
        chunk_tokens: Tokens that go through the network together, which bounds the memory beside the draws. The
            default is few enough for a processor's cache.
    """

    evaluations: int = 16
    sigma_max: float = 8.0
    sigma_min: float = 0.005
    rho: float = 20.0
    chunk_tokens: int = 4096

    def __post_init__(self) -> None:
        if isinstance(self.evaluations, bool) or not isinstance(self.evaluations, int) or self.evaluations < 2:
            raise QueryError(f"evaluations={self.evaluations!r} is not a whole number of 2 or more.")
        if not SIGMA_MIN <= self.sigma_min < self.sigma_max <= SIGMA_MAX:
            raise QueryError(
                f"sigma_min={self.sigma_min!r} and sigma_max={self.sigma_max!r} must rise within the range that the"
                f" network is trained on, {SIGMA_MIN} to {SIGMA_MAX}."
            )
        if isinstance(self.chunk_tokens, bool) or not isinstance(self.chunk_tokens, int) or self.chunk_tokens < 1:
            raise QueryError(f"chunk_tokens={self.chunk_tokens!r} is not a whole number of 1 or more.")
        if not self.rho > 0:
            raise QueryError(f"rho={self.rho!r} is not a positive number.")

    def grid(self) -> list[float]:
        """Returns the decreasing noise levels, ending in 0."""
        return karras_grid(self.levels, self.sigma_max, self.sigma_min, self.rho).tolist()

    @property
    @abstractmethod
    def levels(self) -> int:
        """Number of noise levels that ``evaluations`` pay for."""

    def start(self, denoise: Denoise, noise: Tensor, centre: Tensor | None = None) -> Tensor:
        """Returns where the flow starts: noise around the mean that the evidence implies.

        The law of x at a noise level of a few standard deviations is nearly normal, but not centred; one
        evaluation finds its centre and saves the steps from higher levels.
        """
        centre = denoise(torch.zeros_like(noise), self.sigma_max) if centre is None else centre
        return centre + self.sigma_max * noise

    @abstractmethod
    def solve(self, denoise: Denoise, noise: Tensor, centre: Tensor | None = None) -> Tensor:
        """Turns standard normal noise into draws.

        Args:
            denoise: The denoiser of the latents.
            noise: Standard normal numbers of the latents' shape.
            centre: What zeros are denoised to at the largest noise level, of that shape, if it is known.

        Returns:
            Draws of the same shape.
        """


@dataclass(frozen=True)
class Heun(Sampler):
    """Heun's method: second order, two evaluations per step, one for the start and one for the last.

    At equal cost it is less accurate than :class:`Multistep`; give it 40 evaluations or more.

    References:
        Karras et al. (2022), algorithm 1.
    """

    @property
    def levels(self) -> int:
        return self.evaluations // 2

    def solve(self, denoise: Denoise, noise: Tensor, centre: Tensor | None = None) -> Tensor:
        grid = self.grid()
        x = self.start(denoise, noise, centre)
        for sigma, lower in itertools.pairwise(grid):
            slope = (x - denoise(x, sigma)) / sigma
            ahead = x + (lower - sigma) * slope
            if lower > 0:
                slope = (slope + (ahead - denoise(ahead, lower)) / lower) / 2
            x = x + (lower - sigma) * slope
        return x


@dataclass(frozen=True)
class Multistep(Sampler):
    r"""An exponential multistep method: third order with one evaluation per step.

    In :math:`\lambda = -\ln \sigma` the flow is :math:`dx / d\lambda = D - x`. Over a step of length h it
    has the solution :math:`e^{-h} x + \int_0^h e^{u - h} D(u) du`, in which D is replaced by the polynomial
    through the last ``order`` evaluations.

    Attributes:
        order: Number of evaluations that the polynomial passes through.

    References:
        Hochbruck and Ostermann, "Exponential integrators" (2010), section 2.5 (exponential multistep
        methods). Zhang and Chen, "Fast sampling of diffusion models with exponential integrator" (2023).
    """

    order: int = 3

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.order not in (1, 2, 3):
            raise QueryError(f"order={self.order!r} is not 1, 2 or 3.")

    @property
    def levels(self) -> int:
        return self.evaluations - 1

    def solve(self, denoise: Denoise, noise: Tensor, centre: Tensor | None = None) -> Tensor:
        grid = self.grid()
        x = self.start(denoise, noise, centre)
        known: list[tuple[float, Tensor]] = []
        for sigma, lower in itertools.pairwise(grid):
            denoised = denoise(x, sigma)
            if lower == 0:
                return denoised
            here, step = -math.log(sigma), math.log(sigma / lower)
            known = [(here, denoised), *known[: self.order - 1]]
            weights = _weights([there - here for there, _ in known], step)
            x = lower / sigma * x + sum(w * past for w, (_, past) in zip(weights, known, strict=True))
        return x


def _weights(times: list[float], step: float) -> list[float]:
    """Returns the weights of evaluations at ``times`` in the integral of e^(u - step) D(u) from 0 to ``step``."""
    moments = [1 - math.exp(-step)]  # of u^k, by partial integration
    for power in range(1, len(times)):
        moments.append(step**power - power * moments[-1])
    powers = np.vander(times, increasing=True).T
    return list(np.linalg.solve(powers, moments))


DEFAULT_SAMPLER = Multistep()
