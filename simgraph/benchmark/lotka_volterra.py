r"""Lotka-Volterra: prey X and predators Y, each seen ten times with multiplicative noise.

.. math:: X' = \alpha X - \beta X Y, \quad Y' = -\gamma Y + \delta X Y, \quad X(0) = 30, \quad Y(0) = 1

at the times 0, 2.1, ..., 18.9; :math:`\alpha, \gamma \sim \mathrm{LogNormal}(-0.125, 0.5)` and
:math:`\beta, \delta \sim \mathrm{LogNormal}(-3, 0.5)`. The data are the ten of the prey, then the ten of the predators,
each :math:`\mathrm{LogNormal}(\log u, 0.1)` with u clipped to [1e-10, 1e4]. In ``lotka_volterra_chunks`` five of them
make a token.

The equations are solved for the logarithms, by Runge-Kutta steps of order four that are short against
:math:`1 / (\alpha + \gamma + \beta Y + \delta X)`: logarithms are exact to 1e-4, where the noise is 0.1. sbibm calls
Julia's default solver, with its default tolerances, and marks traces in which it gives up; here all are solved.

References:
    Lotka, "Analytical note on certain rhythmic relations in organic systems" (1920).
    Lueckmann et al., "Benchmarking simulation-based inference" (2021), task T.10.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor
from torch.distributions import LogNormal

from simgraph.benchmark.ode import solve
from simgraph.dsl import Chunks, deterministic, node
from simgraph.graph import Graph

__all__ = ["log_sizes", "lotka_volterra", "lotka_volterra_chunks"]

_NOISE = 0.1
_TIMES = 2.1 * np.arange(10)
_START = (math.log(30.0), 0.0)
_LEAST, _MOST = math.log(1e-10), math.log(1e4)


@node
def theta() -> LogNormal:
    return LogNormal(torch.tensor([-0.125, -3.0, -0.125, -3.0]), 0.5)


@deterministic(vectorized=True)
def log_sizes(theta: np.ndarray) -> np.ndarray:
    """Returns the logarithms (traces, 20) of both populations for parameters (traces, 4) in the order of the Greek."""
    paths = solve(_field, _rate, _START, theta, _TIMES)
    return np.asarray(paths.transpose(0, 2, 1).reshape(len(theta), -1).clip(_LEAST, _MOST))


@node
def x(log_sizes: Tensor) -> LogNormal:
    return LogNormal(log_sizes, _NOISE)


lotka_volterra = Graph(theta, log_sizes, x)
lotka_volterra_chunks = Graph(theta, log_sizes, node(name="x", tokenizer=Chunks(5))(x.function))


def _field(y: np.ndarray, theta: np.ndarray) -> np.ndarray:
    alpha, beta, gamma, delta = theta
    prey, predators = np.exp(y)
    slope = np.empty_like(y)
    slope[0], slope[1] = alpha - beta * predators, delta * prey - gamma
    return slope


def _rate(y: np.ndarray, theta: np.ndarray) -> np.ndarray:
    alpha, beta, gamma, delta = theta
    prey, predators = np.exp(y)
    return np.asarray(alpha + gamma + beta * predators + delta * prey)
