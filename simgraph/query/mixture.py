r"""Mixtures of Gaussians and categories: a law that is drawn from, evaluated, and fitted to draws.

With components c of weight :math:`w_c`, mean :math:`\mu_c` and covariance :math:`\Sigma_c`, and categories that are
independent within a component, the density at reals z and whole numbers k is

.. math:: G(z, k) = \sum_c w_c \, N(z; \mu_c, \Sigma_c) \prod_j P_{cj}(k_j).

It is fitted by expectation and maximisation, with as many components as describe held-out draws best. As a proposal it
gets heavier tails: in :math:`q` a small share of each component is a multivariate Student law of the same location and
scale (a defensive mixture), so that weights p / q stay small where G is too narrow.

:meth:`Mixture.refresh` moves draws by a kernel that is reversible with respect to G. A component is chosen with its
chance given (z, k); within it

.. math:: z' = \mu_c + \sqrt{1 - s^2} (z - \mu_c) + s \Sigma_c^{1/2} \xi, \qquad \xi \sim N(0, I),

and each category is drawn anew with the chance s. With s = 1 it is an independent draw from that component, with a
small s a step of a size that fits the component.

References:
    Dempster, Laird and Rubin, "Maximum likelihood from incomplete data via the EM algorithm" (1977), section 4.3.
    Hesterberg, "Weighted average importance sampling and defensive mixture distributions" (1995), section 3.
    Cotter, Roberts, Stuart and White, "MCMC methods for functions: modifying old algorithms to make them faster"
    (2013), equation 4.1: the autoregressive proposal (there with one Gaussian).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

__all__ = ["Mixture", "fit_mixture"]

_DEFENSIVE = 0.1
"""Share of heavy tails in the proposal."""

_FREEDOM = 3.0
"""Degrees of freedom of the heavy tails; with 3 they have a variance."""

_MOST_COMPONENTS = 32
_LEAST_DRAWS = 4
"""Draws for each component and dimension, at least."""

_HELD_OUT = 0.25
_STEPS = 30
_SMOOTHING = 0.02
"""Share of the uniform law in the chances of categories: none is ever ruled out."""

_CHUNK = 4096


@dataclass(frozen=True)
class Mixture:
    """A mixture of Gaussians and categories.

    Attributes:
        weights: Weights of the components, (components,).
        means: Their means, (components, reals).
        factors: Lower Cholesky factors of their covariances, (components, reals, reals).
        chances: Chances of classes, (components, categories, classes); 0 beyond the classes of a category.
    """

    weights: Tensor
    means: Tensor
    factors: Tensor
    chances: Tensor

    def __len__(self) -> int:
        return len(self.weights)

    def log_density(self, z: Tensor, k: Tensor) -> Tensor:
        """Returns log G of reals (rows, reals) and classes (rows, categories): (rows,)."""
        return torch.cat([self._parts(z[i], k[i])[0].logsumexp(1) for i in _chunks(len(z))])

    def log_proposal(self, z: Tensor, k: Tensor) -> Tensor:
        """Returns log q, the density with heavier tails: (rows,)."""
        found = []
        for i in _chunks(len(z)):
            gaussian, distance, discrete = self._parts(z[i], k[i])
            student = self._student(distance) + discrete
            both = torch.stack([gaussian + math.log(1 - _DEFENSIVE), student + math.log(_DEFENSIVE)])
            found.append(both.logsumexp(0).logsumexp(1))
        return torch.cat(found)

    def propose(self, count: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Draws from q: reals (count, reals) and classes (count, categories)."""
        component = torch.multinomial(self.weights, count, replacement=True, generator=generator)
        noise = _normal(count, self.means.shape[1], generator)
        # A Student variable is a Gaussian one over the root of chi squared by its degrees of freedom.
        squares = _normal(count, int(_FREEDOM), generator).square().sum(1)
        wide = torch.rand(count, generator=generator) < _DEFENSIVE
        noise = noise * torch.where(wide, (_FREEDOM / squares).sqrt(), 1.0)[:, None]
        return self.means[component] + self._scaled(component, noise), self._classes(component, generator)

    def refresh(self, z: Tensor, k: Tensor, s: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Moves rows by the kernel that is reversible with respect to G.

        Args:
            z: Reals (rows, reals).
            k: Classes (rows, categories).
            s: Size of the step of each row, from 0 to 1: (rows,).
            generator: Source of randomness.
        """
        parts = torch.cat([self._parts(z[i], k[i])[0] for i in _chunks(len(z))])
        component = torch.multinomial(parts.softmax(1), 1, generator=generator).squeeze(1)
        noise = _normal(len(z), z.shape[1], generator)
        mean, size = self.means[component], s[:, None]
        moved = mean + (1 - size.square()).sqrt() * (z - mean) + size * self._scaled(component, noise)
        anew = torch.rand(k.shape, generator=generator, dtype=z.dtype) < size
        return moved, torch.where(anew, self._classes(component, generator), k)

    def improved(self, z: Tensor, k: Tensor, classes: Sequence[int], steps: int) -> Mixture:
        """Returns the mixture after some steps of expectation and maximisation on draws."""
        found = self
        spread = _spread(z)
        for _ in range(steps):
            shares = torch.cat([found._parts(z[i], k[i])[0].softmax(1) for i in _chunks(len(z))])
            found = _maximised(z, k, classes, shares, spread)
        return found

    def _scaled(self, component: Tensor, noise: Tensor) -> Tensor:
        """Gives noise (rows, reals) the covariance of its component."""
        return torch.cat(
            [torch.einsum("nij,nj->ni", self.factors[component[i]], noise[i]) for i in _chunks(len(noise))]
        )

    def _classes(self, component: Tensor, generator: torch.Generator) -> Tensor:
        """Draws classes (rows, categories) of components (rows,)."""
        chances = self.chances[component]
        if not chances.numel():
            return torch.zeros(chances.shape[:2], dtype=torch.long)
        drawn = torch.multinomial(chances.flatten(0, 1), 1, generator=generator)
        return drawn.reshape(chances.shape[:2])

    def _parts(self, z: Tensor, k: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Returns of each row and component the log density, the squared distance, and what categories add."""
        reals = self.means.shape[1]
        whitening = torch.linalg.inv(self.factors)
        # One product for all components together: (rows, reals) times (reals, components and reals).
        white = z @ whitening.flatten(0, 1).T - (whitening @ self.means.unsqueeze(-1)).flatten()
        distance = white.square().reshape(len(z), len(self), reals).sum(2)
        discrete = torch.zeros(len(z), len(self), dtype=z.dtype)
        for j in range(k.shape[1]):
            discrete += self.chances[:, j].log()[:, k[:, j]].T
        constant = self.weights.log() - self._log_volume() - 0.5 * reals * math.log(2 * math.pi)
        return constant - 0.5 * distance + discrete, distance, discrete

    def _student(self, distance: Tensor) -> Tensor:
        reals, freedom = self.means.shape[1], _FREEDOM
        constant = (
            math.lgamma(0.5 * (freedom + reals))
            - math.lgamma(0.5 * freedom)
            - 0.5 * reals * math.log(freedom * math.pi)
        )
        tails = -0.5 * (freedom + reals) * (distance / freedom).log1p()
        return self.weights.log() - self._log_volume() + constant + tails

    def _log_volume(self) -> Tensor:
        return torch.diagonal(self.factors, dim1=1, dim2=2).log().sum(1)


def fit_mixture(z: Tensor, k: Tensor, classes: Sequence[int], generator: torch.Generator) -> Mixture:
    """Fits a mixture to draws.

    Args:
        z: Reals (draws, reals), float64.
        k: Classes (draws, categories), whole numbers from 0.
        classes: Number of classes of each category.
        generator: Source of randomness.

    Returns:
        The mixture with 1, 2, 4, ... components that has the highest density at held-out draws.
    """
    order = torch.randperm(len(z), generator=generator)
    kept = order[max(1, int(_HELD_OUT * len(z))) :]
    held = order[: len(z) - len(kept)]
    best, score, count = None, -math.inf, 1
    most = min(_MOST_COMPONENTS, len(kept) // (_LEAST_DRAWS * (z.shape[1] + 1)))
    while count <= max(1, most):
        shares = _clusters(z[kept], k[kept], classes, count, generator)
        start = _maximised(z[kept], k[kept], classes, shares, _spread(z[kept]))
        found = start.improved(z[kept], k[kept], classes, _STEPS if count > 1 else 0)
        mean = float(found.log_density(z[held], k[held]).mean())
        if best is not None and mean <= score:
            break
        best, score, count = found, mean, 2 * count
    assert best is not None
    return best.improved(z, k, classes, 3)


def _clusters(z: Tensor, k: Tensor, classes: Sequence[int], count: int, generator: torch.Generator) -> Tensor:
    """Assigns draws to the nearest of centres that are spread over them: shares (draws, count) of 0 and 1.

    References:
        Arthur and Vassilvitskii, "k-means++: the advantages of careful seeding" (2007), section 2.2.
    """
    codes = [torch.nn.functional.one_hot(k[:, j], size).to(z) for j, size in enumerate(classes)]
    deviation = (z - z.mean(0)).square().mean(0).sqrt()
    places = torch.cat([z / torch.where(deviation > 0, deviation, 1.0), *(2 * code for code in codes)], 1)
    first = torch.randint(len(z), (1,), generator=generator)
    centres = places[first]
    while len(centres) < count:
        nearest = torch.cdist(places, centres).amin(1).square()
        if not nearest.sum() > 0:
            break
        centres = torch.cat([centres, places[torch.multinomial(nearest, 1, generator=generator)]])
    for _ in range(5):
        nearest = torch.cdist(places, centres).argmin(1)
        groups = [places[nearest == number] for number in range(len(centres))]
        centres = torch.stack([group.mean(0) for group in groups if len(group)])
    nearest = torch.cdist(places, centres).argmin(1)
    return torch.nn.functional.one_hot(nearest, len(centres)).to(z)


def _maximised(z: Tensor, k: Tensor, classes: Sequence[int], shares: Tensor, spread: Tensor) -> Mixture:
    """Returns the mixture with the highest likelihood of draws that belong to components by shares.

    Each covariance counts one draw more, of all draws' covariance, so that few draws make no flat component.
    """
    reals = z.shape[1]
    sizes = shares.sum(0)
    shares = shares[:, (sizes > reals + 2) | (sizes == sizes.max())]
    sizes = shares.sum(0)
    means = (shares.T @ z) / sizes[:, None]
    # One product for all components together: (components and reals, draws) times (draws, reals).
    scatter = ((shares.unsqueeze(2) * z.unsqueeze(1)).flatten(1).T @ z).unflatten(0, (len(sizes), reals))
    scatter = scatter / sizes[:, None, None]
    own = scatter - means.unsqueeze(2) * means.unsqueeze(1)
    covariance = (own * sizes[:, None, None] + spread / len(sizes) ** (2 / max(reals, 1))) / (sizes + 1)[:, None, None]
    chances = torch.zeros(len(sizes), len(classes), max(classes, default=0), dtype=z.dtype)
    for j, size in enumerate(classes):
        codes = torch.nn.functional.one_hot(k[:, j], size).to(z)
        chances[:, j, :size] = (1 - _SMOOTHING) * (shares.T @ codes) / sizes[:, None] + _SMOOTHING / size
    return Mixture(sizes / sizes.sum(), means, torch.linalg.cholesky(covariance), chances)


def _spread(z: Tensor) -> Tensor:
    """Returns the covariance of all draws, never quite flat."""
    centred = z - z.mean(0)
    return centred.T @ centred / len(z) + 1e-10 * torch.eye(z.shape[1], dtype=z.dtype)


def _normal(rows: int, columns: int, generator: torch.Generator) -> Tensor:
    return torch.randn(rows, columns, generator=generator, dtype=torch.float64)


def _chunks(rows: int) -> list[slice]:
    return [slice(begin, begin + _CHUNK) for begin in range(0, rows, _CHUNK)] or [slice(0)]
