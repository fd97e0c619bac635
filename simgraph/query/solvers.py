r"""Solvers of the probability-flow equation: plain noise becomes a draw, deterministically.

With the denoiser D, the flow is :math:`dx / d\sigma = (x - D(x, \sigma)) / \sigma` (Karras et al. 2022,
equation 1 with s(t) = 1 and sigma(t) = t). A sampler counts its cost in network evaluations.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from numbers import Real

import numpy as np
import torch
from torch import Tensor

from simgraph.errors import QueryError
from simgraph.query.ends import APART, Visited, begun, ended
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
        rho: Noise levels are evenly spaced in sigma^(1 / rho): by nearly equal ratios where rho is far from 0, by
            smaller ones at low noise where it is below 0, at high noise where it is above.
        chunk_tokens: Tokens that go through the network together, which bounds the memory beside the draws. The
            default is few enough for a processor's cache.
    """

    evaluations: int = 13
    sigma_max: float = 8.0
    sigma_min: float = 0.012
    rho: float = -10.0
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
        if isinstance(self.rho, bool) or not isinstance(self.rho, Real) or not 0.5 <= abs(self.rho) <= 1e6:
            raise QueryError(f"rho={self.rho!r} is not a number between 0.5 and a million, or between their negatives.")

    def grid(self) -> list[float]:
        """Returns the decreasing noise levels."""
        return karras_grid(self.levels, self.sigma_max, self.sigma_min, self.rho)[:-1].tolist()

    @property
    @abstractmethod
    def levels(self) -> int:
        """Number of noise levels that ``evaluations`` pay for."""

    def start(self, denoise: Denoise, noise: Tensor, centre: Tensor | None = None) -> Visited:
        """Returns the first point of the flow: noise around the mean that the evidence implies.

        The law of x at a noise level of a few standard deviations is nearly normal, but not centred; one
        evaluation finds its centre and saves the steps from higher levels. The second one is that of a point that lies
        nearer to the centre by a share V / (2 sigma^2), which costs the first step an error of second order in V.
        """
        centre = denoise(torch.zeros_like(noise), self.sigma_max) if centre is None else centre
        x = centre + self.sigma_max * noise
        denoised = denoise(x, self.sigma_max)
        return Visited(self.sigma_max, begun(x, denoised, centre), denoised)

    @abstractmethod
    def path(self, denoise: Denoise, start: Visited) -> Iterator[Visited]:
        """Follows the flow from its first point, and yields it at each further level."""

    def solve(self, denoise: Denoise, noise: Tensor, centre: Tensor | None = None) -> Tensor:
        """Turns standard normal noise into draws.

        Args:
            denoise: The denoiser of the latents.
            noise: Standard normal numbers of the latents' shape.
            centre: What zeros are denoised to at the largest noise level, of that shape, if it is known.

        Returns:
            Draws of the same shape.
        """
        start = self.start(denoise, noise, centre)
        before = last = start
        for last in self.path(denoise, start):
            if last.sigma >= APART * self.sigma_min:
                before = last
        return ended(before, last) if last is not before else last.denoised


@dataclass(frozen=True)
class Heun(Sampler):
    """Heun's method: second order, two evaluations per step, and two for the start.

    At equal cost it is less accurate than :class:`Multistep`; give it 40 evaluations or more.

    References:
        Karras et al. (2022), algorithm 1.
    """

    @property
    def levels(self) -> int:
        return self.evaluations // 2

    def path(self, denoise: Denoise, start: Visited) -> Iterator[Visited]:
        here = start
        for lower in self.grid()[1:]:
            slope = (here.x - here.denoised) / here.sigma
            ahead = here.x + (lower - here.sigma) * slope
            slope = (slope + (ahead - denoise(ahead, lower)) / lower) / 2
            x = here.x + (lower - here.sigma) * slope
            here = Visited(lower, x, denoise(x, lower))
            yield here


@dataclass(frozen=True)
class Multistep(Sampler):
    r"""An exponential multistep method: third order with one evaluation per step.

    In :math:`\lambda = -\ln \sigma` the flow is :math:`dx / d\lambda = D - x`. Over a step of length h it
    has the solution :math:`e^{-h} x + \int_0^h e^{u - h} D(u) du`, in which D is replaced by the polynomial
    through ``order`` evaluations: the last ones to predict where the step ends, and the one there with the last
    ``order - 1`` before it to correct that. The next step starts from the corrected point, with the evaluation at the
    predicted one.

    Attributes:
        order: Number of evaluations that the polynomials pass through.

    References:
        Hochbruck and Ostermann, "Exponential integrators" (2010), section 2.5 (exponential multistep
        methods). Zhang and Chen, "Fast sampling of diffusion models with exponential integrator" (2023).
        Zhao et al., "UniPC: a unified predictor-corrector framework for fast sampling of diffusion models" (2023),
        algorithm 1 (a corrector that costs no evaluation; theirs passes through one evaluation more).
    """

    order: int = 3

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.order not in (1, 2, 3):
            raise QueryError(f"order={self.order!r} is not 1, 2 or 3.")

    @property
    def levels(self) -> int:
        return self.evaluations - 1

    def path(self, denoise: Denoise, start: Visited) -> Iterator[Visited]:
        known = [start]
        for lower in self.grid()[1:]:
            predicted = _carried(known[0], lower, known)
            ahead = Visited(lower, predicted, denoise(predicted, lower))
            corrected = _carried(known[0], lower, [ahead, *known][: self.order])
            known = [ahead._replace(x=corrected), *known][: self.order]
            yield known[0]


def _carried(here: Visited, lower: float, through: list[Visited]) -> Tensor:
    """Follows the flow to a lower level, with the polynomial through the denoised means of some points for D."""
    times = [math.log(here.sigma / point.sigma) for point in through]
    weights = _weights(times, math.log(here.sigma / lower))
    change = sum(weight * point.denoised for weight, point in zip(weights, through, strict=True))
    return lower / here.sigma * here.x + change


def _weights(times: list[float], step: float) -> list[float]:
    """Returns the weights of evaluations at ``times`` in the integral of e^(u - step) D(u) from 0 to ``step``."""
    moments = [1 - math.exp(-step)]  # of u^k, by partial integration
    for power in range(1, len(times)):
        moments.append(step**power - power * moments[-1])
    powers = np.vander(times, increasing=True).T
    return list(np.linalg.solve(powers, moments))


DEFAULT_SAMPLER = Multistep()
