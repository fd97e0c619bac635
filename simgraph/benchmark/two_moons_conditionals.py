r"""Two moons: exact draws of any elements of theta and x given all others.

With :math:`u = (\theta_1 + \theta_2) / \sqrt 2` and :math:`v = (\theta_2 - \theta_1) / \sqrt 2`, the data are
:math:`x = p + (-|u|, v)`, where :math:`p = (r \cos a + 0.25, r \sin a)` is a point of the crescent. As theta is uniform
on a box, :math:`(u, v, p)` has the density :math:`f(p)` inside of the box, and all that is observed is a plane in it:

- Where more than one number is left, p is drawn first, u and v are solved for or drawn uniformly, and what lies outside
  of the box is drawn again. Before that, both signs of u are as likely as each other.
- Where one number is left, it is drawn from a grid, with the density :math:`f(p) \propto N(r; 0.1, 0.01^2) / r` on the
  half plane :math:`p_1 > 0.25`.

References:
    Greenberg, Nonnenmacher and Macke, "Automatic posterior transformation for likelihood-free inference"
    (2019), appendix A.5.2.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from simgraph.errors import EvidenceError

__all__ = ["conditional_draws"]

_RADIUS, _THICKNESS, _SHIFT = 0.1, 0.01, 0.25
"""Mean and standard deviation of r, and where the crescent's centre lies."""

_EDGE = 2 * _RADIUS
"""No r is as large: that is ten standard deviations off."""

_CELLS = 100_000
"""Cells of a line's grid: the crescent is five hundred of them thick, or more."""

_PROPOSALS, _ROUNDS = 50_000, 1_000
"""Proposals in a round, and how many rounds there may be."""


def conditional_draws(
    values: Mapping[str, np.ndarray], observed: Mapping[str, np.ndarray], count: int, seed: int
) -> dict[str, np.ndarray]:
    """Draws theta and x from their exact law given any of their elements.

    Args:
        values: Values of one trace: theta (2,) and x (2,); elements that are not observed are not read.
        observed: Which elements are observed, booleans in the same shapes.
        count: Number of draws.
        seed: Seed of the draws.

    Returns:
        Draws of theta and x, (count, 2) each; observed elements keep their values.

    Raises:
        EvidenceError: If nothing that the simulator returns fits the observed elements.
    """
    random = np.random.default_rng(seed)
    theta, x = (np.where(observed[name], values[name], np.nan) for name in ("theta", "x"))
    known, seen = observed["theta"], observed["x"]
    if not seen.any():
        theta = np.where(known, theta, random.uniform(-1, 1, (count, 2)))
        x = _crescent(count, random) + _moved(theta)
    elif known.all():
        x = np.where(seen, x, _data(theta, x, count, random))
    elif known.any() and seen.all():
        theta = np.where(known, theta, _parameter(theta, x, count, random))
    else:
        theta, x = _proposed(theta, x, count, random)
    return {"theta": np.broadcast_to(theta, (count, 2)).copy(), "x": np.broadcast_to(x, (count, 2)).copy()}


def _crescent(count: int, random: np.random.Generator) -> np.ndarray:
    """Draws points (count, 2) of the crescent."""
    a, r = random.uniform(-np.pi / 2, np.pi / 2, count), random.normal(_RADIUS, _THICKNESS, count)
    return np.stack([r * np.cos(a) + _SHIFT, r * np.sin(a)], 1)


def _log_density(point: np.ndarray) -> np.ndarray:
    """Returns the log density of points (..., 2) of the crescent, up to a constant."""
    right, up = point[..., 0] - _SHIFT, point[..., 1]
    radius = np.hypot(right, up)
    log = -0.5 * ((radius - _RADIUS) / _THICKNESS) ** 2 - np.log(radius)
    return np.where((right > 0) & (radius < _EDGE), log, -np.inf)


def _moved(theta: np.ndarray) -> np.ndarray:
    """Returns how far theta (..., 2) moves the crescent: (-|u|, v)."""
    return np.stack([-np.abs(theta.sum(-1)), theta[..., 1] - theta[..., 0]], -1) / np.sqrt(2)


def _data(theta: np.ndarray, x: np.ndarray, count: int, random: np.random.Generator) -> np.ndarray:
    """Draws the element of x (count, 1) that is missing, if one is, given all of theta."""
    if not np.isnan(x).any():
        return x
    moved, missing = _moved(theta), np.isnan(x).argmax()
    low, high = np.array([_SHIFT, -_EDGE]) + moved, np.array([_SHIFT + _EDGE, _EDGE]) + moved

    def log_density(cells: np.ndarray) -> np.ndarray:
        return _log_density(_filled(x, cells) - moved)

    return _on_a_line(log_density, low[missing], high[missing], count, random)


def _parameter(theta: np.ndarray, x: np.ndarray, count: int, random: np.random.Generator) -> np.ndarray:
    """Draws the element of theta (count, 1) that is missing given the other one and all of x."""

    def log_density(cells: np.ndarray) -> np.ndarray:
        return _log_density(x - _moved(_filled(theta, cells)))

    return _on_a_line(log_density, -1.0, 1.0, count, random)


def _filled(partly: np.ndarray, cells: np.ndarray) -> np.ndarray:
    """Puts numbers in the place of NaN: (2,), (cells,) -> (cells, 2)."""
    return np.where(np.isnan(partly), cells[:, None], partly)


def _on_a_line(
    log_density: Callable[[np.ndarray], np.ndarray], low: float, high: float, count: int, random: np.random.Generator
) -> np.ndarray:
    """Draws (count, 1) from a density between two bounds."""
    width = (high - low) / _CELLS
    cells = low + width * (np.arange(_CELLS) + 0.5)
    log = log_density(cells)
    if not np.isfinite(log.max()):
        raise _unfit()
    cumulative = np.cumsum(np.exp(log - log.max()))
    found = np.searchsorted(cumulative, cumulative[-1] * random.random(count), side="right")
    return np.asarray(cells[found] + width * (random.random(count) - 0.5))[:, None]


def _proposed(
    theta: np.ndarray, x: np.ndarray, count: int, random: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Draws theta and x given one element of x or both, and given one element of theta at most where x has one."""
    kept: list[tuple[np.ndarray, np.ndarray]] = []
    for _ in range(_ROUNDS):
        kept.append(_round(theta, x, random))
        if sum(len(thetas) for thetas, _ in kept) >= count:
            thetas, data = (np.concatenate(parts)[:count] for parts in zip(*kept, strict=True))
            return thetas, data
    raise _unfit()


def _round(theta: np.ndarray, x: np.ndarray, random: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Returns the proposals that lie in the box: theta (kept, 2) and x (kept, 2)."""
    point = _crescent(_PROPOSALS, random)
    known = ~np.isnan(theta)
    u = random.choice([-1.0, 1.0], _PROPOSALS) * (point[:, 0] - x[0])
    v = x[1] - point[:, 1]
    # theta is (u - v, u + v) / sqrt(2), so that a known element of it turns u into v, and v into u.
    turned = np.sqrt(2) * theta[known.argmax()]
    if np.isnan(x[0]):
        u = random.uniform(-np.sqrt(2), np.sqrt(2), _PROPOSALS)
        if known.any():
            u = turned + v if known[0] else turned - v
    if np.isnan(x[1]):
        v = random.uniform(-np.sqrt(2), np.sqrt(2), _PROPOSALS)
        if known.any():
            v = u - turned if known[0] else turned - u
    thetas = np.where(known, theta, np.stack([u - v, u + v], 1) / np.sqrt(2))
    inside = (np.abs(thetas) <= 1).all(1)
    if not np.isnan(x[0]):
        inside &= point[:, 0] >= x[0]
    return thetas[inside], np.where(np.isnan(x), point + _moved(thetas), x)[inside]


def _unfit() -> EvidenceError:
    return EvidenceError(
        "what is observed of two moons does not fit together: the simulator returns next to nothing that agrees with"
        " it.\n  Give values that the simulator can return."
    )
