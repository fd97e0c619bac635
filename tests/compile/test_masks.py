"""Edge masks: tight, sound and minimal (MASKS.md, section 8)."""

import networkx as nx
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from strategies import Question, laws, questions, rows, single_families

from simgraph.compile.masks import ABSENT, LATENT, OBSERVED, MaskRule
from simgraph.graph.dependence import Families

forms = st.sampled_from(["relay", "cached"])


def mask_of(question, form="relay", depth=4):
    return MaskRule(question.families, form).edge_mask(question.states[None], depth)[0]


def reached(mask, hops):
    """For each token, what it hears of within some attention layers."""
    graph = nx.from_numpy_array(mask.numpy(), create_using=nx.DiGraph)
    return {i: set(nx.single_source_shortest_path_length(graph, i, cutoff=hops)) for i in graph}


def chain(states):
    dag = nx.path_graph(len(states), create_using=nx.DiGraph)
    return Question(single_families(dag), dag, torch.tensor(states))


@settings(max_examples=100)
@given(questions(), forms, st.integers(1, 6))
def test_latent_rows_are_tight_however_often_layers_repeat(question, form, depth):
    heard = reached(mask_of(question, form, depth), hops=len(question.states))
    allowed = question.depends()
    assert all(heard[i] <= allowed[i] for i in question.latent)


@settings(max_examples=100)
@given(questions(), forms, st.integers(1, 6))
def test_latent_rows_hear_of_their_whole_dependency_set_within_the_depth(question, form, depth):
    heard = reached(mask_of(question, form, depth), hops=depth)
    needed = question.depends()
    assert all(heard[i] >= needed[i] for i in question.latent)


@settings(max_examples=100)
@given(questions(), forms)
def test_observed_rows_read_only_what_every_component_they_border_may_know(question, form):
    mask = rows(mask_of(question, form, depth=9), question.tokens)
    depends = question.depends()
    for o in question.observed:
        bordering = {frozenset(depends[i] & question.latent) for i in question.latent if o in depends[i]}
        allowed = set.intersection(*(depends[i] for i in question.latent if o in depends[i])) if bordering else set()
        assert mask[o] <= {o} | allowed
        if len(bordering) != 1 or form == "cached":
            assert not mask[o] & question.latent
        if form == "relay":
            assert mask[o] == {o} | (question.blanket(o) & allowed)


@given(questions(), st.integers(1, 5))
def test_cached_form_is_relay_without_latents_in_observed_rows(question, depth):
    relay, cached = mask_of(question, "relay", depth=9), mask_of(question, "cached", depth=9)
    latent, observed = question.states == LATENT, question.states == OBSERVED
    assert torch.equal(cached, relay & ~(observed[:, None] & latent[None, :]))
    assert not mask_of(question, "cached", depth)[observed][:, latent].any()


@given(questions(), forms, st.integers(1, 5))
def test_diagonal_is_true_and_absent_tokens_are_cut_off(question, form, depth):
    mask = mask_of(question, form, depth)
    absent = sorted(question.where(ABSENT))
    own = torch.eye(len(mask), dtype=torch.bool)
    assert mask.diagonal().all()
    assert torch.equal(mask[absent], own[absent])
    assert torch.equal(mask[:, absent], own[:, absent])


@settings(max_examples=100)
@given(questions(), forms)
def test_latent_rows_are_markov_blankets_where_the_network_is_deep_enough(question, form):
    mask = rows(mask_of(question, form, depth=9), question.tokens)
    for i in question.latent:
        assert mask[i] == {i} | question.blanket(i)


@given(questions(), forms, st.integers(1, 3))
def test_a_shallow_network_only_gains_pairs_in_latent_rows(question, form, depth):
    shallow, deep = mask_of(question, form, depth), mask_of(question, form, depth=9)
    assert not (deep & ~shallow).any()
    assert torch.equal(shallow[question.states != LATENT], deep[question.states != LATENT])


@given(laws(6), st.lists(st.lists(st.integers(0, 2), min_size=6, max_size=6), min_size=1, max_size=6), forms)
def test_a_batch_of_masks_equals_single_masks(law, states, form):
    families, dag = law
    rule, batch = MaskRule(families, form), torch.tensor(states)[:, : len(dag)]
    single = torch.cat([rule.edge_mask(row[None], 2) for row in batch])
    assert torch.equal(rule.edge_mask(batch, 2), single)
    assert torch.equal(rule.dependencies(batch), torch.cat([rule.dependencies(row[None]) for row in batch]))


@given(questions(), forms, st.integers(1, 5))
def test_latents_see_one_another_or_not_at_all(question, form, depth):
    latent = question.states == LATENT
    block = mask_of(question, form, depth)[latent][:, latent]
    assert torch.equal(block, block.T)


@given(laws())
def test_all_observed_attend_to_themselves_alone(law):
    families, dag = law
    mask = MaskRule(families).edge_mask(torch.full((1, len(dag)), OBSERVED), 4)[0]
    assert torch.equal(mask, torch.eye(len(dag), dtype=torch.bool))


@given(questions(5), questions(5), forms, st.integers(1, 4))
def test_a_disjoint_union_compiles_to_blocks(first, second, form, depth):
    joined = Families(
        torch.block_diag(first.families.members.float(), second.families.members.float()).bool(),
        torch.block_diag(first.families.parents.float(), second.families.parents.float()).bool(),
    )
    mask = MaskRule(joined, form).edge_mask(torch.cat([first.states, second.states])[None], depth)[0]
    blocks = torch.block_diag(mask_of(first, form, depth).float(), mask_of(second, form, depth).float()).bool()
    assert torch.equal(mask, blocks)


@given(questions(), forms, st.integers(1, 4), st.randoms(use_true_random=False))
def test_masks_follow_a_renumbering_of_tokens(question, form, depth, random):
    order = list(question.tokens)
    random.shuffle(order)
    renumbered = Families(question.families.members[:, order], question.families.parents[:, order])
    mask = MaskRule(renumbered, form).edge_mask(question.states[order][None], depth)[0]
    assert torch.equal(mask, mask_of(question, form, depth)[order][:, order])


@given(questions(), st.integers(1, 5), st.data())
def test_a_query_for_one_dependency_set_alone_has_the_same_latent_rows(question, depth, data):
    if not question.latent:
        return
    chosen = data.draw(st.sampled_from(sorted(question.latent)))
    kept = question.depends()[chosen]
    states = torch.tensor([int(s) if i in kept else ABSENT for i, s in enumerate(question.states)])
    alone = Question(question.families, question.dag, states)
    component = sorted(kept & question.latent)
    assert torch.equal(mask_of(alone, depth=depth)[component], mask_of(question, depth=depth)[component])


@pytest.mark.parametrize("form", ["relay", "cached"])
def test_an_observed_token_between_two_latents_carries_no_news(form):
    mask = mask_of(chain([LATENT, OBSERVED, LATENT]), form)
    assert mask.tolist() == [[True, True, False], [False, True, False], [False, True, True]]


def test_an_observed_token_at_the_border_of_one_component_reads_it_in_the_relay_form_only():
    question = chain([LATENT, OBSERVED])
    assert mask_of(question, "relay").all()
    assert mask_of(question, "cached").tolist() == [[True, True], [False, True]]


@pytest.mark.parametrize(("length", "whole"), [(4, False), (5, False), (6, True)])
def test_a_chain_longer_than_the_network_is_deep_is_seen_whole(length, whole):
    mask = mask_of(chain([LATENT] * length), depth=4)
    assert bool(mask[0].all()) == whole
    assert bool(mask[0, 1])
