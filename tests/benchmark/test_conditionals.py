"""Exact draws of arbitrary conditionals against independent computations, and against the simulators themselves."""

from itertools import product

import numpy as np
import pytest
from calibration import Ranks, agrees, features, masked, spoiled, traces

from simgraph.benchmark import hmm, slcp, slcp_conditionals, tree, two_moons, two_moons_conditionals
from simgraph.benchmark.references import load_reference
from simgraph.diagnostics import c2st
from simgraph.errors import DeclarationError, EvidenceError

TASKS = {
    "tree": (tree.tree, tree.conditional_draws),
    "hmm": (hmm.hmm, hmm.conditional_draws),
    "two_moons": (two_moons.two_moons, two_moons_conditionals.conditional_draws),
    "slcp": (slcp.slcp, slcp_conditionals.conditional_draws),
}


# Two moons


def moons(columns):
    """Returns all elements, products, and the radius and height of the crescent's point."""
    right, up = crescent(columns)
    return np.column_stack([features(columns), np.hypot(right, up), up])


def crescent(columns):
    """Returns how far to the right and up the point lies that the simulator drew."""
    theta, x = columns["theta"], columns["x"]
    right = x[:, 0] + np.abs(theta.sum(1)) / 2**0.5 - 0.25
    return right, x[:, 1] - (theta[:, 1] - theta[:, 0]) / 2**0.5


@pytest.mark.parametrize("mask", list(product([False, True], repeat=4))[:-1])
def test_every_conditional_of_two_moons_is_calibrated(mask, monkeypatch):
    monkeypatch.setattr(two_moons_conditionals, "_PROPOSALS", 2_000)
    monkeypatch.setattr(two_moons_conditionals, "_CELLS", 20_000)
    ranks = Ranks(moons)
    observed = {"theta": np.array(mask[:2]), "x": np.array(mask[2:])}
    for number, values in enumerate(traces(two_moons.two_moons, 160)):
        draws = two_moons_conditionals.conditional_draws(spoiled(values, observed), observed, Ranks.COUNT, number)
        assert (np.abs(draws["theta"]) <= 1).all()
        right, up = crescent(draws)
        assert (right > -1e-3).all()  # a cell may reach over the edge
        assert (np.abs(np.hypot(right, up) - 0.1) < 0.06).all()
        ranks.add(values, observed, draws)
    ranks.check()


@pytest.mark.parametrize(("axis", "value"), [(0, 0.06), (0, 0.095), (1, 0.03), (1, -0.09)])
def test_points_of_the_crescent_given_one_coordinate_agree_with_simulated_ones_nearby(axis, value):
    random = np.random.default_rng(0)
    a, r = random.uniform(-np.pi / 2, np.pi / 2, 2_000_000), random.normal(0.1, 0.01, 2_000_000)
    point = np.stack([r * np.cos(a), r * np.sin(a)])
    near = r[np.abs(point[axis] - value) < 0.001]
    assert len(near) > 5_000
    theta = np.array([0.4, 0.1])
    x = np.array([value + 0.25 - 0.5 / 2**0.5, value - 0.3 / 2**0.5])
    observed = {"theta": np.ones(2, bool), "x": np.arange(2) == axis}
    draws = two_moons_conditionals.conditional_draws({"theta": theta, "x": x}, observed, 20_000, seed=0)
    found = np.hypot(*crescent(draws))
    error = np.sqrt(near.var() / len(near) + found.var() / len(found))
    assert abs(found.mean() - near.mean()) < 4.5 * error


# SLCP


def shapes(columns):
    """Returns the parameters, their products, sizes, and how well they fit the points."""
    theta, x = columns["theta"], columns["x"]
    off = x - theta[:, None, :2]
    size = np.sqrt(theta[:, 2:4] ** 4 + slcp.RIDGE)
    unit = off / size[:, None]
    correlation = np.tanh(theta[:, 4]) * np.prod(theta[:, 2:4] ** 2 / size, 1)
    across = (unit[:, :, 1] - correlation[:, None] * unit[:, :, 0]) / np.sqrt(1 - correlation[:, None] ** 2)
    fit = (unit[:, :, 0] ** 2 + across**2).sum(1)
    residuals = np.stack([fit, unit[:, 0, 0], across[:, 0], (unit[:, 1] ** 2).sum(1)], 1)
    return np.concatenate(
        [features({"theta": theta}), theta**2, size, size[:, :1] / size[:, 1:], x[:, 0], residuals], 1
    )


@pytest.mark.parametrize("points", [1, 2])
@pytest.mark.parametrize("known", [[], [1], [0, 1], [2], [0, 2, 4]])
def test_slcp_s_conditionals_agree_with_weighted_draws_from_the_prior(points, known, monkeypatch):
    monkeypatch.setattr(slcp_conditionals, "_CELLS", (0.4 / points, 0.4 / points, 0.8))  # wide cells do no harm
    values = {"theta": np.array([0.7, -1.9, 1.6, 1.2, 0.6]), "x": np.full((4, 2), np.nan)}
    values["x"][:points] = [[2.5, -0.6], [-1.0, -2.6]][:points]
    observed = {"theta": np.isin(np.arange(5), known), "x": np.isfinite(values["x"])}
    draws = slcp_conditionals.conditional_draws(values, observed, 5_000, seed=0)["theta"]

    theta = np.random.default_rng(1).uniform(-3, 3, (200_000, 5))
    theta[:, known] = values["theta"][known]
    scales, correlation = theta[:, 2:4] ** 2, np.tanh(theta[:, 4])
    covariance = scales[:, :, None] * scales[:, None]
    covariance[:, [0, 1], [1, 0]] *= correlation[:, None]
    covariance += slcp.RIDGE * np.eye(2)
    data = values["x"][:points]
    if not observed["theta"][:2].any():  # draws around the first point spend its weight
        noise = np.random.default_rng(2).normal(size=(len(theta), 2))
        theta[:, :2] = data[0] + np.einsum("nij,nj->ni", np.linalg.cholesky(covariance), noise)
        data = data[1:]
    off = data - theta[:, None, :2]
    square = np.einsum("npi,nij,npj->n", off, np.linalg.inv(covariance), off)
    log_weights = -0.5 * (square + len(data) * np.log(np.linalg.det(covariance)))
    log_weights[(np.abs(theta) > 3).any(1)] = -np.inf

    def parts(theta):
        return np.column_stack([features({"theta": theta}), np.log(np.abs(theta[:, 2:4])), theta[:, 2:] ** 2])

    agrees(parts(draws), parts(theta), log_weights)


@pytest.mark.parametrize("chance", [0.3, 0.7])
def test_slcp_s_conditionals_are_calibrated(chance, monkeypatch):
    monkeypatch.setattr(slcp_conditionals, "_CELLS", (0.1, 0.1, 0.2))
    monkeypatch.setattr(slcp_conditionals, "_PROPOSALS", 20_000)
    random, ranks = np.random.default_rng(1), Ranks(shapes)
    for number, values in enumerate(traces(slcp.slcp, 50)):
        observed = masked(values, random, chance)
        draws = slcp_conditionals.conditional_draws(spoiled(values, observed), observed, Ranks.COUNT, number)
        assert (np.abs(draws["theta"]) <= 3).all()
        ranks.add(values, observed, draws)
    ranks.check()


def test_half_of_a_point_is_refused():
    values, observed = {"theta": np.zeros(5), "x": np.zeros((4, 2))}, {"theta": np.zeros(5, bool)}
    observed["x"] = np.zeros((4, 2), bool)
    observed["x"][2, 1] = True
    with pytest.raises(DeclarationError, match="point 2 of 'x' is observed in part"):
        slcp_conditionals.conditional_draws(values, observed, 5, seed=0)


# All four


@pytest.mark.parametrize("name", ["two_moons", "slcp"])
def test_posteriors_agree_with_published_draws(name):
    graph, conditional = TASKS[name]
    shapes = {key: np.shape(value) for key, value in traces(graph, 1)[0].items()}
    reference = load_reference(name)
    observed = {"theta": np.zeros(shapes["theta"], bool), "x": np.ones(shapes["x"], bool)}
    data = reference.observations[0].reshape(shapes["x"]).astype(np.float64)
    draws = conditional({"theta": np.full(shapes["theta"], np.nan), "x": data}, observed, 1_000, seed=0)["theta"]
    # The accuracy of a classifier that guesses errs by 0.011.
    assert c2st(reference.samples[0][:1_000], draws, classifier="rf") < 0.55


@pytest.mark.parametrize("name", list(TASKS))
def test_draws_keep_what_is_observed_read_nothing_else_and_repeat_with_their_seed(name):
    graph, conditional = TASKS[name]
    random = np.random.default_rng(2)
    for values in traces(graph, 2, seed=3):
        observed = masked(values, random, 0.5)
        draws = conditional(values, observed, 20, seed=0)
        again = conditional(spoiled(values, observed), observed, 20, seed=0)
        other = conditional(values, observed, 20, seed=1)
        assert list(draws) == list(graph.variables)
        for key, value in values.items():
            assert draws[key].shape == (20, *np.shape(value))
            assert draws[key].dtype == np.float64
            assert np.array_equal(draws[key], again[key])
            seen = observed[key]
            assert (draws[key][:, seen] == value[seen]).all()
            assert (draws[key][:, ~seen] != other[key][:, ~seen]).all()


@pytest.mark.parametrize("name", list(TASKS))
def test_everything_may_be_observed_or_nothing(name):
    graph, conditional = TASKS[name]
    (values,) = traces(graph, 1)
    nothing = {key: np.zeros(np.shape(value), bool) for key, value in values.items()}
    everything = {key: ~elements for key, elements in nothing.items()}
    for key, column in conditional(values, everything, 3, seed=0).items():
        assert (column == values[key]).all()
    count = 2_000
    draws, simulated = conditional(values, nothing, count, seed=0), graph.simulate(count, seed=1, progress=False)
    for key, column in draws.items():
        for power in (1, 2):
            first, second = column**power, simulated[key] ** power
            error = np.sqrt(first.var(0) + second.var(0)) / count**0.5
            assert (np.abs(first.mean(0) - second.mean(0)) < 4.5 * error).all()


@pytest.mark.parametrize(
    ("name", "given"),
    [
        ("tree", {"theta1": 0.0, "x2": 1e3}),
        ("hmm", {"theta_0": 0.0, "theta_2": 40.0}),
        ("two_moons", {"x": np.array([3.0, 0.0])}),
        ("two_moons", {"theta": np.array([0.0, np.nan]), "x": np.array([5.0, 5.0])}),
        ("slcp", {"x": np.full((4, 2), 1e4)}),
    ],
)
def test_impossible_evidence_is_refused(name, given, monkeypatch):
    monkeypatch.setattr(two_moons_conditionals, "_ROUNDS", 3)
    graph, conditional = TASKS[name]
    values = {key: np.full_like(value, np.nan) for key, value in traces(graph, 1)[0].items()} | given
    observed = {key: np.isfinite(value) for key, value in values.items()}
    with pytest.raises(EvidenceError, match="does not fit together"):
        conditional(values, observed, 10, seed=0)
