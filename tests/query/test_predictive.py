"""Posterior predictive draws: which questions are put to the network, and what they add up to."""

import pytest
import torch
from plumbing import observe_draws
from torch.distributions import Normal

import simgraph as sg
from simgraph import Graph, Samples, node
from simgraph.errors import QueryError, UnknownNameError


@node
def theta():
    return Normal(0.0, 1.0)


@node
def known():
    return Normal(0.0, 1.0)


@node
def x(theta, known):
    return Normal(theta + known, 0.5)


@node
def y(x):
    return Normal(x, 0.5)


@pytest.fixture(scope="module")
def model(tiny):
    return sg.fit(Graph(theta, known, x, y), num_simulations=400, preset=tiny, progress=False)


def test_parents_are_drawn_given_all_evidence_and_replicates_given_parents(model, monkeypatch):
    asked = observe_draws(monkeypatch)
    found = model.given(x=0.5, known=0.25).predict("x", num_samples=3)
    assert asked == [(["theta"], ["known", "x"], 1, 3), (["x"], ["theta", "known"], 3, 1)]
    # theta = 0.75 + row + 1, then x' = theta + 0.25 + 100.
    torch.testing.assert_close(found, torch.tensor([102.0, 103.0, 104.0]), rtol=1e-5, atol=0)


def test_of_several_names_a_child_follows_its_parents_replicate(model, monkeypatch):
    asked = observe_draws(monkeypatch)
    found = model.given(y=[0.0, 1.0]).predict("y", "x", num_samples=2)
    # x lies between what is given and its parents, so it is drawn along with them.
    first = (["theta", "known", "x"], ["y"], 2, 2)
    assert asked == [first, (["x"], ["theta", "known"], 4, 1), (["y"], ["x"], 4, 1)]
    assert isinstance(found, Samples)
    assert list(found) == ["y", "x"]
    assert found["x"].shape == (2, 2)
    torch.testing.assert_close(found["y"], found["x"] + 1000, rtol=1e-5, atol=0)


def test_a_list_gives_samples_and_a_seed_fixes_them(model):
    query = model.given(x=0.5)
    assert isinstance(query.predict(["x"], num_samples=2), Samples)
    draw = lambda seed: query.predict("x", num_samples=5, seed=seed)  # noqa: E731
    assert torch.equal(draw(1), draw(1))
    assert not torch.equal(draw(1), draw(2))


def test_plates_categories_and_vectors(mixed_model):
    found = mixed_model.given(sensor=[[0.0, 1.0], [1.0, 0.0]]).predict("label", "sensor", num_samples=3)
    assert found["label"].shape == (2, 3, 3)
    assert found["label"].dtype == torch.int64
    assert found["sensor"].shape == (2, 3, 2)


@pytest.mark.parametrize(
    ("ask", "error", "text"),
    [
        (
            lambda m: m.given(x=0.0).predict("theta"),
            QueryError,
            "a replicate of 'theta' follows from no unknown: it has no parents.\n  Sample it: model.sample('theta')",
        ),
        (
            lambda m: m.given(theta=0.0, known=0.0).predict("x"),
            QueryError,
            "a replicate of 'x' follows from no unknown: its parents, theta, known, are all given.\n"
            "  Sample it: model.given(theta=..., known=...).sample('x')",
        ),
        (lambda m: m.given(x=0.0).predict(), QueryError, "predict(...) needs a name: given(x=...).predict('x')"),
        (
            lambda m: m.given(x=0.0).predict("x", 5),
            QueryError,
            "predict(...) takes names of variables, not 5.\n"
            "  The number of draws is an option: predict('theta', num_samples=500)",
        ),
        (
            lambda m: m.given(x=0.0).predict("z"),
            UnknownNameError,
            "'z' is not a variable of this model.\n  Known names: known, theta, x, y.",
        ),
        (
            lambda m: m.given(x=0.0).predict("x", num_samples=0),
            QueryError,
            "num_samples=0 is not a whole number of 1 or more.",
        ),
    ],
)
def test_what_cannot_be_answered_is_refused_by_name(model, ask, error, text):
    with pytest.raises(error) as caught:
        ask(model)
    assert str(caught.value) == text
