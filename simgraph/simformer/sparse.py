r"""Attention along lists of pairs: its cost follows the number of pairs that may attend, not the square of the tokens.

With a weight :math:`w_e` for each pair :math:`e = (i, j)` of a query and a key, two maps make up attention, and the
derivatives of each are made of both:

.. math:: \text{sums}(w, v)_i = \sum_{e = (i, j)} w_e v_j, \qquad \text{products}(q, k)_{e = (i, j)} = q_i \cdot k_j,

    \nabla_w \langle g, \text{sums}(w, v) \rangle = \text{products}(g, v), \qquad
    \nabla_v \langle g, \text{sums}(w, v) \rangle = \text{sums}^T(w, g),

    \nabla_q \langle g, \text{products}(q, k) \rangle = \text{sums}(g, k), \qquad
    \nabla_k \langle g, \text{products}(q, k) \rangle = \text{sums}^T(g, q),

where :math:`\text{sums}^T` goes along the same list sorted by key. Sums are torch's ``embedding_bag``, which adds rows
up where they are; products pick their rows in parts that stay in a processor's cache.
"""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn.functional import embedding_bag, pad

from simgraph.compile.edges import EdgeList

__all__ = ["Bags", "attend_along"]

_PART = 4096
"""Pairs whose rows are picked at a time."""

# Tokens come first, (tokens, batch, heads * features); a *row* is a token of a trace, numbered in this order. Numbers
# for each pair and head, the *entries*, are laid out as (heads, pairs).


class Bags:
    """The pairs of a batch of masks, in the order that attention goes along them.

    Args:
        masks: The masks: one for each trace, or one for all of them.
        batch: Number of traces.
        heads: Number of heads.

    Attributes:
        query: Token that attends, of each pair, (pairs,).
        key: Token that it attends to, (pairs,).
    """

    def __init__(self, masks: EdgeList, batch: int, heads: int) -> None:
        masks = masks[torch.zeros(batch, dtype=torch.long)] if len(masks) == 1 else masks
        order = (masks.query * batch + masks.number).argsort(stable=True)
        trace = masks.number[order]
        self.batch, self.queries = batch, masks.queries
        self.heads, self.query, self.key = heads, masks.query[order].long(), masks.key[order].long()
        self.query_row, self.key_row = self.query * batch + trace, self.key * batch + trace
        self._by_query = _List(self.query_row, self.key_row, masks.queries * batch, heads)
        self._order = self.key_row.argsort(stable=True)
        self._by_key = _List(self.key_row[self._order], self.query_row[self._order], masks.keys * batch, heads)

    def sums(self, weights: Tensor, values: Tensor) -> Tensor:
        """Adds up the values of the keys of each query.

        Args:
            weights: (heads, pairs).
            values: (rows of keys, heads * features).

        Returns:
            (rows of queries, heads * features).
        """
        return self._by_query.sums(weights, values)

    def sums_by_key(self, weights: Tensor, values: Tensor) -> Tensor:
        """Adds up the values of the queries of each key: (rows of keys, heads * features)."""
        return self._by_key.sums(weights.index_select(1, self._order), values)

    def products(self, query: Tensor, key: Tensor) -> Tensor:
        """Multiplies queries with keys (rows, heads * features), pair by pair: (heads, pairs)."""
        width = query.shape[1]
        head = torch.arange(width) // (width // self.heads)
        adding = torch.nn.functional.one_hot(head, self.heads).to(query.dtype)
        found = torch.empty(len(self.query), self.heads, dtype=query.dtype)
        for part, rows, others in zip(
            found.split(_PART), self.query_row.split(_PART), self.key_row.split(_PART), strict=True
        ):
            torch.mm(query.index_select(0, rows).mul_(key.index_select(0, others)), adding, out=part)
        return found.T.contiguous()

    def totals_of_keys(self, values: Tensor) -> Tensor:
        """Adds up values of the keys of each query.

        Args:
            values: (batch or 1, keys, features).

        Returns:
            (queries, batch, features).
        """
        rows = values.expand(self.batch, -1, -1).transpose(0, 1).flatten(0, 1)
        total = rows.new_zeros(self.queries * self.batch, rows.shape[1])
        for part, others in zip(self.query_row.split(_PART), self.key_row.split(_PART), strict=True):
            total.index_add_(0, part, rows.index_select(0, others))
        return total.unflatten(0, (self.queries, self.batch))

    def totals(self, entries: Tensor) -> Tensor:
        """Adds entries (heads, pairs) up over the keys of each query, and returns the sum beside each of them."""
        bags, flat = self._by_query.bags, entries.flatten()
        total = torch.zeros(len(self._by_query.starts), dtype=flat.dtype).index_add_(0, bags, flat)
        return total.index_select(0, bags).view_as(entries)

    def highest(self, entries: Tensor) -> Tensor:
        """Returns beside each of the entries (heads, pairs) the highest one of its query."""
        bags, flat = self._by_query.bags, entries.flatten()
        lowest = torch.full((len(self._by_query.starts),), float("-inf"), dtype=flat.dtype)
        return lowest.scatter_reduce_(0, bags, flat, "amax").index_select(0, bags).view_as(entries)


def attend_along(bags: Bags, query: Tensor, key: Tensor, value: Tensor, bias: Tensor | None = None) -> Tensor:
    """Attention of queries over the keys that a list of pairs allows.

    Args:
        bags: The pairs.
        query: (queries, batch, width).
        key: (keys, batch, width).
        value: (keys, batch, width).
        bias: Added to the logits, (heads, pairs).

    Returns:
        (queries, batch, width).
    """
    q, k, v = (part.flatten(0, 1).contiguous() for part in (query, key, value))
    logits = cast(Tensor, _Products.apply((q.shape[1] // bags.heads) ** -0.5 * q, k, bags))
    weights = _Softmax.apply(logits if bias is None else logits + bias, bags)
    return cast(Tensor, _Sums.apply(weights, v, bags)).reshape(query.shape)


class _List:
    """For each row the other rows that it is paired with, head by head.

    Args:
        rows: First row of each pair, (pairs,), ascending.
        others: Second row of each pair.
        count: Number of rows on the first side.
        heads: Number of heads.
    """

    def __init__(self, rows: Tensor, others: Tensor, count: int, heads: int) -> None:
        head = torch.arange(heads)[:, None]
        starts = pad(torch.bincount(rows, minlength=count).cumsum(0), (1, 0))[:-1]
        self.bags = (rows + count * head).flatten()
        self.starts = (starts + len(rows) * head).flatten()
        self._others, self._heads = (others * heads + head).flatten(), heads

    def sums(self, weights: Tensor, values: Tensor) -> Tensor:
        parts = values.view(len(values) * self._heads, -1)
        found = embedding_bag(self._others, parts, self.starts, mode="sum", per_sample_weights=weights.flatten())
        return found.unflatten(0, (self._heads, -1)).transpose(0, 1).flatten(1)


class _Sums(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, weights: Tensor, values: Tensor, bags: Bags) -> Tensor:
        ctx.bags = bags
        ctx.save_for_backward(weights, values)
        return bags.sums(weights, values)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor, None]:
        weights, values = ctx.saved_tensors
        grad = grads[0].contiguous()
        return ctx.bags.products(grad, values), ctx.bags.sums_by_key(weights, grad), None


class _Softmax(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, logits: Tensor, bags: Bags) -> Tensor:
        weights = (logits - bags.highest(logits)).exp_()
        weights /= bags.totals(weights)
        ctx.bags = bags
        ctx.save_for_backward(weights)
        return weights

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        (weights,) = ctx.saved_tensors
        pull = weights * grads[0]
        return pull - weights * ctx.bags.totals(pull), None


class _Products(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, query: Tensor, key: Tensor, bags: Bags) -> Tensor:
        ctx.bags = bags
        ctx.save_for_backward(query, key)
        return bags.products(query, key)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor, None]:
        query, key = ctx.saved_tensors
        return ctx.bags.sums(grads[0], key), ctx.bags.sums_by_key(grads[0], query), None
