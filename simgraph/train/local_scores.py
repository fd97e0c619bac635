r"""The score of tokens at one size of all plates, and how fast it changes.

With the joint log density of tokens, :math:`g_i = \partial_i \log p(x)` and :math:`h_i = \partial_i g_i`, the precision
of a token is

.. math:: \lambda_i = \sqrt{1 + h_i^2 + (g_i^2 / \kappa)^2} + \beta / d_i^2, \quad
    d_i^{-2} = d_{low}^{-2} + d_{high}^{-2},

in which d is the distance to the ends of a finite support. It is that of a Gaussian law with the same curvature, but
never small where the slope is large, nor where the support ends.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from simgraph.compile import Compiled
from simgraph.graph import Graph
from simgraph.traces.conditional import Way, log_density
from simgraph.train.smooth import smooth

__all__ = ["LocalScores", "Values", "parents_of"]

_KAPPA, _BETA = 5.0, 0.3
"""Constants of the precision: on SLCP, kappa from 2 to 30 and beta from 0.3 to 1 make little difference."""

_FEW = 32
"""Traces on which it is found out how to evaluate nodes, and which tokens depend on one another."""

_LINES = 4
"""Traces through which lines are drawn in search of jumps."""

_NUMBERS = 100_000
"""Numbers of traces that are evaluated together."""

Values = Mapping[str, Tensor]
"""Values (traces, *plate sizes, *event_shape) by name, float64 or int64."""


class LocalScores:
    """Computes scores where all plates have one size.

    Args:
        compiled: The compiled graph, its tokenizers fitted.
        names: Variables whose scores are asked for.
        ways: How to evaluate these and their children, by name: distribution nodes all.

    Attributes:
        slots: The tokens of the variables, (tokens,).
        known: Which of these have scores; those of constants have none.
        groups: Sets of known tokens in which none depends on another one, boolean (tokens,) each.
    """

    def __init__(self, compiled: Compiled, names: Sequence[str], ways: Mapping[str, Way]) -> None:
        assert compiled.graph is not None
        self.graph, self.layout, self.names, self.ways = compiled.graph, compiled.layout, names, ways
        self.slots = torch.cat([torch.arange(len(self.layout))[self.layout.slots(name)] for name in names])
        self.known = torch.cat([self._varies(name) for name in names])
        self.groups: list[Tensor] = []

    @property
    def ids(self) -> Tensor:
        """Identifiers of the tokens, (tokens,)."""
        return self.layout.ids[self.slots]

    def __call__(self, tokens: Tensor, values: Values) -> Tensor:
        """Returns g, lambda and its slope, float (traces, all tokens, 3): 0, infinity and 0 where they are not known.

        Args:
            tokens: All tokens of traces, (traces, tokens, width).
            values: What is read of these traces.
        """
        found = torch.zeros(*tokens.shape[:2], 3)
        found[..., 1] = torch.inf
        step = max(1, _NUMBERS // sum(value[0].numel() for value in values.values()))
        for begin in range(0, len(tokens), step):
            rows = slice(begin, begin + step)
            part = {name: value[rows] for name, value in values.items()}
            local = self.local(self.coordinates(tokens[rows]), part).float()
            fine = (local.isfinite().all(-1) & self.known).unsqueeze(-1)
            found[rows, self.slots] = torch.where(fine, local, found[rows, self.slots])
        return found

    def coordinates(self, tokens: Tensor) -> Tensor:
        """Returns the tokens of the variables, float64 (traces, tokens), among all tokens (traces, tokens, width)."""
        return tokens[:, self.slots, 0].double()

    def local(self, z: Tensor, values: Values) -> Tensor:
        """Returns g, lambda and its slope of tokens z, float64 (traces, tokens, 3)."""
        z = z.detach().requires_grad_(True)
        with torch.enable_grad():
            density, own = self._log_density(z, values)
            score = _slope(density, z) + 0.0 * z  # a constant slope has a gradient as well
            steep = 1 + (score.square() / _KAPPA).square()
            barrier = self._barrier(own)
            precision, slope = torch.ones_like(z), torch.zeros_like(z)
            for group in self.groups:
                vector = group.double().expand_as(z)
                found = (steep + _slope(score, z, vector).square()).sqrt() + barrier
                change = torch.autograd.grad(found, z, vector, materialize_grads=True, retain_graph=True)[0]
                found = found.detach()  # else the graphs of all groups stay in memory
                precision, slope = torch.where(group, found, precision), torch.where(group, change, slope)
        return torch.stack([score, precision, slope], -1).detach()

    def jumping(self, tokens: Tensor, values: Values) -> Tensor:
        """Returns identifiers of tokens along which the density jumps, as far as lines through a few traces show."""
        z, few = self.coordinates(tokens), _first(values, _LINES)
        different = torch.from_numpy(np.unique(self.ids.numpy(), return_index=True)[1])

        def function(points: Tensor, rows: Tensor) -> tuple[Tensor, Tensor]:
            points = points.detach().requires_grad_(True)
            with torch.enable_grad():
                density = self._log_density(points, {name: value[rows] for name, value in few.items()})[0]
                return density.detach(), _slope(density, points).detach()

        return self.ids[different[~smooth(function, z[:_LINES], different, z.amin(0), z.amax(0))]]

    def find_groups(self, tokens: Tensor, values: Values, without: Tensor) -> None:
        """Finds which tokens depend on one another, so that the precisions of others are computed together.

        Args:
            tokens: Tokens of some traces.
            values: What is read of them.
            without: Identifiers of tokens that are to have no scores.
        """
        self.known = self.known & ~torch.isin(self.ids, without)
        points = self.coordinates(tokens[:_FEW]).requires_grad_(True)
        linked = torch.zeros(len(self.slots), len(self.slots), dtype=torch.bool)
        with torch.enable_grad():
            score = _slope(self._log_density(points, _first(values, _FEW))[0], points) + 0.0 * points
            for number in self.known.nonzero().flatten().tolist():
                linked[number] = (_slope(score[:, number], points) != 0).any(0)
        self.groups = list(_independent(linked | linked.T, self.known))

    def _log_density(self, z: Tensor, others: Values) -> tuple[Tensor, dict[str, Tensor]]:
        """Returns those terms of the log density of tokens that depend on z, (traces,), and the values of z by name."""
        values, own, begin = dict(others), {}, 0
        total = torch.zeros(len(z), dtype=torch.float64)
        for name in self.names:
            tokenizer = self.layout.tokenizers[name]
            shape = (*tokenizer.variable.plate_shape, tokenizer.num_tokens, 1)
            stop = begin + int(np.prod(shape))
            values[name] = own[name] = tokenizer.detokenize(z[:, begin:stop].reshape(len(z), *shape))
            total = total - tokenizer.log_scale(own[name]).reshape(len(z), -1).sum(1)
            begin = stop
        for name, way in self.ways.items():
            total = total + log_density(self.graph[name], values[name], *parents_of(self.graph, name, values), way)
        return total, own

    def _barrier(self, values: Values) -> Tensor:
        """Returns beta / d^2 of values by name, (traces, tokens)."""
        found = []
        for name, value in values.items():
            tokenizer = self.layout.tokenizers[name]
            support = tokenizer.variable.support
            low, high = (torch.as_tensor(end).broadcast_to(value.shape[1:]) for end in (support.low, support.high))
            bounded = low.isfinite() & high.isfinite()
            low, high = torch.where(bounded, low, 0.0), torch.where(bounded, high, 1.0)
            middle = torch.where(bounded, (low + high) / 2, value[0]).unsqueeze(0)  # inside of the support
            width = (high - low) * tokenizer.log_scale(middle)[0].exp().reshape(low.shape)  # in units of tokens
            share = (value - low) / (high - low)
            near = (width * share).square().reciprocal() + (width * (1 - share)).square().reciprocal()
            found.append(torch.where(bounded, _BETA * near, 0.0).reshape(len(value), -1))
        return torch.cat(found, 1)

    def _varies(self, name: str) -> Tensor:
        tokenizer = self.layout.tokenizers[name]
        elements = int(np.prod(tokenizer.variable.plate_shape, dtype=int))
        return torch.from_numpy(tokenizer.statistics["constant"] == 0).repeat(elements)


def parents_of(graph: Graph, name: str, values: Values) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Returns the values of a node's parents, and the plates of these, by parameter."""
    pairs = graph[name].signature.parents
    return {p: values[parent] for p, parent in pairs}, {p: graph[parent].plates for p, parent in pairs}


def _first(values: Values, count: int) -> dict[str, Tensor]:
    return {name: value[:count] for name, value in values.items()}


def _slope(values: Tensor, at: Tensor, vector: Tensor | None = None) -> Tensor:
    """Returns the gradient of the sum of values, or of their product with a vector; 0 where nothing depends on it."""
    weights = torch.ones_like(values) if vector is None else vector
    return torch.autograd.grad(values, at, weights, create_graph=True, materialize_grads=True)[0]


def _independent(linked: Tensor, wanted: Tensor) -> Iterator[Tensor]:
    """Yields groups of the wanted tokens, boolean (tokens,), in which no two are linked (tokens, tokens)."""
    left = wanted.clone()
    while left.any():
        group = torch.zeros_like(left)
        for number in left.nonzero().flatten().tolist():
            if not (linked[number] & group).any():
                group[number] = True
        left &= ~group
        yield group
