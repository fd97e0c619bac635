"""Exact draws of arbitrary conditionals against independent computations, and against the simulators themselves."""

from functools import cache
from itertools import combinations, product

import numpy as np
import pytest
from scipy.stats import kstest

from simgraph.benchmark import hmm, slcp, slcp_conditionals, tree, two_moons, two_moons_conditionals
from simgraph.benchmark.references import load_reference
from simgraph.benchmark.sum_product import Scalar, conditional_draws
from simgraph.diagnostics import c2st
from simgraph.errors import DeclarationError, EvidenceError

TASKS = {
    "tree": (tree.tree, tree.conditional_draws),
    "hmm": (hmm.hmm, hmm.conditional_draws),
    "two_moons": (two_moons.two_moons, two_moons_conditionals.conditional_draws),
    "slcp": (slcp.slcp, slcp_conditionals.conditional_draws),
}


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


# Trees of Gaussians

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
