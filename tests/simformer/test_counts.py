"""How many observed tokens a token may attend to."""

import pytest
import torch

from simgraph.compile.edges import EdgeList
from simgraph.compile.masks import ABSENT, LATENT, OBSERVED
from simgraph.simformer.counts import observed_counts
from simgraph.simformer.sparse import Bags

ROWS, TOKENS, KINDS = 3, 24, 3


def by_hand(mask, states, ids):
    counts = torch.zeros(TOKENS, ROWS, KINDS)
    for row in range(ROWS):
        for query in range(TOKENS):
            for key in range(TOKENS):
                if mask[row % len(mask), query, key] and states[row % len(states), key] == OBSERVED:
                    counts[query, row, ids[row, key] if ids.dim() == 2 else ids[key]] += 1
    return counts


@pytest.mark.parametrize("masks", [1, ROWS])
@pytest.mark.parametrize("questions", [1, ROWS])
@pytest.mark.parametrize("own_ids", [False, True])
def test_tables_and_lists_are_counted(masks, questions, own_ids):
    generator = torch.Generator().manual_seed(masks + 10 * questions)
    mask = torch.rand(masks, TOKENS, TOKENS, generator=generator) < 0.7
    states = torch.randint(3, (questions, TOKENS), generator=generator)
    assert {LATENT, OBSERVED, ABSENT} >= set(states.flatten().tolist()) > {LATENT}
    ids = torch.randint(KINDS, (ROWS, TOKENS) if own_ids else (TOKENS,), generator=generator)
    expected = by_hand(mask, states, ids)
    assert expected.max() > 1
    assert torch.equal(observed_counts(mask, states, ids, KINDS).expand_as(expected), expected)
    bags = Bags(EdgeList.of_dense(mask), ROWS, heads=2)
    assert torch.equal(observed_counts(bags, states, ids, KINDS), expected)


def test_without_a_mask_all_are_counted():
    states = torch.tensor([[LATENT, OBSERVED, OBSERVED, ABSENT, OBSERVED]])
    ids = torch.tensor([0, 1, 1, 1, 2])
    assert observed_counts(None, states, ids, KINDS).tolist() == [[[0, 2, 1]]]


def test_keys_in_front_of_the_tokens_are_observed():
    states, ids = torch.tensor([[LATENT, OBSERVED]]), torch.tensor([1, 1, 0, 2])
    mask = torch.tensor([[[True, True, True, False], [True, False, False, True]]])
    assert observed_counts(mask, states, ids, KINDS).squeeze(1).tolist() == [[0, 2, 0], [0, 1, 1]]
