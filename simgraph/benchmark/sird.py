r"""An epidemic whose contact rate changes with time: infected, recovered and dead, each counted at times of its own.

.. math:: S' = -\beta S I, \quad I' = \beta S I - (\gamma + \delta) I, \quad R' = \gamma I, \quad D' = \delta I,

with :math:`S(0) = 1, R(0) = D(0) = 0`, an unknown :math:`I(0)`, and a contact rate :math:`\beta(t)` that is the sigmoid
of a Gaussian process with scale 2.5 and length 7. Counts have a log-normal error of 5 %.

References:
    Gloeckler et al., "All-in-one simulation-based inference" (2024), section 4.3.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor
from torch.distributions import MultivariateNormal, TransformedDistribution, Uniform, constraints
from torch.distributions.transforms import SigmoidTransform

from simgraph.dsl import Curve, Index, Node, deterministic, index, node
from simgraph.graph import Graph

__all__ = ["COUNTED", "sird"]

END = 50.0
COUNTED = ("infected", "recovered", "dead")

_STEPS = 100
_FLOOR = 1e-8


def _times(name: str) -> Index:
    return index(name, 0.0, END, num=(1, 40), grid=100)


t_beta = _times("t_beta")


@node(index=t_beta)
def beta(t_beta: Tensor) -> TransformedDistribution:
    t = t_beta.double()
    kernel = 6.25 * torch.exp(-0.5 * (t[:, None] - t).square() / 49) + 1e-5 * torch.eye(len(t), dtype=torch.float64)
    return TransformedDistribution(MultivariateNormal(torch.zeros_like(t), kernel), SigmoidTransform())


@node
def gamma() -> Uniform:
    return Uniform(0.0, 0.5)


@node
def delta() -> Uniform:
    return Uniform(0.0, 0.5)


@node
def initial() -> Uniform:
    return Uniform(0.0, 0.2)


@deterministic
def epidemic(beta: Curve, gamma: float, delta: float, initial: float) -> Callable[[np.ndarray], np.ndarray]:
    """Returns infected, recovered and dead, (3, points), as a function of time."""
    times, h = np.linspace(0.0, END, _STEPS + 1), END / _STEPS
    rates = np.asarray(beta(np.linspace(0.0, END, 2 * _STEPS + 1)))
    path = np.empty((_STEPS + 1, 4))
    path[0] = y = np.array([1.0, initial, 0.0, 0.0])

    def flow(y: np.ndarray, rate: float) -> np.ndarray:
        new, gone, died = rate * y[0] * y[1], gamma * y[1], delta * y[1]
        return np.array([-new, new - gone - died, gone, died])

    for step in range(_STEPS):
        k_1 = flow(y, rates[2 * step])
        k_2 = flow(y + h / 2 * k_1, rates[2 * step + 1])
        k_3 = flow(y + h / 2 * k_2, rates[2 * step + 1])
        k_4 = flow(y + h * k_3, rates[2 * step + 2])
        path[step + 1] = y = y + h / 6 * (k_1 + 2 * k_2 + 2 * k_3 + k_4)
    return lambda t: np.stack([np.interp(t, times, column) for column in path.T[1:]])


def _counted(number: int, name: str) -> Node:
    t = _times(f"t_{name}")

    def count(
        epidemic: Callable[[np.ndarray], np.ndarray], rng: np.random.Generator, **points: np.ndarray
    ) -> np.ndarray:
        right = epidemic(points[t.name])[number]
        return np.exp(np.log(right + _FLOOR) + 0.05 * rng.normal(size=right.shape))

    parents = {"epidemic": "epidemic", t.name: t.name}
    return node(name=name, parents=parents, index=t, support=constraints.positive)(count)


sird = Graph(beta, gamma, delta, initial, epidemic, *(_counted(number, name) for number, name in enumerate(COUNTED)))
