r"""SLCP: exact draws of any elements of theta and any points of x given all others.

With :math:`n` observed points, their mean :math:`\bar x` and scatter :math:`W = \sum_k (x_k - \bar x)(x_k - \bar x)^T`,
the likelihood of the location :math:`m = (\theta_1, \theta_2)` and the covariance :math:`S` is, up to a constant,

.. math:: |S|^{-(n - 1) / 2} \exp(-\tfrac12 \mathrm{tr}(S^{-1} W)) \; N(\bar x; m, S / n).

What is latent of :math:`m` is integrated over in closed form, which leaves a density of
:math:`(\theta_3, \theta_4, \theta_5)`. What is latent of them is drawn from a grid, moved at random inside of the cell
and accepted by the ratio of the densities there and in the centre; then the location is drawn, the whole again if it
lies outside of the box, and then the latent points. The grid is even in :math:`\log(|\theta_3| + 0.01)` and
:math:`\log(|\theta_4| + 0.01)`; their signs are drawn by themselves, for they leave no trace in the data.

References:
    Papamakarios, Sterratt and Murray, "Sequential neural likelihood" (2019), appendix A.1.
    Gelman et al., Bayesian Data Analysis (3rd edition, 2013), section 3.6 (several Gaussian data, both unknown).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from simgraph.benchmark.slcp import RIDGE
from simgraph.benchmark.truncated import mass, truncated
from simgraph.errors import DeclarationError, EvidenceError

__all__ = ["conditional_draws"]

_EDGE = 3.0
"""The prior is uniform between minus this and this."""

_OFFSET = 0.01
"""Where the grid turns from even in the logarithm to even: RIDGE hides what is smaller."""

_CELLS = (0.04, 0.04, 0.1)
"""Largest widths of the grid's cells, in the two logarithms and theta_5."""

_PROPOSALS, _ROUNDS = 100_000, 300
"""Proposals in a round, and how many rounds there may be."""


def conditional_draws(
    values: Mapping[str, np.ndarray], observed: Mapping[str, np.ndarray], count: int, seed: int
) -> dict[str, np.ndarray]:
    """Draws theta and x from their exact law given any elements of theta and any points of x.

    Args:
        values: Values of one trace: theta (5,) and x (4, 2); elements that are not observed are not read.
        observed: Which elements are observed, booleans in the same shapes; both coordinates of a point or none.
        count: Number of draws.
        seed: Seed of the draws.

    Returns:
        Draws of theta (count, 5) and x (count, 4, 2); observed elements keep their values.

    Raises:
        DeclarationError: If one coordinate of a point is observed and the other one is not.
        EvidenceError: If the observed values do not fit together.
    """
    seen, other = observed["x"].T
    if (seen != other).any():
        raise DeclarationError(
            f"point {int((seen != other).argmax())} of 'x' is observed in part; its two coordinates are"
            " dependent, and have to be observed together.\n  Mark both coordinates in observed['x'], or none."
        )
    random = np.random.default_rng(seed)
    theta = np.where(observed["theta"], values["theta"], np.nan)
    points = values["x"][seen]
    drawn = _parameters(theta, points, count, random) if seen.any() else random.uniform(-_EDGE, _EDGE, (count, 5))
    drawn = np.where(observed["theta"], theta, drawn)
    x = _points(drawn, len(seen), random)
    x[:, seen] = points
    return {"theta": drawn, "x": x}


@dataclass(frozen=True)
class _Covariance:
    """Covariances S of any shape, and their determinants."""

    first: np.ndarray
    second: np.ndarray
    across: np.ndarray
    determinant: np.ndarray

    def quadratic(self, square: np.ndarray) -> np.ndarray:
        """Returns tr(S^-1 A) for a symmetric matrix A (2, 2)."""
        across = 2 * self.across * square[0, 1]
        return np.asarray((self.second * square[0, 0] - across + self.first * square[1, 1]) / self.determinant)


def _covariance(third: np.ndarray, fourth: np.ndarray, fifth: np.ndarray) -> _Covariance:
    s_1, s_2 = third**2, fourth**2
    determinant = (s_1 * s_2 / np.cosh(fifth)) ** 2 + RIDGE * (s_1**2 + s_2**2) + RIDGE**2
    return _Covariance(s_1**2 + RIDGE, s_2**2 + RIDGE, np.tanh(fifth) * s_1 * s_2, determinant)


def _points(theta: np.ndarray, number: int, random: np.random.Generator) -> np.ndarray:
    """Simulates points (count, number, 2) for parameters (count, 5)."""
    covariance = _covariance(*theta[:, 2:, None].transpose(1, 0, 2))
    noise, scale = random.normal(size=(2, len(theta), number)), np.sqrt(covariance.first)
    up = covariance.across / scale * noise[0] + np.sqrt(covariance.determinant) / scale * noise[1]
    return theta[:, None, :2] + np.stack([scale * noise[0], up], -1)


class _Likelihood:
    """The likelihood of the covariance, and the law of the location given the covariance.

    Args:
        points: Observed points (points, 2).
        location: theta_1 and theta_2, NaN where latent.
    """

    def __init__(self, points: np.ndarray, location: np.ndarray) -> None:
        self.number, self.mean, self.location = len(points), points.mean(0), location
        self.scatter = (points - self.mean).T @ (points - self.mean)
        latent = np.isnan(location)
        # The coordinate that is farther out comes first: its law is cut off at the box, the other one's is rejected.
        self.first = int(np.abs(self.mean).argmax()) if latent.all() else int(latent.argmax())

    def log_density(self, covariance: _Covariance) -> np.ndarray:
        """Returns the log likelihood with the latent location integrated out, up to a constant.

        Of two latent coordinates one is integrated over the box, the other one over the whole line.
        """
        log = -(self.number - 1) * np.log(covariance.determinant) - covariance.quadratic(self.scatter)
        known = ~np.isnan(self.location)
        off = self.mean - self.location
        if known.all():
            log -= np.log(covariance.determinant) + self.number * covariance.quadratic(np.outer(off, off))
            return log / 2
        if known.any():
            variance = (covariance.first, covariance.second)[1 - self.first]
            log -= np.log(variance) + self.number * off[1 - self.first] ** 2 / variance
        centre, scale = self._law(covariance, self.first, self.location[1 - self.first])
        inside = mass(*(torch.as_tensor((edge - centre) / scale) for edge in (-_EDGE, _EDGE))).numpy()
        with np.errstate(divide="ignore"):
            return log / 2 + np.log(inside)

    def locations(self, covariance: _Covariance, random: np.random.Generator) -> np.ndarray:
        """Draws locations (count, 2) for covariances (count,); the second latent coordinate may lie off the box."""
        count = len(covariance.first)
        location = np.tile(self.location, (count, 1))
        if np.isnan(self.location).any():
            centre, scale = self._law(covariance, self.first, location[:, 1 - self.first])
            low, high = (torch.as_tensor((edge - centre) / scale) for edge in (-_EDGE, _EDGE))
            noise = truncated(low, high, torch.as_tensor(random.random(count))).numpy()
            location[:, self.first] = np.clip(centre + scale * noise, -_EDGE, _EDGE)
        if np.isnan(self.location).all():
            centre, scale = self._law(covariance, 1 - self.first, location[:, self.first])
            location[:, 1 - self.first] = random.normal(centre, scale)
        return location

    def _law(self, covariance: _Covariance, which: int, other: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Returns mean and standard deviation of a coordinate given the other one, or NaN for not given it."""
        variances = (covariance.first, covariance.second)
        if np.isnan(other).any():
            return np.asarray(self.mean[which]), np.sqrt(variances[which] / self.number)
        slope = covariance.across / variances[1 - which]
        spread = covariance.determinant / variances[1 - which] / self.number
        return self.mean[which] + slope * (other - self.mean[1 - which]), np.sqrt(spread)


def _parameters(theta: np.ndarray, points: np.ndarray, count: int, random: np.random.Generator) -> np.ndarray:
    """Draws theta (count, 5) given points (points, 2), and given those of its elements (5,) that are not NaN."""
    likelihood = _Likelihood(points, theta[:2])
    axes, widths = zip(*(_axis(value, number) for number, value in enumerate(theta[2:])), strict=True)
    grid = _log_density(likelihood, np.meshgrid(*axes, indexing="ij", sparse=True))
    grid = np.broadcast_to(grid, [len(axis) for axis in axes])
    if not np.isfinite(grid.max()):
        raise _unfit()
    cumulative = np.cumsum(np.exp(grid - grid.max()))

    def proposed() -> tuple[np.ndarray, np.ndarray]:
        found = np.searchsorted(cumulative, cumulative[-1] * random.random(_PROPOSALS), side="right")
        index = np.unravel_index(found, grid.shape)
        centres = np.stack([axis[cells] for axis, cells in zip(axes, index, strict=True)])
        moved = centres + np.array(widths)[:, None] * (random.random(centres.shape) - 0.5)
        return moved, _log_density(likelihood, moved) - grid[index]

    _, ratio = proposed()
    bound = ratio.max()  # what lies higher later is drawn too rarely: thousandths of the mass at the very worst
    kept: list[np.ndarray] = []
    for _ in range(_ROUNDS):
        coordinates, ratio = proposed()
        third, fourth, fifth = _shape(coordinates[:, np.log(random.random(_PROPOSALS)) < ratio - bound])
        location = likelihood.locations(_covariance(third, fourth, fifth), random)
        signs = random.choice([-1.0, 1.0], (2, len(third)))
        draws = np.column_stack([location, third * signs[0], fourth * signs[1], fifth])
        kept.append(draws[(np.abs(location) <= _EDGE).all(1)])
        if sum(map(len, kept)) >= count:
            return np.concatenate(kept)[:count]
    raise _unfit()


Coordinates = Sequence[np.ndarray] | np.ndarray
"""The three coordinates of the grid, of any shapes that fit together."""


def _axis(value: float, number: int) -> tuple[np.ndarray, float]:
    """Returns centres of cells and their width; a value that is known is a cell without width."""
    low, high = (-_EDGE, _EDGE) if number == 2 else (np.log(_OFFSET), np.log(_EDGE + _OFFSET))
    if not np.isnan(value):
        return np.array([value if number == 2 else np.log(abs(value) + _OFFSET)]), 0.0
    cells = int(np.ceil((high - low) / _CELLS[number]))
    width = (high - low) / cells
    return low + width * (np.arange(cells) + 0.5), width


def _shape(coordinates: Coordinates) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Maps coordinates of the grid to |theta_3|, |theta_4| and theta_5."""
    third, fourth, fifth = coordinates
    return np.exp(third) - _OFFSET, np.exp(fourth) - _OFFSET, fifth


def _log_density(likelihood: _Likelihood, coordinates: Coordinates) -> np.ndarray:
    """Returns the log density of coordinates of the grid, up to a constant."""
    # The derivative of |theta| by its coordinate is the exponential of the coordinate.
    return likelihood.log_density(_covariance(*_shape(coordinates))) + coordinates[0] + coordinates[1]


def _unfit() -> EvidenceError:
    return EvidenceError(
        "what is observed of SLCP does not fit together: the simulator returns next to nothing that agrees with it."
        "\n  Give values that the simulator can return."
    )
