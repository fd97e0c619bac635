"""Edge masks of small graphs, entry by entry; their properties are in test_mask_properties."""

import sys

import networkx as nx
import pytest
import torch

from simgraph.compile.masks import ABSENT, LATENT, OBSERVED, MaskRule
from simgraph.graph.dependence import Families
from simgraph.testing import Question, assert_sound, assert_tight


def chain(length):
    return Families(torch.eye(length, dtype=torch.bool), torch.diag(torch.ones(length - 1), -1).bool())


def mask_of(families, states, form="relay", depth=4):
    return MaskRule(families, form).edge_mask(torch.tensor([states]), depth)[0]


@pytest.mark.parametrize("form", ["relay", "cached"])
def test_an_observed_token_between_two_latents_carries_no_news(form):
    mask = mask_of(chain(3), [LATENT, OBSERVED, LATENT], form)
    assert mask.tolist() == [[True, True, False], [False, True, False], [False, True, True]]


def test_an_observed_token_at_the_border_of_one_component_reads_it_in_the_relay_form_only():
    assert mask_of(chain(2), [LATENT, OBSERVED], "relay").all()
    assert mask_of(chain(2), [LATENT, OBSERVED], "cached").tolist() == [[True, True], [False, True]]


def test_absent_tokens_join_their_neighbours():
    mask = mask_of(chain(4), [LATENT, ABSENT, ABSENT, OBSERVED])
    assert mask.tolist() == [
        [True, False, False, True],
        [False, True, False, False],
        [False, False, True, False],
        [True, False, False, True],
    ]


@pytest.mark.parametrize(("length", "whole"), [(4, False), (5, False), (6, True)])
def test_a_narrow_component_longer_than_the_network_is_deep_is_seen_whole(length, whole):
    mask = mask_of(chain(length), [LATENT] * length, depth=4)
    assert bool(mask.all()) == whole
    assert bool(mask[0, 1])


def test_a_network_that_is_just_deep_enough_gets_no_shortcuts():
    local = MaskRule(chain(5)).local_mask(torch.ones(1, 5, dtype=torch.long))[0]
    assert torch.equal(mask_of(chain(5), [LATENT] * 5, depth=4), local)
    assert not torch.equal(mask_of(chain(5), [LATENT] * 5, depth=3), local)


@pytest.mark.parametrize("depth", [2, 3, 4, 5, 6, 7])
@pytest.mark.parametrize("observed", [False, True])
def test_a_wide_component_gets_a_tree_of_hubs(depth, observed):
    length = 150
    families = chain(length)
    states = [LATENT] * length
    if observed:  # an observed child of every latent
        families = Families(
            torch.eye(2 * length, dtype=torch.bool),
            torch.cat([families.parents, torch.eye(length, dtype=torch.bool)])
            .repeat(1, 2)
            .logical_and(torch.arange(2 * length) < length),
        )
        states = states + [OBSERVED] * length
    mask = mask_of(families, states, depth=depth)
    local = MaskRule(families).local_mask(torch.tensor([states]))[0]
    added = int((mask & ~local)[:length, :length].sum())
    assert 0 < added <= 2 * (length - 1)
    graph = nx.from_numpy_array(mask.numpy(), create_using=nx.DiGraph)
    for token in range(0, length, 7):
        hops = nx.single_source_shortest_path_length(graph, token)
        assert len(hops) == len(states), "the component and all that borders it"
        assert max(hops.values()) <= depth
    # Hubs read border tokens only where the depth leaves no hop for it.
    border = int((mask & ~local)[:length, length:].sum())
    assert border <= (length if observed and depth % 2 == 0 else 0)


def test_shortcuts_of_a_wide_component_are_sound_and_tight():
    generator = torch.Generator().manual_seed(0)
    parents = torch.zeros(140, 140, dtype=torch.bool)
    for i in range(1, 140):
        parents[i, max(0, i - 1 - int(torch.randint(0, 3, (), generator=generator)))] = True
    states = torch.ones(140, dtype=torch.long)
    states[130:] = OBSERVED
    states[120:125] = ABSENT
    families = Families(torch.eye(140, dtype=torch.bool), parents)
    dependencies = MaskRule(families).dependencies(states[None])[0]
    question = Question(families, states)
    # The oracle is asked for a few pairs alone: all of them would take minutes.
    for i, j in [(0, 100), (3, 131), (60, 126), (119, 0), (5, 139)]:
        assert bool(dependencies[i, j]) == question.depends_on(i, j)
    question.__dict__["depends"] = {
        i: set(dependencies[i].nonzero().flatten().tolist()) for i in sorted(question.latent)
    }
    for depth in (1, 2, 4, 5):
        mask = MaskRule(families).edge_mask(states[None], depth)[0]
        assert_sound(question, mask, depth)
        assert_tight(question, mask)


def test_a_large_batch_is_worked_on_in_parts(monkeypatch):
    monkeypatch.setattr(sys.modules[MaskRule.__module__], "_MOST_WORDS", 20)
    states = torch.randint(0, 3, (17, 6), generator=torch.Generator().manual_seed(0))
    rule = MaskRule(chain(6))
    together = rule.edge_mask(states, 2)
    assert torch.equal(together, torch.cat([rule.edge_mask(row[None], 2) for row in states]))
    assert torch.equal(rule.dependencies(states), torch.cat([rule.dependencies(row[None]) for row in states]))
    assert torch.equal(rule.local_mask(states), torch.cat([rule.local_mask(row[None]) for row in states]))
