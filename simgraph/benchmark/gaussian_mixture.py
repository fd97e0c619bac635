"""Gaussian mixture: theta ~ U(-10, 10) in two dimensions, x ~ N(theta, s^2 I) with s = 1 or 0.1, each half of the time.

Which of the two it was is a variable of its own. Given x, theta is a mixture of the same two Gaussians around x, cut
off at the edges of the prior's box.

References:
    Lueckmann et al., "Benchmarking simulation-based inference" (2021), task T.7.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from torch.distributions import Categorical, Normal, Uniform

from simgraph.benchmark.truncated import mass, truncated
from simgraph.dsl import node
from simgraph.graph import Graph

__all__ = ["gaussian_mixture", "posterior_draws", "posterior_log_prob"]

_EDGE = 10.0
_SCALES = (1.0, 0.1)


@node
def theta() -> Uniform:
    return Uniform(-_EDGE * torch.ones(2), _EDGE * torch.ones(2))


@node
def c() -> Categorical:
    return Categorical(torch.ones(2) / 2)


@node
def x(theta: Tensor, c: Tensor) -> Normal:
    return Normal(theta, torch.tensor(_SCALES)[c])


gaussian_mixture = Graph(theta, c, x)


def posterior_draws(observation: np.ndarray, count: int, seed: int) -> np.ndarray:
    """Draws theta (count, 2) from the exact posterior of an observation (2,), with c summed over."""
    random = np.random.default_rng(seed)
    centre, scales = torch.as_tensor(np.asarray(observation, dtype=np.float64)), torch.tensor(_SCALES).double()
    low, high = ((edge - centre) / scales[:, None] for edge in (-_EDGE, _EDGE))  # (scale, dimension)
    chance = mass(low, high).prod(1).numpy()
    which = random.choice(len(_SCALES), size=count, p=chance / chance.sum())
    noise = truncated(low[which], high[which], torch.from_numpy(random.random((count, 2))))
    return np.asarray((centre + scales[which, None] * noise).clamp(-_EDGE, _EDGE).numpy())


def posterior_log_prob(parameters: np.ndarray, observations: np.ndarray) -> np.ndarray:
    """Returns exact log densities (rows,) of parameters (rows, 2) in the box, given observations (rows, 2)."""
    theta, centre = (torch.from_numpy(np.asarray(rows, np.float64)).unsqueeze(1) for rows in (parameters, observations))
    scales = torch.tensor(_SCALES).double().unsqueeze(1)
    low, high = ((edge - centre) / scales for edge in (-_EDGE, _EDGE))  # (rows, scale, dimension)
    chance = mass(low, high).prod(-1).sum(-1)
    return np.asarray((Normal(centre, scales).log_prob(theta).sum(-1).logsumexp(-1) - chance.log()).numpy())
