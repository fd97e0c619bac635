"""A denoiser behind the embedding networks of what it is given."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn
from torch.nn.functional import pad

from simgraph.compile import Compiled
from simgraph.compile.layout import Layout
from simgraph.simformer import Denoiser
from simgraph.simformer.control import Control
from simgraph.simformer.denoiser import Mask
from simgraph.train.compaction import packed, packing

__all__ = ["Learner"]

_MOST_IDENTIFIERS = 32
"""Packed rows find their attention biases by products with so many unit vectors."""


class Learner(nn.Module):
    """All that is trained: the denoiser, the embedding networks of the graph, and weights of its scores.

    Args:
        denoiser: The denoiser.
        layout: The tokens; its embedding networks are copied.
    """

    def __init__(self, denoiser: Denoiser, layout: Layout) -> None:
        super().__init__()
        self.denoiser = denoiser
        self.control = Control(len(layout.widths))
        embedded = layout.embedded
        self.networks = nn.ModuleList(copy.deepcopy(own.network).train() for own in embedded.values())
        self.networks.requires_grad_(True)
        self.slots = [layout.slots(name) for name in embedded]
        self._packs = len(layout.widths) <= _MOST_IDENTIFIERS
        self.axes = [len(own.variable.plate_shape) for own in embedded.values()]

    def losses(
        self,
        x_0: Tensor,
        noise: Tensor,
        sigma: Tensor,
        states: Tensor,
        mask: Mask,
        places: Tensor | None = None,
        scores: Tensor | None = None,
        *raw: Tensor,
    ) -> tuple[Tensor, Tensor]:
        """Returns the loss of each token that is present, plain and with the help of scores: (batch, most) each.

        Args:
            x_0: Clean tokens (batch, tokens, features).
            noise: Standard normal noise of that shape.
            sigma: Noise levels (batch,).
            states: Condition states (batch, tokens).
            mask: M_E.
            places: Points of functions (batch, tokens, coordinates), if there are any.
            scores: What the graph knows of each token, (batch, tokens, 3), if there is anything.
            *raw: What the embedding networks see, (batch, *plate sizes, *event_shape) each.
        """
        for network, slots, axes, values in zip(self.networks, self.slots, self.axes, raw, strict=True):
            features = network(values.flatten(0, axes)).unflatten(0, (len(x_0), -1))
            features = pad(features, (0, x_0.shape[-1] - features.shape[-1]))
            x_0 = torch.cat([x_0[:, : slots.start], features, x_0[:, slots.stop :]], 1)
        kept = packing(states) if self._packs and isinstance(mask, Tensor) else None
        if kept is not None:
            assert isinstance(mask, Tensor)
            x_0, noise, states, mask = (packed(part, kept) for part in (x_0, noise, states, mask))
            mask = packed(mask.transpose(1, 2), kept).transpose(1, 2)
            places, scores = (None if part is None else packed(part, kept) for part in (places, scores))
        ids = self.denoiser.ids if kept is None else self.denoiser.ids[kept]
        control = None if scores is None else self.control(noise[..., 0], sigma, scores, ids)
        return self.denoiser.losses(x_0, noise, sigma, states, mask, places, kept, control)

    def fitted(self, compiled: Compiled) -> Compiled:
        """Returns the compiled graph with the embedding networks as they are learned."""
        if not len(self.networks):
            return compiled
        return compiled.embedding(
            {
                name: copy.deepcopy(network).eval().requires_grad_(False)
                for name, network in zip(compiled.layout.embedded, self.networks, strict=True)
            }
        )
