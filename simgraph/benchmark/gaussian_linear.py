"""Gaussian linear: theta ~ N(0, 0.1 I), x ~ N(theta, 0.1 I) in ten dimensions; theta | x ~ N(x / 2, 0.05 I)."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from torch.distributions import Normal

from simgraph.dsl import node
from simgraph.graph import Graph

__all__ = ["gaussian_linear", "posterior_draws", "posterior_log_prob"]


@node
def theta() -> Normal:
    return Normal(torch.zeros(10), 0.1**0.5)


@node
def x(theta: Tensor) -> Normal:
    return Normal(theta, 0.1**0.5)


gaussian_linear = Graph(theta, x)


def posterior_draws(observation: np.ndarray, count: int, seed: int) -> np.ndarray:
    """Draws (count, 10) from the exact posterior of an observation (10,)."""
    noise = np.random.default_rng(seed).normal(size=(count, len(observation)))
    return np.asarray(observation / 2 + 0.05**0.5 * noise)


def posterior_log_prob(parameters: np.ndarray, observations: np.ndarray) -> np.ndarray:
    """Returns exact log densities (rows,) of parameters (rows, 10) given observations (rows, 10)."""
    theta, centre = (torch.from_numpy(np.asarray(rows, np.float64)) for rows in (parameters, observations / 2))
    return np.asarray(Normal(centre, 0.05**0.5).log_prob(theta).sum(1))
