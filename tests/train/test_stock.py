"""Traces that fresh ones take the place of."""

import numpy as np
import pytest
import torch
from samples import TINY, pair
from schools import counted

import simgraph as sg
from simgraph import compile
from simgraph.errors import SimgraphWarning, SimulationError
from simgraph.train import train
from simgraph.train.stock import Stock


def simulated(graph, count, start=0):
    return graph.simulate(count, seed=0, start=start, progress=False)


def stock_of(graph, count, fresh):
    traces = simulated(graph, count)
    return Stock(compile(graph, traces).fit(traces), traces, fresh, torch.Generator().manual_seed(0))


def tokens_of(stock, graph, count, start):
    return stock._compiled.layout.tokenize_traces(simulated(graph, count, start))


@pytest.fixture
def unhurried(monkeypatch):
    """Simulating may take all the time."""
    monkeypatch.setattr("simgraph.train.stock._SHARE", float("inf"))


@pytest.mark.usefixtures("unhurried")
@pytest.mark.parametrize("graph", [pair(), counted], ids=["plain", "ragged"])
def test_fresh_traces_take_the_place_of_the_oldest(graph):
    starts = iter([10, 14, 18])
    stock = stock_of(graph, 10, lambda: simulated(graph, 4, next(starts)))
    for drawn in (0, 16, 32):
        stock.renewed(drawn)
    # First come 10..13, then 14..17, then 18..21, of which two begin at the front again.
    order = [20, 21, 12, 13, 14, 15, 16, 17, 18, 19]
    for row, trace in enumerate(order):
        own = tokens_of(stock, graph, 1, trace)
        assert torch.equal(stock.tokens.values[row], own.values[0]), (row, trace)
        assert stock.tokens.exists is None or torch.equal(stock.tokens.exists[row], own.exists[0])


@pytest.mark.usefixtures("unhurried")
def test_each_fresh_trace_is_learned_from_four_times_before_the_next():
    calls = []
    stock = stock_of(pair(), 10, lambda: calls.append(1) or simulated(pair(), 5))
    for drawn, so_far in [(0, 1), (19, 1), (20, 2), (39, 2), (40, 3), (41, 3)]:
        stock.renewed(drawn)
        assert len(calls) == so_far, drawn


def test_simulating_takes_a_tenth_of_the_time(monkeypatch):
    now, calls = [0.0], []
    monkeypatch.setattr("simgraph.train.stock.time.monotonic", lambda: now[0])

    def slow():
        calls.append(now[0])
        now[0] += 1.0
        return simulated(pair(), 5)

    stock = stock_of(pair(), 10, slow)
    while now[0] < 35:
        stock.renewed(10**9)
        now[0] += 0.5
    assert calls == [0, 10, 20, 30]


def test_without_a_source_the_traces_stay():
    stock = stock_of(pair(), 10, None)
    before = stock.tokens.values.clone()
    assert torch.equal(stock.renewed(10**9).values, before)
    assert stock.ranges.count == 10


@pytest.mark.usefixtures("unhurried")
def test_ranges_are_those_of_all_traces_so_far():
    starts = iter([10, 20])
    stock = stock_of(pair(), 10, lambda: simulated(pair(), 10, next(starts)))
    for drawn in (0, 40):
        stock.renewed(drawn)
    everything = simulated(pair(), 30)
    assert stock.ranges.count == 30
    for name in everything:
        assert np.array_equal(stock.ranges.low[name], everything[name].min(0).astype(float))
        assert np.array_equal(stock.ranges.high[name], everything[name].max(0).astype(float))


@pytest.mark.usefixtures("unhurried")
def test_a_failing_simulator_does_not_end_a_training():
    calls = []

    def broken():
        calls.append(1)
        raise SimulationError("node 'x' failed")

    traces = simulated(pair(), 60)
    with pytest.warns(
        SimgraphWarning, match="goes on with the traces it has, since fresh ones failed: node 'x' failed"
    ):
        trained = train(compile(pair(), traces), traces, TINY, fresh=broken, progress=False)
    assert trained.history["step"][-1] == TINY.steps
    assert (len(calls), trained.ranges.count) == (1, 54)


@pytest.mark.usefixtures("unhurried")
def test_fit_without_traces_simulates_further_ones_that_never_repeat(monkeypatch):
    starts = []
    simulate = sg.Graph.simulate

    def watched(graph, count, *, start=0, **options):
        starts.append((start, count))
        return simulate(graph, count, start=start, **options)

    monkeypatch.setattr(sg.Graph, "simulate", watched)
    model = sg.fit(pair(), preset=sg.Settings(steps=6, batch_size=2048, architecture=TINY.architecture), progress=False)
    assert starts == [(0, 10240), (10240, 1024), (11264, 1024), (12288, 1024)]
    assert f"{9216 + 3 * 1024} traces" in repr(model)
