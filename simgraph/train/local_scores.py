r"""The score of tokens at one size of all plates, and how fast it changes.

With the joint log density of tokens, :math:`g_i = \partial_i \log p(x)` and :math:`h_i = \partial_i g_i`, the precision
of a token is

.. math:: \lambda_i = \sqrt{1 + h_i^2 + (g_i^2 / \kappa)^2} + \beta / d_i^2, \quad
    d_i^{-2} = d_{low}^{-2} + d_{high}^{-2},

in which d is the distance to the ends of a finite support. It is that of a Gaussian law with the same curvature, but
never small where the slope is large, nor where the support ends.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence, Set
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from simgraph.compile import Compiled
from simgraph.graph import Graph
from simgraph.traces.conditional import Way, log_density
from simgraph.train.smooth import smooth

__all__ = ["LocalScores", "Values", "nothing", "parents_of"]

_KAPPA, _BETA = 5.0, 0.3
"""Constants of the precision: on SLCP, kappa from 2 to 30 and beta from 0.3 to 1 make little difference."""

_BYTES = 2**28
"""Memory that the graphs of traces which are evaluated together may take."""

_MOST_ROWS = 10_000
_FEW_ROWS = 4
"""Traces of which the memory is measured."""

_BEYOND = 0.1
"""How far lines reach beyond the values of traces, as a share of what lies between these."""

Values = Mapping[str, Tensor]
"""Values (traces, *plate sizes, *event_shape) by name, float64 or int64."""


class LocalScores:
    """Computes scores where all plates have one size.

    Args:
        compiled: The compiled graph, its tokenizers fitted.
        names: Variables whose scores are asked for.
        ways: How to evaluate these and their children, by name: distribution nodes all.
        without: Identifiers of tokens that are to have no scores.

    Attributes:
        slots: The tokens of the variables, (tokens,).
        ids: Their identifiers.
        known: Which of these have scores; those of constants have none.
        groups: Sets of known tokens in which none depends on another one, boolean (tokens,) each.
    """

    def __init__(
        self, compiled: Compiled, names: Sequence[str], ways: Mapping[str, Way], without: Sequence[int] = ()
    ) -> None:
        assert compiled.graph is not None
        self.graph, self.layout, self.names, self.ways = compiled.graph, compiled.layout, names, ways
        self.slots = torch.cat([torch.arange(len(self.layout))[self.layout.slots(name)] for name in names])
        self.ids = self.layout.ids[self.slots]
        varies = torch.cat([self._varies(name) for name in names])
        self.known = varies & ~torch.isin(self.ids, torch.tensor(without, dtype=torch.long))
        together = (compiled.families.members | compiled.families.parents)[:, self.slots].float()
        self.groups = list(_independent(together.T @ together > 0, self.known))

    def __call__(self, tokens: Tensor, values: Values) -> tuple[Tensor, Tensor]:
        """Computes scores, none where they are not known, nor at the ends of supports, where what they add is 0.

        Args:
            tokens: All tokens of traces, (traces, tokens, width).
            values: What is read of these traces.

        Returns:
            g, lambda and its slope, float (traces, all tokens, 3): 0, infinity and 0 where there are none; and which
            tokens are lost, (all tokens,), since some trace has no density or no slope.
        """
        found = nothing(*tokens.shape[:2])
        local, density, edge = self.local(self.coordinates(tokens), values)
        fine = local.isfinite().all(-1) & density.isfinite().unsqueeze(1)
        lost = torch.zeros(tokens.shape[1], dtype=torch.bool)
        lost[self.slots] = self.known & ~(fine | edge.any(1, keepdim=True)).all(0)
        local = local.float()
        fine = fine & local.isfinite().all(-1) & self.known & ~edge.any(1, keepdim=True)
        found[:, self.slots] = torch.where(fine.unsqueeze(-1), local, found[:, self.slots])
        return found, lost

    def coordinates(self, tokens: Tensor) -> Tensor:
        """Returns the tokens of the variables, float64 (traces, tokens), among all tokens (traces, tokens, width)."""
        return tokens[:, self.slots, 0].double()

    def local(self, z: Tensor, values: Values, groups: Sequence[Tensor] | None = None) -> tuple[Tensor, Tensor, Tensor]:
        """Computes scores of tokens.

        Args:
            z: The tokens, (traces, tokens).
            values: What is read of these traces.
            groups: The groups whose precision is asked for; all by default.

        Returns:
            g, lambda and its slope, float64 (traces, tokens, 3), where there is no precision 1 and 0; log densities
            (traces,), but for terms that do not depend on the tokens; and which tokens lie at the very end of their
            support, (traces, tokens).
        """
        z = z.detach().requires_grad_(True)
        with torch.enable_grad():
            density, own = self._log_density(z, values)
            score = _slope(density, z) + 0.0 * z  # a constant slope has a gradient as well
            steep = 1 + (score.square() / _KAPPA).square()
            barrier = self._barrier(own)
            precision, slope = torch.ones_like(z), torch.zeros_like(z)
            for group in self.groups if groups is None else groups:
                vector = group.double().expand_as(z)
                found = (steep + _slope(score, z, vector).square()).sqrt() + barrier
                change = torch.autograd.grad(found, z, vector, materialize_grads=True, retain_graph=True)[0]
                found = found.detach()  # else the graphs of all groups stay in memory
                precision, slope = torch.where(group, found, precision), torch.where(group, change, slope)
        return torch.stack([score, precision, slope], -1).detach(), density.detach(), barrier.detach().isinf()

    def memory(self, tokens: Tensor, values: Values, groups: Sequence[Tensor] | None = None) -> int:
        """Returns how many bytes the graph of a trace takes, for the groups whose precision is asked for."""
        saved = 0

        def count(tensor: Tensor) -> Tensor:
            nonlocal saved
            saved += tensor.nbytes
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(count, lambda tensor: tensor):
            self.local(self.coordinates(tokens[:_FEW_ROWS]), _rows(values, slice(_FEW_ROWS)), groups)
        return max(1, saved // len(tokens[:_FEW_ROWS]))

    def rows(self, tokens: Tensor, values: Values) -> int:
        """Returns how many traces may be evaluated together, as far as memory goes."""
        # The graph of one group is freed before that of the next but one is made.
        return max(1, min(_MOST_ROWS, _BYTES // self.memory(tokens, values, self.groups[:2])))

    def rough(
        self,
        tokens: Tensor,
        values: Values,
        elements: Sequence[Mapping[str, int]],
        ends: tuple[Tensor, Tensor],
        step: int,
    ) -> set[int]:
        """Returns identifiers of tokens along which the density or the precision jumps, or its slope is wrong.

        What is looked at is log p + log lambda, along lines through traces.

        Args:
            tokens: Tokens of the traces.
            values: What is read of them.
            elements: The elements of plates by name that each trace is to show.
            ends: The smallest and the largest values of each of the known tokens, (tokens,) each.
            step: How many points are evaluated together.
        """
        z, (low, high) = self.coordinates(tokens), ends
        # Intervals end where their support does, and so do the densities of their tokens.
        beyond = torch.where(torch.cat([self._bounds(name)[2].reshape(-1) for name in self.names]), 0.0, _BEYOND)
        low, high = low - beyond * (high - low), high + beyond * (high - low)
        columns = torch.stack([self.of_each(number, where) for number, where in enumerate(elements)])
        grain = max(torch.finfo(way.floats).eps for way in self.ways.values())
        found: set[int] = set()
        for group in self.groups:
            row, column = group[columns].nonzero().T
            if not len(row):
                continue
            column = columns[row, column]

            function = partial(self._along, z, values, row, column, group, step)
            fine = smooth(function, z[row, column], low[column], high[column], grain)
            found |= set(self.ids[column[~fine]].tolist())
        return found

    def beside(self, ids: Set[int]) -> set[int]:
        """Returns the identifiers of variables that have a child in common with one that has any of these identifiers.

        Where the density jumps along one of two parents, it may jump along the other one in few traces.
        """
        names = {name for name in self.names if not ids.isdisjoint(self._ids_of(name))}
        parents = [set(self.graph[name].parents) for name in self.ways]
        found = set().union(*(own for own in parents if own & names)).intersection(self.names)
        return set().union(*(self._ids_of(name) for name in found))

    def _ids_of(self, name: str) -> set[int]:
        return set(self.layout.ids[self.layout.slots(name)].tolist())

    def _along(
        self,
        z: Tensor,
        values: Values,
        row: Tensor,
        column: Tensor,
        group: Tensor,
        step: int,
        line: Tensor,
        place: Tensor,
    ) -> tuple[Tensor, Tensor]:
        """Returns log p + log lambda and its slope, (points,), at places of lines: columns of rows of the tokens."""
        parts = zip(row[line].split(step), column[line].split(step), place.split(step), strict=True)
        values_slopes = [self._at(z, values, group, *part) for part in parts]
        return torch.cat([value for value, _ in values_slopes]), torch.cat([slope for _, slope in values_slopes])

    def _at(
        self, z: Tensor, values: Values, group: Tensor, row: Tensor, column: Tensor, place: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Returns the same of traces that are moved to a place along one token each."""
        points = z[row].scatter(1, column.unsqueeze(1), place.unsqueeze(1))
        local, density, _ = self.local(points, _rows(values, row), [group])
        score, precision, slope = local.gather(1, column[:, None, None].expand(-1, 1, 3)).squeeze(1).unbind(-1)
        nil = density.isneginf()
        return torch.where(nil, -torch.inf, density + precision.log()), torch.where(nil, 0.0, score + slope / precision)

    def of_each(self, number: int, where: Mapping[str, int] | None = None) -> Tensor:
        """Returns a known token of each identifier, (identifiers,): of these elements of plates, else by number."""
        known = self.known.nonzero().flatten()
        at = self.layout.coordinates[:, self.slots]
        for plate, element in (where or {}).items():
            if plate not in self.layout.plate_names:
                continue
            axis = at[self.layout.plate_names.index(plate)][known]
            here = known[(axis < 0) | (axis == element)]
            known = torch.cat([here, known[~torch.isin(self.ids[known], self.ids[here])]])
        own = [known[self.ids[known] == identifier] for identifier in self.ids[known].unique()]
        return torch.stack([tokens[number % len(tokens)] for tokens in own])

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
            tokenizer, (low, high, bounded) = self.layout.tokenizers[name], self._bounds(name)
            middle = torch.where(bounded, (low + high) / 2, value[0].detach()).unsqueeze(0)  # inside of the support
            width = (high - low) * tokenizer.log_scale(middle)[0].exp().reshape(low.shape)  # in units of tokens
            share = torch.where(bounded, (value - low) / (high - low), 0.5)
            near = (width * share).square().reciprocal() + (width * (1 - share)).square().reciprocal()
            found.append(torch.where(bounded, _BETA * near, 0.0).reshape(len(value), -1))
        return torch.cat(found, 1)

    def _bounds(self, name: str) -> tuple[Tensor, Tensor, Tensor]:
        """Returns both ends of finite supports, 0 and 1 for others, and which are finite, of the variable's shape."""
        variable = self.layout.tokenizers[name].variable
        ends = (variable.support.low, variable.support.high)
        low, high = (torch.as_tensor(end).broadcast_to(variable.shape) for end in ends)
        bounded = low.isfinite() & high.isfinite()
        return torch.where(bounded, low, 0.0), torch.where(bounded, high, 1.0), bounded

    def _varies(self, name: str) -> Tensor:
        tokenizer = self.layout.tokenizers[name]
        elements = int(np.prod(tokenizer.variable.plate_shape, dtype=int))
        return torch.from_numpy(tokenizer.statistics["constant"] == 0).repeat(elements)


def nothing(*shape: int) -> Tensor:
    """Returns scores that are not known, (*shape, 3)."""
    return torch.tensor([0.0, torch.inf, 0.0]).repeat(*shape, 1)


def parents_of(graph: Graph, name: str, values: Values) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Returns the values of a node's parents, and the plates of these, by parameter."""
    pairs = graph[name].signature.parents
    return {p: values[parent] for p, parent in pairs}, {p: graph[parent].plates for p, parent in pairs}


def _rows(values: Values, rows: Tensor | slice) -> Values:
    return {name: value[rows] for name, value in values.items()}


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
