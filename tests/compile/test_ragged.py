"""A ragged plate is the plate of its largest size, of which a row has a part."""

import sys

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from schools import counted, effect, mu, school, schools, score
from torch.distributions import Normal, Uniform

import simgraph as sg
from simgraph import Graph, Traces, node, plate
from simgraph.compile.masks import ABSENT, LATENT
from simgraph.errors import TracesError
from simgraph.graph.ragged import sized

SIZES = (2, 3, 5)
compiled = sg.compile(counted)
fixed = {size: sg.compile(sized(counted, {"school": size})) for size in SIZES}


def within(size):
    return compiled.layout.within({"school": size})


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("form", ["relay", "cached"])
def test_a_sized_model_is_the_model_of_a_fixed_plate(size, form):
    left = sg.compile(counted, observed=form).sized({"school": size})
    right = sg.compile(sized(counted, {"school": size}), observed=form)
    assert left.tokens == right.tokens
    assert left.layout.ragged == {}
    assert left.graph.plates == right.graph.plates
    torch.testing.assert_close(left.layout.ids, right.layout.ids)
    torch.testing.assert_close(left.layout.coordinates, right.layout.coordinates)
    for seen, of in ((["score"], ["mu", "effect"]), (["level"], ["mu"]), (["effect"], None), ((), None)):
        assert torch.equal(left.edge_mask(seen, of), right.edge_mask(seen, of))
        assert torch.equal(left.dependencies(seen, of), right.dependencies(seen, of))


@given(st.data())
def test_masks_of_a_batch_are_those_of_each_size(data):
    rows, depth = 4, data.draw(st.integers(1, 4))
    picked = data.draw(st.lists(st.sampled_from(SIZES), min_size=rows, max_size=rows))
    exists = torch.stack([within(size) for size in picked])
    drawn = data.draw(st.lists(st.integers(0, 2), min_size=rows * len(exists[0]), max_size=rows * len(exists[0])))
    states = torch.where(exists, torch.tensor(drawn).view(rows, -1), ABSENT)
    masks = compiled.rule.edge_mask(states, depth, exists)
    for mask, state, here, size in zip(masks, states, exists, picked, strict=True):
        alone = fixed[size].rule.edge_mask(state[here][None], depth)[0]
        assert torch.equal(mask[here][:, here], alone)
        outside = ~here
        assert torch.equal(mask[outside], torch.eye(len(here), dtype=torch.bool)[outside])
        assert not mask[here][:, outside].any()


def test_what_does_not_exist_joins_nothing_where_an_absent_one_does():
    @node
    def above():
        return Normal(0.0, 1.0)

    @node(plates=school)
    def part(above):
        return Normal(above, 1.0)

    @node
    def total(part):
        return Normal(part.sum(), 1.0)

    own = sg.compile(Graph(above, part, total))
    states = torch.full((1, len(own.layout)), LATENT)
    states[:, own.layout.slots("part")] = ABSENT
    first, last = 0, len(own.layout) - 1
    exists = states != ABSENT
    assert own.rule.edge_mask(states, 4)[0, first, last]  # marginalised: they hand on what they are drawn from
    assert not own.rule.edge_mask(states, 4, exists)[0, first, last]  # not there: nothing links the two


def test_all_that_exists_is_nothing_special():
    states = torch.full((2, len(compiled.layout)), LATENT)
    everything = torch.ones_like(states, dtype=torch.bool)
    assert torch.equal(compiled.rule.edge_mask(states, 4, everything), compiled.rule.edge_mask(states, 4))


def test_rules_of_many_sets_of_tokens_are_forgotten(monkeypatch):
    monkeypatch.setattr(sys.modules["simgraph.compile.masks"], "_MOST_KNOWN", 2)
    rule = sg.compile(counted).rule
    for size in (2, 3, 4, 5):
        assert len(rule.among(within(size))._known) == 0
        assert len(rule._known) <= 2


def test_tokens_know_which_of_them_exist():
    traces = counted.simulate(20, seed=0)
    tokens = compiled.fit(traces).layout.tokenize_traces(traces)
    expected = torch.stack([within(size) for size in traces.sizes["school"].tolist()])
    assert torch.equal(tokens.exists, expected)
    assert torch.equal(tokens.present, expected)
    assert (tokens.values[~expected] == 0).all()
    assert torch.equal(tokens[3:5].exists, expected[3:5])
    whole = sg.compile(counted.prune("mu"))
    assert whole.fit(traces).layout.tokenize_traces(traces).exists is None


def test_standardisation_counts_what_exists():
    values = np.array([[0.0, 2.0, 99.0], [4.0, 6.0, 99.0]])
    made = Traces({"z": values}, plates={"z": ("three",)}, sizes={"three": [2, 2]})

    @node(plates=plate("three", size=(1, 3)))
    def z():
        return Normal(0.0, 1.0)

    statistics = sg.compile(Graph(z)).fit(made).layout.tokenizers["z"].statistics
    assert float(statistics["centre"][0]) == 3.0
    assert float(statistics["scale"][0]) == pytest.approx(5**0.5)


def test_supports_hold_for_every_size():
    @node
    def share(score):
        return Uniform(0.0, 1.0 / len(score))

    @node
    def most(score):
        return Uniform(0.0, 1.0 * len(score))

    layout = sg.compile(Graph(mu, effect, score, share, most)).layout
    assert float(layout.tokenizers["share"].variable.support.high) == 0.5
    assert float(layout.tokenizers["most"].variable.support.high) == 5.0


def test_tables_show_the_range():
    assert "school (2..5,)" in compiled.explain()
    assert compiled.layout.shape_text("score") == "(2..5,)"
    assert compiled.layout.shape_text("mu") == "()"


def test_lint_looks_at_the_largest_size():
    assert [finding.rule for finding in compiled.lint()] == []


def test_traces_must_tell_sizes():
    whole = schools.simulate(10, seed=0).filled()
    with pytest.raises(TracesError) as caught:
        sg.compile(schools, whole)
    assert str(caught.value) == (
        "the traces do not tell how many elements plate 'school' has, which varies from 2 to 5.\n"
        "  Simulate them with this graph, or say it: Traces(..., plates=..., sizes={'school': numbers})"
    )
    other = Traces({n: whole[n] for n in whole}, plates=whole.plates, sizes={"school": [1, 2, 3, 4, 5] * 2})
    with pytest.raises(TracesError) as refused:
        sg.compile(schools, other)
    assert str(refused.value) == (
        "the traces have 1 to 5 elements of plate 'school'; the graph declares 2 to 5.\n"
        "  Simulate them with this graph."
    )
    with pytest.raises(TracesError, match="do not tell how many elements"):
        sg.fit(sg.compile(schools), whole)
