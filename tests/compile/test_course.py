"""Functions whose location and scale change along their index."""

import numpy as np
import pytest
import torch
from samples import TINY
from torch.distributions import Normal, constraints

import simgraph as sg
from simgraph import Graph, index, node, plate
from simgraph.compile.course import KNOTS, course
from simgraph.errors import DeclarationError, EvidenceError, OutOfRangeWarning

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


late = index("late", 0.0, 10.0, num=(1, 4))


@node(index=late, support=constraints.nonnegative_integer)
def cases(level, late, rng):
    return rng.poisson(np.exp(level + 1.2 * late - 9))


@node(index=late)
def rain(level, late, rng):
    return np.where(rng.random(len(late)) < (late / 10) ** 6, np.exp(level + rng.normal(size=len(late))), 0.0)


COUNTS, DRY = Graph(level, cases), Graph(level, rain)
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


def test_a_function_has_no_tokens_before_it_is_known_where_it_is_looked_at():
    compiled, traces = fitted(ALONE, 50)
    with pytest.raises(DeclarationError, match="depend on where it is looked at"):
        compiled.layout.tokenize("drifting", traces["drifting"])
    there = compiled.sized({"t": 1}).at({"t": np.array([[0.5]])})
    assert there.layout.tokenize("drifting", np.zeros((1, 1))).shape == (1, 1, 1)
    with pytest.raises(DeclarationError, match="depend on where it is looked at"):
        there.sized({"t": 2}).layout.tokenize("drifting", np.zeros((1, 2)))


@pytest.mark.parametrize("graph", [COUNTS, DRY], ids=["counts", "atoms"])
def test_what_is_nearly_always_equal_somewhere_fills_its_cell_there(graph):
    compiled, traces = fitted(graph, sizes={"late": 4})
    name = compiled.layout.names[-1]
    tokens = compiled.layout.tokenize_traces(traces, torch.Generator().manual_seed(1)).values
    tokens = tokens[:, compiled.layout.slots(name), 0].numpy()
    for low in (0, 2, 4, 6, 8):
        there = tokens[(traces["late"] >= low) & (traces["late"] < low + 2)]
        assert 0.2 < there.std() < 1.3, low
    assert np.abs(tokens).max() < 12


def test_the_most_likely_function_may_have_atoms():
    model = sg.fit(DRY, DRY.simulate(200, seed=0, progress=False), preset=TINY, progress=False)
    assert model.map("rain", at={"late": [0.5, 5.0]}).shape == (2,)


def test_evidence_that_is_not_usual_at_its_point_is_doubted():
    model = sg.fit(ALONE, ALONE.simulate(300, seed=0, progress=False), preset=TINY, progress=False)
    model.given(drifting=sg.Curve([0.0, 2.5], [0.0, 7.5]))
    with pytest.warns(OutOfRangeWarning, match="1 of 2 values .* lie outside of what training saw about their points"):
        model.given(drifting=sg.Curve([0.0, 2.5], [6.0, 7.5]))
    with pytest.raises(EvidenceError, match=r"first: 6 at 0, trained on -[0-9.]+ to [0-9.]+ there"):
        model.given(drifting=sg.Curve([0.0, 2.5], [6.0, 7.5]), strict=True)


def test_usual_values_are_those_about_a_point_with_a_margin():
    compiled, traces = fitted(ALONE, 2000, sizes={"t": 8})
    points = np.linspace(-1, 3, 33)
    low, high = compiled.sized({"t": 33}).at({"t": points[:, None]}).layout.tokenizers["drifting"].usual()
    for point, least, most in zip(points, low, high, strict=True):
        near = traces["drifting"][np.abs(traces["t"] - point) < 0.02]
        centre, reach = 3 * point, 0.3 + abs(point)
        assert least < near.min() < near.max() < most
        assert centre - 8 * reach < least < most < centre + 8 * reach


def test_between_points_of_the_users_scales_are_interpolated():
    points = np.linspace(-1, 1, 5)
    values = np.random.default_rng(0).normal(size=(2000, 5)) * np.exp(2.5 * points)
    moments = course(values.ravel(), np.tile(points, 2000))
    right = np.exp(2.5 * np.linspace(-1, 1, KNOTS))
    assert np.abs(np.log(moments["course_sd"] / right)).max() < 0.2


def test_few_traces_tell_the_scale_roughly():
    compiled, _ = fitted(ALONE, 10)
    found = compiled.layout.tokenizers["drifting"].statistics
    right = (0.3 + np.abs(np.linspace(-1.0, 3.0, KNOTS))) / found["scale"]
    assert np.abs(np.log(found["course_sd"][:, 0] / right)).max() < np.log(4)


def test_fields_and_plain_variables_have_one_scale():
    compiled, traces = fitted(Graph(level, flat), 50)
    for tokenizer in compiled.layout.tokenizers.values():
        assert not any(name.startswith("course") for name in tokenizer.statistics)
    assert torch.isfinite(compiled.layout.tokenize_traces(traces).values).all()
