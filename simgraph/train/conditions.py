"""The distribution of condition states in training: which question each trace is asked.

Every trace of every step draws its own state from a mixture: the joint; the posterior and the likelihood that the
graph's roots and leaves imply, half of the posteriors with questions about more points of the functions that are seen;
each variable given its parents; random subsets of elements and of whole variables, observed with probability 0.3 or
0.7; and the user's own queries. A part of them loses variables or elements at random, so that marginals are learned as
well.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import torch
from torch import Tensor

from simgraph.compile import Compiled
from simgraph.compile.edges import EdgeList, joined
from simgraph.compile.functions import values_of_functions
from simgraph.compile.masks import ABSENT, LATENT, OBSERVED

__all__ = ["Conditions", "Pool", "Pools"]

_OWN_QUERIES = 0.5
"""Share of the mixture that the user's own queries get, if there are any."""

_DROPPING = 0.25
"""Share of the states that lose tokens."""

_DROPPED = 0.3
"""Probability that a variable, or an element, is lost there."""


class Conditions:
    """Draws condition states for the tokens of a compiled graph.

    Args:
        compiled: The compiled graph.
        queries: States of the user's own queries, (queries, tokens); asked as they are.
    """

    def __init__(self, compiled: Compiled, queries: Sequence[Tensor] = ()) -> None:
        families, drawn_from = compiled.families, compiled.drawn_from
        self.tokens = len(compiled.layout)
        self.queries = torch.stack(list(queries)) if queries else None
        self.variable, self.askable = compiled.layout.variables, compiled.layout.askable
        # A variable is a root or a leaf as a whole; what its own elements say of one another is no matter.
        self.roots = ~drawn_from.any(1)[self.variable]
        self.leaves = ~drawn_from.any(0)[self.variable]
        mine = self.variable == torch.arange(len(drawn_from))[:, None]
        self.parents = families.drawn_from(self.variable, len(drawn_from)) & ~mine
        self.values = values_of_functions(compiled.layout).any(0)

    def draw(self, count: int, generator: torch.Generator, exists: Tensor | None = None) -> Tensor:
        """Draws condition states.

        Args:
            count: How many.
            generator: Source of randomness.
            exists: Which tokens there are, boolean (count or 1, tokens); None for all. The others are ABSENT.

        Returns:
            Integer tensor (count, tokens); every state has a latent token.
        """
        kinds: list[Callable[[int, torch.Generator], Tensor]] = [
            self._joint,
            self._posterior,
            self._likelihood,
            self._mechanism,
            self._elements,
            self._variables,
        ]
        chosen = torch.randint(len(kinds), (count,), generator=generator)
        states = torch.empty(count, self.tokens, dtype=torch.long)
        for number, kind in enumerate(kinds):
            here = chosen == number
            states[here] = kind(int(here.sum()), generator)
        # What can only be given is left out where it would be asked for.
        states = torch.where((states == LATENT) & ~self.askable, ABSENT, self._drop(states, generator))
        if self.queries is not None:
            own = torch.rand(count, generator=generator) < _OWN_QUERIES
            pick = torch.randint(len(self.queries), (int(own.sum()),), generator=generator)
            states[own] = self.queries[pick]
        if exists is not None:
            states = torch.where(exists, states, ABSENT)
        return self.with_latents(states, generator, exists)

    def fitting(self, states: Tensor, present: Tensor) -> Tensor:
        """Fits drawn states to traces that lack tokens.

        A trace that lacks a whole variable (its simulation failed) sits out the questions that use it.
        Were the variable absent instead, failed traces would be over-represented where it is, and bias the
        marginals of all others. Of a variable that is there in part, the lacking tokens are absent.

        Args:
            states: Drawn states (count, tokens).
            present: Which tokens each trace has (count, tokens).

        Returns:
            States (count, tokens); those of a trace that sits out are all ABSENT.
        """
        found = torch.zeros(len(states), len(self.parents)).index_add_(1, self.variable, present.float()) > 0
        sits_out = ((states != ABSENT) & ~found[:, self.variable]).any(1, keepdim=True)
        return torch.where(present & ~sits_out, states, ABSENT)

    def _joint(self, count: int, generator: torch.Generator) -> Tensor:
        return torch.full((count, self.tokens), LATENT)

    def _posterior(self, count: int, generator: torch.Generator) -> Tensor:
        seen = self.leaves.expand(count, -1)
        if (self.leaves & self.values).any():
            # What is seen of a function comes with questions about the rest of it.
            asked = torch.rand(count, 1, generator=generator) * (torch.rand(count, 1, generator=generator) < 0.5)
            seen = seen & ~(self.values & (torch.rand(count, self.tokens, generator=generator) < asked))
        return torch.where(seen, OBSERVED, LATENT)

    def _likelihood(self, count: int, generator: torch.Generator) -> Tensor:
        return torch.where(self.roots, OBSERVED, LATENT).expand(count, -1)

    def _mechanism(self, count: int, generator: torch.Generator) -> Tensor:
        number = torch.randint(len(self.parents), (count,), generator=generator)
        own = self.variable == number[:, None]
        return torch.where(own, LATENT, torch.where(self.parents[number], OBSERVED, ABSENT))

    def _elements(self, count: int, generator: torch.Generator) -> Tensor:
        chance = torch.where(torch.rand(count, 1, generator=generator) < 0.5, 0.3, 0.7)
        return torch.where(torch.rand(count, self.tokens, generator=generator) < chance, OBSERVED, LATENT)

    def _variables(self, count: int, generator: torch.Generator) -> Tensor:
        chance = torch.where(torch.rand(count, 1, generator=generator) < 0.5, 0.3, 0.7)
        observed = torch.rand(count, len(self.parents), generator=generator) < chance
        return torch.where(observed[:, self.variable], OBSERVED, LATENT)

    def _drop(self, states: Tensor, generator: torch.Generator) -> Tensor:
        count = len(states)
        kind = torch.rand(count, 1, generator=generator)
        variables = (torch.rand(count, len(self.parents), generator=generator) < _DROPPED)[:, self.variable]
        elements = torch.rand(count, self.tokens, generator=generator) < _DROPPED
        dropped = (variables & (kind < _DROPPING / 2)) | (elements & (kind > 1 - _DROPPING / 2))
        return torch.where(dropped, ABSENT, states)

    def with_latents(self, states: Tensor, generator: torch.Generator, exists: Tensor | None) -> Tensor:
        """Makes one token latent where none is, of those that exist and can be asked for."""
        states = states.clone()
        rows = (states != LATENT).all(1).nonzero().flatten()
        if exists is None:
            choices = self.askable.nonzero().flatten()
            chosen = choices[torch.randint(len(choices), (len(rows),), generator=generator)]
        else:
            luck = torch.rand(len(rows), self.tokens, generator=generator)
            possible = exists.expand(len(states), -1)[rows] & self.askable
            chosen = torch.where(possible, luck, -1.0).argmax(1)
        states[rows, chosen] = LATENT
        return states


class Pool:
    """Condition states with their edge masks, made many at a time and renewed as they are used.

    Args:
        conditions: Draws the states.
        compiled: Derives the masks.
        depth: Number of attention layers.
        generator: Source of randomness.
        most_bytes: Memory for the masks.
        exists: Which tokens there are, boolean (tokens,); None for all.
    """

    _USES = 4  # how often a state is used on average before the pool is renewed

    def __init__(
        self,
        conditions: Conditions,
        compiled: Compiled,
        depth: int,
        generator: torch.Generator,
        most_bytes: int = 32_000_000,
        exists: Tensor | None = None,
    ) -> None:
        self.conditions, self.compiled, self.depth, self.generator = conditions, compiled, depth, generator
        self.exists = None if exists is None else exists.unsqueeze(0)
        self.size = max(32, min(2048, most_bytes // conditions.tokens**2))
        self.left = 0
        self.states = torch.empty(0)
        self.masks: Tensor | EdgeList = torch.empty(0)

    def draw(self, count: int) -> tuple[Tensor, Tensor | EdgeList]:
        """Draws states (count, tokens) and masks (count, tokens, tokens), lists of pairs where they are sparse."""
        if self.left <= 0:
            self.states = self.conditions.draw(self.size, self.generator, self.exists)
            exists = None if self.exists is None else self.exists.expand(self.size, -1)
            self.masks = self.compiled.rule.masks(self.states, self.depth, exists)
            self.left = self._USES * self.size
        self.left -= count
        rows = torch.randint(self.size, (count,), generator=self.generator)
        return self.states[rows], self.masks[rows]


class Pools:
    """A pool for each set of tokens that traces have: plates whose size varies give each size a pool of its own.

    Args:
        conditions: Draws the states.
        compiled: Derives the masks.
        depth: Number of attention layers.
        generator: Source of randomness.
        exists: Which tokens the traces have, boolean (traces, tokens).
        most_bytes: Memory for the masks of all pools.
    """

    _MOST = 256  # sets of tokens up to which a pool of each is worth its while

    def __init__(
        self,
        conditions: Conditions,
        compiled: Compiled,
        depth: int,
        generator: torch.Generator,
        exists: Tensor,
        most_bytes: int = 32_000_000,
    ) -> None:
        self.conditions, self.compiled, self.depth, self.generator = conditions, compiled, depth, generator
        kinds = len(torch.unique(exists, dim=0))
        self._direct = kinds > self._MOST
        self._new = partial(Pool, conditions, compiled, depth, generator, most_bytes // kinds)
        self._pools: dict[bytes, Pool] = {}

    def draw(self, exists: Tensor) -> tuple[Tensor, Tensor | EdgeList]:
        """Draws states (traces, tokens) and masks (traces, tokens, tokens), lists of pairs where all are sparse.

        Args:
            exists: Which tokens each trace has, boolean (traces, tokens).
        """
        if self._direct:
            states = self.conditions.draw(len(exists), self.generator, exists)
            return states, self.compiled.rule.masks(states, self.depth, exists)
        kinds, which = torch.unique(exists, dim=0, return_inverse=True)
        for kind in kinds:
            if (key := kind.numpy().tobytes()) not in self._pools:
                self._pools[key] = self._new(exists=kind)
        counts = torch.bincount(which, minlength=len(kinds)).tolist()
        drawn = [self._pools[kind.numpy().tobytes()].draw(count) for kind, count in zip(kinds, counts, strict=True)]
        place = which.argsort(stable=True).argsort()
        return torch.cat([states for states, _ in drawn])[place], joined([masks for _, masks in drawn])[place]
