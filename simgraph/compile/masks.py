r"""M_E: which token may attend to which, for a condition state and the tokens present.

The rows of latent tokens are their Markov blankets in :math:`\hat H` (see
:mod:`simgraph.graph.dependence`). The rows of observed tokens come in two forms:

* *relay*: an observed token o reads those neighbours that every component bordering it may know,
  :math:`\bigcap_{K \ni o} (T_K \cup B_K)`. If it borders one component, it reads that component's
  latents and forms features of them; if it borders several, it reads no latent, since it would
  carry news from one to another.
* *cached*: as relay, without the latents. Keys and values of observed tokens are then the same at every
  diffusion time and are computed once per query.

Both are tight: however deep the network, output i is a function of D(i) alone. Both are sound: within
``depth`` layers latent token i hears of all of D(i). A component that is wider than the network is deep
gets shortcuts (:mod:`simgraph.compile.shortcuts`).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import pad

from simgraph.compile.edges import EdgeList
from simgraph.compile.shortcuts import Shortcuts
from simgraph.graph.bitsets import Words, pack, unpack
from simgraph.graph.dependence import Dependence, Families

__all__ = ["ABSENT", "LATENT", "OBSERVED", "SHORT", "SPARSE", "STATE_NAMES", "Form", "MaskRule"]

Form = Literal["relay", "cached"]

ABSENT, LATENT, OBSERVED = 0, 1, 2
"""Condition states of a token in one query."""

STATE_NAMES = {LATENT: "latent", OBSERVED: "observed", ABSENT: "absent"}

SHORT = 192
"""Up to so many present tokens masks are tables, however few pairs they allow."""

SPARSE = 1 / 32
"""Share of the pairs of present tokens up to which longer masks are lists of pairs."""

_MOST_KNOWN = 256
"""Sets of tokens of which the rule is kept."""

_MOST_WORDS = 2**17
"""Words of token sets that are worked on at a time: what a processor keeps close at hand."""


@dataclass(frozen=True)
class MaskRule:
    """Derives edge masks from the families of a graph's tokens.

    Attributes:
        families: The factorisation over tokens.
        form: What observed tokens read.
        canonical: The tokens in an order that does not depend on that of the declarations; it decides between
            shortcuts that are equally good. None for the order of the tokens themselves.

    The families may hold more slots than a question has tokens. These are hidden: they lie behind the tokens, exist
    in every row, and are always absent.
    """

    families: Families
    form: Form = "relay"
    canonical: tuple[int, ...] | None = None

    def edge_mask(self, states: Tensor, depth: int, exists: Tensor | None = None) -> Tensor:
        """Returns M_E for a batch of condition states.

        Args:
            states: Integer tensor (batch, tokens) of ABSENT, LATENT and OBSERVED.
            depth: Number of attention layers.
            exists: Boolean tensor (batch, tokens): which tokens each row has at all; None for all of them. A token
                that does not exist has no edges, where an absent one is marginalised. Its state is ABSENT.

        Returns:
            Boolean tensor (batch, tokens, tokens); entry (i, j): token i may attend to token j. The
            diagonal is true.
        """
        tokens = states.shape[1]
        if tokens < self._slots:
            return self.edge_mask(*self._whole(states, exists, depth))[:, :tokens, :tokens]
        if exists is not None and not exists.all():
            return self._ragged_mask(states, depth, exists)
        masks = torch.empty((*states.shape, tokens), dtype=torch.bool)
        for rows, found in self._rows(states, depth):
            masks[rows] = torch.from_numpy(unpack(found, tokens))
        return masks

    def masks(self, states: Tensor, depth: int, exists: Tensor | None = None) -> Tensor | EdgeList:
        """Returns M_E in the form that attention is faster with; arguments as for ``edge_mask``.

        That is a list of pairs where more than ``SHORT`` tokens are present and no more than ``SPARSE`` of their pairs
        are allowed, and a table otherwise.
        """
        present, tokens = int((states != ABSENT).any(0).sum()), states.shape[1]
        if present <= SHORT:
            return self.edge_mask(states, depth, exists)
        if tokens < self._slots:
            found = self.masks(*self._whole(states, exists, depth))
            seen = torch.arange(tokens)
            return found.among(seen, seen) if isinstance(found, EdgeList) else found[:, :tokens, :tokens]
        left = SPARSE * len(states) * present**2
        numbers, parts = [], []
        for rows, part in self._lists(states, depth, exists):
            left -= len(part.query)
            if left < 0:
                return self.edge_mask(states, depth, exists)
            numbers.append(rows)
            parts.append(part)
        return EdgeList.joined(parts)[torch.cat(numbers).argsort()]

    def local_mask(self, states: Tensor) -> Tensor:
        """Returns M_E without shortcuts: what a network of any depth may use; arguments as for ``edge_mask``."""
        tokens = states.shape[1]
        parts = self._dependence(self._whole(states)[0])
        masks = [self._local(dependence, self._readable(dependence)) for _, dependence in parts]
        return torch.from_numpy(unpack(np.concatenate(masks), self._slots)[:, :tokens, :tokens])

    def dependencies(self, states: Tensor) -> Tensor:
        """Returns D: boolean (batch, tokens, tokens), entry (i, j): latent token i may depend on token j."""
        tokens = states.shape[1]
        parts = self._dependence(self._whole(states)[0])
        depends = [unpack(dependence.depends, self._slots)[:, :tokens, :tokens] for _, dependence in parts]
        return torch.from_numpy(np.concatenate(depends))

    def among(self, tokens: Tensor) -> MaskRule:
        """Returns the rule where only some tokens exist, boolean (tokens,), or (slots,) with the hidden ones."""
        tokens = pad(tokens, (0, self._slots - len(tokens)), value=True)
        key = tokens.numpy().tobytes()
        if key not in self._known:
            if len(self._known) >= _MOST_KNOWN:
                self._known.clear()
            place = (tokens.cumsum(0) - 1).tolist()
            order = self.canonical
            kept = None if order is None else tuple(place[token] for token in order if tokens[token])
            self._known[key] = MaskRule(self.families.among(tokens), self.form, kept)
        return self._known[key]

    def _ragged_mask(self, states: Tensor, depth: int, exists: Tensor) -> Tensor:
        """Returns M_E where rows have different tokens; those with the same ones are worked on together."""
        masks = torch.eye(states.shape[1], dtype=torch.bool).repeat(len(states), 1, 1)
        kinds, which = torch.unique(exists, dim=0, return_inverse=True)
        for number, kind in enumerate(kinds):
            rows, here = (which == number).nonzero().flatten(), kind.nonzero().flatten()
            if len(here):
                found = self.among(kind).edge_mask(states[rows][:, here], depth)
                masks[rows[:, None, None], here[:, None], here] = found
        return masks

    def _lists(self, states: Tensor, depth: int, exists: Tensor | None) -> Iterator[tuple[Tensor, EdgeList]]:
        """Yields parts of a batch, as numbers of its rows, with their masks as lists of pairs."""
        tokens, numbers = states.shape[1], torch.arange(len(states))
        if exists is None or exists.all():
            for rows, found in self._rows(states, depth):
                yield numbers[rows], EdgeList.of_words(found, tokens)
            return
        kinds, which = torch.unique(exists, dim=0, return_inverse=True)
        for number, kind in enumerate(kinds):
            mine, here = numbers[which == number], kind.nonzero().flatten()
            for some, part in self.among(kind)._lists(states[mine][:, here], depth, None):
                yield mine[some], part.spread(here, tokens)

    @property
    def _slots(self) -> int:
        """Number of tokens and hidden slots."""
        return self.families.members.shape[1]

    def _whole(self, states: Tensor, exists: Tensor | None = None, depth: int = 1) -> tuple[Tensor, int, Tensor | None]:
        """Returns the arguments of a question in which hidden slots, behind the tokens, are absent."""
        hidden = (0, self._slots - states.shape[1])
        return pad(states, hidden, value=ABSENT), depth, None if exists is None else pad(exists, hidden, value=True)

    @cached_property
    def _known(self) -> dict[bytes, MaskRule]:
        """The rules of tokens that were asked for."""
        return {}

    @cached_property
    def shortcuts(self) -> Shortcuts:
        """Adds shortcuts where the network is too shallow."""
        return Shortcuts(self.families, self.canonical)

    def _rows(self, states: Tensor, depth: int) -> Iterator[tuple[slice, Words]]:
        """Yields parts of a batch with their masks (batch, tokens, words)."""
        for rows, dependence in self._dependence(states):
            readable = self._readable(dependence)
            yield rows, self.shortcuts.add(self._local(dependence, readable), readable, dependence, depth)

    def _dependence(self, states: Tensor) -> Iterator[tuple[slice, Dependence]]:
        """Yields parts of a batch with their dependence."""
        incidence = self.families.incidence
        size = max(1, _MOST_WORDS // (len(incidence.tokens) * incidence.whole.shape[-1]))
        array = states.numpy()
        for first in range(0, len(array), size):
            rows = slice(first, first + size)
            yield rows, Dependence(self.families, array[rows] != ABSENT, array[rows] == OBSERVED)

    def _readable(self, dependence: Dependence) -> Words:
        """Returns what each token may read without a leak (batch, tokens, words): all of D, or what o may know."""
        allowed = dependence.allowed
        if self.form == "cached":
            allowed = allowed & ~pack(dependence.component >= 0)[:, None]
        return np.where(dependence.component[..., None] >= 0, dependence.depends, allowed)

    def _local(self, dependence: Dependence, readable: Words) -> Words:
        """Returns the rows (batch, tokens, words) of the mask without shortcuts."""
        return np.asarray((dependence.neighbours & readable) | self.families.incidence.alone)
