"""A tree of nonlinear Gaussians: seven scalars, most of whose conditionals have several modes.

Exact draws of any nodes given all others come from :mod:`simgraph.benchmark.sum_product`.

References:
    Gloeckler, Deistler, Weilbach, Wood and Macke, "All-in-one simulation-based inference" (2024), the task "tree".
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from torch.distributions import Normal

from simgraph.benchmark import sum_product
from simgraph.benchmark.sum_product import Scalar
from simgraph.dsl import node
from simgraph.graph import Graph

__all__ = ["conditional_draws", "tree"]


@node
def theta1() -> Normal:
    return Normal(0.0, 1.0)


@node
def theta2(theta1: Tensor) -> Normal:
    return Normal(theta1, 1.0)


@node
def theta3(theta1: Tensor) -> Normal:
    return Normal(theta1, 1.0)


@node
def x1(theta2: Tensor) -> Normal:
    return Normal(torch.sin(theta2) ** 2, 0.2)


@node
def x2(theta2: Tensor) -> Normal:
    return Normal(0.1 * theta2**2, 0.2)


@node
def x3(theta3: Tensor) -> Normal:
    return Normal(0.1 * theta3**2, 0.6)


@node
def x4(theta3: Tensor) -> Normal:
    return Normal(torch.cos(theta3) ** 2, 0.1)


tree = Graph(theta1, theta2, theta3, x1, x2, x3, x4)

_SCALARS = {
    "theta1": Scalar(None, np.zeros_like, 1.0),
    "theta2": Scalar("theta1", np.positive, 1.0),
    "theta3": Scalar("theta1", np.positive, 1.0),
    "x1": Scalar("theta2", lambda value: np.sin(value) ** 2, 0.2),
    "x2": Scalar("theta2", lambda value: 0.1 * value**2, 0.2),
    "x3": Scalar("theta3", lambda value: 0.1 * value**2, 0.6),
    "x4": Scalar("theta3", lambda value: np.cos(value) ** 2, 0.1),
}
"""The nodes of the graph."""

conditional_draws = sum_product.of_traces(_SCALARS)
"""Draws all nodes from their exact law given any of them."""
