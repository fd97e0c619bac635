"""Deterministic variables are their functions, exactly, where the code is at hand."""

import numpy as np
import pytest
import torch
from torch.distributions import Categorical, Normal

import simgraph as sg
from simgraph import Graph, deterministic, node
from simgraph.errors import SimulationError


@node
def a():
    return Normal(0.0, 1.0)


@node
def label():
    return Categorical(torch.ones(3))


@deterministic
def box(a):
    return {"exp": np.exp(a)}


@deterministic(shape=(2,))
def pair(box, label):
    return np.array([box["exp"], np.array([1.0, 2.0, 3.0])[label]])


@deterministic(shape=())
def total(pair):
    return pair.sum()


@node
def x(total):
    return Normal(total, 0.5)


@pytest.fixture(scope="module")
def model(tiny):
    return sg.fit(Graph(a, label, box, pair, total, x), num_simulations=400, preset=tiny, progress=False)


def of(a, label):
    return a.double().exp() + label + 1


def same(found, expected, roundings=1):
    # Functions are computed in doubles and handed out in single precision: half of 1.2e-7 for each rounding.
    assert found.dtype == torch.float32
    torch.testing.assert_close(found.double(), expected.double(), rtol=roundings * 6.1e-8, atol=0)


def test_a_function_is_computed_from_parents_drawn_with_the_rest(model):
    samples = model.given(x=[1.0, 3.0]).sample("total", "a", "pair", "label", num_samples=50, seed=1)
    assert list(samples) == ["total", "a", "pair", "label"]
    same(samples["total"], of(samples["a"], samples["label"]))
    same(samples["pair"][..., 1], samples["label"] + 1)
    assert samples["pair"].shape == (2, 50, 2)


def test_parents_that_nobody_asked_for_are_drawn_and_left_out(model):
    # label is whole, so the second element of the pair takes three values; a network would draw any number.
    pair = model.given(x=2.0).sample("pair", num_samples=50, seed=1)
    assert set(pair[:, 1].tolist()) <= {1.0, 2.0, 3.0}


def test_given_parents_are_used(model):
    samples = model.given(a=0.5).sample("total", "label", num_samples=20, seed=1)
    same(samples["total"], of(torch.tensor(0.5), samples["label"]))
    both = model.given(a=[0.5, -0.25], label=1).sample("total", num_samples=3)
    same(both, of(torch.tensor([[0.5] * 3, [-0.25] * 3]), torch.tensor(1)))


def test_a_function_of_a_given_function_follows_from_it(model):
    same(model.given(pair=[1.5, 2.0]).sample("total", num_samples=2), torch.tensor([3.5, 3.5]))


def test_partly_given_functions_are_learned_as_before(model):
    pair = model.given(pair=sg.missing([1.5, np.nan])).sample("pair", num_samples=20, seed=1)
    assert (pair[:, 0] == 1.5).all()
    assert len(set(pair[:, 1].tolist()) - {1.0, 2.0, 3.0}) > 0
    samples = model.given(pair=sg.missing([1.5, np.nan])).sample("pair", "total", num_samples=20, seed=1)
    same(samples["total"], samples["pair"].double().sum(1))


def test_other_variables_keep_their_draws(model):
    alone = model.given(x=1.0).sample("a", "label", num_samples=5, seed=3)
    beside = model.given(x=1.0).sample("a", "label", "total", num_samples=5, seed=3)
    assert torch.equal(alone["a"], beside["a"])


def test_without_the_graph_the_learned_variable_is_drawn(model, tmp_path):
    model.save(tmp_path / "m.sg")
    samples = sg.load(tmp_path / "m.sg").given(a=0.5, label=1).sample("total", num_samples=20, seed=1)
    assert samples.std() > 0
    linked = sg.load(tmp_path / "m.sg", graph=model.graph).given(a=0.5, label=1).sample("total", num_samples=20)
    same(linked, of(torch.full((20,), 0.5), torch.tensor(1)))


def test_interventions_and_replicates_are_exact_as_well(model):
    samples = model.do(label=2).sample("total", "a", num_samples=10, seed=1)
    # Below an intervention, functions hand single precision to one another.
    same(samples["total"], of(samples["a"], torch.tensor(2)), roundings=2)
    through_an_object = model.do(a=0.5).sample("total", "label", num_samples=10, seed=1)
    same(through_an_object["total"], of(torch.tensor(0.5), through_an_object["label"]))
    assert set(model.given(x=2.0).predict("pair", num_samples=20)[:, 1].tolist()) <= {1.0, 2.0, 3.0}


def test_a_function_that_fails_at_a_draw_is_an_error(tiny):
    below = [0.0]

    @deterministic(shape=())
    def picky(a):
        if a < below[0]:
            raise ValueError
        return a

    @node
    def seen(picky):
        return Normal(picky, 1.0)

    below[0] = -100.0
    model = sg.fit(Graph(a, picky, seen), num_simulations=200, preset=tiny, progress=False)
    below[0] = 100.0
    with pytest.raises(SimulationError) as caught:
        model.sample("picky", num_samples=7)
    assert str(caught.value) == (
        "a function failed at draws of its parents: 7 of 7 traces failed in node 'picky' (7 x ValueError);"
        " first: trace 0, seed 0.\n"
        "  The model drew values that the function does not take. Sample a instead, or load the model without its"
        " graph, which draws what it learned of the function."
    )
