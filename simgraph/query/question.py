"""What is known in a question: evidence and restrictions, as tokens and as rows of values."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor

from simgraph.compile import Compiled
from simgraph.compile.masks import ABSENT, LATENT, OBSERVED
from simgraph.compile.names import check_askable, name_of
from simgraph.dsl import Curve, Node
from simgraph.errors import QueryError, UnknownNameError, did_you_mean
from simgraph.query.evidence import Evidence
from simgraph.query.nuisance import nuisances
from simgraph.query.restrictions import Restriction
from simgraph.train import Trained

__all__ = ["Question", "as_evidence"]


class Question:
    """A model with evidence, before anything is asked.

    Args:
        trained: The model.
        evidence: Checked evidence by name.
        size: Number of pieces of evidence.
        batched: Whether results have a batch axis.
        restrictions: Checked intervals, constraints and predicates that draws have to satisfy.
        curves: Checked evidence on functions, by name.
        looked: Elements of an index's axis at which a function is asked for, by its name, once points are settled.
        points: The points of these elements, (points, coordinates), by name of the index.
    """

    def __init__(
        self,
        trained: Trained,
        evidence: Mapping[str, Evidence],
        size: int,
        *,
        batched: bool,
        restrictions: Sequence[Restriction] = (),
        curves: Mapping[str, Curve] | None = None,
        looked: Mapping[str, np.ndarray] | None = None,
        points: Mapping[str, np.ndarray] | None = None,
    ) -> None:
        self.trained, self.evidence, self.size, self.batched = trained, dict(evidence), size, batched
        self.restrictions = tuple(restrictions)
        self.curves, self.looked, self.points = dict(curves or {}), dict(looked or {}), dict(points or {})

    def changed(self, **parts: Any) -> Self:
        """Returns the question in which some of its parts, named as its arguments, are others."""
        return type(self)(**{**vars(self), **parts})

    def pieces(self, which: Sequence[int]) -> Self:
        """Returns the question about some pieces of the evidence, without restrictions."""
        rows = list(which)
        pieces = {
            name: Evidence(piece.values[rows], piece.observed[rows], batched=True) if piece.batched else piece
            for name, piece in self.evidence.items()
        }
        return self.changed(evidence=pieces, size=len(rows), batched=True, restrictions=())

    def about(self, rows: Mapping[str, Tensor]) -> Self:
        """Returns the question to the same model that is given rows (rows, *plate sizes, *event_shape), and no more.

        They are values of the model's own, so they are not checked.
        """
        return type(self)(self.trained, as_evidence(rows), len(next(iter(rows.values()))), batched=True)

    def given_rows(self, name: str, num_samples: int) -> Tensor:
        """Returns a wholly given value once for each draw: (size * num_samples, *plate sizes, *event_shape)."""
        tokenizer = self.trained.compiled.layout.tokenizers[name]
        given = tokenizer.rounded(torch.from_numpy(self.evidence[name].values))
        return given.expand(self.size, *tokenizer.variable.shape).repeat_interleave(num_samples, 0)

    def arranged(self, rows: Tensor) -> Tensor:
        """Returns rows of all pieces of evidence as draws: ([batch,] num_samples, *plate sizes, *event_shape)."""
        return rows.reshape(self.size, -1, *rows.shape[1:]) if self.batched else rows

    def seen(self) -> list[str]:
        """Returns the names of the variables of which something is given."""
        return [name for name, piece in self.evidence.items() if piece.observed.any()]

    def wholly_given(self, name: str) -> bool:
        """Tells whether all entries of a variable are given."""
        return name in self.evidence and bool(self.evidence[name].observed.all())

    def named(self, names: tuple[Any, ...], call: str = "sample") -> tuple[list[str], bool]:
        """Returns the names that a call asks for, each once, and whether its answer is a single tensor."""
        for name in names:
            if not isinstance(name, (str, Node, Iterable)):
                raise QueryError(
                    f"{call}(...) takes names of variables, not {name!r}.\n"
                    f"  The number of draws is an option: {call}('theta', num_samples=500)"
                )
        single = len(names) == 1 and isinstance(names[0], (str, Node))
        flat = [n for group in names for n in ([group] if isinstance(group, (str, Node)) else list(group))]
        return list(dict.fromkeys(self.known(name) for name in flat)), single

    def known(self, key: str | Node) -> str:
        name, known = name_of(key), self.trained.compiled.layout.names
        if name not in known:
            raise UnknownNameError(f"{name!r} is not a variable of this model.\n  {did_you_mean(name, known)}")
        return name

    def tokens(self, asked: Sequence[str]) -> tuple[Tensor, Tensor]:
        """Returns token values and condition states, (evidence, tokens, width) and (evidence, tokens).

        Raises:
            QueryError: If a name cannot be asked for.
        """
        layout = self.trained.compiled.layout
        check_askable(layout, (name for name in asked if not self.wholly_given(name)))
        values = torch.zeros(self.size, len(layout), layout.width)
        states = torch.full((self.size, len(layout)), ABSENT)
        for name in asked:
            states[:, layout.slots(name)] = torch.where(self._asked_of(name), LATENT, ABSENT)
        for name, piece in self.evidence.items():
            slots = layout.slots(name)
            observed = layout.token_mask(name, piece.observed)
            given = np.where(piece.observed, piece.values, _anywhere(self.trained.compiled, name))
            values[:, slots] = layout.tokenize(name, given) * observed.unsqueeze(-1)
            states[:, slots] = torch.where(observed, OBSERVED, states[:, slots])
        return values, states

    def joint_tokens(self, asked: Sequence[str]) -> tuple[Tensor, Tensor]:
        """Returns tokens and states as :meth:`tokens`, with nuisance variables drawn along."""
        return self.tokens([*asked, *nuisances(self.trained.compiled, asked, self.seen(), self.wholly_given)])

    def _asked_of(self, name: str) -> Tensor:
        """Tells which tokens of a variable are asked for: all, or those of a function where it is looked at."""
        layout = self.trained.compiled.layout
        variable = layout.tokenizers[name].variable
        elements = np.ones(variable.shape, dtype=bool)
        if name in self.looked:
            axis = len(variable.plate_shape) - 1
            here = np.isin(np.arange(variable.shape[axis]), self.looked[name])
            elements &= here.reshape(-1, *[1] * len(variable.event_shape))
        return layout.token_mask(name, elements)

    def values(self, name: str, tokens: Tensor) -> Tensor:
        """Returns natural values ([batch,] num_samples, *shape) of a variable's tokens."""
        layout = self.trained.compiled.layout
        variable = layout.tokenizers[name].variable
        size, count = tokens.shape[:2]
        flat = layout.detokenize(name, tokens[:, :, layout.slots(name)].flatten(0, 1))
        out = flat.reshape(size, count, *variable.shape)
        if name in self.evidence:
            piece = self.evidence[name]
            seen = torch.from_numpy(piece.observed).unsqueeze(1)
            out = torch.where(seen, torch.from_numpy(piece.values).unsqueeze(1), out)
        if name in self.looked:
            out = out.index_select(1 + len(variable.plate_shape), torch.from_numpy(self.looked[name]))
        rounded = layout.tokenizers[name].rounded(out)
        return rounded if self.batched else rounded[0]


def as_evidence(rows: Mapping[str, Tensor]) -> dict[str, Evidence]:
    """Returns rows (rows, *plate sizes, *event_shape) of the model's own as evidence."""
    return {
        name: Evidence(value.double().numpy(), np.ones(value.shape, dtype=bool), batched=True)
        for name, value in rows.items()
    }


def _anywhere(compiled: Compiled, name: str) -> np.ndarray:
    """Returns a value of the right shape in the support, to stand where nothing is observed."""
    variable = compiled.layout.tokenizers[name].variable
    if variable.support.kind == "simplex":
        return np.full(variable.shape, 1 / variable.event_shape[-1])
    low, high = np.nan_to_num(variable.support.low, neginf=-1e300), np.nan_to_num(variable.support.high, posinf=1e300)
    return np.broadcast_to(np.clip(0.0, low, high), variable.shape)
