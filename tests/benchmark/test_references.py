"""The published draws follow the posteriors of the graphs that are declared here.

For draws u from a density p that vanishes at the edges, Stein's identities hold: the mean of the score is 0, and that
of u_i score_j is -1 where i = j and 0 elsewhere. Simulators that were off would show in both.
"""

from importlib import resources

import numpy as np
import pytest

from simgraph.benchmark import bernoulli_glm, lotka_volterra, sir
from simgraph.benchmark.tasks import TASKS, find_task

FOLDER = resources.files("simgraph.benchmark") / "reference"


def glm(x, u):
    logits = u @ bernoulli_glm.DESIGN.T
    prior = -(u[:, 0] ** 2) / 4 - ((u[:, 1:] @ bernoulli_glm.PENALTY.T) ** 2).sum(1) / 2
    return u @ x - np.logaddexp(0, logits).sum(1) + prior


def epidemic(x, u):
    share = sir.infected(np.exp(u))
    prior = -(((u - np.log([0.4, 0.125])) / [0.5, 0.2]) ** 2).sum(1) / 2
    return (x * np.log(share) + (1000 - x) * np.log1p(-share)).sum(1) + prior


def prey_and_predators(x, u):
    prior = -(((u - [-0.125, -3, -0.125, -3]) / 0.5) ** 2).sum(1) / 2
    return -(((np.log(x) - lotka_volterra.log_sizes(np.exp(u))) / 0.1) ** 2).sum(1) / 2 + prior


def stein(density, u):
    """Returns the means of Stein's identities, which should be 0, in units of their standard errors."""
    scale = 1e-3 * u.std(0)
    steps = scale * np.eye(u.shape[1])
    score = np.stack([density(u + step) - density(u - step) for step in steps], 1) / (2 * scale)
    products = (u - u.mean(0))[:, :, None] * score[:, None] + np.eye(u.shape[1])
    terms = np.concatenate([score, products.reshape(len(u), -1)], 1)
    return terms.mean(0) / (terms.std(0) / len(u) ** 0.5)


@pytest.mark.parametrize("number", range(5))
@pytest.mark.parametrize(
    ("name", "density", "transform", "count"),
    [
        ("bernoulli_glm", glm, lambda draws: draws, 2_500),
        ("sir", epidemic, np.log, 500),
        ("lotka_volterra", prey_and_predators, np.log, 500),
    ],
)
def test_published_draws_follow_the_posterior(name, density, transform, count, number):
    task = find_task(name)
    x, draws = task.observations()[number].astype(float), task.reference(number, count).astype(float)
    # 110 identities at most; one in a million is beyond five standard errors.
    assert np.abs(stein(lambda u: density(x, u), transform(draws))).max() < 5


def test_a_wrong_simulator_would_be_found():
    task = find_task("lotka_volterra")
    x, draws = task.observations()[0].astype(float), task.reference(0, 500).astype(float)
    found = stein(lambda u: prey_and_predators(x * 1.02, u), np.log(draws))
    assert np.abs(found).max() > 5


def test_the_spikes_have_the_summaries_that_were_published():
    spikes, summaries = find_task("bernoulli_glm_raw").observations(), find_task("bernoulli_glm").observations()
    np.testing.assert_allclose(spikes @ bernoulli_glm.DESIGN, summaries, atol=1e-5)
    assert set(np.unique(spikes)) == {0, 1}


def test_references_are_small_and_in_single_precision():
    for name in TASKS:
        file = FOLDER / f"{name}.npz"
        if not file.is_file():
            continue
        assert len(file.read_bytes()) < 600_000, name
        with file.open("rb") as opened, np.load(opened, allow_pickle=False) as arrays:
            assert all(arrays[key].dtype == np.float32 for key in arrays), name
            assert len(arrays["observations"]) == 5
