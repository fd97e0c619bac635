r"""A hidden Markov model of ten steps whose signs are hidden.

:math:`\theta_0 \sim N(0, s^2)`, :math:`\theta_i \sim N(\theta_{i-1}, s^2)` and :math:`x_i \sim N(\theta_i^2, s^2)` with
:math:`s = 0.5`. The data tell nothing about the sign of a state, but neighbours share it.

Exact draws of any states and data given all others come from :mod:`simgraph.benchmark.sum_product`.

References:
    Gloeckler, Deistler, Weilbach, Wood and Macke, "All-in-one simulation-based inference" (2024), the task "HMM".
"""

from __future__ import annotations

import numpy as np
from torch import Tensor
from torch.distributions import Normal

from simgraph.benchmark import sum_product
from simgraph.benchmark.sum_product import Scalar
from simgraph.dsl import node
from simgraph.graph import Graph

__all__ = ["STEPS", "conditional_draws", "hidden_markov", "hmm", "posterior_draws"]

STEPS = 10
"""Number of hidden states, and of data."""

_SCALE = 0.5


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
    given = {f"x_{step}": float(datum) for step, datum in enumerate(observation)}
    draws = sum_product.conditional_draws(_scalars(len(given)), given, count, seed)
    return np.stack([draws[f"theta_{step}"] for step in range(len(given))], 1)


def _scalars(steps: int) -> dict[str, Scalar]:
    """Returns the nodes of the graph of a chain."""
    nodes = {"theta_0": Scalar(None, np.zeros_like, _SCALE)}
    for step in range(1, steps):
        nodes[f"theta_{step}"] = Scalar(f"theta_{step - 1}", np.positive, _SCALE)
    return nodes | {f"x_{step}": Scalar(f"theta_{step}", np.square, _SCALE) for step in range(steps)}


conditional_draws = sum_product.of_traces(_scalars(STEPS))
"""Draws all states and data from their exact law given any of them."""
