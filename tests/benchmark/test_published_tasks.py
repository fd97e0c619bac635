"""Simulators of sbibm's tasks against direct computations."""

import numpy as np
import pytest
import torch
from scipy.integrate import solve_ivp
from scipy.stats import truncnorm
from torch.distributions import Binomial, LogNormal

import simgraph as sg
from simgraph.benchmark import bernoulli_glm, gaussian_linear_uniform, lotka_volterra, sir, slcp_distractors
from simgraph.benchmark.slcp import slcp
from simgraph.benchmark.tasks import find_task

# Gaussian linear, uniform prior


@pytest.mark.parametrize("observation", [[0.0] * 10, [-1.5, -1.0, -0.5, 0.9, 1.4, 0.2, 3.0, -2.5, 0.0, 1.0]])
def test_the_box_posterior_is_a_truncated_gaussian(observation):
    count = 20_000
    draws = gaussian_linear_uniform.posterior_draws(np.array(observation), count, seed=0)
    assert (np.abs(draws) <= 1).all()
    grid = np.linspace(-1, 1, 4001)
    for x, found in zip(observation, draws.T, strict=True):
        weights = np.exp(-((grid - x) ** 2) / 0.2)
        weights /= weights.sum()
        for power in (1, 2):
            mean = weights @ grid**power
            error = np.sqrt((weights @ grid ** (2 * power) - mean**2) / count)
            assert abs((found**power).mean() - mean) < 4.5 * error + 1e-4


def test_the_box_posterior_agrees_with_scipy_in_the_tail():
    # Nine standard deviations outside of the box, where sums of distribution functions have no digits left.
    draws = gaussian_linear_uniform.posterior_draws(np.full(10, 4.0), 5_000, seed=1)
    law = truncnorm(-5 / 0.1**0.5, -3 / 0.1**0.5, loc=4.0, scale=0.1**0.5)
    assert draws.mean() == pytest.approx(law.mean(), abs=4 * law.std() / 50_000**0.5)


# Bernoulli GLM


def test_the_prior_of_the_filter_has_the_precision_of_its_definition():
    traces = bernoulli_glm.bernoulli_glm.simulate(20_000, seed=0, progress=False)
    white = traces["filter"] @ bernoulli_glm.PENALTY.T
    # Four and a half standard errors of a covariance of unit variables.
    np.testing.assert_allclose(np.cov(white.T), np.eye(9), atol=4.5 * (2 / 20_000) ** 0.5)
    assert traces["offset"].var() == pytest.approx(2, rel=4.5 * (2 / 20_000) ** 0.5)


def test_the_spikes_have_the_chances_of_the_design():
    offset, filter_ = 0.5, np.linspace(1, -1, 9)
    graph = bernoulli_glm.bernoulli_glm_raw.do(offset=offset, filter=filter_)
    count = 4_000
    spikes = graph.simulate(count, seed=0, progress=False)["y"]
    stimulus = np.random.RandomState(42).randn(100)
    logits = [offset + sum(filter_[lag] * stimulus[t - lag] for lag in range(9) if lag <= t) for t in range(100)]
    chances = 1 / (1 + np.exp(-np.array(logits)))
    assert np.abs(spikes.mean(0) - chances).max() < 4.5 * 0.5 / count**0.5
    # The summary form has the same law as the spikes' own summaries.
    graph = bernoulli_glm.bernoulli_glm.do(offset=offset, filter=filter_)
    summaries = graph.simulate(count, seed=1, progress=False)["x"]
    own = spikes @ bernoulli_glm.DESIGN
    error = own.std(0) * (2 / count) ** 0.5
    assert (np.abs(summaries.mean(0) - own.mean(0)) < 4.5 * error).all()
    assert (np.abs(summaries.std(0) / own.std(0) - 1) < 4.5 / count**0.5).all()


# SIR and Lotka-Volterra


def exact(field, start, theta, times):
    solution = solve_ivp(field, (0, times[-1]), start, t_eval=times, args=tuple(theta), rtol=1e-11, atol=1e-12)
    return solution.y


def test_the_epidemic_agrees_with_an_adaptive_solver():
    def field(t, y, beta, gamma):
        return [-beta * y[0] * y[1], beta * y[0] * y[1] - gamma * y[1]]

    thetas = np.array([[0.4, 0.125], [2.5, 0.08], [0.1, 0.2], [1.0, 0.3]])
    for theta, found in zip(thetas, sir.infected(thetas), strict=True):
        np.testing.assert_allclose(found, exact(field, [1 - 1e-6, 1e-6], theta, 17.0 * np.arange(10))[1], atol=1e-6)


def test_prey_and_predators_agree_with_an_adaptive_solver():
    def field(t, y, alpha, beta, gamma, delta):
        return [alpha - beta * np.exp(y[1]), -gamma + delta * np.exp(y[0])]

    # The last one has a period of half the time, and a prey that falls to 1e-3.
    thetas = np.array([[0.9, 0.05, 0.9, 0.05], [0.3, 0.02, 2.0, 0.01], [2.0, 0.1, 1.5, 0.02], [3.0, 0.2, 0.4, 0.15]])
    for theta, found in zip(thetas, lotka_volterra.log_sizes(thetas), strict=True):
        expected = exact(field, [np.log(30), 0], theta, 2.1 * np.arange(10))
        np.testing.assert_allclose(found, expected.ravel().clip(np.log(1e-10), np.log(1e4)), atol=1e-4)


def test_the_first_data_know_nothing_of_the_parameters():
    traces = lotka_volterra.lotka_volterra.simulate(3_000, seed=0, progress=False)
    first = np.log(traces["x"][:, [0, 10]])
    assert first.mean(0) == pytest.approx([np.log(30), 0], abs=4.5 * 0.1 / 3_000**0.5)
    assert first.std(0) == pytest.approx([0.1, 0.1], rel=4.5 / 6_000**0.5)
    counts = sir.sir.simulate(3_000, seed=0, progress=False)["x"]
    assert counts[:, 0].mean() < 0.01
    assert counts.max() <= 1000


@pytest.mark.parametrize("graph", [sir.sir, lotka_volterra.lotka_volterra])
def test_the_density_of_solved_equations_is_known(graph):
    traces = graph.simulate(5, seed=0, progress=False)
    theta, x = torch.from_numpy(traces["theta"]).double(), torch.from_numpy(traces["x"])
    solved = torch.from_numpy(graph[graph["x"].parents[0]].function(theta.numpy()))
    law = Binomial(1000, solved) if graph is sir.sir else LogNormal(solved, 0.1)
    expected = graph["theta"].function().log_prob(theta).sum(1) + law.log_prob(x.double()).sum(1)
    torch.testing.assert_close(graph.log_prob(traces), expected, rtol=1e-5, atol=1e-4)


def test_the_binomial_counts_have_the_mean_of_the_epidemic():
    graph = sir.sir.do(theta=[0.5, 0.15])
    counts = graph.simulate(2_000, seed=0, progress=False)["x"]
    share = sir.infected(np.array([[0.5, 0.15]]))[0]
    error = np.sqrt(1000 * share * (1 - share) / 2_000)
    assert (np.abs(counts.mean(0) - 1000 * share) < 4.5 * error + 0.01).all()


# SLCP with distractors


def test_the_positions_are_the_published_ones():
    assert slcp_distractors.POSITIONS.tolist() == [22, 33, 23, 67, 42, 21, 16, 90]
    hidden = find_task("slcp_distractors").observations()[:, slcp_distractors.POSITIONS]
    assert (hidden == find_task("slcp").observations()).all()


def test_the_hidden_numbers_follow_slcp():
    theta, count = [0.5, -1.0, 1.2, -1.5, 0.7], 20_000
    known = slcp.do(theta=theta).simulate(count, seed=0, progress=False)["x"].reshape(count, 8)
    found = slcp_distractors.slcp_distractors.do(theta=theta).simulate(count, seed=1, progress=False)["x"]
    found = found[:, slcp_distractors.POSITIONS]
    assert np.abs(found.mean(0) - known.mean(0)).max() < 5 * (2 * 5 / count) ** 0.5
    # Products of Gaussians of variance 5 at most have a standard deviation of 7.2 at most.
    assert np.abs(np.cov(found.T) - np.cov(known.T)).max() < 5 * 7.2 * (2 / count) ** 0.5


def test_distractors_are_heavy_tailed_and_centred_where_the_seed_says():
    traces = slcp_distractors.slcp_distractors.simulate(5_000, seed=0, progress=False)
    others = np.setdiff1d(np.arange(100), slcp_distractors.POSITIONS)
    assert np.abs(traces["x"][:, others]).max() > 1_000
    random = np.random.RandomState(42)
    first = np.stack([15 * random.randn(92) for _ in range(20)])[:, 0]
    # Distractor 0 lies where the permutation put number 8; its law is a mixture that is symmetric around each centre.
    [place] = np.flatnonzero(slcp_distractors._constants()[2] == 8)
    assert np.median(traces["x"][:, place]) == pytest.approx(np.median(first), abs=3)


def test_the_graph_knows_what_the_distractors_are():
    compiled = sg.compile(
        slcp_distractors.slcp_distractors, slcp_distractors.slcp_distractors.simulate(50, seed=0, progress=False)
    )
    mask = compiled.edge_mask(given=["x"]).numpy()
    others = np.setdiff1d(np.arange(100), slcp_distractors.POSITIONS)
    assert not mask[:5, 5 + others].any()
    assert mask[:5, 5 + slcp_distractors.POSITIONS].any(0).all()
    assert not compiled.lint()
