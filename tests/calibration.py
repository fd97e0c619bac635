"""Holds exact draws of conditionals against the simulators, and against weighted draws."""

from functools import cache
from itertools import combinations

import numpy as np
from scipy.stats import kstest


@cache
def traces(graph, count, seed=0):
    """Returns traces of a graph: values in double precision by name."""
    simulated = graph.simulate(count, seed=seed, progress=False)
    return [{name: np.float64(simulated[name][row]) for name in graph.variables} for row in range(count)]


def masked(values, random, chance):
    """Draws which elements are observed; points of SLCP as a whole."""
    observed = {name: random.random(np.shape(value)) < chance for name, value in values.items()}
    if np.shape(values.get("x")) == (4, 2):
        observed["x"] = np.repeat(observed["x"][:, :1], 2, 1)
    return observed


def spoiled(values, observed):
    """Returns the values with NaN wherever nothing is observed."""
    return {name: np.where(observed[name], value, np.nan) for name, value in values.items()}


def features(columns):
    """Returns all elements (count, elements), and all products of two."""
    flat = np.concatenate([column.reshape(len(column), -1) for column in columns.values()], 1)
    return np.concatenate([flat] + [flat[:, [i]] * flat[:, [j]] for i, j in combinations(range(flat.shape[1]), 2)], 1)


class Ranks:
    """Where the features of traces lie among those of draws given parts of the same traces: evenly everywhere.

    A calibrated conditional makes each trace and its draws exchangeable, see Talts et al. (2018), "Validating Bayesian
    inference algorithms with simulation-based calibration", theorem 1.
    """

    COUNT = 63

    def __init__(self, features):
        self.features, self.random, self.found = features, np.random.default_rng(0), []

    def add(self, values, observed, draws):
        truth = self.features({name: np.asarray(value)[None] for name, value in values.items()})
        drawn = self.features(draws)
        assert drawn.shape == (self.COUNT, truth.shape[1])
        below = (drawn < truth).sum(0)
        ties = np.isclose(drawn, truth, rtol=1e-6, atol=1e-9).all(0)
        rank = (below + self.random.random(truth.shape[1])) / (self.COUNT + 1)
        self.found.append(np.where(ties, np.nan, rank))  # what is observed has no rank

    def check(self):
        columns = [column[np.isfinite(column)] for column in np.array(self.found).T]
        chances = [kstest(column, "uniform").pvalue for column in columns if len(column) > 20]
        assert chances
        # Even the smallest of all, were they independent of each other, is below this in a thousandth of all runs.
        assert min(chances) > 1e-3 / len(chances)


def agrees(draws, proposals, log_weights):
    """Holds the means of draws (count, features) against those of weighted proposals (count, features)."""
    weights = np.exp(log_weights - log_weights.max())
    weights /= weights.sum()
    size = 1 / (weights**2).sum()
    assert size > 1_000
    mean = weights @ proposals
    # Four and a half standard errors; what is observed has none but rounding.
    error = np.sqrt(weights @ (proposals - mean) ** 2 * (1 / size + 1 / len(draws)))
    assert (np.abs(draws.mean(0) - mean) <= 4.5 * error + 1e-9).all()
