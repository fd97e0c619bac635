"""The most likely values: against closed forms where the denoiser is exact, and against draws where it is learned."""

import numpy as np
import pytest
import torch
from torch.distributions import Categorical, LogNormal, Normal

import simgraph as sg
from simgraph import Flow, Graph, deterministic, node
from simgraph.errors import QueryError, UnknownNameError
from simgraph.simformer import Denoiser

QUICK, COARSE = Flow(steps=12), Flow(steps=6)


@node
def size():
    return LogNormal(0.5, 0.8)


@node
def switch():
    return Categorical(torch.tensor([0.2, 0.8]))


@node
def shifted(switch):
    return Normal(4.0 * switch, 0.5)


@deterministic(shape=())
def double(size):
    return 2 * size


@pytest.fixture(scope="module")
def sizes(tiny):
    return sg.fit(Graph(size, double), num_simulations=400, preset=tiny, progress=False)


def standard_normal(self, x, sigma, *rest):
    """The exact denoiser of tokens that are standard normal."""
    return x / (1 + sigma[:, None, None] ** 2)


def test_the_mode_is_that_of_values_and_not_of_tokens(sizes, monkeypatch):
    monkeypatch.setattr(Denoiser, "forward", standard_normal)
    statistics = sizes.compiled.layout.tokenizers["size"].statistics
    centre, scale = float(statistics["centre"][0]), float(statistics["scale"][0])
    # log(size) is normal by construction; its mode in natural units is exp(mean - variance).
    expected = np.exp(centre - scale**2)
    # The least curvature holds the last steps to a twentieth of Newton's, which ends 0.0063 standard deviations away.
    assert float(sizes.map("size", seed=0)) == pytest.approx(expected, rel=0.01 * scale)


def test_a_normal_law_has_its_mode_at_the_mean(gaussian_model, monkeypatch):
    monkeypatch.setattr(Denoiser, "forward", standard_normal)
    found = gaussian_model.map(seed=0)
    assert list(found) == ["theta", "x"]
    for name, value in found.items():
        mean = gaussian_model.compiled.layout.tokenizers[name].statistics["centre"]
        # Newton's method is exact for a normal law but for rounding to single precision, and the last noise.
        assert torch.allclose(value.double(), torch.from_numpy(mean), atol=1e-3)


def test_no_draw_is_more_likely(mixed_model):
    names = ["label", "place", "shares"]
    query = mixed_model.given(count=30)
    best = query.log_prob(query.map(names, seed=0, sampler=QUICK), sampler=QUICK)
    draws = query.sample(names, num_samples=100, seed=1)
    assert best.shape == ()
    # Rounding the answer to single precision moves it by far less.
    assert (query.log_prob(draws, sampler=QUICK) <= best + 0.05).all()


def test_a_discrete_variable_is_part_of_the_mode(tiny):
    settings = sg.Settings(steps=150, batch_size=64, architecture=tiny.architecture)
    model = sg.fit(Graph(switch, shifted), num_simulations=600, preset=settings, progress=False)
    found = model.map(seed=0, sampler=COARSE)
    # The second class has four times the mass of the first, and the same width.
    assert found["switch"].dtype == torch.int64
    assert int(found["switch"]) == 1
    assert 3.0 < float(found["shifted"]) < 5.0  # two standard deviations
    assert int(model.given(shifted=0.0).map("switch", seed=0)) == 0


def test_one_name_gives_a_tensor_and_batches_keep_their_axis(gaussian_model):
    assert gaussian_model.given(x=[0.1, 0.2]).map("theta", sampler=COARSE).shape == (2,)
    found = gaussian_model.given(x=np.zeros((3, 2))).map(["theta"], seed=1, sampler=COARSE)
    assert found["theta"].shape == (3, 2)


def test_given_elements_come_back_as_given(gaussian_model):
    found = gaussian_model.given(x=sg.missing([0.25, np.nan])).map("x", seed=0, sampler=COARSE)
    assert found[0] == 0.25
    assert found[1].isfinite()


def test_without_names_functions_are_left_out(sizes):
    assert list(sizes.map(seed=0, sampler=COARSE)) == ["size"]
    with pytest.raises(QueryError, match="all that is not given is deterministic or constant"):
        sizes.given(size=1.0).map()


def test_a_seed_fixes_the_answer(gaussian_model):
    query = gaussian_model.given(x=[0.1, 0.2])
    assert torch.equal(query.map("theta", seed=5, sampler=COARSE), query.map("theta", seed=5, sampler=COARSE))


@pytest.mark.parametrize(
    ("ask", "error", "message"),
    [
        (lambda m: m.map("siz"), UnknownNameError, "Did you mean 'size'?"),
        (lambda m: m.map("double"), QueryError, "'double' is deterministic"),
        (lambda m: m.given(size=1.0).map("size"), QueryError, "'size' is both given and asked for."),
        (lambda m: m.map("size", sampler=sg.Heun()), QueryError, "computes no densities."),
    ],
)
def test_wrong_questions_are_refused_by_name(sizes, ask, error, message):
    with pytest.raises(error) as caught:
        ask(sizes)
    assert message in str(caught.value)
