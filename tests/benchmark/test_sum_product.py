"""Exact draws of trees of Gaussians against closed forms, weighted draws, and the simulators."""

import numpy as np
import pytest
from calibration import Ranks, agrees, features, masked, spoiled, traces

from simgraph.benchmark import hmm, tree
from simgraph.benchmark.sum_product import Scalar, conditional_draws

LINEAR = {
    "a": (None, 0.0, 0.0, 1.0),
    "b": ("a", 0.8, 0.3, 0.5),
    "c": ("b", -1.2, 0.0, 0.7),
    "d": ("b", 0.5, -1.0, 0.4),
    "e": ("c", 1.0, 0.0, 0.6),
    "lone": (None, 0.0, 0.0, 2.0),
}


@pytest.mark.parametrize("given", ["", "e", "ade", "cd", "be", "bcde", "a"])
def test_a_linear_tree_has_the_moments_of_a_gaussian(given):
    names, count = list(LINEAR), 20_000
    nodes = {
        name: Scalar(parent, lambda value, slope=slope, shift=shift: slope * value + shift * (slope != 0), sd)
        for name, (parent, slope, shift, sd) in LINEAR.items()
    }
    # All nodes are an affine map of their noises.
    mean, root = np.zeros(len(names)), np.zeros((len(names), len(names)))
    for row, (parent, slope, shift, sd) in enumerate(LINEAR.values()):
        if parent:
            above = names.index(parent)
            mean[row], root[row] = slope * mean[above] + shift, slope * root[above]
        root[row, row] = sd
    covariance = root @ root.T
    seen = np.array([name in given for name in names])
    values = mean + root @ np.array([1.5, -0.4, 0.8, 1.9, -1.0, 0.2])
    gain = covariance[:, seen] @ np.linalg.inv(covariance[np.ix_(seen, seen)])
    mean = mean + gain @ (values - mean)[seen]
    covariance = covariance - gain @ covariance[seen]

    draws = conditional_draws(nodes, dict(zip(given, values[seen], strict=True)), count, seed=0)
    found = np.stack([draws[name] for name in names], 1)
    assert (found[:, seen] == values[seen]).all()
    spread = np.sqrt(np.diag(covariance).clip(0))
    assert (np.abs(found.mean(0) - mean) <= 4.5 * spread / count**0.5 + 1e-12).all()
    # A covariance of unit variables errs by sqrt(2 / count) at most; four and a half of these.
    error = np.abs(np.cov(found.T) - covariance)
    assert (error <= 4.5 * (2 / count) ** 0.5 * np.outer(spread, spread) + 1e-12).all()


def test_a_chain_between_far_ends_is_a_bridge():
    values = dict.fromkeys(hmm.hmm.variables, np.nan) | {"theta_9": 4.0, "theta_2": -1.0}
    observed = {name: np.array(value == value) for name, value in values.items()}
    draws = hmm.conditional_draws(values, observed, 10_000, seed=0)
    for step in range(3, 9):
        done = (step - 2) / 7
        spread = 0.5 * (7 * done * (1 - done)) ** 0.5
        assert draws[f"theta_{step}"].mean() == pytest.approx(-1 + 5 * done, abs=4.5 * spread / 100)
        assert draws[f"theta_{step}"].std() == pytest.approx(spread, rel=4.5 / 20_000**0.5)
    assert (draws["x_9"] - 16).std() == pytest.approx(0.5, rel=4.5 / 20_000**0.5)


@pytest.mark.parametrize("latent", [["theta1", "theta2", "theta3"], ["theta1", "theta2", "x4"], ["theta3", "x1"]])
def test_the_tree_s_conditionals_agree_with_weighted_simulations(latent):
    random, count = np.random.default_rng(0), 200_000
    given = {"theta1": 0.5, "theta2": -0.9, "theta3": 1.6, "x1": 0.7, "x2": 0.3, "x3": 0.8, "x4": 0.1}
    columns = {name: np.full(count, np.nan if name in latent else value) for name, value in given.items()}
    log_weights = np.zeros(count)
    laws = [
        ("theta1", 1.0, lambda: 0.0),
        ("theta2", 1.0, lambda: columns["theta1"]),
        ("theta3", 1.0, lambda: columns["theta1"]),
        ("x1", 0.2, lambda: np.sin(columns["theta2"]) ** 2),
        ("x2", 0.2, lambda: 0.1 * columns["theta2"] ** 2),
        ("x3", 0.6, lambda: 0.1 * columns["theta3"] ** 2),
        ("x4", 0.1, lambda: np.cos(columns["theta3"]) ** 2),
    ]
    for name, sd, mean in laws:
        if name in latent:
            columns[name] = mean() + sd * random.normal(size=count)
        else:
            log_weights -= 0.5 * ((columns[name] - mean()) / sd) ** 2
    observed = {name: np.array(name not in latent) for name in given}
    draws = tree.conditional_draws({name: np.array(value) for name, value in given.items()}, observed, 10_000, seed=0)
    agrees(*(np.column_stack([features(c), *(c[name] ** 2 for name in given)]) for c in (draws, columns)), log_weights)


@pytest.mark.parametrize("chance", [0.3, 0.7])
def test_the_tree_s_conditionals_are_calibrated(chance):
    random, ranks = np.random.default_rng(1), Ranks(features)
    for number, values in enumerate(traces(tree.tree, 40)):
        observed = masked(values, random, chance)
        ranks.add(values, observed, tree.conditional_draws(spoiled(values, observed), observed, Ranks.COUNT, number))
    ranks.check()


@pytest.mark.parametrize("chance", [0.3, 0.7])
def test_a_short_chain_s_conditionals_are_calibrated(chance):
    random, ranks = np.random.default_rng(1), Ranks(features)
    nodes = hmm._scalars(3)
    for number, values in enumerate(traces(hmm.hidden_markov(3), 70)):
        observed = masked(values, random, chance)
        given = {name: float(values[name]) for name in values if observed[name]}
        ranks.add(values, observed, conditional_draws(nodes, given, Ranks.COUNT, number))
    ranks.check()
