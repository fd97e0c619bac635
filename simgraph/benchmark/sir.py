r"""SIR: an epidemic of a million people, seen through ten samples of a thousand.

.. math:: S' = -\beta S I / N, \quad I' = \beta S I / N - \gamma I, \quad x_k \sim \mathrm{Binomial}(1000, I(17 k) / N)

for :math:`k = 0, \dots, 9`, from one infected person on; :math:`\beta \sim \mathrm{LogNormal}(\log 0.4, 0.5)` and
:math:`\gamma \sim \mathrm{LogNormal}(\log 0.125, 0.2)`. The first count has the chance 1e-6 whatever the parameters
are, and is 0 in nearly every trace.

The equations are solved for the logarithm of I, by Runge-Kutta steps of order four that are short against
:math:`1 / (\beta + \gamma)`: shares are exact to 1e-6, where one more count is 1e-3. sbibm calls Julia's default
solver, with its default tolerances.

References:
    Lueckmann et al., "Benchmarking simulation-based inference" (2021), task T.9.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor
from torch.distributions import Binomial, LogNormal

from simgraph.benchmark.ode import solve
from simgraph.dsl import deterministic, node
from simgraph.graph import Graph

__all__ = ["infected", "sir"]

_PEOPLE, _TESTED = 1e6, 1000
_TIMES = 17.0 * np.arange(10)


@node
def theta() -> LogNormal:
    return LogNormal(torch.tensor([math.log(0.4), math.log(0.125)]), torch.tensor([0.5, 0.2]))


@deterministic(vectorized=True)
def infected(theta: np.ndarray) -> np.ndarray:
    """Returns the share of infected people (traces, 10) for parameters (traces, 2)."""
    paths = solve(_field, lambda _, theta: theta.sum(0), (1 - 1 / _PEOPLE, -math.log(_PEOPLE)), theta, _TIMES)
    return np.asarray(np.exp(paths[:, :, 1]).clip(0, 1))


@node
def x(infected: Tensor) -> Binomial:
    return Binomial(_TESTED, infected)


sir = Graph(theta, infected, x)


def _field(y: np.ndarray, theta: np.ndarray) -> np.ndarray:
    susceptible, (beta, gamma) = y[0], theta
    infection = beta * susceptible
    slope = np.empty_like(y)
    slope[0], slope[1] = -infection * np.exp(y[1]), infection - gamma
    return slope
