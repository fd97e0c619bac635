"""Answers against closed forms, on a linear Gaussian graph and on a small discrete one.

Tolerances: a mean over N draws has standard error sd / sqrt(N), a standard deviation sd / sqrt(2 N); four of
them are allowed, plus the error of a model trained for seconds: 15 % of a standard deviation (over seeds of the
training it is 0 to 8 % at the centre and 7 to 17 % at the edge of the prior predictive).
"""

import numpy as np
import pytest
import torch
from torch.distributions import Categorical, Dirichlet, Normal

import simgraph as sg
from simgraph import Graph, node, plate

pytestmark = pytest.mark.slow
N = 4000
MODEL_ERROR = 0.15


@node
def theta():
    return Normal(torch.zeros(2), 0.1**0.5)


@node
def x(theta):
    return Normal(theta, 0.1**0.5)


@pytest.fixture(scope="module")
def model():
    return sg.fit(Graph(theta, x), num_simulations=10_000, preset="fast", progress=False)


def check(draws, mean, sd):
    """Checks means and standard deviations of draws (N, dimensions)."""
    mean, sd = torch.as_tensor(mean).float(), torch.as_tensor(sd).float()
    assert ((draws.mean(0) - mean).abs() < (4 / N**0.5 + MODEL_ERROR) * sd).all(), (draws.mean(0), mean)
    assert ((draws.std(0) - sd).abs() < (4 / (2 * N) ** 0.5 + MODEL_ERROR) * sd).all(), (draws.std(0), sd)


def correlation(a, b):
    return float(torch.corrcoef(torch.stack([a, b]))[0, 1])


@pytest.mark.parametrize("observed", [[0.0, 0.0], [0.5, -0.4], [-0.7, 0.6]])
def test_posterior(model, observed):
    draws = model.given(x=observed).sample("theta", num_samples=N, seed=1)
    check(draws, np.array(observed) / 2, [0.05**0.5] * 2)
    # Uncorrelated: the standard error of a correlation of 0 is 1 / sqrt(N).
    assert abs(correlation(*draws.T)) < 4 / N**0.5 + MODEL_ERROR


def test_likelihood(model):
    check(model.given(theta=[0.3, -0.2]).sample("x", num_samples=N, seed=1), [0.3, -0.2], [0.1**0.5] * 2)


def test_joint(model):
    samples = model.sample(num_samples=N, seed=1)
    check(samples["theta"], [0.0, 0.0], [0.1**0.5] * 2)
    check(samples["x"], [0.0, 0.0], [0.2**0.5] * 2)
    assert correlation(samples["theta"][:, 0], samples["x"][:, 0]) == pytest.approx(0.5**0.5, abs=0.1)
    assert abs(correlation(samples["theta"][:, 0], samples["x"][:, 1])) < 0.1


def test_marginal_of_one_variable(model):
    check(model.sample("x", num_samples=N, seed=1), [0.0, 0.0], [0.2**0.5] * 2)


def test_conditional_on_a_mixed_subset_of_elements(model):
    # theta[0] and x[1] observed: x[0] ~ N(theta[0], 0.1), theta[1] ~ N(x[1] / 2, 0.05).
    query = model.given(theta=sg.missing([0.4, np.nan]), x=sg.missing([np.nan, -0.6]))
    samples = query.sample("theta", "x", num_samples=N, seed=1)
    check(samples["theta"][:, 1:], [-0.3], [0.05**0.5])
    check(samples["x"][:, :1], [0.4], [0.1**0.5])


def test_marginalising_afterwards_agrees_with_not_asking(model):
    # p(theta, x[1] | x[0]) and p(theta | x[0]): two questions to the network, with sequences of their own.
    query = model.given(x=sg.missing([0.5, np.nan]))
    both = query.sample("theta", "x", num_samples=N, seed=1)["theta"]
    alone = query.sample("theta", num_samples=N, seed=2)
    # Each is allowed the error of the model, and the difference of two means has sqrt(2) times the error of one.
    sd = torch.tensor([0.05, 0.1]).sqrt()
    assert ((both.mean(0) - alone.mean(0)).abs() < (4 * (2 / N) ** 0.5 + MODEL_ERROR) * sd).all()
    assert ((both.std(0) - alone.std(0)).abs() < (4 / N**0.5 + MODEL_ERROR) * sd).all()
    assert abs(correlation(*both.T) - correlation(*alone.T)) < 4 * (2 / N) ** 0.5 + MODEL_ERROR


def test_the_order_of_names_does_not_matter(model):
    query = model.given(x=sg.missing([0.5, np.nan]))
    one, other = (query.sample(*names, num_samples=50, seed=1) for names in (("theta", "x"), ("x", "theta")))
    assert list(other) == ["x", "theta"]
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_a_missing_entry_tells_nothing(model):
    draws = model.given(x=sg.missing([np.nan, 0.4])).sample("theta", num_samples=N, seed=1)
    check(draws, [0.0, 0.2], [0.1**0.5, 0.05**0.5])


PLOTS = plate("plot", 4)


@node
def shares():
    return Dirichlet(torch.ones(3))


@node(plates=PLOTS)
def species(shares):
    return Categorical(shares)


@node(plates=PLOTS)
def soil(species, rng):
    return 2.0 * (species - 1) + rng.normal(0.0, 0.7)


@pytest.fixture(scope="module")
def survey():
    return sg.fit(Graph(shares, species, soil), num_simulations=6_000, preset="fast", progress=False)


def test_simplex_given_categories(survey):
    draws = survey.given(species=[0, 0, 2, 1]).sample("shares", num_samples=N, seed=1)
    # Dirichlet(1 + counts) with counts (2, 1, 1); its standard deviations are about 0.17.
    assert torch.allclose(draws.mean(0), torch.tensor([3, 2, 2]) / 7, atol=0.17 * (4 / N**0.5 + MODEL_ERROR))


def test_categories_given_data_of_their_own_element(survey):
    # Equal shares a priori; p(species | soil) is a softmax of Gaussian log densities, with a pull by the others.
    draws = survey.given(soil=[-2.0, 0.0, 2.0, 1.0], shares=[1 / 3, 1 / 3, 1 / 3]).sample(
        "species", num_samples=N, seed=1
    )
    logits = -((torch.tensor([-2.0, 0.0, 2.0, 1.0])[:, None] - torch.tensor([-2.0, 0.0, 2.0])) ** 2) / (2 * 0.49)
    expected = logits.softmax(-1)
    found = torch.stack([(draws == k).float().mean(0) for k in range(3)], -1)
    # Multinomial standard errors are below 0.008.
    assert torch.allclose(found, expected, atol=4 * 0.008 + 0.06)


def test_data_given_categories_by_element(survey):
    draws = survey.given(species=[0, 1, 2, 1]).sample("soil", num_samples=N, seed=1)
    check(draws, [-2.0, 0.0, 2.0, 0.0], [0.7] * 4)


def test_permuting_the_evidence_of_a_plate_permutes_the_answer(survey):
    means = survey.given(soil=[-2.0, 0.0, 2.0, 0.3]).sample("species", num_samples=N, seed=1).double().mean(0)
    other = survey.given(soil=[0.3, 2.0, 0.0, -2.0]).sample("species", num_samples=N, seed=2).double().mean(0)
    # The network is equivariant; only the noise differs: standard errors below 0.5 / sqrt(N) each.
    assert torch.allclose(means, other.flip(0), atol=4 * 2**0.5 * 0.5 / N**0.5)
