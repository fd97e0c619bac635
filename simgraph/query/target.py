r"""What a query leaves unknown, as coordinates, and the graph's own log density of them.

Unknown elements of real variables, and counts spread over their cells, are the tokens z that the network draws: on the
whole of R^n, standardised. Categories are whole numbers k. With the values v(z, k), the density of coordinates is

.. math:: \log p(z, k, e) = \log p(v(z, k), e) - \sum_i \log |\det \partial z_i / \partial v_i|,

in which a count v stands for :math:`\lfloor v \rfloor`. Its integral over z and sum over k is the evidence p(e).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from simgraph.compile.categories import Categories
from simgraph.compile.elements import Elements
from simgraph.compile.layout import Layout
from simgraph.compile.tokenizer import Tokenizer
from simgraph.query.evidence import Evidence
from simgraph.traces.density import Density

__all__ = ["Allowed", "Target"]

Allowed = Callable[[Mapping[str, Tensor]], Tensor]
"""Tells of values (rows, *shape) by name which rows are allowed: boolean (rows,)."""

_MOST_NUMBERS = 2_000_000
"""Numbers of a variable set that are evaluated together."""


@dataclass(frozen=True)
class _Part:
    """The unknown tokens of one variable.

    Attributes:
        tokenizer: Its tokenizer.
        latent: Which of its tokens are unknown, (tokens,).
        observed: Which of its elements are given, (*plate sizes, *event_shape).
        given: Its values, of which only the given ones are read.
    """

    tokenizer: Tokenizer
    latent: Tensor
    observed: Tensor
    given: Tensor

    @property
    def columns(self) -> int:
        """Number of coordinates."""
        return int(self.latent.sum()) * (1 if isinstance(self.tokenizer, Categories) else self.tokenizer.width)

    def values(self, coordinates: Tensor) -> tuple[Tensor, Tensor]:
        """Returns values (rows, *shape) of coordinates (rows, columns), and log |det dz / dv|: (rows,).

        The second is infinite where coordinates lie beyond what values can tell apart.
        """
        tokenizer, rows = self.tokenizer, len(coordinates)
        shape = (rows, *tokenizer.variable.plate_shape)
        if isinstance(tokenizer, Categories):
            number = torch.zeros(rows, len(self.latent), dtype=torch.float64)
            number[:, self.latent] = coordinates.double() + tokenizer.low
            values, scale = number.reshape(rows, *tokenizer.variable.shape), torch.zeros(rows, dtype=torch.float64)
        else:
            tokens = torch.zeros(rows, len(self.latent), tokenizer.width, dtype=torch.float64)
            tokens[:, self.latent] = coordinates.reshape(rows, -1, tokenizer.width)
            tokens = tokens.reshape(*shape, tokenizer.num_tokens, tokenizer.width)
            counts = isinstance(tokenizer, Elements) and tokenizer.counts
            values = tokenizer.detokenize(tokens)
            # A count's own place in its cell, not the middle of it.
            places = tokenizer.places(tokens) - 0.5 if isinstance(tokenizer, Elements) and counts else values
            scale = tokenizer.log_scale(places).reshape(rows, -1)[:, self.latent].sum(1)
            beyond = tokenizer.leaked(tokens).reshape(rows, -1)[:, self.latent].any(1)
            scale = torch.where(beyond, torch.inf, scale)
        return torch.where(self.observed, self.given, values), scale


class Target:
    """The log density of what one piece of evidence leaves unknown.

    Args:
        density: The graph's log density of all variables involved.
        layout: The model's tokens.
        evidence: Evidence by name.
        row: Number of the piece of evidence.
        allowed: Tells which values are allowed, if not all are.

    Attributes:
        classes: Number of classes of each category, in the order of the columns of k.
        reals: Number of columns of z.
    """

    def __init__(
        self,
        density: Density,
        layout: Layout,
        evidence: Mapping[str, Evidence],
        row: int,
        allowed: Allowed | None = None,
    ) -> None:
        self.density, self.layout, self.allowed = density, layout, allowed
        self._known: dict[str, Tensor] = {}
        self._parts: dict[str, _Part] = {}
        for name in density.names:
            shape = layout.tokenizers[name].variable.shape
            piece = evidence.get(name)
            at = 0 if piece is None or len(piece.values) == 1 else row
            given = torch.zeros(shape, dtype=torch.float64) if piece is None else torch.as_tensor(piece.values[at])
            observed = torch.zeros(shape, dtype=torch.bool) if piece is None else torch.as_tensor(piece.observed[at])
            if observed.all():
                self._known[name] = given.unsqueeze(0)
            else:
                latent = ~layout.token_mask(name, observed.unsqueeze(0))[0]
                self._parts[name] = _Part(layout.tokenizers[name], latent, observed, given)
        self.reals = sum(part.columns for part in self._parts.values() if not isinstance(part.tokenizer, Categories))
        self.classes = [
            part.tokenizer.classes
            for part in self._parts.values()
            if isinstance(part.tokenizer, Categories)
            for _ in range(part.columns)
        ]

    def coordinates(self, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """Returns z (rows, reals) and k (rows, categories) of all tokens (rows, tokens, width)."""
        z, k = [torch.zeros(len(tokens), 0, dtype=torch.float64)], [torch.zeros(len(tokens), 0, dtype=torch.long)]
        for name, part in self._parts.items():
            own = tokens[:, self.layout.slots(name)][:, part.latent]
            if isinstance(part.tokenizer, Categories):
                k.append(own[..., : part.tokenizer.classes].argmax(-1))
            else:
                z.append(own[..., : part.tokenizer.width].double().flatten(1))
        return torch.cat(z, 1), torch.cat(k, 1)

    def values(self, z: Tensor, k: Tensor) -> dict[str, Tensor]:
        """Returns float64 values (rows, *plate sizes, *event_shape) of coordinates, by name of unknown variables."""
        return self._values(z, k)[0]

    def log_density(self, z: Tensor, k: Tensor) -> Tensor:
        """Returns log p(z, k, e), float64 (rows,); minus infinity where it is impossible or not allowed."""
        elements = sum(value[0].numel() for value in (*self._known.values(), *self.values(z[:1], k[:1]).values()))
        step = max(1, _MOST_NUMBERS // max(1, elements))
        parts = [self._log_density(z[i : i + step], k[i : i + step]) for i in range(0, len(z), step)]
        return torch.cat(parts)

    def _log_density(self, z: Tensor, k: Tensor) -> Tensor:
        values, scale = self._values(z, k)
        everything = {name: value.expand(len(z), *value.shape[1:]) for name, value in self._known.items()} | values
        found = self.density({name: everything[name] for name in self.density.names}) - scale
        if self.allowed is not None:
            found = torch.where(self.allowed(everything), found, -torch.inf)
        return torch.where(found.isnan(), -torch.inf, found)

    def _values(self, z: Tensor, k: Tensor) -> tuple[dict[str, Tensor], Tensor]:
        found, scale, begin = {}, torch.zeros(len(z), dtype=torch.float64), {False: 0, True: 0}
        for name, part in self._parts.items():
            discrete = isinstance(part.tokenizer, Categories)
            columns = slice(begin[discrete], begin[discrete] + part.columns)
            begin[discrete] = columns.stop
            found[name], own = part.values((k if discrete else z)[:, columns])
            scale = scale + own
        return found, scale
