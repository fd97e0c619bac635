import numpy as np
import pytest
import torch

import simgraph as sg
from simgraph.benchmark import gaussian_mixture, hmm
from simgraph.benchmark.conditionals import Conditionals
from simgraph.benchmark.posteriors import Posteriors
from simgraph.benchmark.question import flat
from simgraph.benchmark.references import load_reference
from simgraph.benchmark.slcp import slcp
from simgraph.benchmark.slcp import x as slcp_x
from simgraph.benchmark.tasks import TASKS, find_task
from simgraph.benchmark.tree import tree
from simgraph.errors import DeclarationError


@pytest.mark.parametrize(
    ("graph", "shapes"),
    [
        (slcp, {"theta": (5,), "x": (4, 2)}),
        (gaussian_mixture.gaussian_mixture, {"theta": (2,), "c": (), "x": (2,)}),
        (hmm.hmm, {f"{name}_{step}": () for name in ("theta", "x") for step in range(10)}),
        (tree, dict.fromkeys(("theta1", "theta2", "theta3", "x1", "x2", "x3", "x4"), ())),
    ],
)
def test_tasks_simulate_and_compile(graph, shapes):
    traces = graph.simulate(50, seed=0, progress=False)
    assert {name: traces[name].shape[1:] for name in traces} == shapes
    assert len(sg.compile(graph, traces).tokens) == sum(int(np.prod(shape)) for shape in shapes.values())


# SLCP


@pytest.mark.parametrize(
    "theta", [[0.5, -1.0, 1.2, -2.0, 0.7], [0.0, 0.0, 0.0, 0.0, 1.0], [1.0, 2.0, 3.0, 3.0, 3.0], [0, 0, 0.03, 2, -3]]
)
def test_slcp_has_the_covariance_of_its_definition(theta):
    theta = torch.tensor(theta, dtype=torch.float64)
    law = slcp_x(theta)
    s_1, s_2, rho = theta[2] ** 2, theta[3] ** 2, torch.tanh(theta[4])
    across = rho * s_1 * s_2
    expected = torch.stack([torch.stack([s_1**2, across]), torch.stack([across, s_2**2])]) + 1e-6 * torch.eye(2)
    torch.testing.assert_close(law.covariance_matrix, expected)
    torch.testing.assert_close(law.mean, theta[:2])


def test_slcp_stays_finite_in_single_precision_at_the_corners():
    values = torch.tensor([-3.0, -1e-4, 0.0, 3.0])
    for theta in torch.cartesian_prod(*[values] * 3):
        factor = slcp_x(torch.cat([torch.zeros(2), theta])).scale_tril
        assert torch.isfinite(factor).all()
        assert (factor.diagonal() > 0).all()


def test_the_slcp_references_are_whole():
    reference = load_reference("slcp")
    assert reference.observations.shape == (5, 8)
    assert reference.samples.shape == (5, 5_000, 5)
    assert reference.samples.dtype == np.float32
    assert np.abs(reference.samples).max() <= 3


@pytest.mark.parametrize("number", range(5))
def test_the_slcp_references_follow_the_graph_s_posterior(number):
    # A Metropolis walk that targets the graph's posterior leaves the law of its draws as it is.
    reference = load_reference("slcp")
    data = torch.from_numpy(reference.observations[number].reshape(4, 1, 2)).double()
    start = torch.from_numpy(reference.samples[number]).double()
    law = torch.vmap(lambda theta: slcp_x(theta).scale_tril)

    def density(theta):
        points = torch.distributions.MultivariateNormal(theta[:, :2], scale_tril=law(theta), validate_args=False)
        inside = (theta.abs() <= 3).all(1)
        return torch.where(inside, points.log_prob(data).sum(0), -torch.inf)

    generator = torch.Generator().manual_seed(0)
    theta, current = start, density(start)
    first = current
    for _ in range(100):
        scale = 10 ** (-2 * torch.rand(len(theta), 5, generator=generator, dtype=torch.float64))
        step = theta + scale * torch.randn(theta.shape, generator=generator, dtype=torch.float64)
        proposed = density(step)
        taken = torch.log(torch.rand(len(theta), generator=generator, dtype=torch.float64)) < proposed - current
        theta, current = torch.where(taken[:, None], step, theta), torch.where(taken, proposed, current)
    assert (theta != start).any(1).double().mean() > 0.9
    before = torch.cat([first[:, None], start[:, :2], start.abs()[:, 2:4], start[:, 4:]], 1)
    after = torch.cat([current[:, None], theta[:, :2], theta.abs()[:, 2:4], theta[:, 4:]], 1)
    # Two means of 2 500 draws each, if they were independent, are apart by this; five of these errors.
    error = before.std(0) * (2 / len(before)) ** 0.5
    assert ((after.mean(0) - before.mean(0)).abs() < 5 * error).all()


# Hidden Markov model


def quadrature(data):
    """Returns the grid, and weights (grid, grid, grid), of the posterior of a chain of three steps."""
    grid = np.linspace(-3.2, 3.2, 161)
    log = [-2 * (x - grid**2) ** 2 for x in data]
    jump = -2 * (grid[:, None] - grid) ** 2
    log_weights = (
        (log[0] - 2 * grid**2)[:, None, None]
        + jump[:, :, None]
        + log[1][None, :, None]
        + jump[None]
        + log[2][None, None]
    )
    weights = np.exp(log_weights - log_weights.max())
    return grid, weights / weights.sum()


@pytest.mark.parametrize("data", [[0.2, 1.1, 2.5], [-0.6, 0.1, 0.0], [4.0, 0.5, 3.0]])
def test_the_posterior_of_a_short_chain_agrees_with_quadrature(data):
    grid, weights = quadrature(data)
    draws = hmm.posterior_draws(np.array(data), 40_000, seed=0)
    axes = np.meshgrid(grid, grid, grid, indexing="ij", sparse=True)
    for first in range(3):
        for second in range(first, 3):
            product = axes[first] * axes[second]
            exact = (weights * product).sum()
            error = np.sqrt(((weights * product**2).sum() - exact**2) / len(draws))
            assert abs((draws[:, first] * draws[:, second]).mean() - exact) < 4 * error
        marginal = weights.sum(tuple(axis for axis in range(3) if axis != first))
        for cut in (-1.50, -0.50, 0.54, 1.02, 1.62):
            # Each cut lies in the middle of two grid points.
            exact = marginal[grid < cut].sum()
            # Four standard errors of a share.
            assert (draws[:, first] < cut).mean() == pytest.approx(exact, abs=4 * 0.5 / 200 + 1e-4)


def test_the_posterior_of_the_whole_chain_agrees_with_weighted_draws_from_the_prior():
    # Wide data would leave no weight on any draw; these leave thousands.
    data = np.full(10, 0.4)
    random = np.random.default_rng(0)
    states = np.cumsum(0.5 * random.normal(size=(400_000, 10)), 1)
    weights = np.exp(-2 * ((data - states**2) ** 2).sum(1))
    weights /= weights.sum()
    size = 1 / (weights**2).sum()
    assert size > 2_000
    draws = hmm.posterior_draws(data, 10_000, seed=0)
    for exact, found in zip((states**2).T, (draws**2).T, strict=True):
        mean = weights @ exact
        error = np.sqrt(weights @ (exact - mean) ** 2 * (1 / size + 1 / len(draws)))
        assert abs(found.mean() - mean) < 4.5 * error
    assert (draws[:, 0] * draws[:, 9] > 0).mean() == pytest.approx(
        weights @ (states[:, 0] * states[:, 9] > 0), abs=4.5 * 0.5 * np.sqrt(1 / size + 1 / len(draws))
    )


def test_the_chain_s_posterior_repeats_with_its_seed():
    data = np.linspace(0, 3, 10)
    assert (hmm.posterior_draws(data, 20, seed=1) == hmm.posterior_draws(data, 20, seed=1)).all()
    assert (hmm.posterior_draws(data, 20, seed=1) != hmm.posterior_draws(data, 20, seed=2)).any()


def test_the_chain_links_neighbours_only():
    assert hmm.hmm["theta_4"].parents == ("theta_3",)
    assert hmm.hmm["x_4"].parents == ("theta_4",)


# Gaussian mixture


@pytest.mark.parametrize("observation", [[1.0, -4.0], [9.6, 3.0], [10.4, -10.1], [-9.95, 9.9]])
def test_the_mixture_s_posterior_agrees_with_quadrature(observation):
    count = 40_000
    draws = gaussian_mixture.posterior_draws(np.array(observation), count, seed=0)
    assert (np.abs(draws) <= 10).all()
    cell = 0.01
    axes = [np.arange(max(-10, x - 5) + cell / 2, min(10, x + 5), cell) for x in observation]
    offsets = [axis - x for axis, x in zip(axes, observation, strict=True)]
    square = offsets[0][:, None] ** 2 + offsets[1][None] ** 2
    weights = np.exp(-square / 2) + 100 * np.exp(-50 * square)
    weights /= weights.sum()
    found = draws - observation
    for function in (
        lambda a, b: a,
        lambda a, b: b,
        lambda a, b: a * a + b * b,
        lambda a, b: np.abs(a) + np.abs(b) < 0.3,
    ):
        value = function(offsets[0][:, None], offsets[1][None]) + np.zeros_like(square)
        mean = (weights * value).sum()
        error = np.sqrt((weights * (value - mean) ** 2).sum() / count)
        # The cells' width shows in the share of draws near the centre.
        assert abs(function(*found.T).mean() - mean) < 4 * error + 2e-3


def test_the_mixture_s_component_is_a_category():
    traces = gaussian_mixture.gaussian_mixture.simulate(2_000, seed=0, progress=False)
    assert set(np.unique(traces["c"])) == {0, 1}
    spread = (traces["x"] - traces["theta"]).std(1)
    assert np.median(spread[traces["c"] == 0]) == pytest.approx(10 * np.median(spread[traces["c"] == 1]), rel=0.3)


# Tree


def test_the_tree_s_moments():
    count = 20_000
    traces = tree.simulate(count, seed=0, progress=False)
    # theta2 and theta3 have variance 2, and share theta1's; four standard errors.
    assert traces["theta2"].var() == pytest.approx(2, abs=4 * 2 * (2 / count) ** 0.5)
    assert np.corrcoef(traces["theta2"], traces["theta3"])[0, 1] == pytest.approx(0.5, abs=4 / count**0.5)
    assert traces["x3"].mean() == pytest.approx(0.2, abs=4 * (0.36 + 0.01 * 8) ** 0.5 / count**0.5)
    # E sin^2(theta) = (1 - exp(-2 var)) / 2 for a centred Gaussian.
    assert traces["x1"].mean() == pytest.approx((1 - np.exp(-4)) / 2, abs=4 * 0.45 / count**0.5)
    assert traces["x4"].mean() == pytest.approx((1 + np.exp(-4)) / 2, abs=4 * 0.45 / count**0.5)


# Tasks in one form

WIDTHS = {
    "two_moons": (2, 2),
    "gaussian_linear": (10, 10),
    "gaussian_linear_uniform": (10, 10),
    "gaussian_mixture": (2, 2),
    "slcp": (5, 8),
    "slcp_distractors": (5, 100),
    "bernoulli_glm": (10, 10),
    "bernoulli_glm_raw": (10, 100),
    "bernoulli_glm_embedded": (10, 100),
    "sir": (2, 10),
    "lotka_volterra": (4, 20),
    "lotka_volterra_chunks": (4, 20),
    "hmm": (10, 10),
}


def test_every_task_is_listed():
    assert set(WIDTHS) == {name for name, task in TASKS.items() if isinstance(task, Posteriors)}
    assert all(task.name == name for name, task in TASKS.items())


@pytest.mark.parametrize("name", list(WIDTHS))
def test_a_task_gives_observations_evidence_and_references_in_the_graph_s_shapes(name):
    task = find_task(name)
    traces = task.graph.simulate(20, seed=0, progress=False)
    parameters, data = WIDTHS[name]
    assert task.observations().shape == (5, data)
    for observation in task.observations():
        assert {key: value.shape for key, value in task.evidence(observation).items()} == {
            key: traces[key].shape[1:] for key in task.data
        }
    assert flat(traces, task.parameters).shape == (20, parameters)
    for number in range(5):
        draws = task.reference(number, 2_500)
        assert draws.shape == (2_500, parameters)
        assert np.isfinite(draws).all()
        support = sg.compile(task.graph, traces).layout.tokenizers[task.parameters[0]].variable.support
        first = draws[:, : np.prod(traces[task.parameters[0]].shape[1:], dtype=int)]
        assert (first >= support.low).all()
        assert (first <= support.high).all()
    assert (task.reference(0, 10) == task.reference(0, 10)).all()


def test_distractors_share_the_draws_of_slcp():
    for number in range(5):
        assert (find_task("slcp_distractors").reference(number, 50) == find_task("slcp").reference(number, 50)).all()
        assert (
            find_task("bernoulli_glm_raw").reference(number, 50) == find_task("bernoulli_glm").reference(number, 50)
        ).all()


def test_more_draws_than_were_published_are_refused():
    with pytest.raises(DeclarationError, match=r"'sir' has 5000 .* not enough for 2 sets of 2501"):
        find_task("sir").reference(0, 2_501, 1)
    assert len(find_task("gaussian_mixture").reference(0, 2_501)) == 2_501


def test_an_unknown_task_is_named_with_the_nearest_one():
    with pytest.raises(DeclarationError, match=r"'slpc' is no task of the benchmark.\n  Did you mean 'slcp'\?"):
        find_task("slpc")


# Questions


@pytest.mark.parametrize("name", list(TASKS))
def test_questions_ask_for_everything_that_is_not_given_and_know_the_answer(name):
    task = find_task(name)
    traces = task.graph.simulate(20, seed=0, progress=False)
    for number in range(min(task.questions, 5)):
        question = task.question(number)
        for key, elements in question.latent.items():
            assert elements.shape == traces[key].shape[1:]
            if key in question.evidence:
                assert (question.evidence[key].observed ^ elements).all()
        if isinstance(task, Conditionals):
            assert set(question.evidence) | set(question.latent) == set(traces)
        first, second = (question.reference(30, part) for part in range(2))
        width = sum(int(elements.sum()) for elements in question.latent.values())
        assert first.shape == second.shape == (30, width)
        assert question.columns(traces).shape == (20, width)
        assert np.isfinite(first).all()
        assert np.array_equal(first, question.reference(30, 0))
        assert not np.array_equal(first, second)


@pytest.mark.parametrize("name", [name for name, task in TASKS.items() if isinstance(task, Conditionals)])
def test_conditionals_are_of_five_kinds_and_leave_something_to_ask(name):
    task = find_task(name)
    questions = [task.question(number) for number in range(task.questions)]
    assert task.questions == 20
    assert all(elements.any() for question in questions for elements in question.latent.values())
    assert not questions[0].evidence
    data = set(task.graph.variables) - set(task.parameters)
    assert set(questions[1].evidence) == data
    assert set(questions[1].latent) == set(questions[2].evidence) == set(task.parameters)
    assert len({str(question.latent) for question in questions}) > 5
    for question in questions:
        for key, axes in task.whole.items():
            seen = question.evidence[key].observed if key in question.evidence else np.zeros(task_shape(task, key))
            assert all(len(set(unit.ravel())) == 1 for unit in seen.reshape(-1, *seen.shape[seen.ndim - axes :]))


def task_shape(task, name):
    return task.graph.simulate(1, seed=0, progress=False)[name].shape[1:]
