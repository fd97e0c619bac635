r"""Exact draws of trees of Gaussian scalars, any of which may be observed.

A node :math:`v` with the parent :math:`u` is :math:`N(m_v(u), s_v^2)` for any function :math:`m_v`. With :math:`e_v`
the density of everything that is observed below a node, messages run from the leaves to the roots,

.. math:: e_u(u) = \prod_{v: \text{child of } u} \int N(v; m_v(u), s_v^2) e_v(v) dv, \qquad
          p(v | u, \text{observed}) \propto N(v; m_v(u), s_v^2) e_v(v),

and draws run back from the roots to the leaves. Integrals are sums over the cells of a grid, and an observed node is a
grid of one point. A first grid, wide and coarse, tells which cells carry mass; only these are divided further.

References:
    Pearl, Probabilistic Reasoning in Intelligent Systems (1988), section 4.2 (propagation in trees).
    Cappe, Moulines and Ryden, Inference in Hidden Markov Models (2005), section 3.1 (backward kernels, in a chain).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from simgraph.errors import EvidenceError

if TYPE_CHECKING:
    from simgraph.benchmark.conditionals import Draws

__all__ = ["Scalar", "conditional_draws", "of_traces"]

_REACH = 10.0
"""How many standard deviations around all its means the first grid of a node covers."""

_COARSE = 0.05
"""Width of the cells of the first grid: no wider than any law along it."""

_PARTS = 10
"""Into how many cells each cell with mass is divided."""

_NEGLIGIBLE = 1e-10
"""Cells with a smaller share of the largest cell's mass are left out."""


@dataclass(frozen=True)
class Scalar:
    """A Gaussian node.

    Attributes:
        parent: Name of the parent; ``None`` for a root.
        mean: Maps values of the parent to means, element by element; for a root it is given zeros.
        sd: Standard deviation.
    """

    parent: str | None
    mean: Callable[[np.ndarray], np.ndarray]
    sd: float


def conditional_draws(
    nodes: Mapping[str, Scalar], observed: Mapping[str, float], count: int, seed: int
) -> dict[str, np.ndarray]:
    """Draws a tree, or several, given some of its nodes.

    The laws along a grid must not be much narrower than 0.05; a draw is off by at most half a cell, 0.0025.

    Args:
        nodes: The nodes by name, parents before children.
        observed: Values of the observed nodes.
        count: Number of draws.
        seed: Seed of the draws.

    Returns:
        Draws (count,) of every node; of an observed one its value.

    Raises:
        EvidenceError: If a value is too far from everything that its ancestors generate.
    """
    random = np.random.default_rng(seed)
    grids = _finer(nodes, observed, _coarse(nodes, observed))
    evidence = _evidence(nodes, grids)
    # Above the roots stands a node that is known to be 0.
    cells: dict[str | None, np.ndarray] = {None: np.zeros(count, dtype=np.int64)}
    draws: dict[str | None, np.ndarray] = {None: np.zeros(count)}
    for name, node in nodes.items():
        if name not in grids:  # nothing is observed below
            draws[name] = random.normal(node.mean(draws[node.parent]), node.sd)
            continue
        reached, rows = np.unique(cells[node.parent], return_inverse=True)
        weights = _conditional(node, grids[node.parent][reached], grids[name], evidence[name])
        cells[name] = _pick(weights, rows, random)
        draws[name] = grids[name][cells[name]]
        if name not in observed:
            draws[name] += _COARSE / _PARTS * (random.random(count) - 0.5)
    return {name: draws[name] for name in nodes}


def of_traces(nodes: Mapping[str, Scalar]) -> Draws:
    """Returns the sampler of a tree in the form that all tasks of arbitrary conditionals have.

    Args:
        nodes: The nodes by name, parents before children.

    Returns:
        A function of the values of one trace by name, of which only observed ones are read; of whether each is
        observed; of a count and a seed. It draws every node (count,) as :func:`conditional_draws` does.
    """

    def draws(
        values: Mapping[str, np.ndarray], observed: Mapping[str, np.ndarray], count: int, seed: int
    ) -> dict[str, np.ndarray]:
        given = {name: float(values[name]) for name, seen in observed.items() if seen}
        return conditional_draws(nodes, given, count, seed)

    return draws


Grids = Mapping[str | None, np.ndarray]
"""Centres of cells of equal width for each node that is observed or has something observed below; above the roots 0."""


def _coarse(nodes: Mapping[str, Scalar], observed: Mapping[str, float]) -> Grids:
    informed: set[str | None] = set(observed)
    for name, node in reversed(list(nodes.items())):
        if name in informed:
            informed.add(node.parent)
    grids: dict[str | None, np.ndarray] = {None: np.zeros(1)}
    for name, node in nodes.items():
        if name in observed:
            grids[name] = np.array([observed[name]])
        elif name in informed:
            means = node.mean(grids[node.parent])
            low, high = means.min() - _REACH * node.sd, means.max() + _REACH * node.sd
            grids[name] = low + _COARSE * (np.arange(np.ceil((high - low) / _COARSE)) + 0.5)
    return grids


def _finer(nodes: Mapping[str, Scalar], observed: Mapping[str, float], grids: Grids) -> Grids:
    """Divides the cells that carry mass, and their neighbours."""
    evidence = _evidence(nodes, grids)
    offsets = _COARSE * ((np.arange(_PARTS) + 0.5) / _PARTS - 0.5)
    kept: dict[str | None, np.ndarray] = {None: np.ones(1, dtype=bool)}
    mass: dict[str | None, np.ndarray] = {None: np.ones(1)}
    finer = dict(grids)
    for name, node in nodes.items():
        if name not in grids:
            continue
        above = kept[node.parent]
        weights = _conditional(node, grids[node.parent][above], grids[name], evidence[name])
        mass[name] = mass[node.parent][above] @ weights
        kept[name] = mass[name] > _NEGLIGIBLE * mass[name].max()
        if name in observed:
            continue
        if kept[name][0] or kept[name][-1]:
            raise EvidenceError(
                f"what is observed does not fit together: it puts {name!r} more than {_REACH:g} standard deviations"
                " off everything that its ancestors generate.\n  Give values that the simulator can return."
            )
        wider = kept[name].copy()
        wider[1:] |= kept[name][:-1]
        wider[:-1] |= kept[name][1:]
        finer[name] = (grids[name][wider, None] + offsets).ravel()
    return finer


def _evidence(nodes: Mapping[str, Scalar], grids: Grids) -> dict[str | None, np.ndarray]:
    """Returns the log density of everything that is observed below each cell, up to a constant for each node."""
    evidence = {name: np.zeros(len(grid)) for name, grid in grids.items()}
    for name, node in reversed(list(nodes.items())):
        if name in grids:
            weights, peaks = _scaled(node, grids[node.parent], grids[name], evidence[name])
            evidence[node.parent] += np.log(weights.sum(1)) + peaks
    return evidence


def _conditional(node: Scalar, above: np.ndarray, below: np.ndarray, evidence: np.ndarray) -> np.ndarray:
    """Returns the chance of each cell of a node (parents, cells) given each value of its parent."""
    weights, _ = _scaled(node, above, below, evidence)
    weights /= weights.sum(1, keepdims=True)
    return weights


def _scaled(node: Scalar, above: np.ndarray, below: np.ndarray, evidence: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns weights (parents, cells) with 1 as the largest of each row, and the logarithm of what scaled the rows."""
    weights = (below - node.mean(above)[:, None]) / node.sd
    weights *= weights
    weights *= -0.5
    weights += evidence
    peaks = weights.max(1)
    weights -= peaks[:, None]
    return np.exp(weights, out=weights), peaks


def _pick(weights: np.ndarray, rows: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """Draws a column for each numbered row of ``weights`` (rows, columns)."""
    height, width = weights.shape
    cumulative = np.cumsum(weights, 1)
    # All rows in one increasing sequence: row r runs from r to r + 1, so that one search serves them all.
    steps = (cumulative / cumulative[:, -1:] + np.arange(height)[:, None]).ravel()
    found = np.searchsorted(steps, rows + random.random(len(rows)), side="right") - rows * width
    return np.asarray(np.clip(found, 0, width - 1))
