r"""Bernoulli GLM: a neuron that answers white noise with spikes, in full and in ten sufficient numbers.

At each of 100 times the neuron spikes with the chance :math:`\mathrm{sigmoid}(b + \sum_l f_l I_{t-l})`, where
:math:`I` is a fixed stimulus, :math:`b \sim N(0, 2)` the offset (2 is a variance) and :math:`f` a filter of nine lags
with the smooth prior

.. math:: f \sim N(0, (F^\top F)^{-1}), \qquad F = D^2 + \mathrm{diag}(\sqrt{l / 9})_{l = 0, \dots, 8},

D the matrix of first differences. F is lower triangular with two bands below its diagonal, so each f_l is drawn from
the two before it. ``bernoulli_glm_raw`` has the spikes as data; ``bernoulli_glm`` has what is sufficient of them,
:math:`x = X^\top y` with X the design of all logits: the number of spikes, and at each lag the sum of the stimulus over
spikes. In ``bernoulli_glm_embedded`` a network that is trained with the rest turns the spikes into one token. All have
the same posteriors.

References:
    Goncalves et al., "Training deep neural density estimators to identify mechanistic models of neural dynamics"
    (2020), section "GLM".
    Lueckmann et al., "Benchmarking simulation-based inference" (2021), tasks T.5 and T.6.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn
from torch.distributions import Bernoulli, MultivariateNormal, Normal

from simgraph.dsl import Embedding, lagged, node
from simgraph.graph import Graph

__all__ = ["DESIGN", "PENALTY", "bernoulli_glm", "bernoulli_glm_embedded", "bernoulli_glm_raw"]

_LAGS = 9


def _design() -> np.ndarray:
    # sbibm keeps its stimulus in single precision; the data are sums of exactly these numbers.
    stimulus = np.random.RandomState(42).randn(100).astype(np.float32).astype(np.float64)
    lagged_stimuli = [np.concatenate([np.zeros(lag), stimulus[: 100 - lag]]) for lag in range(_LAGS)]
    return np.stack([np.ones(100), *lagged_stimuli], 1)


def _penalty() -> np.ndarray:
    differences = np.eye(_LAGS) - np.eye(_LAGS, k=-1)
    return np.asarray(differences @ differences + np.diag(np.sqrt(np.arange(_LAGS) / _LAGS)))


DESIGN = _design()
"""X: maps offset and filter (10,) to the logits of all spikes (100,)."""

PENALTY = _penalty()
"""F: the filter's prior has the precision F^T F."""

# F is lower triangular, so its inverse is; what rounding leaves above the diagonal is not.
_SCALE_TRIL = torch.from_numpy(np.tril(np.linalg.inv(PENALTY))).float()


@node
def offset() -> Normal:
    return Normal(0.0, 2**0.5)


@node(depends={"filter": lagged(1, 2)})
def filter() -> MultivariateNormal:
    return MultivariateNormal(torch.zeros(_LAGS), scale_tril=_SCALE_TRIL)


@node
def y(offset: Tensor, filter: Tensor) -> Bernoulli:
    design = torch.from_numpy(DESIGN).to(filter)
    return Bernoulli(logits=offset + design[:, 1:] @ filter)


@node(shape=(10,), vectorized=True)
def x(offset: np.ndarray, filter: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    logits = np.concatenate([offset[:, None], filter], 1) @ DESIGN.T
    spikes = rng.random(logits.shape) < 1 / (1 + np.exp(-logits))
    return np.asarray(spikes @ DESIGN)


def _perceptron() -> nn.Sequential:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return nn.Sequential(nn.Linear(100, 64), nn.GELU(), nn.Linear(64, 32))


bernoulli_glm = Graph(offset, filter, x)
bernoulli_glm_raw = Graph(offset, filter, y)
bernoulli_glm_embedded = Graph(offset, filter, node(name="y", tokenizer=Embedding(_perceptron()))(y.function))
