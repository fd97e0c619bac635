"""What groups of tokens are drawn from."""

import torch
from hypothesis import given
from hypothesis import strategies as st

from simgraph.graph.dependence import Families


@given(st.integers(1, 9), st.integers(1, 4), st.integers(0, 2**32 - 1))
def test_a_group_is_drawn_from_the_parents_of_its_members_families(tokens, count, seed):
    generator = torch.Generator().manual_seed(seed)
    home = torch.randint(tokens, (tokens,), generator=generator)
    members = home == torch.arange(tokens)[:, None]
    parents = (torch.rand(tokens, tokens, generator=generator) < 0.3) & ~members
    groups = torch.randint(count, (tokens,), generator=generator)
    found = Families(members, parents).drawn_from(groups, count)
    assert found.shape == (count, tokens)
    for group in range(count):
        expected = {
            parent
            for token in range(tokens)
            for parent in range(tokens)
            if groups[token] == group and parents[home[token], parent]
        }
        assert set(found[group].nonzero().flatten().tolist()) == expected
