"""Which values training saw."""

import numpy as np
from samples import plated

from simgraph import Traces, compile
from simgraph.traces import Column
from simgraph.train.ranges import Ranges


def test_ranges_are_the_extremes_of_each_event_element_pooled_over_plates():
    graph = plated()
    traces = graph.simulate(30, seed=0, progress=False)
    ranges = Ranges.of(compile(graph, traces), traces)
    assert ranges.count == 30
    for name in ("mu", "effect", "score"):
        assert ranges.low[name].shape == ranges.high[name].shape == ()
        assert float(ranges.low[name]) == traces[name].min()
        assert float(ranges.high[name]) == traces[name].max()


def test_missing_entries_do_not_count():
    graph = plated()
    traces = graph.simulate(30, seed=0, progress=False)
    present = np.random.default_rng(0).random((30, 3)) < 0.5
    spoilt = Column(np.where(present, traces["score"], np.nan), present)
    columns = {"mu": traces["mu"], "effect": traces["effect"], "score": spoilt}
    ranges = Ranges.of(compile(graph, traces), Traces(columns))
    assert float(ranges.low["score"]) == traces["score"][present].min()
    assert float(ranges.high["score"]) == traces["score"][present].max()


def test_a_variable_that_is_never_present_has_an_infinite_range():
    graph = plated()
    traces = graph.simulate(30, seed=0, progress=False)
    never = Column(np.full((30, 3), np.nan), np.zeros((30, 3), dtype=bool))
    ranges = Ranges.of(compile(graph, traces), Traces({"mu": traces["mu"], "effect": traces["effect"], "score": never}))
    assert (float(ranges.low["score"]), float(ranges.high["score"])) == (-np.inf, np.inf)
