"""Interventions: which mechanisms are used, in which order, and how setting differs from seeing."""

import math

import pytest
import torch
from plumbing import observe_draws
from torch.distributions import Categorical, Normal

import simgraph as sg
from simgraph import Architecture, Graph, Settings, node
from simgraph.errors import EvidenceError, OutOfRangeWarning, QueryError, ShapeError, SupportError, UnknownNameError


@node
def z():
    return Normal(0.0, 1.0)


@node
def a(z):
    return Normal(z, 0.5)


@node
def y(a, z):
    return Normal(a + 2 * z, 0.5)


@node
def last(y):
    return Normal(y, 0.5)


@node
def other():
    return Normal(0.0, 1.0)


@pytest.fixture(scope="module")
def model(tiny):
    return sg.fit(Graph(z, a, y, last, other), num_simulations=400, preset=tiny, progress=False)


@pytest.fixture
def unbounded(model, monkeypatch):
    """The model with sums in place of its network, whose values lie outside of all training values."""
    asked = observe_draws(monkeypatch)
    return model, asked


def test_setting_is_not_seeing():
    settings = Settings(
        steps=400,
        batch_size=128,
        evaluations=3,
        architecture=Architecture(width=32, depth=4, heads=2, widening=2),
    )
    model = sg.fit(Graph(z, a, y), num_simulations=2000, preset=settings, progress=False)
    done = model.do(a=1.0).sample("y", num_samples=1000, seed=0)
    seen = model.given(a=1.0).sample("y", num_samples=1000, seed=0)
    # do: y = 1 + 2 z + noise with mean 1. given: E[z | a = 1] = 1 / 1.25 = 0.8, so the mean is 2.6. A training of
    # seconds comes within half of their distance.
    assert abs(done.mean() - 1.0) < 0.8
    assert abs(seen.mean() - 2.6) < 0.8
    # do leaves z its prior: standard deviation sqrt(4 + 0.25) = 2.06; given: sqrt(4 * 0.2 + 0.25) = 1.02.
    assert done.std() > 1.54 > seen.std()


def test_mechanisms_follow_in_order_from_the_same_rows(unbounded):
    model, asked = unbounded
    samples = model.do(a=2.0).sample("last", "y", num_samples=3, seed=0)
    assert asked == [(["z"], [], 1, 3), (["y"], ["z", "a"], 3, 1), (["last"], ["y"], 3, 1)]
    # z = 1 + row, y = z + a + 100, last = y + 1000, each row on its own; tokens hold single precision.
    torch.testing.assert_close(samples["y"], torch.tensor([103.0, 104.0, 105.0]), rtol=1e-5, atol=0)
    torch.testing.assert_close(samples["last"], torch.tensor([1103.0, 1104.0, 1105.0]), rtol=1e-5, atol=0)


def test_only_what_is_needed_is_drawn(unbounded):
    model, asked = unbounded
    model.do(y=2.0).sample("last", num_samples=4)
    assert asked == [(["last"], ["y"], 4, 1)]
    asked.clear()
    model.do(a=2.0).sample("z", "other", num_samples=4)
    assert asked == [(["z", "other"], [], 1, 4)]


def test_evidence_above_is_used_by_the_joint_draw_and_by_mechanisms(unbounded):
    model, asked = unbounded
    batch = model.do(a=2.0).given(z=[0.0, 1.0]).sample("last", num_samples=2)
    assert asked == [(["y"], ["z", "a"], 4, 1), (["last"], ["y"], 4, 1)]
    torch.testing.assert_close(batch, torch.tensor([[1102.0] * 2, [1103.0] * 2]), rtol=1e-5, atol=0)
    asked.clear()
    model.do(y=0.0).given(z=0.5).sample("a", "last", num_samples=2)
    assert asked == [(["a"], ["z"], 1, 2), (["last"], ["y"], 2, 1)]


def test_a_variable_that_is_set_cuts_what_is_above_it(unbounded):
    model, asked = unbounded
    samples = model.do({model.graph["a"]: 1.0}, y=3.0).sample("last", "a", num_samples=2)
    assert asked == [(["last"], ["y"], 2, 1)]
    assert torch.equal(samples["a"], torch.ones(2))
    # Evidence on a variable below a is fine where y, between the two, is set: here there is none left.
    assert list(model.do(a=1.0).sample(num_samples=2)) == ["z", "y", "last", "other"]


def test_results_have_the_types_and_shapes_of_queries(mixed_model):
    samples = mixed_model.do(width=1.5, label=2).sample("label", "place", "level", num_samples=4, seed=1)
    assert samples["label"].dtype == torch.int64
    assert samples["label"].tolist() == [[2, 2, 2]] * 4
    assert samples["place"].shape == (4,)
    assert samples["level"].shape == (4, 3)
    assert mixed_model.do(width=1.5).given(shares=[[1 / 3] * 3] * 2).sample("sensor", num_samples=4).shape == (2, 4, 2)


def test_a_seed_fixes_the_draws(model):
    draw = lambda seed: model.do(a=0.5).sample("last", num_samples=5, seed=seed)  # noqa: E731
    assert torch.equal(draw(1), draw(1))
    assert not torch.equal(draw(1), draw(2))


def test_no_simulator_code_is_needed(model, tmp_path):
    model.save(tmp_path / "m.sg")
    loaded = sg.load(tmp_path / "m.sg")
    expected = model.do(a=0.5).sample("last", num_samples=5, seed=1)
    assert torch.equal(loaded.do(a=0.5).sample("last", num_samples=5, seed=1), expected)


def test_repr_says_what_changes(model):
    assert repr(model.do(a=1.0).given(z=0.1)) == "<Intervention on a given z; changes y, last>"


label = node(name="label")(lambda: Categorical(torch.ones(3)))


@pytest.mark.parametrize(
    ("ask", "error", "text"),
    [
        (
            lambda m: m.do(a=1.0).given(last=0.0),
            QueryError,
            "'last' is given and lies below a, set by do(...).\n"
            "  What is seen below an intervention changes what is known above it, which mechanisms in order cannot"
            " use.\n"
            "  Fit a model of graph.do(a=...) and ask it; or, if a was seen and not set: model.given(a=..., last=...)",
        ),
        (
            lambda m: m.do(a=1.0, y=1.0).given(last=0.0),
            QueryError,
            "'last' is given and lies below y, set by do(...).\n"
            "  What is seen below an intervention changes what is known above it, which mechanisms in order cannot"
            " use.\n"
            "  Fit a model of graph.do(y=...) and ask it; or, if y was seen and not set: model.given(y=..., last=...)",
        ),
        (
            lambda m: m.do(a=1.0).given(a=0.0),
            QueryError,
            "'a' is both given and set by do(...).\n  Leave it out of one of the two.",
        ),
        (
            lambda m: m.do(a=1.0).given(z=0.0).sample("z"),
            QueryError,
            "'z' is both given and asked for.\n  Leave it out of one of the two.",
        ),
        (
            lambda m: m.do(a=1.0, y=0.0, last=0.0).given(z=0.0, other=0.0).sample(),
            QueryError,
            "every variable is given or set; nothing is left to sample.",
        ),
        (lambda m: m.do(), QueryError, "do(...) sets nothing.\n  For example: model.do(theta=0.0).sample('x')"),
        (
            lambda m: m.do({"a": 1.0}, a=1.0),
            QueryError,
            "do(...) sets 'a' twice.\n  Set it once, in the mapping or by keyword.",
        ),
        (lambda m: m.do(1.0), QueryError, "do(...) takes mappings from names to values, not 1.0."),
        (
            lambda m: m.do(a=0.0, seed=1),
            QueryError,
            "'seed' is no variable but an option of sample(...): do(...).sample(..., seed=1)",
        ),
        (
            lambda m: m.do(b=0.0),
            UnknownNameError,
            "'b' is not a variable of this model.\n  Known names: a, last, other, y, z.",
        ),
        (
            lambda m: m.do(a=[0.0, 1.0]),
            ShapeError,
            "do(a=...) has shape (2,); 'a' has ().\n"
            "  One intervention sets one value; for several, ask for one after another.",
        ),
        (lambda m: m.do(a=math.nan), EvidenceError, "do(a=...) holds 1 NaN.\n  Every element is set."),
        (
            lambda m: m.do(a=math.inf),
            SupportError,
            "do(a=...) lies outside of the support of 'a', which is real: 1 of 1 values.\n  First: inf",
        ),
        (lambda m: m.do(a="1"), EvidenceError, "do(a=...) takes numbers, not '1'.\n  What is uncertain is not set."),
        (
            lambda m: m.do(a=1.0).sample("y", num_samples=0),
            QueryError,
            "num_samples=0 is not a whole number of 1 or more.",
        ),
    ],
)
def test_what_cannot_be_answered_is_refused_by_name(model, ask, error, text):
    with pytest.raises(error) as caught:
        ask(model)
    assert str(caught.value) == text


def test_ragged_values_are_no_array(model):
    with pytest.raises(EvidenceError, match=r"^do\(a=\.\.\.\) is no array: "):
        model.do(a=[[0.0], [0.0, 1.0]])


def test_extrapolation_is_said(model):
    with pytest.warns(OutOfRangeWarning) as caught:
        model.do(a=50.0)
    assert str(caught[0].message) == (
        "1 of 1 values of do(a=...) lie outside of all 360 training values; first: 50.\n"
        "  The model extrapolates there; simulate with a wider prior."
    )
    assert caught[0].filename == __file__
