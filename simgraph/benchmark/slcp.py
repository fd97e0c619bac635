r"""SLCP: a simple likelihood with a complex posterior of four modes.

With :math:`s_1 = \theta_3^2`, :math:`s_2 = \theta_4^2` and :math:`\rho = \tanh\theta_5`, four points are drawn from
:math:`N((\theta_1, \theta_2), S)`, where :math:`S = [[s_1^2, \rho s_1 s_2], [\rho s_1 s_2, s_2^2]] + 10^{-6} I`. The
signs of :math:`\theta_3` and :math:`\theta_4` leave no trace in the data.

References:
    Papamakarios, Sterratt and Murray, "Sequential neural likelihood" (2019), appendix A.1.
    Lueckmann et al., "Benchmarking simulation-based inference" (2021), task T.3.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.distributions import MultivariateNormal, Uniform

from simgraph.dsl import node, plate
from simgraph.graph import Graph

__all__ = ["RIDGE", "slcp"]

RIDGE = 1e-6
"""What keeps the covariance S from being singular."""

draw = plate("draw", 4)


@node
def theta() -> Uniform:
    return Uniform(-3 * torch.ones(5), 3 * torch.ones(5))


@node(plates=draw)
def x(theta: Tensor) -> MultivariateNormal:
    s_1, s_2, rho = theta[2] ** 2, theta[3] ** 2, torch.tanh(theta[4])
    # The Cholesky factor of S, written out: the lower right entry stays positive where S is nearly singular.
    first = torch.sqrt(s_1**2 + RIDGE)
    across = rho * s_1 * s_2 / first
    second = torch.sqrt(s_2**2 * (1 - rho**2 * s_1**2 / (s_1**2 + RIDGE)) + RIDGE)
    rows = [torch.stack([first, torch.zeros_like(first)]), torch.stack([across, second])]
    return MultivariateNormal(theta[:2], scale_tril=torch.stack(rows))


slcp = Graph(theta, x)
