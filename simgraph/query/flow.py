r"""Log densities by the probability-flow equation.

The flow :math:`dx / d\sigma = (x - D(x, \sigma)) / \sigma` carries the law of noised tokens from one noise level to
the next. In :math:`s = \ln \sigma`, with d features and the Jacobian :math:`J = \partial D / \partial x`, the density
along a path obeys

.. math:: \frac{d x}{d s} = x - D, \qquad \frac{d \ln p}{d s} = -(d - \operatorname{tr} J),

which is followed upwards by the method of Runge and Kutta, while the trace is integrated by Gregory's rule. Both ends
are closed forms:

* At the top the law is nearly normal. Its mean is the fixed point m of D, and by Tweedie's formula its precision
  there is :math:`(1 - J) / \sigma^2`.
* Below :math:`\sigma_{min}` the heat equation :math:`\partial p / \partial \sigma^2 = \tfrac12 \Delta p` takes away
  the last of the noise: :math:`\ln p_0 = \ln p_\sigma - \tfrac12 (|D - x|^2 / \sigma^2 + \operatorname{tr} J - d)`, up
  to the square of :math:`\sigma^2`.

In one dimension the flow keeps order, so that the mass of a cell is a difference of two normal distribution
functions, without any trace.

References:
    Song et al., "Score-based generative modeling through stochastic differential equations" (2021), appendix D.2
    (the density along the flow; Hutchinson's estimate of the trace). Karras et al. (2022), equation 1. Efron,
    "Tweedie's formula and selection bias" (2011), equation 1.4.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar, get_args

import torch
from torch import Tensor

from simgraph.errors import QueryError
from simgraph.query.jacobian import Probes, Trace
from simgraph.query.solvers import Denoise
from simgraph.simformer.schedule import SIGMA_MAX, SIGMA_MIN

__all__ = ["DEFAULT_FLOW", "Flow", "Top", "log_density", "log_mass", "top"]

_FIXED_POINT_STEPS = 3

_GREGORY = (3 / 8, 7 / 6, 23 / 24)
"""Weights of the outermost points, from either end; all others have weight 1."""


@dataclass(frozen=True)
class Flow:
    """Choices of how a log density is computed.

    The cost of a density is ``4 * steps + 1`` evaluations of the network, and ``steps + 1`` traces of its Jacobian.
    A trace takes a backward pass for each feature that depends on one another; above ``most_exact`` of them it is
    estimated with as many random signs (Hutchinson's estimate) instead.

    Attributes:
        steps: Number of steps between the noise levels, 6 or more.
        trace: ``"auto"``, ``"exact"`` or ``"hutchinson"``.
        most_exact: Up to so many features ``"auto"`` is exact.
        sigma_max: Noise level at which the law is taken for normal, in standard deviations of a token.
        sigma_min: Lowest noise level.

    Raises:
        QueryError: If a choice cannot work.

    Example:
        >>> Flow(steps=30, trace="exact").evaluations
        121
    """

    steps: int = 24
    trace: Trace = "auto"
    most_exact: int = 16
    sigma_max: float = 8.0
    sigma_min: float = 0.005

    LEAST_STEPS: ClassVar[int] = 2 * len(_GREGORY)

    def __post_init__(self) -> None:
        for name, least in (("steps", self.LEAST_STEPS), ("most_exact", 1)):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or value < least:
                raise QueryError(f"{name}={value!r} is not a whole number of {least} or more.")
        if self.trace not in get_args(Trace):
            raise QueryError(f"trace={self.trace!r} is not known; choose 'auto', 'exact' or 'hutchinson'.")
        if not SIGMA_MIN <= self.sigma_min < self.sigma_max <= SIGMA_MAX:
            raise QueryError(
                f"sigma_min={self.sigma_min!r} and sigma_max={self.sigma_max!r} must rise within the range that the"
                f" network is trained on, {SIGMA_MIN} to {SIGMA_MAX}."
            )

    @property
    def evaluations(self) -> int:
        """Network evaluations of a density, without those of the traces."""
        return 4 * self.steps + 1

    @property
    def step(self) -> float:
        """Length of a step in the logarithm of the noise level."""
        return math.log(self.sigma_max / self.sigma_min) / self.steps


DEFAULT_FLOW = Flow()


@dataclass(frozen=True)
class Top:
    """The normal law at the top of the flow.

    Attributes:
        mean: (rows, features).
        precision: (rows, features, features), in units of 1 / sigma^2.
        sigma: The noise level.
    """

    mean: Tensor
    precision: Tensor
    sigma: float

    def __getitem__(self, rows: Tensor) -> Top:
        return Top(self.mean[rows], self.precision[rows], self.sigma)

    def log_density(self, x: Tensor) -> Tensor:
        """Returns the log density of x (rows, features): (rows,)."""
        away = (x - self.mean) / self.sigma
        square = torch.einsum("ri,rij,rj->r", away, self.precision, away)
        constant = x.shape[1] * (math.log(self.sigma) + 0.5 * math.log(2 * math.pi))
        return 0.5 * torch.linalg.slogdet(self.precision)[1] - 0.5 * square - constant

    def standard(self, x: Tensor) -> Tensor:
        """Returns x (rows, 1) as standard normal numbers (rows,)."""
        return ((x - self.mean) / self.sigma * self.precision[:, 0].sqrt()).squeeze(-1)


def top(denoise: Denoise, probes: Probes, rows: int, sigma: float) -> Top:
    """Finds the normal law at the top, for rows that may differ in their evidence."""
    mean = torch.zeros(rows, len(probes.linked), dtype=torch.float64)
    with torch.no_grad():
        for _ in range(_FIXED_POINT_STEPS):
            mean = denoise(mean, sigma)
    _, matrix = probes.jacobian(denoise, mean, sigma)
    precision = torch.eye(len(probes.linked), dtype=torch.float64) - (matrix + matrix.mT) / 2
    return Top(mean, precision, sigma)


def log_density(denoise: Denoise, x: Tensor, flow: Flow, probes: Probes, law: Top) -> Tensor:
    """Returns the log density of features at noise level 0.

    Args:
        denoise: The denoiser of flat features (rows, features), float64.
        x: Features (rows, features), float64.
        flow: Number of steps and noise levels.
        probes: How to find the trace.
        law: The law at the top, by row.

    Returns:
        (rows,).
    """
    features = x.shape[1]
    total = torch.zeros(len(x), dtype=torch.float64)

    def visit(number: int, sigma: float, x: Tensor) -> Tensor:
        denoised, trace = probes.trace(denoise, x, sigma)
        total.add_(features - trace, alpha=flow.step * _weight(number, flow.steps))
        if number == 0:
            total.add_(-0.5 * ((denoised - x).square().sum(-1) / sigma**2 + trace - features))
        return denoised

    return total + law.log_density(_carried(denoise, x, flow, visit))


def log_mass(denoise: Denoise, cells: Tensor, flow: Flow, law: Top) -> Tensor:
    """Returns the log probability of cells of a single feature.

    Args:
        denoise: The denoiser of (rows, 1), float64; each row belongs to the evidence of its cell.
        cells: Where cells begin and end, (rows, 2); infinite ends are allowed.
        flow: Number of steps and noise levels.
        law: The law at the top, by row.

    Returns:
        (rows,).
    """
    images = []
    for end in cells.unbind(-1):
        finite = torch.where(end.isinf(), 0.0, end).unsqueeze(-1)
        images.append(torch.where(end.isinf(), end, law.standard(_carried(denoise, finite, flow))))
    lower, upper = images
    # In the upper tail the complement is the exact one: the cell is mirrored.
    mirrored = lower > 0
    lower, upper = torch.where(mirrored, -upper, lower), torch.where(mirrored, -lower, upper)
    high, low = torch.special.log_ndtr(upper), torch.special.log_ndtr(lower)
    return high + torch.where(low < high, (low - high).expm1().neg(), 0.0).log()


def _weight(number: int, last: int) -> float:
    from_end = min(number, last - number)
    return _GREGORY[from_end] if from_end < len(_GREGORY) else 1.0


def _carried(
    denoise: Denoise, x: Tensor, flow: Flow, visit: Callable[[int, float, Tensor], Tensor] | None = None
) -> Tensor:
    """Follows the flow from the lowest noise level to the highest; ``visit`` denoises where steps begin and end."""

    def slope(x: Tensor, sigma: float) -> Tensor:
        with torch.no_grad():
            return x - denoise(x, sigma)

    length = flow.step
    for number in range(flow.steps):
        sigma = flow.sigma_min * math.exp(number * length)
        middle, end = sigma * math.exp(length / 2), sigma * math.exp(length)
        first = slope(x, sigma) if visit is None else x - visit(number, sigma, x)
        second = slope(x + length / 2 * first, middle)
        third = slope(x + length / 2 * second, middle)
        fourth = slope(x + length * third, end)
        x = x + length / 6 * (first + 2 * second + 2 * third + fourth)
    if visit is not None:
        visit(flow.steps, flow.sigma_max, x)
    return x
