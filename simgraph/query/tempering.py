r"""From draws of a known law to draws of a target: weights, tempering, moves.

Particles start as draws of q, a mixture G with heavier tails. Between G and the target p lie the laws
:math:`\pi_b \propto G^{1 - b} p^b`. First particles get the weights :math:`\pi_b / q`, then from each law to the next
:math:`(p / G)^{\Delta b}`, and are drawn anew by them; each step is as long as the effective number of weights allows.
Where a single step suffices, this is importance resampling by p / q. The path starts from G, not from q: far from its
middle the logarithm of q is not concave, so that laws in between would have two modes. The logarithm of the mean
weights, summed over steps, estimates the log evidence :math:`\log \int p`; with one step of N particles its variance is
1 / ESS - 1 / N.

After each step particles move by kernels that leave :math:`\pi_b` as it is: they are refreshed by a mixture G fitted to
them, by steps of all sizes up to independent draws, which jump between modes, and accepted with the chance
:math:`\pi_b(x') G(x) / (\pi_b(x) G(x'))`; and single categories take another class, accepted with
:math:`\pi_b(x') / \pi_b(x)`.

How many particles the result is worth is judged by ancestors: with n_a descendants of each particle that was there
before the first resampling, :math:`(\sum_a n_a)^2 / \sum_a n_a^2`, which neglects that moves forget. After several
steps the variance of the log evidence is taken from that number as well.

References:
    Del Moral, Doucet and Jasra, "Sequential Monte Carlo samplers" (2006), section 3.3.2.
    Neal, "Annealed importance sampling" (2001), equation 3: the laws in between.
    Zhou, Johansen and Aston, "Toward automatic model comparison: an adaptive sequential Monte Carlo approach" (2016),
    section 3.1: steps chosen by the effective number.
    Lee and Whiteley, "Variance estimation in the particle filter" (2018), section 2: what ancestors tell.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import torch
from torch import Tensor

from simgraph.query.mixture import Mixture

__all__ = ["Outcome", "Particles", "effective", "pool", "resampled", "temper"]

_MOST_STEPS = 100
_MOST_SWEEPS = 40
_FORGOTTEN = 1.5
"""Accepted moves of each particle after a step, on average, each counted as the square s^2 of its size: one of size s
leaves 1 - s^2 of a variance that can be foretold."""

_STILL = 0.01
"""Share of particles that may not have moved, in the end."""

_SMALLEST_STEP = 0.05

_IMPROVEMENTS = 3
"""Steps of expectation and maximisation by which the mixture follows the particles."""


class LogDensity(Protocol):
    """A target: the classes of its categories, and its log density."""

    @property
    def classes(self) -> Sequence[int]:
        """Number of classes of each category."""

    def log_density(self, z: Tensor, k: Tensor) -> Tensor:
        """Returns the log density of reals (rows, reals) and classes (rows, categories): (rows,)."""


@dataclass(frozen=True)
class Particles:
    """Points with their log densities.

    Attributes:
        z: Reals (rows, reals).
        k: Classes (rows, categories).
        log_p: Log density of the target, (rows,).
        log_g: Log density of the mixture that tempering starts from, (rows,).
        log_now: Log density of the law that they follow now, up to a constant: (rows,).
        ancestors: Number of the point before the first resampling from which each descends, (rows,).
    """

    z: Tensor
    k: Tensor
    log_p: Tensor
    log_g: Tensor
    log_now: Tensor
    ancestors: Tensor

    def __len__(self) -> int:
        return len(self.z)

    def __getitem__(self, rows: Tensor) -> Particles:
        columns = (self.z, self.k, self.log_p, self.log_g, self.log_now, self.ancestors)
        return Particles(*(column[rows] for column in columns))

    def log_weights(self, b: float = 1.0) -> Tensor:
        """Returns the log weights, (rows,), that turn them into particles of a law in between, or of the target."""
        return _between(self.log_p, self.log_g, b) - self.log_now


@dataclass(frozen=True)
class Outcome:
    """Particles of the target, and how they came about.

    Attributes:
        particles: The particles.
        mixture: The mixture that describes them.
        steps: Number of steps from the proposal to the target.
        log_evidence: Estimate of the log of the target's integral.
        error: Its standard error.
        ess: Effective number of particles, by their ancestors.
        acceptance: Share of moves that were accepted.
    """

    particles: Particles
    mixture: Mixture
    steps: int
    log_evidence: float
    error: float
    ess: float
    acceptance: float


def pool(target: LogDensity, mixture: Mixture, count: int, generator: torch.Generator) -> Particles:
    """Draws particles from the mixture's proposal."""
    z, k = mixture.propose(count, generator)
    log_q = mixture.log_proposal(z, k)
    return Particles(z, k, target.log_density(z, k), mixture.log_density(z, k), log_q, torch.arange(count))


def effective(log_weights: Tensor) -> float:
    """Returns the effective number of weights, 0 if all of them are: Kong (1992).

    Example:
        >>> effective(torch.tensor([0.0, 0.0, -torch.inf, -torch.inf]))
        2.0
    """
    if log_weights.isneginf().all():
        return 0.0
    weights = (log_weights - log_weights.max()).exp()
    return float(weights.sum() ** 2 / weights.square().sum())


def resampled(log_weights: Tensor, count: int, generator: torch.Generator) -> Tensor:
    """Draws rows by weight, with as little noise as possible (systematic resampling), in random order: (count,)."""
    shares = log_weights.softmax(0).cumsum(0)
    places = (torch.arange(count) + torch.rand(1, generator=generator, dtype=torch.float64)) / count
    rows = torch.searchsorted(shares / shares[-1], places).clamp_max(len(shares) - 1)
    return rows[torch.randperm(count, generator=generator)]


def temper(target: LogDensity, start: Particles, proposal: Mixture, count: int, generator: torch.Generator) -> Outcome:
    """Brings particles from the proposal to the target.

    Args:
        target: The target.
        start: Particles of the proposal, of which some have a finite density.
        proposal: The proposal.
        count: Number of particles to keep, not more than there are.
        generator: Source of randomness.
    """
    particles, mixture, b, steps = start, proposal, 0.0, 0
    log_evidence, variance = 0.0, 0.0
    tally = _Tally()
    while b < 1 and steps < _MOST_STEPS:
        wanted = count if steps == 0 and len(start) >= 2 * count else 0.5 * len(particles)
        b, steps = _furthest(particles, b, wanted), steps + 1
        weights = particles.log_weights(b)
        log_evidence += float(weights.logsumexp(0)) - math.log(len(weights))
        variance += 1 / effective(weights) - 1 / len(weights)
        particles = particles[resampled(weights, count, generator)]
        mixture = mixture.improved(particles.z, particles.k, target.classes, _IMPROVEMENTS)
        particles = _wander(target, particles, mixture, proposal, b, generator, tally)
    if steps > 1:
        variance = max(variance, 1 / _worth(particles) - 1 / count)
    error = max(variance, 0.0) ** 0.5
    return Outcome(particles, mixture, steps, log_evidence, error, _worth(particles), tally.share)


def _worth(particles: Particles) -> float:
    """Returns the effective number of particles, by their ancestors."""
    families = torch.unique(particles.ancestors, return_counts=True)[1].double()
    return float(families.sum() ** 2 / families.square().sum())


@dataclass
class _Tally:
    """Counts moves."""

    tried: int = 0
    made: float = 0.0

    @property
    def share(self) -> float:
        return self.made / self.tried


def _wander(
    target: LogDensity,
    particles: Particles,
    mixture: Mixture,
    proposal: Mixture,
    b: float,
    generator: torch.Generator,
    tally: _Tally,
) -> Particles:
    """Moves particles by kernels that keep the law in between, until nearly all of them have moved often enough."""
    moved, forgotten = torch.zeros(len(particles), dtype=torch.bool), 0.0
    for _ in range(_MOST_SWEEPS):
        sizes = _SMALLEST_STEP ** torch.rand(len(particles), generator=generator, dtype=torch.float64)
        particles, accepted = _refreshed(target, particles, sizes, mixture, proposal, b, generator)
        tally.tried, tally.made = tally.tried + len(accepted), tally.made + float(accepted.sum())
        moved |= accepted
        forgotten += float((accepted * sizes.square()).mean())
        if particles.k.shape[1]:
            particles = _switched(target, particles, proposal, b, generator)
        if forgotten >= _FORGOTTEN and float((~moved).double().mean()) <= _STILL:
            break
    return particles


def _refreshed(
    target: LogDensity,
    particles: Particles,
    sizes: Tensor,
    mixture: Mixture,
    proposal: Mixture,
    b: float,
    generator: torch.Generator,
) -> tuple[Particles, Tensor]:
    """Moves particles by the mixture, in steps of given sizes (rows,); returns them, and which have moved."""
    z, k = mixture.refresh(particles.z, particles.k, sizes, generator)
    balance = mixture.log_density(particles.z, particles.k) - mixture.log_density(z, k)
    return _chosen(target, particles, z, k, balance, proposal, b, generator)


def _switched(
    target: LogDensity, particles: Particles, proposal: Mixture, b: float, generator: torch.Generator
) -> Particles:
    """Proposes another class for one category of each particle."""
    rows, categories = torch.arange(len(particles)), particles.k.shape[1]
    column = torch.randint(categories, (len(particles),), generator=generator)
    sizes = torch.tensor(target.classes)[column]
    step = 1 + (torch.rand(len(particles), generator=generator) * (sizes - 1)).long().clamp_max(
        (sizes - 2).clamp_min(0)
    )
    k = particles.k.clone()
    k[rows, column] = (k[rows, column] + step) % sizes
    balance = torch.zeros(len(particles), dtype=torch.float64)
    return _chosen(target, particles, particles.z, k, balance, proposal, b, generator)[0]


def _chosen(
    target: LogDensity,
    particles: Particles,
    z: Tensor,
    k: Tensor,
    balance: Tensor,
    proposal: Mixture,
    b: float,
    generator: torch.Generator,
) -> tuple[Particles, Tensor]:
    """Accepts moves with the chance that keeps the law in between; ``balance`` is the log ratio of the kernel."""
    log_p, log_g = target.log_density(z, k), proposal.log_density(z, k)
    ratio = _between(log_p, log_g, b) - _between(particles.log_p, particles.log_g, b) + balance
    accepted = torch.rand(len(z), generator=generator, dtype=torch.float64).log() < ratio
    row = accepted[:, None]
    moved = replace(
        particles,
        z=torch.where(row, z, particles.z),
        k=torch.where(row, k, particles.k),
        log_p=torch.where(accepted, log_p, particles.log_p),
        log_g=torch.where(accepted, log_g, particles.log_g),
    )
    return replace(moved, log_now=_between(moved.log_p, moved.log_g, b)), accepted


def _between(log_p: Tensor, log_g: Tensor, b: float) -> Tensor:
    """Returns the log density, up to a constant, of the law at b > 0 between the mixture and the target."""
    return b * log_p + (1 - b) * log_g


def _furthest(particles: Particles, b: float, wanted: float) -> float:
    """Returns the largest b up to 1 whose weights are worth the wanted number, by bisection."""
    if effective(particles.log_weights(1.0)) >= wanted:
        return 1.0
    # Where fewer are possible at all, no step is worth the wanted number: half of those that are.
    wanted = min(wanted, 0.5 * float(particles.log_p.isfinite().sum()))
    low, high = b, 1.0
    for _ in range(50):
        middle = 0.5 * (low + high)
        low, high = (middle, high) if effective(particles.log_weights(middle)) >= wanted else (low, middle)
    return high
