"""Condition states of traces that look at functions in fewer points than others.

A value of a function is a leaf of the graph, so leaving it out takes its own row and column from a mask and nothing
else; unless it was the last value of its function that was present, or the last latent one, or a hub of shortcuts. So
masks of whole sets of points, of which a pool is kept, serve for all traces.
"""

from __future__ import annotations

import torch
from torch import Tensor

from simgraph.compile import Compiled
from simgraph.compile.edges import EdgeList
from simgraph.compile.functions import values_of_functions
from simgraph.compile.masks import ABSENT, LATENT
from simgraph.compile.shortcuts import NARROW
from simgraph.train.conditions import Conditions

__all__ = ["Thinning"]


class Thinning:
    """Leaves out the values of functions that traces do not have.

    Args:
        conditions: The distribution of condition states.
        compiled: Derives masks.
        depth: Number of attention layers.
    """

    def __init__(self, conditions: Conditions, compiled: Compiled, depth: int) -> None:
        self.conditions, self.rule, self.depth = conditions, compiled.rule, depth
        self.values = values_of_functions(compiled.layout)

    def elements(self, exists: Tensor | None) -> Tensor | None:
        """Returns which tokens exist where functions have all of their values (rows, tokens); None if all do."""
        if exists is None:
            return None
        found = exists | self.values.any(0)
        return None if found.all() else found

    def __call__(
        self, states: Tensor, masks: Tensor | EdgeList, exists: Tensor, generator: torch.Generator
    ) -> tuple[Tensor, Tensor | EdgeList]:
        """Returns states (rows, tokens) and masks without tokens that do not exist, boolean (rows, tokens)."""
        if not self.values.any():
            return states, masks
        fewer = torch.where(exists, states, ABSENT)
        silent = (fewer != LATENT).all(1)
        changed = silent.clone()
        for before, after in ((states != ABSENT, fewer != ABSENT), (states == LATENT, fewer == LATENT)):
            had, has = (torch.mm(each.float(), self.values.float().T) > 0 for each in (before, after))
            changed |= (had & ~has).any(1)
        latent = states == LATENT
        # Of a wide component the shortcuts may lead through a token that is left out.
        changed |= (latent.sum(1) > NARROW) & (latent & (fewer != LATENT)).any(1)
        redone = changed.nonzero().flatten()
        if silent.any():
            fewer = self.conditions.with_latents(fewer, generator, exists)
        if isinstance(masks, EdgeList):
            return fewer, self.rule.masks(fewer, self.depth, self.elements(exists))
        kept = fewer != ABSENT
        masks = (masks & kept.unsqueeze(1) & kept.unsqueeze(2)) | torch.eye(states.shape[1], dtype=torch.bool)
        if len(redone):
            others = self.elements(exists)
            again = self.rule.edge_mask(fewer[redone], self.depth, None if others is None else others[redone])
            masks[redone] = again
        return fewer, masks
