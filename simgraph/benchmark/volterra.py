r"""Predators and prey, each seen at times of its own: the unstructured Lotka-Volterra task.

.. math:: P' = a P - b P Q, \quad Q' = -c Q + d P Q, \quad P(0) = 1, Q(0) = 1/2,

with rates :math:`1 + 2 / (1 + e^{-z})`, z standard normal; both are seen with noise of 0.1.

References:
    Gloeckler et al., "All-in-one simulation-based inference" (2024), section 4.2.
"""

from __future__ import annotations

import numpy as np
from torch.distributions import constraints

from simgraph.benchmark.ode import solve
from simgraph.dsl import index, node
from simgraph.graph import Graph

__all__ = ["NAMES", "volterra"]

END = 15.0
NOISE = 0.1
NAMES = ("prey", "predator")

_GRID = np.linspace(0.0, END, 301)

t_prey, t_predator = index("t_prey", 0.0, END, num=(1, 40)), index("t_predator", 0.0, END, num=(1, 40))


@node(shape=(4,), support=constraints.interval(1.0, 3.0), depends={"rates": "independent"})
def rates(rng: np.random.Generator) -> np.ndarray:
    return 1 + 2 / (1 + np.exp(-rng.normal(size=4)))


@node(index=t_prey, vectorized=True)
def prey(rates: np.ndarray, t_prey: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    return rng.normal(population(rates, 0, t_prey), NOISE)


@node(index=t_predator, vectorized=True)
def predator(rates: np.ndarray, t_predator: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    return rng.normal(population(rates, 1, t_predator), NOISE)


volterra = Graph(rates, prey, predator)


def population(rates: np.ndarray, which: int, times: np.ndarray) -> np.ndarray:
    """Returns a population, 0 for prey and 1 for predators, at times (traces, points) for rates (traces, 4)."""
    path = solve(_flow, _pace, (1.0, 0.5), rates, _GRID)[..., which]
    return np.stack([np.interp(at, _GRID, own) for at, own in zip(times, path, strict=True)])


def _flow(y: np.ndarray, theta: np.ndarray) -> np.ndarray:
    (p, q), (a, b, c, d) = y, theta
    return np.stack([a * p - b * p * q, d * p * q - c * q])


def _pace(y: np.ndarray, theta: np.ndarray) -> np.ndarray:
    (p, q), (a, b, c, d) = y, theta
    return np.asarray(a + b * q + c + d * p)
