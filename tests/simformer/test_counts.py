"""How many tokens of each kind a token may attend to."""

import pytest
import torch

from simgraph.compile.edges import EdgeList
from simgraph.compile.masks import ABSENT, LATENT, OBSERVED
from simgraph.simformer import sparse
from simgraph.simformer.counts import counts_of
from simgraph.simformer.sparse import Bags

ROWS, TOKENS = 3, 60

COUNTED = torch.zeros(3, 4, 2)
"""Of identifier 0 nothing counts, of 1 what is observed, of 2 and 3, together, what is observed or latent."""
COUNTED[OBSERVED, 1, 0] = 1
COUNTED[[[OBSERVED], [LATENT]], [2, 3], 1] = 1


def by_hand(mask, states, ids):
    counts = torch.zeros(TOKENS, ROWS, 2)
    for row in range(ROWS):
        for query in range(TOKENS):
            for key in range(TOKENS):
                state, own = states[row % len(states), key], ids[row, key] if ids.dim() == 2 else ids[key]
                if mask[row % len(mask), query, key]:
                    counts[query, row, 0] += float(own == 1 and state == OBSERVED)
                    counts[query, row, 1] += float(own >= 2 and state != ABSENT)
    return counts


@pytest.mark.parametrize("masks", [1, ROWS])
@pytest.mark.parametrize("questions", [1, ROWS])
@pytest.mark.parametrize("own_ids", [False, True])
def test_tables_and_lists_are_counted(masks, questions, own_ids, monkeypatch):
    monkeypatch.setattr(sparse, "_PART", 64)  # several parts
    generator = torch.Generator().manual_seed(masks + 10 * questions)
    mask = torch.rand(masks, TOKENS, TOKENS, generator=generator) < 0.7
    states = torch.randint(3, (questions, TOKENS), generator=generator)
    ids = torch.randint(4, (ROWS, TOKENS) if own_ids else (TOKENS,), generator=generator)
    expected = by_hand(mask, states, ids)
    assert (expected.amax((0, 1)) > 1).all()
    assert torch.equal(counts_of(COUNTED, mask, states, ids).expand_as(expected), expected)
    bags = Bags(EdgeList.of_dense(mask), ROWS, heads=2)
    assert torch.equal(counts_of(COUNTED, bags, states, ids), expected)


def test_without_a_mask_all_are_counted():
    states = torch.tensor([[LATENT, OBSERVED, OBSERVED, ABSENT, OBSERVED, LATENT]])
    ids = torch.tensor([1, 1, 1, 1, 2, 3])
    assert counts_of(COUNTED, None, states, ids).tolist() == [[[2, 2]]]


def test_keys_in_front_of_the_tokens_are_observed():
    states, ids = torch.tensor([[LATENT, OBSERVED]]), torch.tensor([1, 1, 1, 2])
    mask = torch.tensor([[[True, True, True, False], [True, False, False, True]]])
    assert counts_of(COUNTED, mask, states, ids).squeeze(1).tolist() == [[2, 0], [1, 1]]
