"""What is added to attention logits because of what two tokens are, whatever their values.

A learned bias for each pair of identifiers singles out one token among many at once, where queries and keys take long
to learn it; another tells which tokens belong to one element of a plate.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.nn.functional import embedding, one_hot

from simgraph.simformer.sparse import Bags

__all__ = ["MOST_PAIRED", "Pairs"]

MOST_PAIRED = 128
"""Up to so many identifiers, each pair of them has a learned attention bias."""

_PAIR_SCALE = 8.0
"""Speeds the learning of these biases up: an attention logit of 6 singles one token out of twenty."""


@dataclass(frozen=True)
class Pairs:
    """Which tokens attend, and to which.

    Attributes:
        query: Identifiers of the tokens that attend, (tokens,), or (batch, tokens) where rows have tokens of their own.
        key: Those that they attend to, (keys,) or (batch, keys).
        same: Float (plates, [batch,] tokens, keys): 1 where two tokens belong to one element of a plate; for a mask
            that is a list of pairs (plates, pairs). None if there are no plates.
    """

    query: Tensor
    key: Tensor
    same: Tensor | None = None

    def of(self, wanted: Tensor) -> Pairs:
        """Returns the pairs in which some positions attend, (wanted,)."""
        same = None if self.same is None else self.same[:, wanted]
        return replace(self, query=self.query[wanted], same=same)

    def bias(self, by_pair: Tensor | None, by_plate: Tensor | None) -> Tensor | None:
        """Returns what is added to the logits, ([batch,] heads, queries, keys), or None.

        Where rows have tokens of their own, the part of the pairs is that of :meth:`factors`.

        Args:
            by_pair: Learned numbers for pairs of identifiers, (heads, identifiers, identifiers).
            by_plate: Learned numbers for each plate, (plates, heads).
        """
        bias: Tensor | None = None
        if by_pair is not None and self.query.dim() == 1:
            bias = _PAIR_SCALE * by_pair[:, self.query[:, None], self.key]
        if by_plate is not None and self.same is not None:
            shape = "pqk->hqk" if self.same.dim() == 3 else "pbqk->bhqk"
            bias = _sum(bias, torch.einsum(f"ph,{shape}", by_plate, self.same))
        return bias

    def factors(self, by_pair: Tensor | None) -> tuple[Tensor, Tensor] | None:
        """Returns what the biases of pairs are products of, where rows have tokens of their own.

        The products are with unit vectors: the gradient of an indexed table would be gathered number by number.

        Args:
            by_pair: Learned numbers for pairs of identifiers, (heads, identifiers, identifiers).

        Returns:
            (batch, heads, queries, identifiers) and (batch, keys, identifiers).
        """
        if by_pair is None or self.query.dim() == 1:
            return None
        query, key = (one_hot(own, by_pair.shape[1]).to(by_pair) for own in (self.query, self.key))
        return query.unsqueeze(1) @ (_PAIR_SCALE * by_pair), key

    def bias_along(self, bags: Bags, by_pair: Tensor | None, by_plate: Tensor | None) -> Tensor | None:
        """Returns what is added to the logits of listed pairs, (heads, pairs), or None."""
        bias: Tensor | None = None
        if by_pair is not None:
            number = self.query[bags.query] * by_pair.shape[2] + self.key[bags.key]
            bias = _PAIR_SCALE * embedding(number, by_pair.flatten(1).T).T
        if by_plate is not None and self.same is not None:
            bias = _sum(bias, by_plate.T @ self.same)
        return bias


def _sum(bias: Tensor | None, other: Tensor) -> Tensor:
    return other if bias is None else bias + other
