"""The transformer: tokens attend to the tokens that M_E allows, modulated by the noise level.

References:
    Gloeckler, Deistler, Weilbach, Wood and Macke, "All-in-one simulation-based inference" (2024),
    section 3. Peebles and Xie, "Scalable diffusion models with transformers" (2023), section 3.2
    (adaptive layer norm; here one modulation per trace, not per token; in the cached form observed
    tokens have another one).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.functional import embedding, gelu, layer_norm, linear

from simgraph.compile.masks import OBSERVED
from simgraph.errors import DeclarationError
from simgraph.simformer.attention import attend, attend_shared, barrier, project
from simgraph.simformer.embeddings import CountEmbedding, NoiseEmbedding, PlaceEmbedding, TokenEmbedding
from simgraph.simformer.pairs import MOST_PAIRED, Pairs
from simgraph.simformer.rotary import Turn, rotate, turn
from simgraph.simformer.sparse import Bags, attend_along

__all__ = ["Architecture", "Memory", "Simformer"]

Memory = Sequence[tuple[Tensor, Tensor]]
"""Keys and values of observed tokens by layer, each (tokens, batch, width), or (tokens, 1, width) for all rows."""

# Inside the network tokens come first, (tokens, batch, width): the forms of attention then copy little or nothing.


@dataclass(frozen=True)
class Architecture:
    """Sizes of the transformer.

    Attributes:
        width: Width of a token.
        depth: Number of attention layers.
        heads: Number of attention heads; divides the width.
        widening: Hidden width of the feed-forward layers, in units of ``width``.
    """

    width: int = 64
    depth: int = 6
    heads: int = 4
    widening: int = 3

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= 65536:
                raise DeclarationError(f"{name}={value!r} is not a whole number of 1 or more.")
        if self.width % self.heads:
            raise DeclarationError(f"width={self.width} is not a multiple of heads={self.heads}.")


class Simformer(nn.Module):
    """Maps noised tokens to one output of the token's size each.

    Args:
        architecture: Sizes.
        identifiers: Number of token identifiers.
        features: Number of features of a token's value.
        plates: Number of plates; each adds a learned attention bias between tokens of one element.
        coordinates: Number of coordinates of the points of functions; 0 if there are none.
        timeless: Whether observed tokens get no diffusion time (the cached form).
        kinds: Which tokens count as what, (3, identifiers, kinds): tokens are told how many of each kind they may
            attend to. None: nothing of the sort.
    """

    def __init__(
        self,
        architecture: Architecture,
        identifiers: int,
        features: int,
        plates: int = 0,
        coordinates: int = 0,
        timeless: bool = False,
        kinds: Tensor | None = None,
    ) -> None:
        super().__init__()
        self.architecture, self.timeless = architecture, timeless
        width = architecture.width
        self.embedding = TokenEmbedding(identifiers, features, width)
        self.place = PlaceEmbedding(coordinates, width) if coordinates else None
        self.count = None if kinds is None else CountEmbedding(kinds, width)
        self.noise = NoiseEmbedding(width)
        self.clean = nn.Parameter(torch.zeros(width)) if timeless else None
        self.blocks = nn.ModuleList(_Block(architecture, identifiers, plates) for _ in range(architecture.depth))
        # Scale, shift and gate of the two halves of all blocks, in one product; identity at the start.
        self.modulation = nn.Linear(width, architecture.depth * 6 * width)
        identity = torch.tensor([1.0, 0.0, 1.0]).repeat(2 * architecture.depth).repeat_interleave(width)
        with torch.no_grad():
            self.modulation.weight.zero_()
            self.modulation.bias.copy_(identity)
        self.head = nn.Parameter(torch.zeros(identifiers, width, features))
        self.head_bias = nn.Parameter(torch.zeros(identifiers, features))

    def matrices(self) -> list[nn.Parameter]:
        """Returns the weight matrices inside the blocks, which Muon trains."""
        layers = ("attention_in", "attention_out", "up", "down")
        return [getattr(block, layer).weight for block in self.blocks for layer in layers]

    def forward(
        self,
        values: Tensor,
        noise: Tensor,
        states: Tensor,
        ids: Tensor,
        mask: Tensor | Bags | None,
        same: Tensor | None = None,
        memory: Memory | None = None,
        key_ids: Tensor | None = None,
        wanted: Tensor | None = None,
        places: Tensor | None = None,
    ) -> Tensor:
        """Evaluates the network.

        Args:
            values: (batch, tokens, features).
            noise: c_noise, (batch,), or (1,) for one level in the whole batch.
            states: Condition states, integers (batch or 1, tokens).
            ids: Identifiers, (tokens,), or (batch, tokens) where each row has tokens of its own.
            mask: M_E, boolean (batch or 1, tokens, keys), with the keys of ``memory`` in front, or its pairs; None: all
                allowed.
            same: Float (plates, tokens, keys): 1 where two tokens belong to one element of a plate; for a mask that is
                a list of pairs (plates, pairs).
            memory: Keys and values of all observed tokens, if these are not among ``values``.
            key_ids: Identifiers of the keys, (keys,); those of the tokens by default.
            wanted: Positions of the tokens whose output is needed, (wanted,); all by default.
            places: Points of functions, (batch or 1, tokens, coordinates).

        Returns:
            (batch, tokens or wanted, features).
        """
        pairs = Pairs(ids, ids if key_ids is None else key_ids, same)
        x = self._start(values, states, pairs, mask, places)
        modulations = self._modulations(noise, states if memory is None else None)
        barred = _barred(mask, x, None if memory is None else memory[0])
        by, last = self._turn(places), len(self.blocks) - 1
        for number, (block, modulation) in enumerate(zip(self.blocks, modulations, strict=True)):
            known = None if memory is None else memory[number]
            x, _ = block(x, modulation, barred, pairs, by, known, wanted if number == last else None)
        x = layer_norm(x, x.shape[-1:])
        ids = ids if wanted is None else ids[wanted]
        if ids.dim() == 1:
            return torch.einsum("tbw,twf->btf", x, self.head[ids]) + self.head_bias[ids]
        head = embedding(ids, self.head.flatten(1)).unflatten(-1, self.head.shape[1:])
        return torch.einsum("tbw,btwf->btf", x, head) + embedding(ids, self.head_bias)

    def remember(
        self,
        values: Tensor,
        states: Tensor,
        ids: Tensor,
        mask: Tensor | Bags | None,
        same: Tensor | None = None,
        places: Tensor | None = None,
    ) -> Memory:
        """Returns the keys and values of observed tokens, which in the cached form depend on nothing else."""
        assert self.clean is not None, "only the cached form has tokens that depend on nothing else"
        pairs = Pairs(ids, ids, same)
        x = self._start(values, states, pairs, mask, places)
        barred = _barred(mask, x)
        by, memory = self._turn(places), []
        for block, modulation in zip(self.blocks, self._modulated(self.clean), strict=True):
            x, own = block(x, modulation, barred, pairs, by)
            memory.append(own)
        return memory

    def _turn(self, places: Tensor | None) -> Turn | None:
        if self.place is None or places is None:
            return None
        return turn(places, self.architecture.width // self.architecture.heads)

    def _start(
        self, values: Tensor, states: Tensor, pairs: Pairs, mask: Tensor | Bags | None, places: Tensor | None
    ) -> Tensor:
        """Returns the embedded tokens."""
        x = self.embedding(values, pairs.query, states)
        if self.count is not None:
            x = x + self.count(mask, states, pairs.key)
        if self.place is not None and places is not None:
            x = x + self.place(places).transpose(0, 1)
        return x

    def _modulations(self, noise: Tensor, states: Tensor | None) -> Iterable[Sequence[Tensor]]:
        """Yields by block the six modulations (1 or tokens, 1 or batch, width); states are None if none is observed."""
        noised = self._modulated(self.noise(noise))
        if self.clean is None or states is None:
            yield from noised
            return
        observed = (states == OBSERVED).T.unsqueeze(-1)
        for own, clean in zip(noised, self._modulated(self.clean), strict=True):
            yield [torch.where(observed, part, other) for part, other in zip(clean, own, strict=True)]

    def _modulated(self, context: Tensor) -> Sequence[Sequence[Tensor]]:
        """Returns by block the six modulations (1, 1 or batch, width) of a context (width,) or (batch, width)."""
        parts = self.modulation(context.view(1, -1, context.shape[-1])).unflatten(-1, (len(self.blocks), 6, -1))
        return [block.unbind(-2) for block in parts.unbind(-3)]


class _Block(nn.Module):
    def __init__(self, architecture: Architecture, identifiers: int, plates: int) -> None:
        super().__init__()
        width, hidden = architecture.width, architecture.widening * architecture.width
        self.heads = architecture.heads
        self.attention_in = nn.Linear(width, 3 * width, bias=False)
        self.attention_out = nn.Linear(width, width, bias=False)
        self.up = nn.Linear(width, hidden)
        self.down = nn.Linear(hidden, width)
        few = identifiers <= MOST_PAIRED
        self.pair_bias = nn.Parameter(torch.zeros(architecture.heads, identifiers, identifiers)) if few else None
        self.plate_bias = nn.Parameter(torch.ones(plates, architecture.heads)) if plates else None
        with torch.no_grad():
            self.attention_out.weight.mul_(0.5)
            self.down.weight.mul_(0.5)

    def forward(
        self,
        x: Tensor,
        modulation: Sequence[Tensor],
        barred: Tensor | Bags | None,
        pairs: Pairs,
        by: Turn | None = None,
        memory: tuple[Tensor, Tensor] | None = None,
        wanted: Tensor | None = None,
    ) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        """Returns the tokens, or the wanted ones of them, after the block; and all their keys and values."""
        scale, shift, gate, scale2, shift2, gate2 = modulation
        y = _normed(x, scale, shift)
        query, key, value = project(self.attention_in.weight, y, *_keys(y, memory))
        if by is not None:
            query, key = rotate(query, by, self.heads), rotate(key, by, self.heads)
        own = (key, value)
        attended = self._attended(query, own, memory, barred, pairs, wanted)
        if wanted is not None:
            x = x[wanted]
            if len(gate) > 1:
                gate, scale2, shift2, gate2 = (part[wanted] for part in (gate, scale2, shift2, gate2))
        x = _moved(x, self.attention_out, attended, gate)
        y = _normed(x, scale2, shift2)
        return _moved(x, self.down, gelu(self.up(y)), gate2), own

    def _attended(
        self,
        query: Tensor,
        own: tuple[Tensor, Tensor],
        memory: tuple[Tensor, Tensor] | None,
        barred: Tensor | Bags | None,
        pairs: Pairs,
        wanted: Tensor | None,
    ) -> Tensor:
        """Returns what the tokens, or the wanted ones of them, read."""
        if isinstance(barred, Bags):
            key, value = _joined(memory, own)
            bias = pairs.bias_along(barred, self.pair_bias, self.plate_bias)
            attended = attend_along(barred, query, key, value, bias)
            return attended if wanted is None else attended[wanted]
        if wanted is not None:
            query, pairs = query[wanted], pairs.of(wanted)
            barred = None if barred is None else barred[:, wanted]
        bias, factors = pairs.bias(self.pair_bias, self.plate_bias), pairs.factors(self.pair_bias)
        if memory is not None and _is_shared(memory, query):
            return attend_shared(query, own, memory, self.heads, bias, barred)
        return attend(query, *_joined(memory, own), self.heads, bias, barred, factors)


def _barred(mask: Tensor | Bags | None, x: Tensor, memory: tuple[Tensor, Tensor] | None = None) -> Tensor | Bags | None:
    """Returns a mask as what is added to the logits of tokens x (tokens, batch, width); pairs come back unchanged."""
    return barrier(mask, x.dtype, *_keys(x, memory)) if isinstance(mask, Tensor) else mask


def _keys(x: Tensor, memory: tuple[Tensor, Tensor] | None) -> tuple[int, int]:
    """Returns how many keys each row of x (tokens, batch, width) has for itself, and how many all rows share."""
    known = 0 if memory is None else len(memory[0])
    return (len(x), known) if _is_shared(memory, x) else (len(x) + known, 0)


def _is_shared(memory: tuple[Tensor, Tensor] | None, x: Tensor) -> bool:
    """Tells whether all rows of x (tokens, batch, width) share what is remembered."""
    return memory is not None and memory[0].shape[1] < x.shape[1]


def _joined(memory: tuple[Tensor, Tensor] | None, own: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
    """Returns keys and values, those that are remembered in front."""
    if memory is None:
        return own
    rows = own[0].shape[1]
    key, value = (torch.cat([old.expand(-1, rows, -1), new]) for old, new in zip(memory, own, strict=True))
    return key, value


# With one noise level for all, as in sampling, modulations are constants that other operations take along.


def _normed(x: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
    """Returns scale * layer_norm(x) + shift."""
    width = x.shape[-1:]
    if scale.numel() == scale.shape[-1]:
        return layer_norm(x, width, scale.view(width), shift.view(width))
    return torch.addcmul(shift, layer_norm(x, width), scale)


def _moved(x: Tensor, layer: nn.Linear, y: Tensor, gate: Tensor) -> Tensor:
    """Returns x + gate * layer(y)."""
    if gate.numel() > gate.shape[-1]:
        return torch.addcmul(x, gate, _linear(y, layer.weight, layer.bias))
    constant = gate.flatten()
    update = _linear(y, constant[:, None] * layer.weight, None if layer.bias is None else constant * layer.bias)
    # Where nothing needs the update for a gradient, the sum takes its memory.
    return x + update if torch.is_grad_enabled() else update.add_(x)


def _linear(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """Returns the linear map of x (tokens, batch, width); where width is not innermost in memory, without a copy."""
    if x.is_contiguous():
        return linear(x, weight, bias)
    return linear(x.permute(2, 0, 1).flatten(1).T, weight, bias).unflatten(0, x.shape[:2])
