r"""A hidden Markov model of ten steps whose signs are hidden.

:math:`\theta_0 \sim N(0, s^2)`, :math:`\theta_i \sim N(\theta_{i-1}, s^2)` and :math:`x_i \sim N(\theta_i^2, s^2)` with
:math:`s = 0.5`. The data tell nothing about the sign of a state, but neighbours share it.

The exact posterior comes from forward filtering and backward sampling on a grid: with :math:`f_i` the law of
:math:`\theta_i` given :math:`x_0, \dots, x_i`,

.. math:: f_i(\theta) \propto N(x_i; \theta^2, s^2) \int N(\theta; u, s^2) f_{i-1}(u) du, \qquad
          p(\theta_{i-1} | \theta_i, x) \propto N(\theta_i; \theta_{i-1}, s^2) f_{i-1}(\theta_{i-1}).

References:
    Gloeckler, Deistler, Weilbach, Wood and Macke, "All-in-one simulation-based inference" (2024), the task "HMM".
    Cappe, Moulines and Ryden, Inference in Hidden Markov Models (2005), section 3.1 (filtering, backward kernels).
"""

from __future__ import annotations

import numpy as np
from torch import Tensor
from torch.distributions import Normal

from simgraph.dsl import node
from simgraph.graph import Graph

__all__ = ["STEPS", "hidden_markov", "hmm", "posterior_draws"]

STEPS = 10
"""Number of hidden states, and of data."""

_SCALE = 0.5

_CELL = 0.005
"""Width of the grid's cells. The narrowest law along the grid, that of a state of size r given its datum, has the
standard deviation 1 / (4 r): ten cells wide for r = 5, which is three standard deviations of the last state."""


def _first() -> Normal:
    return Normal(0.0, _SCALE)


def _next(previous: Tensor) -> Normal:
    return Normal(previous, _SCALE)


def _datum(state: Tensor) -> Normal:
    return Normal(state**2, _SCALE)


def hidden_markov(steps: int) -> Graph:
    """Returns the graph of a chain of any length: states theta_0, theta_1, ... and data x_0, x_1, ..."""
    states = [node(name="theta_0")(_first)]
    for step in range(1, steps):
        states.append(node(name=f"theta_{step}", parents={"previous": f"theta_{step - 1}"})(_next))
    data = [node(name=f"x_{step}", parents={"state": f"theta_{step}"})(_datum) for step in range(steps)]
    return Graph(*states, *data)


hmm = hidden_markov(STEPS)


def posterior_draws(observation: np.ndarray, count: int, seed: int) -> np.ndarray:
    """Draws all states (count, steps) from their exact posterior given all data (steps,).

    Args:
        observation: The data of a chain of any length.
        count: Number of draws.
        seed: Seed of the draws.
    """
    data = np.asarray(observation, dtype=np.float64)
    random = np.random.default_rng(seed)
    # Beyond the edge every state lies eight standard deviations off its datum, and nothing else draws it there.
    edge = np.sqrt(max(data.max(), 0.0) + 8 * _SCALE)
    half = int(np.ceil(edge / _CELL))
    grid = (np.arange(-half, half) + 0.5) * _CELL
    kernel = _bell(grid[:, None] - grid)
    filtered = [_normalised(_bell(grid) * _bell(data[0] - grid**2))]
    for datum in data[1:]:
        filtered.append(_normalised(kernel @ filtered[-1] * _bell(datum - grid**2)))

    cells = np.empty((count, len(data)), dtype=np.int64)
    cells[:, -1] = _pick(filtered[-1][None], np.zeros(count, dtype=np.int64), random)
    for step in range(len(data) - 2, -1, -1):
        reached, rows = np.unique(cells[:, step + 1], return_inverse=True)
        cells[:, step] = _pick(kernel[reached] * filtered[step], rows, random)
    return np.asarray(grid[cells] + _CELL * (random.random(cells.shape) - 0.5))


def _bell(distance: np.ndarray) -> np.ndarray:
    return np.asarray(np.exp(-0.5 * (distance / _SCALE) ** 2))


def _normalised(weights: np.ndarray) -> np.ndarray:
    return np.asarray(weights / weights.sum())


def _pick(weights: np.ndarray, rows: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """Draws a column for each numbered row of ``weights`` (rows, columns)."""
    height, width = weights.shape
    cumulative = np.cumsum(weights, 1)
    # All rows in one increasing sequence: row r runs from r to r + 1, so that one search serves them all.
    steps = (cumulative / cumulative[:, -1:] + np.arange(height)[:, None]).ravel()
    found = np.searchsorted(steps, rows + random.random(len(rows)), side="right") - rows * width
    return np.asarray(np.clip(found, 0, width - 1))
