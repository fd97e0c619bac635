"""A denoiser behind the embedding networks of what it is given."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn
from torch.nn.functional import pad

from simgraph.compile import Compiled
from simgraph.compile.layout import Layout
from simgraph.simformer import Denoiser
from simgraph.simformer.denoiser import Mask
from simgraph.train.compaction import packed, packing

__all__ = ["Learner"]

_MOST_IDENTIFIERS = 32
"""Packed rows find their attention biases by products with so many unit vectors."""


class Learner(nn.Module):
    """All that is trained: the denoiser, and the embedding networks of the graph.

    Args:
        denoiser: The denoiser.
        layout: The tokens; its embedding networks are copied.
    """

    def __init__(self, denoiser: Denoiser, layout: Layout) -> None:
        super().__init__()
        self.denoiser = denoiser
        embedded = layout.embedded
        self.networks = nn.ModuleList(copy.deepcopy(own.network).train() for own in embedded.values())
        self.networks.requires_grad_(True)
        self.slots = [layout.slots(name) for name in embedded]
        self._packs = len(layout.widths) <= _MOST_IDENTIFIERS
        self.axes = [len(own.variable.plate_shape) for own in embedded.values()]

    def loss(
        self,
        x_0: Tensor,
        noise: Tensor,
        sigma: Tensor,
        states: Tensor,
        mask: Mask,
        places: Tensor | None = None,
        *raw: Tensor,
    ) -> Tensor:
        """Returns the denoising loss of each token that is present, (batch, most); see :meth:`Denoiser.loss`.

        Args:
            x_0: Clean tokens (batch, tokens, features).
            noise: Standard normal noise of that shape.
            sigma: Noise levels (batch,).
            states: Condition states (batch, tokens).
            mask: M_E.
            places: Points of functions (batch, tokens, coordinates), if there are any.
            *raw: What the embedding networks see, (batch, *plate sizes, *event_shape) each.
        """
        for network, slots, axes, values in zip(self.networks, self.slots, self.axes, raw, strict=True):
            features = network(values.flatten(0, axes)).unflatten(0, (len(x_0), -1))
            features = pad(features, (0, x_0.shape[-1] - features.shape[-1]))
            x_0 = torch.cat([x_0[:, : slots.start], features, x_0[:, slots.stop :]], 1)
        kept = packing(states) if self._packs and isinstance(mask, Tensor) else None
        if kept is None:
            return self.denoiser.loss(x_0, noise, sigma, states, mask, places)
        assert isinstance(mask, Tensor)
        x_0, noise, states, mask = (packed(part, kept) for part in (x_0, noise, states, mask))
        mask = packed(mask.transpose(1, 2), kept).transpose(1, 2)
        places = None if places is None else packed(places, kept)
        return self.denoiser.loss(x_0, noise, sigma, states, mask, places, kept)

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
