"""What a token is made of: identifier + value + condition state + place + counts; and the diffusion time beside it."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn.functional import embedding

from simgraph.simformer.counts import counts_of
from simgraph.simformer.sparse import Bags

__all__ = ["CountEmbedding", "NoiseEmbedding", "PlaceEmbedding", "TokenEmbedding"]


class TokenEmbedding(nn.Module):
    """Sum of an identifier, a value and a condition-state embedding.

    The value enters by a linear map of its own for each identifier, since one number means different
    things in different variables.

    Args:
        identifiers: Number of identifiers.
        features: Number of features of a token's value.
        width: Width of the embedding.
    """

    def __init__(self, identifiers: int, features: int, width: int) -> None:
        super().__init__()
        self.identifier = nn.Parameter(0.5 * torch.randn(identifiers, width))
        self.value = nn.Parameter(torch.randn(identifiers, features, width) / math.sqrt(features))
        self.state = nn.Parameter(0.5 * torch.randn(3, width))

    def forward(self, values: Tensor, ids: Tensor, states: Tensor) -> Tensor:
        """Embeds tokens.

        Args:
            values: (batch, tokens, features).
            ids: (tokens,) or (batch, tokens).
            states: Integers (batch or 1, tokens).

        Returns:
            (tokens, batch, width).
        """
        own = ids.dim() == 2
        values, places = values.transpose(0, 1), ids.T if own else ids.unsqueeze(1)  # tokens, batch or 1
        base = embedding(places, self.identifier) + self.state[states.T]
        if values.shape[-1] == 1:
            return torch.addcmul(base, values, embedding(places, self.value.squeeze(1)))
        if own:
            weight = embedding(places, self.value.flatten(1)).unflatten(-1, self.value.shape[1:])
            return base + torch.einsum("tbf,tbfw->tbw", values, weight)
        return base + values @ self.value[ids]


class PlaceEmbedding(nn.Module):
    """Fourier features of the point at which a function is looked at, through a linear map.

    Scales go from twice the range of the index to a sixteenth of it, and to the range's ends the features are linear.

    Args:
        coordinates: Number of coordinates of a point.
        width: Width of the embedding.
        frequencies: Number of frequencies for each coordinate.

    References:
        Tancik et al., "Fourier features let networks learn high frequency functions in low dimensional domains" (2020),
        equation 4.
    """

    frequency: Tensor

    def __init__(self, coordinates: int, width: int, frequencies: int = 11) -> None:
        super().__init__()
        frequency = 0.5 * math.pi * torch.logspace(0, 5, frequencies, base=2.0)
        self.register_buffer("frequency", frequency, persistent=False)
        self.layer = nn.Linear(coordinates * (1 + 2 * frequencies), width, bias=False)

    def forward(self, places: Tensor) -> Tensor:
        """Maps points (..., coordinates), each between -1 and 1, to (..., width)."""
        angle = places.unsqueeze(-1) * self.frequency
        return self.layer(torch.cat([places.unsqueeze(-1), angle.sin(), angle.cos()], -1).flatten(-2))


class CountEmbedding(nn.Module):
    """How many tokens of each kind a token may attend to: the logarithms of 1 + n, through a linear map.

    Attention averages what it reads, and an average of ten tokens looks like one of twenty.

    Args:
        kinds: Which tokens count as what, (3, identifiers, kinds); see :mod:`simgraph.compile.counted`.
        width: Width of the embedding.
    """

    kinds: Tensor

    def __init__(self, kinds: Tensor, width: int) -> None:
        super().__init__()
        self.register_buffer("kinds", kinds, persistent=False)
        self.weight = nn.Parameter(0.3 * torch.randn(kinds.shape[2], width))

    def forward(self, mask: Tensor | Bags | None, states: Tensor, key_ids: Tensor) -> Tensor:
        """Embeds the counts; the arguments are those of :func:`counts_of`.

        Returns:
            (tokens or 1, batch or 1, width).
        """
        return counts_of(self.kinds, mask, states, key_ids).log1p() @ self.weight


class NoiseEmbedding(nn.Module):
    """Fourier features of the noise level, through a small network.

    Args:
        width: Width of the embedding.
        frequencies: Number of frequencies, from 0.1 to 10 in units of c_noise.
    """

    frequency: Tensor

    def __init__(self, width: int, frequencies: int = 16) -> None:
        super().__init__()
        self.register_buffer("frequency", torch.logspace(-1, 1, frequencies), persistent=False)
        self.layers = nn.Sequential(nn.Linear(2 * frequencies, width), nn.SiLU(), nn.Linear(width, width), nn.SiLU())

    def forward(self, noise: Tensor) -> Tensor:
        """Maps c_noise (batch,) to (batch, width)."""
        angle = noise.unsqueeze(-1) * self.frequency
        return self.layers(torch.cat([angle.sin(), angle.cos()], -1))
