"""Two moons: a prior object and a NumPy black box, with a crescent-shaped, bimodal posterior.

References:
    Greenberg, Nonnenmacher and Macke, "Automatic posterior transformation for likelihood-free inference"
    (2019), appendix A.5.2.
"""

from __future__ import annotations

import numpy as np
import torch
from torch.distributions import Uniform

from simgraph.dsl import node
from simgraph.graph import Graph

__all__ = ["two_moons"]


@node
def theta() -> Uniform:
    return Uniform(-torch.ones(2), torch.ones(2))


@node(shape=(2,))
def x(theta: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    a, r = rng.uniform(-np.pi / 2, np.pi / 2), rng.normal(0.1, 0.01)
    crescent = np.array([r * np.cos(a) + 0.25, r * np.sin(a)])
    return crescent + np.array([-abs(theta.sum()), theta[1] - theta[0]]) / np.sqrt(2)


two_moons = Graph(theta, x)
