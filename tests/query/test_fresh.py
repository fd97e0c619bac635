"""Traces that come while a training goes on: noise that is drawn anew around stored values."""

import numpy as np
import pytest
import torch
from torch.distributions import Normal

import simgraph as sg
from simgraph.errors import QueryError, TrainingError, UnknownNameError
from simgraph.query.fresh import redrawn
from simgraph.traces.seeds import BLOCK
from tests.samples import TINY, pair, plated


@pytest.fixture
def computed():
    """theta -> signal -> x -> square -> y, and a list that is longer for each signal that was computed."""
    calls = []

    @sg.node
    def theta():
        return Normal(torch.zeros(2), 1.0)

    @sg.deterministic(shape=())
    def signal(theta):
        calls.append(1)
        return theta.sum()

    @sg.node
    def x(signal):
        return Normal(signal, 0.1)

    @sg.deterministic
    def square(x):
        return x**2

    @sg.node
    def y(square):
        return Normal(square, 0.1)

    return sg.Graph(theta, signal, x, square, y), calls


def test_what_is_stored_stays_and_all_below_a_redrawn_node_is_drawn_anew(computed):
    graph, calls = computed
    traces = graph.simulate(BLOCK - 100, seed=0, progress=False)
    before = len(calls)
    fresh = redrawn(graph, ["x"], 0)(traces)
    first, second = fresh.simulate(), fresh.simulate()
    assert len(calls) == before  # what is long to compute is not computed again
    rows = np.arange(2 * BLOCK) % (BLOCK - 100)
    for block, found in ((rows[:BLOCK], first), (rows[BLOCK:], second)):
        assert found.num_simulations == fresh.count == BLOCK
        assert np.array_equal(found["theta"], traces["theta"][block])
        assert np.array_equal(found["signal"], traces["signal"][block])
        for name, spread in (("x", found["x"] - found["signal"]), ("y", found["y"] - found["x"] ** 2)):
            assert not np.isin(found[name], traces[name]).any()
            assert abs(spread.std() - 0.1) < 0.01
    assert not np.isin(first["x"], second["x"]).any()
    again = redrawn(graph, [graph["x"]], 0)(traces).simulate()
    assert np.array_equal(first["x"], again["x"])


def test_held_out_traces_are_not_learned_from(monkeypatch):
    graph = pair()
    seen = []

    def spy(graph, names, seed):
        made = redrawn(graph, names, seed)
        return lambda traces: seen.append(traces) or made(traces)

    monkeypatch.setattr("simgraph.query.model.redrawn", spy)
    monkeypatch.setattr("simgraph.train.stock._USES", 0)
    model = sg.fit(graph, num_simulations=200, preset=TINY, redraw=["x"], progress=False)
    [kept] = seen
    assert kept.num_simulations == 180
    assert f": {180 + 12 * BLOCK} traces, 12 steps" in repr(model)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::simgraph.errors.OutOfRangeWarning")  # sixty traces have seen few extremes
def test_few_traces_tell_more_where_noise_is_drawn_anew():
    graph = pair()
    traces, fresh = graph.simulate(60, seed=0, progress=False), graph.simulate(2000, seed=1, progress=False)
    small = sg.Architecture(width=32, depth=2, heads=2)
    settings = sg.Settings(steps=800, batch_size=64, patience=100, architecture=small, scores=False)
    told = [
        sg.fit(graph, traces, preset=settings, redraw=redraw, progress=False)
        .given(x=fresh["x"])
        .log_prob(theta=fresh["theta"])
        .mean()
        for redraw in (None, ["x"])
    ]
    exact = Normal(torch.as_tensor(0.8 * fresh["x"]), 0.2**0.5).log_prob(torch.as_tensor(fresh["theta"])).mean()
    assert told[0] < told[1] < exact + 0.01


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"redraw": ["x"]}, TrainingError, "is for traces that are kept"),
        ({"redraw": ["z"], "num_simulations": 100}, UnknownNameError, "redraw='z' is not in the graph"),
        ({"redraw": "x", "num_simulations": 100}, QueryError, r"Write a list: redraw=\['x'\]"),
    ],
)
def test_what_cannot_be_redrawn_is_refused_before_anything_is_simulated(monkeypatch, options, error, message):
    monkeypatch.setattr(sg.Graph, "simulate", None)
    with pytest.raises(error, match=message):
        sg.fit(pair(), preset=TINY, progress=False, **options)


def test_sizes_that_vary_and_missing_values_are_refused():
    with pytest.raises(TrainingError, match="needs plates of fixed sizes"):
        redrawn(plated((2, 4)), ["score"], 0)
    graph = pair()
    traces = sg.Traces({"theta": np.array([0.0, np.nan]), "x": np.zeros(2)})
    with pytest.raises(TrainingError, match="needs all values of theta"):
        redrawn(graph, ["x"], 0)(traces)
