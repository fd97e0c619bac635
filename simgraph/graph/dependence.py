r"""Which noised variable depends on which: the exact dependency sets of a joint score.

A graph over tokens is given by its *families*: a family is a set of member tokens, which may depend on
one another, together with their parent tokens. In one query each token is observed, latent or absent.
With :math:`P` the present tokens and :math:`an(P)` them and their ancestors,

* :math:`\hat H` is the moral graph of the families that meet :math:`an(P)`, with absent tokens
  eliminated (their neighbours are joined), so that :math:`i - j` in it iff :math:`x_i` and :math:`x_j` are
  not d-separated by the other present tokens;
* :math:`K_i` is the component of latent token :math:`i` in :math:`\hat H` without the observed tokens,
  and its dependency set is :math:`D(i) = T_{K_i} \cup B_{K_i}`: the latents of the component and the
  observed tokens that border it. The score of token :math:`i` is a function of the tokens in :math:`D(i)`
  alone, and for a faithful law it depends on all of them.

Both follow from *gluing families*, without a product of matrices. The tokens of a family are neighbours
of one another, and eliminating an absent token joins all tokens of the families that hold it. So the
families that share absent tokens, directly or through others, form one clique of :math:`\hat H`, and the
families that share tokens which are not observed form one component. Both are found by passing the
smallest label between families and tokens. Everything works on batches of queries.

References:
    Lauritzen, Graphical Models (1996), sections 2.1.1 and 3.2.1 (moral graph, ancestral sets).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from graphlib import TopologicalSorter

import numpy as np
import torch
from torch import Tensor

from simgraph.graph.bitsets import Groups, Parts, Words, pack

__all__ = ["Dependence", "Families", "Incidence"]


@dataclass(frozen=True)
class Families:
    """The factorisation of a joint law over tokens.

    Attributes:
        members: Boolean tensor (families, tokens); each token is a member of exactly one family.
        parents: Boolean tensor (families, tokens).
    """

    members: Tensor
    parents: Tensor

    @classmethod
    def joint(cls, tokens: int) -> Families:
        """Returns one family of all tokens: nothing is known to be independent of anything."""
        members = torch.ones(1, tokens, dtype=torch.bool)
        return cls(members, torch.zeros_like(members))

    def drawn_from(self, groups: Tensor, count: int) -> Tensor:
        """Returns which tokens a group of tokens is drawn from, boolean (count, tokens).

        Args:
            groups: The group of each token, (tokens,), from 0 to count - 1.
            count: Number of groups.
        """
        family, token = self.members.nonzero().T
        family, group = torch.stack([family, groups[token]]).unique(dim=1)
        number, parent = self.parents[family].nonzero().T
        found = torch.zeros(count, len(groups), dtype=torch.bool)
        found[group[number], parent] = True
        return found

    def among(self, tokens: Tensor) -> Families:
        """Returns the factorisation where only some tokens (tokens,) exist: a token that does not has no edges.

        That is not to marginalise it: an absent token joins its neighbours, one that does not exist never did.
        """
        kept = self.members[:, tokens].any(1)
        return Families(self.members[kept][:, tokens], self.parents[kept][:, tokens])

    @cached_property
    def incidence(self) -> Incidence:
        """Which token is in which family, in the forms that queries read."""
        return Incidence(self.members.numpy(), self.parents.numpy())


class Incidence:
    """Tokens by family and families by token, each as one flat list with the starts of its parts.

    Args:
        members: Boolean array (families, tokens).
        parents: Boolean array (families, tokens).

    Attributes:
        tokens: Tokens of all families, family by family.
        by_family: The parts of ``tokens``.
        families: Families of all tokens, token by token.
        by_token: The parts of ``families``.
        home: The family that each token is a member of, (tokens,).
        alone: Each token as a set of its own, (tokens, words).
        whole: Tokens of each family, (families, words).
        below: Tokens of each family and their descendants that are drawn after it, (families, words).
    """

    def __init__(self, members: np.ndarray, parents: np.ndarray) -> None:
        whole = members | parents
        family, self.tokens = np.nonzero(whole)
        self.by_family = Parts(np.flatnonzero(np.diff(family, prepend=-1)), len(family))
        token, self.families = np.nonzero(whole.T)
        self.by_token = Parts(np.flatnonzero(np.diff(token, prepend=-1)), len(token))
        self.home = members.argmax(0)
        self.alone = pack(np.eye(members.shape[1], dtype=bool))
        self.whole = pack(whole)
        self.below = self._below(members, parents)

    def _below(self, members: np.ndarray, parents: np.ndarray) -> Words:
        above = {number: set(self.home[row].tolist()) - {number} for number, row in enumerate(parents)}
        below = pack(members)
        for number in reversed(list(TopologicalSorter(above).static_order())):
            for parent in above[number]:
                below[parent] |= below[number]
        return below


class Dependence:
    r"""The dependence of the tokens in a batch of queries.

    Args:
        families: The factorisation.
        present: Boolean array (batch, tokens).
        observed: Boolean array (batch, tokens): present tokens that are observed.

    Attributes:
        neighbours: :math:`\hat H` without diagonal, (batch, tokens, words); rows of absent tokens are empty.
        depends: :math:`D` of latent tokens, (batch, tokens, words); other rows are empty.
        allowed: What an observed token o may know without a leak, :math:`\bigcap_{K \ni o} T_K \cup B_K`
            over the components that it borders, (batch, tokens, words); other rows are empty.
        component: Label of each latent token's component, (batch, tokens); -1 for other tokens.
        beside: Label of the only component that an observed token borders, (batch, tokens); -1 for other tokens.
    """

    def __init__(self, families: Families, present: np.ndarray, observed: np.ndarray) -> None:
        self._of = of = families.incidence
        self._latent = latent = present & ~observed
        here = pack(present)
        self._needed = (of.below & here[:, None]).any(-1)
        within = np.where(self._needed[..., None], of.whole & here[:, None], 0)
        # Cliques: families glued by absent tokens.
        self._cliques = None if present.all() else Groups(self._labels(~present))
        self.neighbours = np.where(present[..., None], self._joined(within) & ~of.alone, 0)
        # Components: families glued by tokens that are not observed; one without a latent has no score.
        labels = self._labels(~observed)
        known = Groups(labels).union(within)
        scored = self._needed & (known & pack(latent)[:, None]).any(-1)
        self.component = np.where(latent, labels.take(of.home, 1), -1)
        self.depends = np.where(latent[..., None], known.take(of.home, 1), 0)
        borders = scored.take(of.families, 1)
        common = np.where(scored[..., None], known, ~np.uint64(0)).take(of.families, 1)
        bordering = observed & of.by_token.reduce(np.logical_or, borders)
        count = labels.shape[1]
        lowest = of.by_token.reduce(np.minimum, np.where(scored, labels, count).take(of.families, 1))
        highest = of.by_token.reduce(np.maximum, np.where(scored, labels, -1).take(of.families, 1))
        self.beside = np.where(bordering & (lowest == highest), highest, -1)
        self.allowed = np.where(bordering[..., None], of.by_token.reduce(np.bitwise_and, common), 0)

    def spread(self, news: Words) -> Words:
        """Passes sets on by one hop: each latent token unites its own set with those of its latent neighbours.

        Args:
            news: Sets (batch, tokens, words).
        """
        told = np.where(self._latent[..., None], news, 0).take(self._of.tokens, 1)
        by_family = np.where(self._needed[..., None], self._of.by_family.reduce(np.bitwise_or, told), 0)
        return np.where(self._latent[..., None], self._joined(by_family) | news, news)

    def _joined(self, by_family: Words) -> Words:
        """Unites, for each token, the sets of all families that share a clique with it: (batch, tokens, words)."""
        if self._cliques is not None:
            by_family = self._cliques.union(by_family)
        return self._of.by_token.reduce(np.bitwise_or, by_family.take(self._of.families, 1))

    def _labels(self, joining: np.ndarray) -> np.ndarray:
        """Labels families (batch, families) so that needed ones which share joining tokens (batch, tokens),
        directly or through others, have the same label: the smallest of their numbers.
        """
        of, count = self._of, self._needed.shape[1]
        label = np.broadcast_to(np.arange(count, dtype=np.int32), self._needed.shape)
        while True:
            offered = np.where(self._needed, label, count).take(of.families, 1)
            at_token = np.where(joining, of.by_token.reduce(np.minimum, offered), count)
            smallest = of.by_family.reduce(np.minimum, at_token.take(of.tokens, 1))
            smallest = np.where(self._needed, np.minimum(smallest, label), label)
            # A label is the number of a family of the same kind, whose own label may be smaller still.
            smallest = np.take_along_axis(smallest, smallest, 1)
            if np.array_equal(smallest, label):
                return label
            label = smallest
