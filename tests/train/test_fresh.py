"""Traces that come while a training goes on: noise that is drawn anew around stored values."""

import numpy as np
import pytest
import torch
from torch.distributions import Normal, Poisson

import simgraph as sg
from simgraph.errors import QueryError, SamplingBiasWarning, SimulationError, TrainingError, UnknownNameError
from simgraph.traces.seeds import BLOCK
from simgraph.train.fresh import redrawn
from tests.samples import TINY, pair, plated


@pytest.fixture
def computed():
    """theta -> signal -> latent -> number -> x -> square -> y, and a list that is longer for each signal."""
    calls = []

    @sg.node
    def theta():
        return Normal(torch.zeros(2), 1.0)

    @sg.deterministic(shape=())
    def signal(theta):
        calls.append(1)
        return theta.sum()

    @sg.node
    def latent(signal):
        return Normal(signal, 0.1)

    @sg.node(shape=())
    def number(latent, rng):
        return int(rng.integers(3))

    @sg.node
    def x(latent, number):
        return Normal(latent + number, 0.1)

    @sg.deterministic
    def square(x):
        return x**2

    @sg.node
    def y(square):
        return Normal(square, 0.1)

    return sg.Graph(theta, signal, latent, number, x, square, y), calls


@pytest.mark.parametrize("count", [BLOCK - 100, 40, 1500])
def test_what_is_stored_stays_and_all_below_a_redrawn_node_is_drawn_anew(computed, count):
    graph, calls = computed
    traces = graph.simulate(count, seed=0, progress=False)
    before = len(calls)
    fresh = redrawn(graph, ["x"], 0)(traces)
    first, second = fresh.simulate(), fresh.simulate()
    assert len(calls) == before  # what is long to compute is not computed again
    assert fresh.count == min(count, BLOCK)
    rows = np.arange(2 * fresh.count) % count
    for block, found in zip(np.split(rows, 2), (first, second), strict=True):
        assert found.num_simulations == fresh.count
        for name in ("theta", "signal", "latent", "number"):
            assert np.array_equal(found[name], traces[name][block])
            assert found[name].dtype == traces[name].dtype
        means = {"x": found["latent"] + found["number"], "y": found["x"] ** 2}
        for name, mean in means.items():
            assert not np.isin(found[name], traces[name]).any()
            assert abs((found[name] - mean).std() - 0.1) < 0.4 / (2 * fresh.count) ** 0.5  # four standard errors
    assert not np.isin(first["x"], second["x"]).any()
    assert np.array_equal(first["x"], redrawn(graph, [graph["x"]], 0)(traces).simulate()["x"])


def test_traces_stay_as_they_were_where_draws_fail_or_vary_what_never_did():
    @sg.node
    def theta():
        return Normal(0.0, 1.0)

    @sg.node(shape=(2,))
    def x(theta, rng):
        noise = rng.normal()
        if noise > 1:
            raise ValueError("too much")
        return np.array([theta + noise, float(noise < -1)])

    graph = sg.Graph(theta, x)
    with pytest.warns(SamplingBiasWarning):
        traces = graph.simulate(800, on_failure="drop", progress=False)
    traces = traces[traces["x"][:, 1] == 0]
    found = redrawn(graph, ["x"], 0)(traces).simulate()
    same = (found["x"] == traces["x"]).all(1)
    assert abs(same.mean() - 0.32) < 0.08  # noise beyond one standard deviation, on either side
    assert (found["x"][:, 1] == 0).all()
    assert np.isfinite(found["x"]).all()
    hopeless = sg.Traces({"theta": np.full(3, np.inf), "x": np.zeros((3, 2))})
    with pytest.raises(SimulationError):
        redrawn(graph, ["x"], 0)(hopeless).simulate()


def test_what_is_missing_stays_missing():
    @sg.node
    def theta():
        return Normal(0.0, 1.0)

    @sg.node(shape=())
    def x(theta, rng):
        if rng.normal() < theta:
            raise ValueError("lost")
        return theta + rng.normal()

    @sg.node
    def y(x):
        return Normal(x, 1.0)

    graph = sg.Graph(theta, x, y)
    with pytest.warns(SamplingBiasWarning):
        traces = graph.simulate(600, on_failure="missing", progress=False)
    redraw = redrawn(graph, ["x"], 0)(traces)
    found = [redraw.simulate() for _ in range(20)]
    for each in found:
        assert np.array_equal(each.present("x"), traces.present("x"))
    there = traces.present("x")
    # A draw fails with probability Phi(theta): of twenty, some come through where theta is no rarity.
    renewed = np.any([each["x"] != traces["x"] for each in found], 0)
    assert renewed[there & (np.abs(traces["theta"]) < 1)].all()
    # Beside an x that somebody struck out, y stays.
    struck = np.where(np.arange(600) < 300, np.nan, traces["theta"])
    pattern = redrawn(graph, ["x"], 0)(
        sg.Traces({"theta": traces["theta"], "x": struck, "y": traces["theta"]})
    ).simulate()
    assert np.array_equal(pattern.present("x"), np.arange(600) >= 300)
    assert np.array_equal(pattern["y"][:300], traces["theta"][:300])
    assert (pattern["y"][300:] != traces["theta"][300:]).any()


def test_what_varies_in_some_element_of_a_plate_may_vary_in_all():
    site = sg.plate("site", 60)

    @sg.node
    def rate():
        return Normal(0.05, 1e-3)

    @sg.node(plates=site)
    def count(rate):
        return Poisson(rate.abs())

    graph = sg.Graph(rate, count)
    traces = graph.simulate(40, seed=0, progress=False)
    assert ((traces["count"] == 0).all(0)).any()
    redraw = redrawn(graph, ["count"], 0)(traces)
    found = np.concatenate([redraw.simulate()["count"] for _ in range(25)])
    assert abs(found.mean() - 0.05) < 4 * (0.05 / found.size) ** 0.5


def test_a_constant_with_a_gap_stays_what_it_was():
    traces = sg.Traces({"theta": np.arange(5.0), "x": np.array([np.nan, 2.0, 2.0, 2.0, 2.0])})
    found = redrawn(pair(), ["x"], 0)(traces).simulate()
    assert np.array_equal(found["x"], traces["x"], equal_nan=True)


def test_columns_of_other_graphs_and_types_do_no_harm():
    traces = sg.Traces({"theta": np.arange(50.0), "x": np.arange(50) % 7, "other": np.arange(50.0)})
    found = redrawn(pair(), ["x"], 0)(traces).simulate()
    assert set(found) == {"theta", "x"}
    assert (found["x"] % 1 != 0).all()
    assert np.array_equal(found["theta"], traces["theta"])


def test_draws_one_by_one_are_as_many_as_there_are_traces(computed):
    graph, _ = computed
    slow = redrawn(graph, ["number"], 0)(graph.simulate(40, seed=0, progress=False)).simulate
    quick = redrawn(pair(), ["x"], 0)(pair().simulate(40, seed=0, progress=False)).simulate
    asked = []
    simulate = sg.Graph.simulate

    def watched(graph, count, **options):
        asked.append((count, options["start"]))
        return simulate(graph, count, **options)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sg.Graph, "simulate", watched)
        for draw in (slow, slow, quick, quick):
            draw()
    assert asked == [(40, 0), (40, BLOCK), (BLOCK // 40 * 40, 0)]


@pytest.mark.parametrize(("fixed", "each"), [(0.5, 0.0), (1e-3, 1e-4), (0.0, 0.2), (5.0, 0.0), (2.0, 3.0)])
def test_how_long_redrawing_takes_is_known_before_the_first_time(monkeypatch, fixed, each):
    now, cold = [0.0], [0.3]
    monkeypatch.setattr("simgraph.train.fresh.time.monotonic", lambda: now[0])

    def again(self, count, number):
        now[0] += fixed + each * count + cold[0]
        cold[0] = 0.0  # the first draw is not like the others

    monkeypatch.setattr("simgraph.train.fresh._Stored.again", again)
    found = redrawn(pair(), ["x"], 0)(sg.Traces({"theta": np.zeros(10), "x": np.zeros(10)})).seconds()
    right = fixed + each * (BLOCK // 10 * 10)
    assert found == pytest.approx(right, rel=0.15)
    assert now[0] < 3 + 3 * (fixed + each)  # a look takes little


def test_held_out_traces_are_not_learned_from(monkeypatch):
    graph = pair()
    seen = []

    def spy(graph, names, seed):
        made = redrawn(graph, names, seed)
        return lambda traces: seen.append(traces) or made(traces)

    monkeypatch.setattr("simgraph.query.model.redrawn", spy)
    monkeypatch.setattr("simgraph.train.stock._USES", 0.1)
    model = sg.fit(graph, num_simulations=200, preset=TINY, redraw=["x"], progress=False)
    [kept] = seen
    assert kept.num_simulations == 180
    assert ": 180 traces, 12 steps" in repr(model)  # new noise makes no new traces


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
        (
            {"redraw": ["theta"], "num_simulations": 100},
            TrainingError,
            r"leaves nothing of the traces.*sg.fit\(graph\)",
        ),
        ({"redraw": [], "num_simulations": 100}, TrainingError, r"redraw=\[\] draws nothing anew"),
        ({"redraw": 3, "num_simulations": 100}, QueryError, "redraw=3 is no list of names"),
        ({"redraw": "x", "num_simulations": 100}, QueryError, r"Write a list: redraw=\['x'\]"),
    ],
)
def test_what_cannot_be_redrawn_is_refused_before_anything_is_simulated(monkeypatch, options, error, message):
    monkeypatch.setattr(sg.Graph, "simulate", None)
    with pytest.raises(error, match=f"(?s){message}"):
        sg.fit(pair(), preset=TINY, progress=False, **options)


def test_sizes_that_vary_and_missing_values_are_refused():
    with pytest.raises(TrainingError, match="and no functions: school may differ from trace to trace"):
        redrawn(plated((2, 4)), ["score"], 0)
    graph = pair()
    traces = sg.Traces({"theta": np.array([0.0, np.nan]), "x": np.zeros(2)})
    with pytest.raises(TrainingError, match="needs all values of theta"):
        redrawn(graph, ["x"], 0)(traces)
