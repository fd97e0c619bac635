"""Traces that fresh ones take the place of."""

import dataclasses
import itertools
import warnings

import numpy as np
import pytest
import torch
from samples import TINY, pair
from schools import counted
from torch.distributions import Normal

import simgraph as sg
from simgraph import Graph, Traces, compile, node
from simgraph.errors import SimgraphWarning, SimulationError
from simgraph.train import train
from simgraph.train.stock import Fresh, Stock


def simulated(graph, count, start=0):
    return graph.simulate(count, seed=0, start=start, progress=False)


def source(graph, count, start, calls=None):
    starts = itertools.count(start, count)

    def simulate():
        if calls is not None:
            calls.append(1)
        return simulated(graph, count, next(starts))

    return Fresh(simulate, count, lambda: 0.0)


def stock_of(graph, count, fresh, **options):
    traces = simulated(graph, count)
    generator = torch.Generator().manual_seed(0)
    return Stock(compile(graph, traces).fit(traces), traces, generator, fresh, **{"timed": False, **options})


@pytest.mark.parametrize("graph", [pair(), counted], ids=["plain", "ragged"])
def test_fresh_traces_take_the_place_of_the_oldest(graph):
    stock = stock_of(graph, 10, source(graph, 4, 10))
    for drawn in (16, 32, 48):
        stock.renewed(drawn)
    # First come 10..13, then 14..17, then 18..21, of which two begin at the front again.
    order = [20, 21, 12, 13, 14, 15, 16, 17, 18, 19]
    for row, trace in enumerate(order):
        own = stock._compiled.layout.tokenize_traces(simulated(graph, 1, trace))
        assert torch.equal(stock.tokens.values[row], own.values[0]), (row, trace)
        assert stock.tokens.exists is None or torch.equal(stock.tokens.exists[row], own.exists[0])


@pytest.mark.parametrize("graph", [pair(), counted], ids=["plain", "ragged"])
def test_scores_are_those_of_the_traces_in_stock(graph):
    stock = stock_of(graph, 200, source(graph, 50, 200), scoring=60.0)
    before = stock.tokens.scores.clone()
    assert (before[..., 1].isfinite() == (True if stock.tokens.exists is None else stock.tokens.exists)).all()
    fresh = stock.renewed(200)
    scores = stock._scores(simulated(graph, 50, 200), fresh.values[:50])
    assert torch.equal(fresh.scores[:50], scores)
    assert torch.equal(fresh.scores[50:], before[50:])
    assert not torch.equal(fresh.scores[:50], before[:50])


def test_what_fresh_traces_have_no_scores_of_loses_them(monkeypatch):
    stock = stock_of(pair(), 200, source(pair(), 50, 200), scoring=60.0)
    for part in stock._scores.parts.values():
        monkeypatch.setattr(part, "_log_density", lambda *_: 1 / 0)
    assert stock.tokens.scores[..., 1].isfinite().all()
    assert stock.renewed(1000).scores[..., 1].isinf().all()


def test_without_time_for_scores_there_are_none():
    stock = stock_of(pair(), 200, None)
    assert stock.tokens.scores is None
    assert stock.scored == ()


def test_a_model_tells_what_was_scored(tmp_path):
    @node
    def theta():
        return Normal(0.0, 1.0)

    @node
    def x(theta):
        return Normal(theta, 1.0)

    @node(shape=())
    def box(x, rng):
        return x + rng.normal()

    model = sg.fit(Graph(theta, x, box), num_simulations=200, preset=TINY, progress=False)
    assert model.scored == ("theta",)
    assert "scores of theta," in repr(model)
    model.save(tmp_path / "model.sg")
    assert sg.load(tmp_path / "model.sg").scored == ("theta",)
    plain = sg.fit(pair(), num_simulations=200, preset=dataclasses.replace(TINY, scores=False), progress=False)
    assert plain.scored == ()
    assert "scores" not in repr(plain)


def test_a_block_that_is_larger_than_the_stock_is_cut():
    stock = stock_of(pair(), 4, source(pair(), 6, 10))
    stock.renewed(24)
    own = stock._compiled.layout.tokenize_traces(simulated(pair(), 4, 10))
    assert torch.equal(stock.tokens.values, own.values)


def test_a_trace_is_learned_from_four_times_on_average():
    calls = []
    stock = stock_of(pair(), 10, source(pair(), 5, 10, calls))
    for drawn, so_far in [(0, 0), (19, 0), (20, 1), (39, 1), (40, 2), (41, 2)]:
        stock.renewed(drawn)
        assert len(calls) == so_far, drawn


@pytest.mark.parametrize(("expected", "times"), [(0.0, [0, 20, 30]), (1.0, [10, 20, 30]), (100.0, [])])
def test_simulating_takes_a_tenth_of_the_time(monkeypatch, expected, times):
    now, calls = [0.0], []
    monkeypatch.setattr("simgraph.train.stock.time.monotonic", lambda: now[0])

    def slow():
        calls.append(now[0])
        now[0] += 1.0
        return simulated(pair(), 5)

    stock = stock_of(pair(), 10, Fresh(slow, 5, lambda: expected), timed=True)
    while now[0] < 35:
        stock.renewed(10**9)
        now[0] += 0.5
    assert calls == times


@pytest.mark.parametrize(("expected", "repeats"), [(100.0, True), (100.0, False), (0.0, True)])
def test_noise_that_was_never_drawn_anew_is_told(expected, repeats):
    fresh = Fresh(lambda: simulated(pair(), 5), 5, lambda: expected, repeats)
    stock = stock_of(pair(), 10, fresh, timed=True)
    stock.renewed(10**3)
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        stock.check()
    assert ["redraw= drew nothing anew: it takes 1e+02 s" in str(one.message) for one in told] == [True] * (
        repeats and expected > 0
    )


def test_without_a_source_the_traces_stay():
    stock = stock_of(pair(), 10, None)
    before = stock.tokens.values.clone()
    assert torch.equal(stock.renewed(10**9).values, before)
    assert stock.ranges.count == 10


def test_ranges_are_those_of_all_traces_so_far():
    stock = stock_of(pair(), 10, source(pair(), 10, 10))
    for drawn in (40, 80):
        stock.renewed(drawn)
    everything = simulated(pair(), 30)
    assert stock.ranges.count == 30
    for name in everything:
        assert np.array_equal(stock.ranges.low[name], everything[name].min(0).astype(float))
        assert np.array_equal(stock.ranges.high[name], everything[name].max(0).astype(float))


@pytest.mark.parametrize("error", [SimulationError("node 'x' failed"), ValueError("node 'x' failed")])
def test_a_failing_simulator_does_not_end_a_training(error):
    calls = []

    def broken():
        calls.append(1)
        raise error

    traces = simulated(pair(), 60)
    with pytest.warns(SimgraphWarning, match=f"fresh ones failed: {type(error).__name__}: node 'x' failed"):
        trained = train(
            compile(pair(), traces), traces, TINY, fresh=lambda _: Fresh(broken, 1, lambda: 0.0), progress=False
        )
    assert trained.history["step"][-1] == TINY.steps
    assert (len(calls), trained.ranges.count) == (1, 54)


def test_what_was_constant_in_the_first_traces_has_to_stay_so():
    @node(shape=())
    def rare(rng):
        return rng.normal()

    values = np.zeros(20)
    other = Traces({"rare": np.where(np.arange(20) == 3, 5000.0, 0.0)})
    traces = Traces({"rare": values})
    stock = Stock(
        compile(Graph(rare), traces).fit(traces),
        traces,
        torch.Generator(),
        Fresh(lambda: other, 20, lambda: 0.0),
        timed=False,
    )
    with pytest.warns(SimgraphWarning, match="'rare' has other values than the one it had in the first 20 traces"):
        stock.renewed(80)
    assert stock.tokens.values.abs().max() == 0
    assert stock.ranges.count == 20


def test_fit_without_traces_simulates_further_ones_that_never_repeat(monkeypatch):
    starts = []
    simulate = sg.Graph.simulate

    def watched(graph, count, *, start=0, **options):
        starts.append((start, count))
        return simulate(graph, count, start=start, **options)

    monkeypatch.setattr(sg.Graph, "simulate", watched)
    model = sg.fit(pair(), preset=sg.Settings(steps=7, batch_size=2048, architecture=TINY.architecture), progress=False)
    assert starts == [(0, 10240), (10240, 1024), (11264, 1024), (12288, 1024)]
    assert f"{9216 + 3 * 1024} traces" in repr(model)


def test_fit_without_traces_is_a_function_of_the_seed_where_time_does_not_end_it():
    settings = sg.Settings(steps=6, batch_size=2048, architecture=TINY.architecture)
    draws = [sg.fit(pair(), seed=1, preset=settings, progress=False).sample("x", num_samples=3, seed=0) for _ in "ab"]
    assert torch.equal(*draws)
