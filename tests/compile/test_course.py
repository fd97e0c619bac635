"""Functions whose location and scale change along their index."""

import numpy as np
import pytest
import torch
from torch.distributions import Normal

import simgraph as sg
from simgraph import Graph, index, node, plate

t = index("t", -1.0, 3.0, num=(1, 8))
place = index("place", (0.0, 0.0), (1.0, 1.0), num=4)
group = plate("group", 2)
WIDTHS = (0.2, 2.0)


@node
def level():
    return Normal(0.0, 0.1)


@node(index=t)
def drifting(level, t, rng):
    return level + 3 * t + (0.3 + np.abs(t)) * rng.normal(size=len(t))


@node(plates=group, index=t, shape=(2,))
def several(level, t, rng):
    return level + np.exp(t)[:, None] * np.array(WIDTHS) * rng.normal(size=(len(t), 2))


@node(index=place)
def flat(level, place, rng):
    return level + place.sum(1)


ALONE, GROUPED = Graph(level, drifting), Graph(level, several)


def fitted(graph, count=4000, **options):
    traces = graph.simulate(count, seed=0, progress=False, **options)
    return sg.compile(graph, traces).fit(traces), traces


@pytest.mark.parametrize(("graph", "name"), [(ALONE, "drifting"), (GROUPED, "several")])
def test_tokens_are_standard_all_along_the_index(graph, name):
    compiled, traces = fitted(graph, sizes={"t": 8})
    layout = compiled.layout
    tokens = layout.tokenize_traces(traces).values[:, layout.slots(name), 0].reshape(traces[name].shape).numpy()
    axis = len(layout.plates[name])
    tokens = np.moveaxis(tokens, axis, 1)  # traces, points, others
    for low in (-1.0, -0.5, 0.5, 1.5, 2.5):
        there = tokens[(traces["t"] >= low) & (traces["t"] < low + 0.5)]
        assert abs(there.mean()) < 0.05, low
        assert abs(there.std() - 1) < 0.15, low


@pytest.mark.parametrize(("graph", "name"), [(ALONE, "drifting"), (GROUPED, "several")])
def test_values_come_back_and_scales_are_derivatives(graph, name):
    compiled, _ = fitted(graph, 200)
    points = np.array([[-1.0], [0.3], [2.9]])
    layout = compiled.sized({"t": 3}).at({"t": points}).layout
    shape = layout.tokenizers[name].variable.shape
    values = torch.linspace(-2, 2, 5, dtype=torch.float64).reshape(5, *[1] * len(shape)).expand(5, *shape)
    tokens = layout.tokenize(name, values)
    assert torch.allclose(layout.detokenize(name, tokens), values, atol=1e-5)
    slope = (layout.tokenize(name, values + 0.01) - layout.tokenize(name, values - 0.01)).squeeze(-1).double() / 0.02
    assert torch.allclose(slope.log(), layout.log_scale(name, values), atol=1e-3)


def test_a_query_has_the_tokens_of_training():
    compiled, traces = fitted(ALONE, 50, sizes={"t": 8})
    whole = compiled.layout.tokenize_traces(traces).values[0, compiled.layout.slots("drifting")]
    there = compiled.sized({"t": 8}).at({"t": traces["t"][0][:, None]}).layout
    assert torch.equal(there.tokenize("drifting", traces["drifting"][:1])[0], whole)


def test_a_function_has_no_tokens_where_it_is_not_known_where_it_is_looked_at():
    compiled, traces = fitted(ALONE, 50)
    with pytest.raises(AssertionError, match="where it is looked at"):
        compiled.layout.tokenize("drifting", traces["drifting"])


def test_where_there_are_few_traces_the_scale_of_all_counts():
    compiled, _ = fitted(ALONE, 10)
    moments = compiled.layout.tokenizers["drifting"].statistics
    assert moments["course_sd"].min() > 0.5
    assert np.abs(moments["course_mean"]).max() < 2


def test_fields_and_plain_variables_have_one_scale():
    compiled, traces = fitted(Graph(level, flat), 50)
    for tokenizer in compiled.layout.tokenizers.values():
        assert not any(name.startswith("course") for name in tokenizer.statistics)
    assert torch.isfinite(compiled.layout.tokenize_traces(traces).values).all()
