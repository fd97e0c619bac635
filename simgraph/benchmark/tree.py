"""A tree of nonlinear Gaussians: seven scalars, most of whose conditionals have several modes.

References:
    Gloeckler, Deistler, Weilbach, Wood and Macke, "All-in-one simulation-based inference" (2024), the task "tree".
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.distributions import Normal

from simgraph.dsl import node
from simgraph.graph import Graph

__all__ = ["tree"]


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
