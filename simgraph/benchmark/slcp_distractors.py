r"""SLCP with distractors: the eight numbers of SLCP hidden among 92 that know nothing of the parameters.

The distractors are one draw of a mixture of twenty Student's t laws with two degrees of freedom,
:math:`l_j + 3 L_j z / \sqrt{c / 2}` with :math:`z \sim N(0, I)` and :math:`c \sim \chi^2_2`, of infinite
variance. All hundred are shuffled by a fixed permutation. The posterior is that of SLCP. Constants are drawn from the
seed 42 of NumPy's ``RandomState`` as sbibm drew them; diagonal entries of :math:`L_j` are negative here and there,
which for drawing is no matter.

The graph is told what is known: distractors are drawn from no parameter and reach no point of SLCP.

References:
    Greenberg, Nonnenmacher and Macke, "Automatic posterior transformation for likelihood-free inference" (2019).
    Lueckmann et al., "Benchmarking simulation-based inference" (2021), task T.4.
"""

from __future__ import annotations

from functools import cache

import numpy as np

from simgraph.benchmark.slcp import RIDGE, theta
from simgraph.dsl import node
from simgraph.graph import Graph

__all__ = ["POSITIONS", "slcp_distractors"]

_SIGNAL, _DISTRACTORS, _COMPONENTS, _FREEDOM = 8, 92, 20, 2


@cache
def _constants() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Returns centres (20, 92), scales (20, 92, 92) and the permutation (100,)."""
    random = np.random.RandomState(42)
    size = _DISTRACTORS
    centres = np.stack([15 * random.randn(size) for _ in range(_COMPONENTS)])
    factors = [np.tril(random.randn(size, size)) + np.diag(np.exp(random.randn(size))) for _ in range(_COMPONENTS)]
    return centres, 3 * np.stack(factors), random.permutation(_SIGNAL + size)


POSITIONS = np.argsort(_constants()[2])[:_SIGNAL]
"""Where in the data the numbers of SLCP are: x_11, x_12, x_21, x_22, ..."""


def _links() -> tuple[np.ndarray, np.ndarray]:
    """Returns what each number is drawn from: parameters (100, 5), and earlier numbers (100, 100)."""
    size = _SIGNAL + _DISTRACTORS
    from_theta, earlier = np.zeros((size, 5), dtype=bool), np.ones((size, size), dtype=bool)
    earlier[POSITIONS] = earlier[:, POSITIONS] = False
    for number in range(0, _SIGNAL, 2):
        # Of the two coordinates of a point, the first in the data has a mean and a scale of its own; the second is
        # drawn from the first, and so from all parameters.
        (first, own), (second, _) = sorted(zip(POSITIONS[number : number + 2], ([0, 2], [1, 3]), strict=True))
        from_theta[first, own] = from_theta[second] = earlier[second, first] = True
    return from_theta, np.tril(earlier, -1)


_FROM_THETA, _FROM_EARLIER = _links()


@node(shape=(_SIGNAL + _DISTRACTORS,), vectorized=True, depends={"theta": _FROM_THETA, "x": _FROM_EARLIER})
def x(theta: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    return np.concatenate([_points(theta, rng), _distractors(len(theta), rng)], 1)[:, _constants()[2]]


slcp_distractors = Graph(theta, x)


def _points(theta: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    scales, rho = theta[:, None, 2:4] ** 2, np.tanh(theta[:, 4, None])
    noise, ridge = rng.normal(size=(2, len(theta), 4, 2))
    # n k c: traces, points, coordinates. Of two coordinates, the later one in the data is made from the earlier one.
    pairs = np.stack([noise[..., 0], rho * noise[..., 0] + np.sqrt(1 - rho**2) * noise[..., 1]], -1)
    pairs = np.where(POSITIONS[0::2, None] < POSITIONS[1::2, None], pairs, pairs[..., ::-1])
    # The ridge is noise of its own, which spares the Cholesky factor of the sum.
    return np.asarray((theta[:, None, :2] + scales * pairs + np.sqrt(RIDGE) * ridge).reshape(-1, _SIGNAL))


def _distractors(count: int, rng: np.random.Generator) -> np.ndarray:
    centres, scales, _ = _constants()
    which = rng.integers(_COMPONENTS, size=count)
    noise = rng.normal(size=(count, _DISTRACTORS)) / np.sqrt(rng.chisquare(_FREEDOM, size=(count, 1)) / _FREEDOM)
    out = centres[which]
    for component in range(_COMPONENTS):
        rows = which == component
        out[rows] += noise[rows] @ scales[component].T
    return np.asarray(out)
