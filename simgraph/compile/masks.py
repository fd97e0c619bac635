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
``depth`` layers token i hears of all of D(i); where a component is wider than that, its latent rows
become all of D(i).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from simgraph.graph.dependence import Families, compose, dependencies, project

__all__ = ["ABSENT", "LATENT", "OBSERVED", "Form", "MaskRule"]

Form = Literal["relay", "cached"]

ABSENT, LATENT, OBSERVED = 0, 1, 2
"""Condition states of a token in one query."""


@dataclass(frozen=True)
class MaskRule:
    """Derives edge masks from the families of a graph's tokens.

    Attributes:
        families: The factorisation over tokens.
        form: What observed tokens read.
    """

    families: Families
    form: Form = "relay"

    def edge_mask(self, states: Tensor, depth: int) -> Tensor:
        """Returns M_E for a batch of condition states.

        Args:
            states: Integer tensor (batch, tokens) of ABSENT, LATENT and OBSERVED.
            depth: Number of attention layers.

        Returns:
            Boolean tensor (batch, tokens, tokens); entry (i, j): token i may attend to token j. The
            diagonal is true.
        """
        present, observed = states != ABSENT, states == OBSERVED
        latent = states == LATENT
        adjacency = project(self.families, present)
        component, depends = dependencies(adjacency, observed, present)
        blanket = adjacency & latent[:, :, None]
        mask = blanket | (adjacency & self._readable(adjacency, depends, latent, observed))
        mask = mask | torch.eye(states.shape[1], dtype=torch.bool)

        reach = mask
        for _ in range(depth - 1):
            reach = compose(reach, mask)
        short = (depends & ~reach).any(-1) & latent
        if short.any():
            wide = (component & short[:, None, :]).any(-1)
            mask = mask | (depends & wide[:, :, None])
        return mask

    def dependencies(self, states: Tensor) -> Tensor:
        """Returns D: boolean (batch, tokens, tokens), entry (i, j): latent token i may depend on token j."""
        present, observed = states != ABSENT, states == OBSERVED
        return dependencies(project(self.families, present), observed, present)[1]

    def _readable(self, adjacency: Tensor, depends: Tensor, latent: Tensor, observed: Tensor) -> Tensor:
        """Returns what observed tokens may read: entry (o, j) for observed o."""
        borders = adjacency & observed[:, :, None] & latent[:, None, :]
        forbidden = compose(borders, ~depends)
        readable = borders.any(-1, keepdim=True) & ~forbidden
        return readable & ~latent[:, None, :] if self.form == "cached" else readable
