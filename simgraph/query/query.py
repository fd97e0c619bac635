"""A question to a model: evidence, and what is asked for."""

from __future__ import annotations

import secrets
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from simgraph.compile import Compiled
from simgraph.compile.compiled import name_of
from simgraph.compile.masks import ABSENT, LATENT, OBSERVED
from simgraph.dsl import Node
from simgraph.errors import QueryError, UnknownNameError, did_you_mean
from simgraph.graph.validate import OPTIONS
from simgraph.query.bounds import shares_outside
from simgraph.query.deterministic import computed, split
from simgraph.query.draw import draw
from simgraph.query.evidence import Evidence, check
from simgraph.query.exact import corrected
from simgraph.query.predictive import replicates
from simgraph.query.samples import Samples
from simgraph.query.solvers import DEFAULT_SAMPLER, Sampler
from simgraph.traces.seeds import check_seed
from simgraph.train import Trained

__all__ = ["Query", "numerics"]


class Query:
    """A model with evidence: knows what is given, and is asked by name.

    Args:
        trained: The model.
        evidence: Checked evidence by name.
        size: Number of pieces of evidence.
        batched: Whether results have a batch axis.
    """

    def __init__(self, trained: Trained, evidence: Mapping[str, Evidence], size: int, *, batched: bool) -> None:
        self.trained, self.evidence, self.size, self.batched = trained, dict(evidence), size, batched

    def given(self, /, *conditions: Mapping[str | Node, Any], strict: bool = False, **values: Any) -> Query:
        """Attaches more evidence; see :meth:`Model.given`."""
        named: dict[str, Any] = {}
        for condition in (*conditions, values):
            if not isinstance(condition, Mapping):
                raise QueryError(f"given(...) takes mappings from names to values, not {condition!r}.")
            for key, value in condition.items():
                if key in OPTIONS:
                    raise QueryError(
                        f"{key!r} is no variable but an option of sample(...): sample(..., {key}={value!r})"
                    )
                name = self._known(key)
                if name in named or name in self.evidence:
                    raise QueryError(f"{name!r} is given twice.")
                named[name] = value
        evidence = self.evidence | check(self.trained.compiled, self.trained.ranges, named, strict=strict)
        sizes = {len(piece.values) for piece in evidence.values() if piece.batched}
        if len(sizes) > 1:
            raise QueryError(f"given(...) has batches of different sizes: {sorted(sizes)}.")
        return Query(self.trained, evidence, max(sizes, default=1), batched=bool(sizes))

    def sample(
        self,
        *names: str | Node | Iterable[str | Node],
        num_samples: int = 1000,
        seed: int | None = None,
        exact: bool = False,
        sampler: Sampler | None = None,
        **unknown: Any,
    ) -> Any:
        """Draws from the law of the named variables given the evidence; all others are marginalised.

        A deterministic variable of which nothing is given is its function at draws of its parents, where the model
        has its graph.

        Args:
            *names: One name: the result is a tensor. Several, a list, or none (everything that is not
                given): the result is :class:`Samples`, which also reports draws outside of the bounds that
                their own parents set.
            num_samples: Number of draws, for each piece of evidence.
            seed: Seed of the draws; fresh ones every time if there is none.
            exact: Whether to correct the draws by the graph's own density, see :mod:`simgraph.query.exact`: every
                node above evidence returns a distribution, and the model has its graph. Samples then report how many
                draws these are worth (``ess``), how they came about (``notes``), and ``log_evidence``.
            sampler: The solver and its number of network evaluations.
            **unknown: Refused, with the place where it belongs.

        Returns:
            A tensor ([batch,] num_samples, *event_shape), or Samples of such tensors.

        Raises:
            UnknownNameError: If a name is not in the model.
            QueryError: If a name is wholly given, an option is not valid, or ``exact`` cannot be kept: no graph, a
                black box above evidence, a function as evidence, or evidence that the graph rules out.
            SimulationError: If the function of a deterministic variable fails at draws of its parents.
        """
        if unknown:
            name = next(iter(unknown))
            raise QueryError(
                f"sample(...) has no option {name!r}; it has num_samples, seed, exact and sampler.\n"
                "  Evidence comes first: model.given(x=...).sample('theta')"
            )
        asked, single = self._asked(names)
        num_samples, seed, sampler = numerics(num_samples, seed, sampler)
        if not isinstance(exact, bool):
            raise QueryError(f"exact={exact!r} is neither True nor False.")
        plates = {name: self.trained.compiled.layout.plates[name] for name in asked}
        if exact:
            right = corrected(self, asked, num_samples, sampler, seed)
            if single:
                return right.values[asked[0]]
            return Samples(
                right.values,
                batched=self.batched,
                ess=right.ess,
                notes=right.notes,
                dims=plates,
                log_evidence=right.log_evidence,
            )
        drawn, functions = split(self, asked)
        found: dict[str, Tensor] = {}
        if drawn:
            values, states = self.tokens(drawn)
            tokens = draw(self.trained.compiled, self.trained.denoiser, values, states, num_samples, sampler, seed)
            found = {name: self._values(name, tokens) for name in drawn}
        if functions:
            found |= computed(self, functions, found, num_samples)
        found = {name: found[name] for name in asked}
        if single:
            return found[asked[0]]
        return Samples(found, batched=self.batched, outside=self._outside(found), dims=plates)

    def predict(
        self,
        *names: str | Node | Iterable[str | Node],
        num_samples: int = 1000,
        seed: int | None = None,
        sampler: Sampler | None = None,
    ) -> Any:
        """Draws fresh replicates of variables, given what the evidence says about their parents.

        In ``given(x=x_o).predict("x")`` the parents of x are drawn given ``x_o``, and from each draw a new x: the
        posterior predictive. Of several names, a child follows from its parent's replicate.

        Args:
            *names: One name: the result is a tensor. Several, or a list: the result is :class:`Samples`.
            num_samples: Number of replicates, for each piece of evidence.
            seed: Seed of the draws; fresh ones every time if there is none.
            sampler: The solver and its number of network evaluations.

        Returns:
            A tensor ([batch,] num_samples, *plate sizes, *event_shape), or Samples of such tensors.

        Raises:
            UnknownNameError: If a name is not in the model.
            QueryError: If no name is given, all parents of a variable are given, or an option is not valid.
        """
        asked, single = self.named(names, "predict")
        if not asked:
            raise QueryError("predict(...) needs a name: given(x=...).predict('x')")
        num_samples, seed, sampler = numerics(num_samples, seed, sampler)
        found = replicates(self, asked, num_samples, sampler, seed)
        return found[asked[0]] if single else Samples(found, batched=self.batched)

    def about(self, rows: Mapping[str, Tensor]) -> Query:
        """Returns the question to the same model that is given rows (rows, *plate sizes, *event_shape), and no more.

        They are values of the model's own, so they are not checked.
        """
        pieces = {
            name: Evidence(value.double().numpy(), np.ones(value.shape, dtype=bool), batched=True)
            for name, value in rows.items()
        }
        return Query(self.trained, pieces, len(next(iter(rows.values()))), batched=True)

    def given_rows(self, name: str, num_samples: int) -> Tensor:
        """Returns a wholly given value once for each draw: (size * num_samples, *plate sizes, *event_shape)."""
        variable = self.trained.compiled.layout.tokenizers[name].variable
        given = variable.support.rounded(torch.from_numpy(self.evidence[name].values))
        return given.expand(self.size, *variable.shape).repeat_interleave(num_samples, 0)

    def arranged(self, name: str, rows: Tensor) -> Tensor:
        """Returns rows of all pieces of evidence as draws: ([batch,] num_samples, *plate sizes, *event_shape)."""
        shape = self.trained.compiled.layout.tokenizers[name].variable.shape
        return rows.reshape(self.size, -1, *shape) if self.batched else rows

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
        return list(dict.fromkeys(self._known(name) for name in flat)), single

    def _asked(self, names: tuple[Any, ...]) -> tuple[list[str], bool]:
        asked, single = self.named(names)
        for name in asked:
            if self.wholly_given(name):
                raise QueryError(f"{name!r} is both given and asked for.\n  Leave it out of one of the two.")
        if not asked:
            asked = [name for name in self.trained.compiled.layout.names if not self.wholly_given(name)]
        if not asked:
            raise QueryError("every variable is given; nothing is left to sample.")
        return asked, single

    def _known(self, key: str | Node) -> str:
        name, known = name_of(key), self.trained.compiled.layout.names
        if name not in known:
            raise UnknownNameError(f"{name!r} is not a variable of this model.\n  {did_you_mean(name, known)}")
        return name

    def tokens(self, asked: Sequence[str]) -> tuple[Tensor, Tensor]:
        """Returns token values and condition states, (evidence, tokens, width) and (evidence, tokens)."""
        layout = self.trained.compiled.layout
        values = torch.zeros(self.size, len(layout), layout.width)
        states = torch.full((self.size, len(layout)), ABSENT)
        for name in asked:
            states[:, layout.slots(name)] = LATENT
        for name, piece in self.evidence.items():
            slots = layout.slots(name)
            observed = layout.token_mask(name, piece.observed)
            given = np.where(piece.observed, piece.values, _anywhere(self.trained.compiled, name))
            values[:, slots] = layout.tokenize(name, given) * observed.unsqueeze(-1)
            states[:, slots] = torch.where(observed, OBSERVED, states[:, slots])
        return values, states

    def _values(self, name: str, tokens: Tensor) -> Tensor:
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
        rounded = variable.support.rounded(out)
        return rounded if self.batched else rounded[0]

    def _outside(self, draws: Mapping[str, Tensor]) -> dict[str, float]:
        """Returns the share of draws outside of their parents' bounds, if the graph is at hand to tell."""
        graph, layout = self.trained.compiled.graph, self.trained.compiled.layout
        if graph is None:
            return {}
        shape = {name: layout.tokenizers[name].variable.shape for name in layout.names}
        values = {name: draw.reshape(-1, *shape[name]) for name, draw in draws.items()}
        rows = len(next(iter(values.values())))
        for name in self.evidence:
            if self.wholly_given(name):
                values[name] = self.given_rows(name, rows // self.size)
        return {name: share for name, share in shares_outside(graph, values).items() if name in draws}

    def __repr__(self) -> str:
        given = ", ".join(self.evidence) or "nothing"
        rest = [name for name in self.trained.compiled.layout.names if not self.wholly_given(name)]
        batch = f" in {self.size} pieces" if self.batched else ""
        return f"<Query given {given}{batch}; can be asked for {', '.join(rest) or 'nothing'}>"


def numerics(num_samples: Any, seed: int | None, sampler: Any) -> tuple[int, int, Sampler]:
    """Checks the options of drawing, and fills in those that are left out."""
    if isinstance(num_samples, bool) or not isinstance(num_samples, (int, np.integer)) or num_samples < 1:
        raise QueryError(f"num_samples={num_samples!r} is not a whole number of 1 or more.")
    sampler = DEFAULT_SAMPLER if sampler is None else sampler
    if not isinstance(sampler, Sampler):
        raise QueryError(f"sampler={sampler!r} is no sampler.\n  For example: sampler=sg.Heun(evaluations=30)")
    return int(num_samples), secrets.randbits(62) if seed is None else check_seed(seed), sampler


def _anywhere(compiled: Compiled, name: str) -> np.ndarray:
    """Returns a value of the right shape in the support, to stand where nothing is observed."""
    variable = compiled.layout.tokenizers[name].variable
    if variable.support.kind == "simplex":
        return np.full(variable.shape, 1 / variable.event_shape[-1])
    low, high = np.nan_to_num(variable.support.low, neginf=-1e300), np.nan_to_num(variable.support.high, posinf=1e300)
    return np.broadcast_to(np.clip(0.0, low, high), variable.shape)
