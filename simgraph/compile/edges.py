r"""Edge masks as lists: the pairs (i, j) of tokens of which i may attend to j, and no others.

A mask of n tokens takes n^2 bytes as a table. Of a long chain it allows some :math:`n \log n` pairs, so that for two
thousand tokens a list is a hundred times smaller, and attention that goes along the list (see
:mod:`simgraph.simformer.sparse`) a hundred times less work. Queries of one batch have lists of their own: what a token
may read depends on what is observed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from simgraph.graph.bitsets import Words, listed

__all__ = ["EdgeList", "joined"]


@dataclass(frozen=True, eq=False)
class EdgeList:
    """A batch of edge masks, each a list of pairs.

    Attributes:
        query: Token that attends, of all pairs, mask after mask, (pairs,).
        key: Token that it may attend to, (pairs,).
        starts: Where the list of each mask begins, and the number of pairs, (batch + 1,).
        queries: Number of tokens that attend.
        keys: Number of tokens that are attended to.

    Example:
        >>> masks = EdgeList.of_dense(torch.tensor([[[True, False], [True, True]]]))
        >>> masks.query.tolist(), masks.key.tolist()
        ([0, 1, 1], [0, 0, 1])
    """

    query: Tensor
    key: Tensor
    starts: Tensor
    queries: int
    keys: int

    @classmethod
    def of_words(cls, rows: Words, tokens: int) -> EdgeList:
        """Lists masks given as sets of tokens (batch, tokens, words)."""
        row, key = listed(rows)
        counts = np.bincount(row // tokens, minlength=len(rows))
        query = torch.from_numpy(row % tokens)
        return cls._of(query, torch.from_numpy(key), torch.from_numpy(counts), tokens, tokens)

    @classmethod
    def of_dense(cls, masks: Tensor) -> EdgeList:
        """Lists masks given as a table, boolean (batch, queries, keys)."""
        _, query, key = masks.nonzero().T
        return cls._of(query, key, masks.sum((1, 2)), masks.shape[1], masks.shape[2])

    @classmethod
    def joined(cls, parts: Sequence[EdgeList]) -> EdgeList:
        """Joins batches of masks of the same tokens."""
        query, key = torch.cat([part.query for part in parts]), torch.cat([part.key for part in parts])
        counts = torch.cat([part.starts.diff() for part in parts])
        return cls._of(query, key, counts, parts[0].queries, parts[0].keys)

    @classmethod
    def _of(cls, query: Tensor, key: Tensor, counts: Tensor, queries: int, keys: int) -> EdgeList:
        starts = torch.nn.functional.pad(counts.cumsum(0), (1, 0))
        return cls(query.to(torch.int32), key.to(torch.int32), starts, queries, keys)

    def __len__(self) -> int:
        return len(self.starts) - 1

    @cached_property
    def number(self) -> Tensor:
        """Which mask of the batch each pair belongs to, (pairs,)."""
        return torch.arange(len(self)).repeat_interleave(self.starts.diff(), output_size=len(self.query))

    def __getitem__(self, rows: Tensor) -> EdgeList:
        """Returns the masks of these numbers, which may repeat."""
        counts = self.starts.diff()[rows]
        ends = counts.cumsum(0)
        total = int(ends[-1]) if len(ends) else 0
        shift = (self.starts[:-1][rows] - (ends - counts)).repeat_interleave(counts, output_size=total)
        pairs = torch.arange(total) + shift
        return self._of(self.query[pairs], self.key[pairs], counts, self.queries, self.keys)

    def split(self, size: int) -> tuple[EdgeList, ...]:
        """Returns batches of so many masks, the last one with what is left."""
        return tuple(self[rows] for rows in torch.arange(len(self)).split(size))

    def among(self, queries: Tensor, keys: Tensor) -> EdgeList:
        """Returns the masks of fewer tokens.

        Args:
            queries: Tokens that attend, in their new order, (queries,).
            keys: Tokens that are attended to, in their new order, (keys,).
        """
        places = []
        for tokens, count in ((queries, self.queries), (keys, self.keys)):
            place = torch.full((count,), -1, dtype=torch.int32)
            place[tokens] = torch.arange(len(tokens), dtype=torch.int32)
            places.append(place)
        query, key = places[0][self.query], places[1][self.key]
        kept = (query >= 0) & (key >= 0)
        counts = torch.bincount(self.number[kept], minlength=len(self))
        return self._of(query[kept], key[kept], counts, len(queries), len(keys))

    def spread(self, tokens: Tensor, count: int) -> EdgeList:
        """Returns the masks of more tokens, each new one of which may read itself alone; undoes ``among``.

        Args:
            tokens: What the tokens of these masks are called among all, ascending, (queries,).
            count: Number of all tokens.
        """
        others = torch.ones(count, dtype=torch.bool)
        others[tokens] = False
        new = others.nonzero().flatten().repeat(len(self))
        number = torch.cat([self.number, torch.arange(len(self)).repeat_interleave(count - len(tokens))])
        query, key = (torch.cat([tokens[side.long()], new]) for side in (self.query, self.key))
        order = ((number * count + query) * count + key).argsort()
        return self._of(query[order], key[order], torch.bincount(number, minlength=len(self)), count, count)

    def dense(self) -> Tensor:
        """Returns the masks as a table, boolean (batch, queries, keys)."""
        masks = torch.zeros(len(self), self.queries, self.keys, dtype=torch.bool)
        masks[self.number, self.query, self.key] = True
        return masks


def joined(parts: Sequence[Tensor | EdgeList]) -> Tensor | EdgeList:
    """Joins batches of masks of the same tokens: a list of pairs if all of them are lists, and a table otherwise."""
    lists = [part for part in parts if isinstance(part, EdgeList)]
    if len(lists) == len(parts):
        return EdgeList.joined(lists)
    return torch.cat([part.dense() if isinstance(part, EdgeList) else part for part in parts])
