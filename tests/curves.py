"""Graphs with function-valued variables, in small."""

import numpy as np
import torch
from torch.distributions import HalfNormal, MultivariateNormal, Normal

from simgraph import Graph, deterministic, index, node

LENGTH = 2.0

t = index("t", 0, 10, num=(1, 6), grid=40)
s = index("s", 0, 10, num=(2, 5))


def covariance(points, others):
    return np.exp(-0.5 * np.subtract.outer(np.asarray(points), np.asarray(others)) ** 2 / LENGTH**2)


@node(index=t)
def field(t):
    kernel = torch.exp(-0.5 * (t[:, None] - t).square() / LENGTH**2)
    return MultivariateNormal(torch.zeros(len(t)), kernel + 1e-3 * torch.eye(len(t)))


@node
def spread():
    return HalfNormal(0.5)


@deterministic
def doubled(field):
    return lambda at: 2 * field(at)


@node(index=s)
def seen(doubled, spread, s, rng):
    return rng.normal(doubled(s), spread)


@node
def slope():
    return Normal(0.0, 1.0)


@node(index=s)
def line(slope, s, rng):
    return slope * s + rng.normal(0.0, 0.5, len(s))


smooth = Graph(field, spread, doubled, seen)
"""A function, and a noisy look at its double, at other points."""

straight = Graph(slope, line)
"""A random line with noise: all laws are normal."""
