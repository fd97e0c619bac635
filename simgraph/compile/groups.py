r"""Elements that the network handles as one token: small events whose elements are drawn together.

The elements of a small event with a joint law (a point in the plane, a crescent) are neighbours of one another in
every question, so that nothing is lost where they share a place in the sequence, and the sequence is shorter. Each
element keeps its own value and condition state in the sum that becomes the place's embedding, and its own output.

In masks a place is observed if all of its elements are, absent if all are absent, and latent otherwise. Where a part of
its elements is given and the rest is absent, it then relays between its neighbours as a latent one does: the mask
stays sound, and allows more than the law of the elements does.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from simgraph.compile.layout import Layout
from simgraph.compile.masks import ABSENT, LATENT, OBSERVED
from simgraph.graph.dependence import Families

__all__ = ["MOST_TOGETHER", "Groups"]

MOST_TOGETHER = 4
"""Elements that share a place, at most."""


@dataclass(frozen=True)
class Groups:
    """Which elements share a place.

    Attributes:
        of: Long tensor (tokens,): the place of each token of the layout, rising.
    """

    of: Tensor

    @staticmethod
    def find(layout: Layout, families: Families) -> Groups:
        """Puts each small event of numbers into one place, if every two of its elements are drawn together or from
        one another.
        """
        home = families.members.int().argmax(0)
        first = torch.arange(len(layout))
        for name, tokenizer in layout.tokenizers.items():
            if not 1 < tokenizer.num_tokens <= MOST_TOGETHER or tokenizer.width > 1 or tokenizer.classes:
                continue
            slots = layout.slots(name)
            for begin in range(slots.start, slots.stop, tokenizer.num_tokens):
                own = torch.arange(begin, begin + tokenizer.num_tokens)
                linked = (families.members | families.parents)[home[own]][:, own]
                if bool((linked | linked.T).all()):
                    first[own] = begin
        return Groups(torch.unique(first, return_inverse=True)[1])

    def __len__(self) -> int:
        return int(self.of[-1]) + 1

    @cached_property
    def trivial(self) -> bool:
        """Whether every element has a place of its own."""
        return len(self) == len(self.of)

    @cached_property
    def first(self) -> Tensor:
        """The first token of each place, (places,)."""
        return (self.of.diff(prepend=self.of.new_tensor([-1])) > 0).nonzero().flatten()

    def kinds(self, layout: Layout) -> Tensor:
        """Returns the identifier of each place, (places,), shared over plate elements as those of tokens are."""
        return torch.unique(layout.ids[self.first], return_inverse=True)[1]

    def merged(self, states: Tensor) -> Tensor:
        """Returns the condition states of places (batch, places) from those of tokens (batch, tokens)."""
        if self.trivial:
            return states
        counts = torch.zeros(2, len(states), len(self), dtype=torch.long)
        kinds = torch.stack([states == OBSERVED, states == ABSENT]).long()
        observed, absent = counts.index_add(2, self.of, kinds)
        size = torch.bincount(self.of)
        found = torch.full_like(observed, LATENT)
        found[observed == size] = OBSERVED
        found[absent == size] = ABSENT
        return found

    def families(self, families: Families) -> Families:
        """Returns the factorisation over places."""
        if self.trivial:
            return families

        def over(tokens: Tensor) -> Tensor:
            return torch.zeros(len(tokens), len(self)).index_add(1, self.of, tokens.float()) > 0

        members, number = torch.unique(over(families.members), dim=0, return_inverse=True)
        parents = torch.zeros_like(members, dtype=torch.long).index_add(0, number, over(families.parents).long()) > 0
        return Families(members, parents & ~members)
