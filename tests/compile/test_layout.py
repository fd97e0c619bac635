"""Tokens of a graph: their order, identifiers, coordinates and labels."""

import numpy as np
import pytest
import torch
from samples import mixed, plated
from torch.distributions import Normal

from simgraph import Graph, Traces, node, plate
from simgraph.compile import compile
from simgraph.traces import Column


def crossed():
    row, column = plate("row", 2), plate("column", 3)

    @node
    def mu():
        return Normal(0.0, 1.0)

    @node(plates=row)
    def a(mu):
        return Normal(mu, 1.0)

    @node(plates=column)
    def b(mu):
        return Normal(mu, 1.0)

    @node(plates=(row, column))
    def x(a, b):
        return Normal(torch.stack([a, b]), 1.0)

    return Graph(mu, a, b, x)


def test_tokens_are_variables_in_topological_order_with_plates_outside_of_events():
    layout = compile(crossed()).layout
    expected = [("mu", ()), *(("a", (i,)) for i in range(2)), *(("b", (j,)) for j in range(3))]
    expected += [("x", (i, j, k)) for i in range(2) for j in range(3) for k in range(2)]
    assert layout.tokens == expected
    assert layout.names == ("mu", "a", "b", "x")
    assert [layout.slots(name) for name in layout.names] == [slice(0, 1), slice(1, 3), slice(3, 6), slice(6, 18)]


def test_identifiers_are_shared_over_plates_and_differ_over_events():
    layout = compile(crossed()).layout
    assert layout.ids[layout.slots("a")].tolist() == [1, 1]
    assert layout.ids[layout.slots("x")].tolist() == [3, 4] * 6
    assert len(layout.widths) == len(layout.classes) == 5


def test_coordinates_tell_the_element_of_each_plate():
    layout = compile(crossed()).layout
    assert layout.plate_names == ("row", "column")
    for slot, (name, element) in enumerate(layout.tokens):
        expected = {"mu": (-1, -1), "a": (*element, -1), "b": (-1, *element), "x": element[:2]}[name]
        assert tuple(layout.coordinates[:, slot].tolist()) == expected


def test_a_graph_without_plates_has_no_coordinates():
    layout = compile(mixed()).layout
    assert layout.plate_names == ()
    assert layout.coordinates.shape == (0, len(layout))


def test_labels_read_like_indexing():
    layout = compile(crossed()).layout
    assert [layout.label(slot) for slot in (0, 2, 6, 17)] == ["mu", "a[1]", "x[0, 0, 0]", "x[1, 2, 1]"]


def test_widths_and_classes_follow_the_tokenizers():
    layout = compile(mixed()).layout
    by_name = {name: layout.ids[layout.slots(name)] for name in layout.names}
    assert layout.widths[by_name["weights"]].tolist() == [2]
    assert layout.widths[by_name["label"]].tolist() == [3]
    assert layout.classes[by_name["label"]].tolist() == [3]
    assert layout.classes[by_name["energy"]].tolist() == [0, 0]
    assert layout.width == 3


@pytest.mark.parametrize("graph", [mixed(), plated(), crossed()])
def test_traces_survive_the_round_trip_through_tokens(graph):
    traces = graph.simulate(50, seed=0, progress=False)
    layout = compile(graph, traces).fit(traces).layout
    tokens = layout.tokenize_traces(traces)
    assert tokens.values.shape == (50, len(layout), layout.width)
    assert tokens.present.all()
    for name in layout.names:
        back = layout.detokenize(name, tokens.values[:, layout.slots(name)])
        np.testing.assert_allclose(back.numpy(), traces[name], rtol=1e-4, atol=1e-4)


def test_features_beyond_the_width_of_a_token_are_zero():
    graph = mixed()
    traces = graph.simulate(50, seed=0, progress=False)
    layout = compile(graph, traces).fit(traces).layout
    values = layout.tokenize_traces(traces).values
    beyond = torch.arange(layout.width) >= layout.widths[layout.ids][:, None]
    assert beyond.any()
    assert not values[:, beyond].any()


def test_masks_of_elements_become_masks_of_tokens():
    layout = compile(crossed()).layout
    elements = np.zeros((5, 2, 3, 2), dtype=bool)
    elements[1, 0, 2, 1] = True
    mask = layout.token_mask("x", elements)
    assert mask.shape == (5, 12)
    assert mask.nonzero().tolist() == [[1, 5]]
    simplex = compile(mixed()).layout
    assert simplex.token_mask("weights", np.array([[True] * 3, [True, False, True]])).tolist() == [[True], [False]]


def test_missing_entries_become_tokens_that_do_not_exist():
    graph = plated()
    traces = graph.simulate(20, seed=0, progress=False)
    present = np.random.default_rng(0).random((20, 3)) < 0.5
    column = Column(np.where(present, traces["score"], np.nan), present)
    spoilt = Traces({"mu": traces["mu"], "effect": traces["effect"], "score": column})
    layout = compile(graph, traces).fit(traces).layout
    tokens = layout.tokenize_traces(spoilt)
    here = layout.slots("score")
    assert torch.equal(tokens.present[:, here], torch.from_numpy(present))
    assert tokens.present[:, : here.start].all()
    assert not tokens.values.isnan().any()
    assert not tokens.values[~tokens.present].any()
    whole = layout.tokenize_traces(traces)
    assert torch.equal(tokens.values[tokens.present], whole.values[tokens.present])


def test_rows_of_tokens_can_be_taken():
    graph = plated()
    traces = graph.simulate(20, seed=0, progress=False)
    tokens = compile(graph, traces).fit(traces).layout.tokenize_traces(traces)
    assert len(tokens) == 20
    assert torch.equal(tokens[5:7].values, tokens.values[5:7])
    assert len(tokens[torch.tensor([3, 3])]) == 2
