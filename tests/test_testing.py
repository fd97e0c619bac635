"""What users test their own graphs with."""

import pytest
import torch
from hypothesis import given, settings
from torch.distributions import Normal

from simgraph import Graph, compile, node
from simgraph.compile.masks import ABSENT, LATENT, OBSERVED, MaskRule
from simgraph.errors import QueryError
from simgraph.testing import (
    Question,
    assert_order_invariant,
    assert_sound,
    assert_tight,
    check_mask,
    graphs,
    questions,
)


@node
def a():
    return Normal(0.0, 1.0)


@node
def b(a):
    return Normal(a, 1.0)


@node
def c(b):
    return Normal(b, 1.0)


CHAIN = compile(Graph(a, b, c))


def question(*states):
    return Question(CHAIN.families, torch.tensor(states))


@pytest.mark.parametrize("examples", [10, pytest.param(100, marks=pytest.mark.slow)])
def test_random_programs_have_right_masks(examples):
    @settings(max_examples=examples)
    @given(graphs())
    def holds(graph):
        check_mask(graph, num_queries=4)

    holds()


@given(questions(of=CHAIN))
def test_questions_of_a_graph_have_its_tokens(asked):
    assert len(asked.states) == 3
    assert asked.latent | asked.observed | asked.absent == {0, 1, 2}
    assert asked.present == asked.latent | asked.observed


def test_the_oracle_knows_chains():
    assert question(LATENT, LATENT, LATENT).depends == {0: {0, 1, 2}, 1: {0, 1, 2}, 2: {0, 1, 2}}
    assert question(LATENT, OBSERVED, LATENT).depends == {0: {0, 1}, 2: {1, 2}}
    assert question(LATENT, ABSENT, OBSERVED).depends == {0: {0, 2}}
    assert question(LATENT, LATENT, LATENT).blanket(0) == {1}


def test_assertions_name_the_tokens():
    asked, label = question(LATENT, OBSERVED, LATENT), CHAIN.layout.label
    with pytest.raises(AssertionError, match="within 4 layers a never hears of b"):
        assert_sound(asked, torch.eye(3, dtype=torch.bool), 4, label)
    with pytest.raises(AssertionError, match="a hears of c, which tells it nothing"):
        assert_tight(asked, torch.ones(3, 3, dtype=torch.bool), label)


def test_a_wrong_mask_rule_is_caught_with_its_query(monkeypatch):
    monkeypatch.setattr(MaskRule, "edge_mask", lambda self, states, depth: torch.ones(1, 3, 3, dtype=torch.bool))
    with pytest.raises(AssertionError, match=r"tells it nothing\n  latent: .*; observed: .*; absent: "):
        check_mask(CHAIN)


@pytest.mark.parametrize("form", ["relay", "cached"])
def test_both_forms_are_checked(form):
    check_mask(compile(Graph(a, b, c), observed=form), num_queries=10)


def test_a_rule_that_follows_the_order_of_declaration_is_caught(monkeypatch):
    monkeypatch.setattr(MaskRule, "edge_mask", lambda self, states, depth: torch.ones(1, 2, 2, dtype=torch.bool).triu())

    @node
    def d():
        return Normal(0.0, 1.0)

    with pytest.raises(AssertionError, match="the order of declaration changes the mask"):
        assert_order_invariant(Graph(a, d), lambda compiled: torch.ones(2, dtype=torch.long))


@pytest.mark.parametrize("options", [{"num_queries": 0}, {"num_queries": "5"}, {"depth": 0}, {"depth": True}])
def test_a_check_of_nothing_is_refused(options):
    with pytest.raises(QueryError, match="is not a whole number of 1 or more"):
        check_mask(CHAIN, **options)


def test_questions_print_shortly():
    assert repr(question(LATENT, OBSERVED, ABSENT)) == ("<Question to 3 tokens: ?!- (- absent, ? latent, ! observed)>")
