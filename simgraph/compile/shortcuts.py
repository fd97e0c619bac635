r"""Shortcuts for components of latent tokens that are wider than the network is deep.

Where a latent token does not hear of all of :math:`D(i) = T_K \cup B_K` within ``depth`` hops through
latents, its component K gets further arcs, all inside of :math:`T_K \cup B_K`, so that the mask stays tight:

* up to 64 latents: each of them reads all of :math:`D(i)`, and so do the observed tokens at the border, if they border
  no other component and the component borders on no more than 64;
* more: a *tree of hubs*. The latents stand in a row that keeps neighbours close (reverse Cuthill-McKee)
  at positions 0, 1, ..., m - 1. With h = depth // 2 levels and the least b such that b^h >= m, each position
  that b^(k-1) divides is linked both ways with the nearest one before it that b^k divides, for k = 1, ..., h.
  News climb and descend the tree in 2 h hops, over at most 2 (m - 1) arcs. An observed token at the border is
  a hop away from a latent of the component: for odd depths that hop is left, for even ones the first hub
  above that latent reads the observed token itself;
* a network of one layer: each latent reads all of :math:`D(i)`.

References:
    Cuthill and McKee, "Reducing the bandwidth of sparse symmetric matrices" (1969).
"""

from __future__ import annotations

from functools import cached_property

import networkx as nx
import numpy as np

from simgraph.graph.bitsets import Words, include, pack, unpack
from simgraph.graph.dependence import Dependence, Families

__all__ = ["NARROW", "Shortcuts"]

NARROW = 64
"""Latents of a component up to which each of them reads the whole component, where it needs shortcuts."""


class Shortcuts:
    """Adds shortcuts to masks.

    Args:
        families: The factorisation over tokens.
        canonical: The tokens in an order that does not depend on that of the declarations.
        narrow: Latents of a component up to which shortcuts are dense rows.
    """

    def __init__(self, families: Families, canonical: tuple[int, ...] | None = None, narrow: int = NARROW) -> None:
        self._families, self._canonical, self._narrow = families, canonical, narrow

    def add(self, rows: Words, readable: Words, dependence: Dependence, depth: int) -> Words:
        """Returns the rows of masks with the shortcuts that a depth needs.

        Args:
            rows: Rows of masks without shortcuts (batch, tokens, words).
            readable: What each token may read without a leak, in the same shape.
            dependence: The dependence of the same queries.
            depth: Number of attention layers.
        """
        label = dependence.component
        batch, tokens = label.shape
        latent = label >= 0
        # One number per query and component; tokens that are not latent fall into one at the end.
        component = np.where(latent, label + tokens * np.arange(batch)[:, None], batch * tokens)
        size = np.bincount(component.ravel(), minlength=batch * tokens + 1)
        size[-1] = 0
        # Paths inside a component have at most `size` hops, the one to an observed token included.
        if (size <= depth).all():
            return rows
        heard = np.where(latent[..., None], dependence.neighbours, 0) | self._families.incidence.alone
        deaf = (dependence.depends & ~heard).any(-1)
        for _ in range(depth - 1):
            if not deaf.any():
                return rows
            heard = dependence.spread(heard)
            deaf = (dependence.depends & ~heard).any(-1)
        wide = np.zeros(len(size), dtype=bool)
        wide[component[deaf]] = True
        dense = wide & ((size <= self._narrow) | (depth == 1))
        # The observed tokens beside a component read it, too, unless it borders on so many that it would cost more.
        beside = np.where(dependence.beside >= 0, dependence.beside + tokens * np.arange(batch)[:, None], len(size) - 1)
        around = np.zeros_like(size)
        inside = dense[component]
        around[component[inside]] = unpack(dependence.depends[inside], tokens).sum(-1)
        whole = inside | (dense & (around - size <= self._narrow))[beside]
        rows = np.where(whole[..., None], rows | readable, rows)
        row, token = np.nonzero((wide & ~dense)[component])
        return self._with_trees(rows, dependence, row, token, component[row, token], depth) if len(row) else rows

    def _with_trees(
        self,
        rows: Words,
        dependence: Dependence,
        row: np.ndarray,
        token: np.ndarray,
        component: np.ndarray,
        depth: int,
    ) -> Words:
        """Adds the trees over latents, which are given as flat lists of row, token and component."""
        order = np.lexsort((self._rank[token], component))
        row, token, component = row[order], token[order], component[order]
        starts = np.flatnonzero(np.diff(component, prepend=-1))
        sizes = np.diff(starts, append=len(row))
        first = np.repeat(starts, sizes)
        position = np.arange(len(row)) - first
        levels = depth // 2
        branching = np.repeat([_root(size, levels) for size in sizes.tolist()], sizes)
        rows = np.ascontiguousarray(rows).copy()
        number = row * rows.shape[1] + token
        step = np.ones_like(branching)
        for level in range(levels):
            here = position % step == 0
            step = step * branching
            hub = first + position // step * step
            below, above = np.flatnonzero(here), hub[here]
            include(rows, number[below], token[above])
            include(rows, number[above], token[below])
            if level == 0 and depth % 2 == 0:
                begins = np.flatnonzero(np.diff(hub, prepend=-1))
                read = np.bitwise_or.reduceat(dependence.neighbours[row, token], begins, axis=0)
                rows[row[begins], token[begins]] |= read & ~pack(dependence.component >= 0)[row[begins]]
        return rows

    @cached_property
    def _rank(self) -> np.ndarray:
        """Each token's place in a row that keeps neighbours of the moral graph close."""
        tokens = self._families.members.shape[1]
        canonical = np.arange(tokens) if self._canonical is None else np.asarray(self._canonical)
        number = np.argsort(canonical)
        graph = nx.Graph()
        graph.add_nodes_from(range(tokens))
        for members in (self._families.members | self._families.parents).numpy():
            clique = np.sort(number[np.flatnonzero(members)]).tolist()
            graph.add_edges_from((a, b) for place, a in enumerate(clique) for b in clique[place + 1 :])
        rank = np.empty(tokens, dtype=np.int64)
        rank[canonical[list(nx.utils.reverse_cuthill_mckee_ordering(graph))]] = np.arange(tokens)
        return rank


def _root(size: int, levels: int) -> int:
    """Returns the least whole b with b ** levels >= size."""
    base = max(1, round(size ** (1 / levels)) - 1)
    while base**levels < size:
        base += 1
    return base
