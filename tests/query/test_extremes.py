"""Constants, scales far apart, heavy tails and missing simulations, from the graph to the answer."""

import numpy as np
import pytest
import torch
from torch.distributions import Cauchy, Normal

import simgraph as sg
from simgraph import Graph, deterministic, node
from simgraph.errors import SamplingBiasWarning, SimulationError


@node
def tiny_scale():
    return Normal(0.0, 1e-9)


@node
def huge_scale(tiny_scale):
    return Normal(1e9 * tiny_scale, 1e9)


@deterministic(shape=())
def constant():
    return 3.25


@node
def tail():
    return Cauchy(0.0, 1.0)


EXTREME = Graph(tiny_scale, huge_scale, constant, tail)


def test_scales_far_apart_a_constant_and_a_heavy_tail_train_and_answer(tiny):
    model = sg.fit(EXTREME, num_simulations=400, preset=tiny, progress=False)
    samples = model.sample(num_samples=300, seed=0)
    assert 1e-10 < samples["tiny_scale"].std() < 1e-8
    assert 1e8 < samples["huge_scale"].std() < 1e10
    assert (samples["constant"] == 3.25).all()
    assert torch.isfinite(samples["tail"]).all()
    assert model.given(tiny_scale=1e-9, constant=3.25).sample("huge_scale", num_samples=5).shape == (5,)


def test_an_intervention_gives_a_graph_that_trains(tiny):
    model = sg.fit(EXTREME.do(tiny_scale=2e-9), num_simulations=100, preset=tiny, progress=False)
    assert torch.allclose(model.sample("tiny_scale", num_samples=5), torch.tensor(2e-9))


def test_missing_simulations_train_and_answer(tiny):
    @node
    def y(tail, rng):
        if abs(tail) > 10:
            raise RuntimeError("diverged")
        return tail + rng.normal()

    graph = Graph(tail, y)
    with pytest.raises(SimulationError, match=r"traces failed in node 'y' \(\d+ x RuntimeError\)"):
        graph.simulate(300)
    with pytest.warns(SamplingBiasWarning):
        traces = graph.simulate(300, on_failure="missing")
    model = sg.fit(graph, traces, preset=tiny, progress=False)
    assert model.given(y=0.3).sample("tail", num_samples=5).shape == (5,)


def test_a_simulator_that_always_fails_says_so():
    @node
    def y(tail, rng):
        return np.nan

    with pytest.raises(SimulationError, match=r"No trace is left"):
        sg.fit(Graph(tail, y), num_simulations=50, progress=False)


def test_mass_at_the_edge_of_an_interval_is_drawn():
    from torch.distributions import constraints

    @node(support=constraints.unit_interval)
    def share(rng):
        return np.clip(rng.normal(0.5, 1.0), 0.0, 1.0)

    traces = Graph(share).simulate(500)
    layout = sg.compile(Graph(share), traces).fit(traces).layout
    tokens = layout.tokenize_traces(traces).values
    assert not layout.leaked(tokens).any()


def test_a_leak_through_an_edge_without_mass_is_seen():
    from torch.distributions import Uniform

    @node
    def share():
        return Uniform(0.0, 1.0)

    traces = Graph(share).simulate(500)
    layout = sg.compile(Graph(share), traces).fit(traces).layout
    tokens = layout.tokenize_traces(traces).values
    assert not layout.leaked(tokens).any()
    assert layout.leaked(torch.tensor([[[5.0]], [[-5.0]], [[0.0]]])).flatten().tolist() == [True, True, False]


def test_nan_in_traces_of_ones_own_is_missing_and_not_a_value():
    traces = sg.Traces({"tail": np.array([0.5, np.nan, 1.0])})
    assert traces.present("tail").tolist() == [True, False, True]


def test_an_intervention_takes_whole_numbers_for_real_variables():
    @node
    def child(tail):
        return Normal(tail, 0.5)

    @node
    def vector():
        return Normal(torch.zeros(3), 1.0)

    traces = Graph(tail, child, vector).do(tail=0, vector=1).simulate(200)
    assert abs(traces["child"].std() - 0.5) < 0.1
    assert (traces["vector"] == 1).all()
    assert traces["vector"].shape == (200, 3)
