"""How a value becomes one token through a network that is trained with the rest."""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.dropout import _DropoutNd

from simgraph.dsl.tokenizer import TokenizerSpec
from simgraph.errors import DeclarationError

__all__ = ["Convolution", "Embedding"]

_ROWS = 3


class Embedding(TokenizerSpec):
    """One token whose features a network of your own computes; for data that are always given as a whole.

    The network learns with the rest of the model which features of an image, a long series or a set tell something
    about the other variables. A node with an embedding is given, or left out; nothing can be asked of it.

    Args:
        network: Maps values (rows, *event_shape), standardised, to features (rows, features). Each row is mapped on
            its own and without chance: no batch normalisation, no dropout. It is copied, and never changed.
        structured: Whether all pixels of an image (channels, height, width), or all steps of a series (channels,
            steps), share one mean and standard deviation for each channel. Each element has its own by default.

    Raises:
        DeclarationError: If it is no ``torch.nn.Module``.

    Example:
        >>> Embedding(nn.Sequential(nn.Linear(100, 64), nn.GELU(), nn.Linear(64, 16)))
        Embedding(Sequential, 7504 weights)
    """

    def __init__(self, network: nn.Module, *, structured: bool = False) -> None:
        if not isinstance(network, nn.Module):
            raise DeclarationError(
                f"Embedding({network!r}): the network is a torch.nn.Module.\n"
                "  For example: Embedding(nn.Sequential(nn.Linear(100, 64), nn.GELU(), nn.Linear(64, 16)))"
            )
        self.network, self.structured = network, structured

    def build(self, event_shape: Sequence[int]) -> nn.Module:
        """Returns a network of its own for values of a shape."""
        return copy.deepcopy(self.network)

    def channelled(self, event_shape: Sequence[int]) -> bool:
        """Tells whether the first axis of values of a shape counts channels."""
        return len(event_shape) > 1

    def check(self, event_shape: Sequence[int], name: str) -> None:
        network = self.build(event_shape)
        fickle = (
            f"the embedding network of node {name!r} maps a row differently when asked again, or beside others.\n"
            "  Leave dropout out, and take LayerNorm or GroupNorm instead of batch normalisation."
        )
        if any(isinstance(part, (_BatchNorm, _DropoutNd)) for part in network.modules()):
            raise DeclarationError(fickle)
        rows = torch.linspace(-1, 1, _ROWS * math.prod(event_shape)).reshape(_ROWS, *event_shape)
        shape, advice = tuple(rows.shape), "  It maps values (rows, *event_shape) to features (rows, features)."
        try:
            with torch.no_grad():
                together, again = network(rows), network(rows)
                apart = torch.cat([network(row.unsqueeze(0)) for row in rows])
        except Exception as error:  # a network of the user's may fail in any way
            raise DeclarationError(
                f"the embedding network of node {name!r} fails at values of shape {shape}: {error}\n{advice}"
            ) from error
        if not isinstance(together, Tensor) or together.dim() != 2 or len(together) != _ROWS or not together.shape[1]:
            found = tuple(together.shape) if isinstance(together, Tensor) else type(together).__name__
            raise DeclarationError(
                f"the embedding network of node {name!r} maps values of shape {shape} to {found}.\n{advice}"
            )
        if not torch.equal(together, again) or not torch.allclose(together, apart, rtol=1e-3, atol=1e-4):
            raise DeclarationError(fickle)

    def __repr__(self) -> str:
        weights = sum(parameter.numel() for parameter in self.network.parameters())
        return f"Embedding({type(self.network).__name__}, {weights} weights)"


class Convolution(Embedding):
    """An embedding by a small convolutional network, for series and images.

    Each layer halves the resolution; what is left is averaged over four pieces along each side.

    Args:
        dims: 1 for series of shape (steps,) or (channels, steps), 2 for images (height, width) or (channels, height,
            width).
        features: Number of features of the token.
        channels: Channels behind each layer.

    Raises:
        DeclarationError: If an argument is no whole number, or ``dims`` is neither 1 nor 2.

    Example:
        >>> Convolution(2), Convolution(1, features=16, channels=(8, 16, 32))
        (Convolution(2), Convolution(1, features=16, channels=(8, 16, 32)))
    """

    def __init__(self, dims: int, features: int = 32, channels: Sequence[int] = (16, 32)) -> None:
        sizes = (features, *channels)
        if dims not in (1, 2) or not all(isinstance(s, int) and not isinstance(s, bool) and s >= 1 for s in sizes):
            raise DeclarationError(
                f"Convolution({dims!r}, features={features!r}, channels={channels!r}): there are 1 or 2 dimensions, and"
                " whole numbers of features and channels.\n"
                "  For example: @node(shape=(1, 64, 64), tokenizer=Convolution(2))"
            )
        self.dims, self.features, self.channels = dims, features, tuple(channels)
        self.structured = True

    @property
    def options(self) -> dict[str, Any]:
        """The arguments, as JSON data."""
        return {"dims": self.dims, "features": self.features, "channels": list(self.channels)}

    def build(self, event_shape: Sequence[int]) -> nn.Module:
        convolution, pooling = ((nn.Conv1d, nn.AdaptiveAvgPool1d), (nn.Conv2d, nn.AdaptiveAvgPool2d))[self.dims - 1]
        plain = len(event_shape) == self.dims
        layers: list[nn.Module] = [nn.Unflatten(1, (1, event_shape[0]))] if plain else []
        width = 1 if plain else event_shape[0]
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)  # weights do not depend on what was drawn before
            for channels in self.channels:
                layers += [convolution(width, channels, 5, stride=2, padding=2), nn.GELU()]
                width = channels
            layers += [pooling(4), nn.Flatten(), nn.Linear(width * 4**self.dims, self.features)]
        return nn.Sequential(*layers)

    def channelled(self, event_shape: Sequence[int]) -> bool:
        return len(event_shape) == self.dims + 1

    def check(self, event_shape: Sequence[int], name: str) -> None:
        shapes = ("(steps,) or (channels, steps)", "(height, width) or (channels, height, width)")[self.dims - 1]
        if len(event_shape) not in (self.dims, self.dims + 1):
            raise DeclarationError(f"node {name!r} has event shape {tuple(event_shape)}; {self} is for {shapes}.")

    def __repr__(self) -> str:
        plain = (self.features, self.channels) == (32, (16, 32))
        return f"Convolution({self.dims}{'' if plain else f', features={self.features}, channels={self.channels}'})"
