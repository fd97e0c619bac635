"""Gaussian linear with a box as prior: theta ~ U(-1, 1), x ~ N(theta, 0.1 I) in ten dimensions.

Given x, the parameters are independent: each is a Gaussian N(x_i, 0.1) cut off at -1 and 1.

References:
    Lueckmann et al., "Benchmarking simulation-based inference" (2021), task T.2.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from torch.distributions import Normal, Uniform

from simgraph.benchmark.truncated import mass, truncated
from simgraph.dsl import node
from simgraph.graph import Graph

__all__ = ["gaussian_linear_uniform", "posterior_draws", "posterior_log_prob"]

_SCALE = 0.1**0.5


@node
def theta() -> Uniform:
    return Uniform(-torch.ones(10), torch.ones(10))


@node
def x(theta: Tensor) -> Normal:
    return Normal(theta, _SCALE)


gaussian_linear_uniform = Graph(theta, x)


def posterior_draws(observation: np.ndarray, count: int, seed: int) -> np.ndarray:
    """Draws (count, 10) from the exact posterior of an observation (10,)."""
    centre = torch.as_tensor(np.asarray(observation, dtype=np.float64))
    uniform = torch.from_numpy(np.random.default_rng(seed).random((count, len(centre))))
    noise = truncated((-1 - centre) / _SCALE, (1 - centre) / _SCALE, uniform)
    return np.asarray((centre + _SCALE * noise).clamp(-1, 1).numpy())


def posterior_log_prob(parameters: np.ndarray, observations: np.ndarray) -> np.ndarray:
    """Returns exact log densities (rows,) of parameters (rows, 10) in the box, given observations (rows, 10)."""
    theta, centre = (torch.from_numpy(np.asarray(rows, np.float64)) for rows in (parameters, observations))
    inside = mass((-1 - centre) / _SCALE, (1 - centre) / _SCALE)
    return np.asarray((Normal(centre, _SCALE).log_prob(theta) - inside.log()).sum(1))
