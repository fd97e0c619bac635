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
from simgraph.query.density import check_flow, has_density, log_prob
from simgraph.query.draw import draw
from simgraph.query.evidence import Evidence, check
from simgraph.query.flow import Flow
from simgraph.query.mode import mode
from simgraph.query.samples import Samples
from simgraph.query.solvers import DEFAULT_SAMPLER, Sampler
from simgraph.traces.seeds import check_seed
from simgraph.train import Trained

__all__ = ["Query"]


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
        sampler: Sampler | None = None,
        **unknown: Any,
    ) -> Any:
        """Draws from the law of the named variables given the evidence; all others are marginalised.

        Args:
            *names: One name: the result is a tensor. Several, a list, or none (everything that is not
                given): the result is :class:`Samples`, which also reports draws outside of the bounds that
                their own parents set.
            num_samples: Number of draws, for each piece of evidence.
            seed: Seed of the draws; fresh ones every time if there is none.
            sampler: The solver and its number of network evaluations.
            **unknown: Refused, with the place where it belongs.

        Returns:
            A tensor ([batch,] num_samples, *event_shape), or Samples of such tensors.

        Raises:
            UnknownNameError: If a name is not in the model.
            QueryError: If a name is wholly given, or an option is not valid.
        """
        if unknown:
            name = next(iter(unknown))
            raise QueryError(
                f"sample(...) has no option {name!r}; it has num_samples, seed and sampler.\n"
                "  Evidence comes first: model.given(x=...).sample('theta')"
            )
        asked, single = self._asked(names)
        if isinstance(num_samples, bool) or not isinstance(num_samples, (int, np.integer)) or num_samples < 1:
            raise QueryError(f"num_samples={num_samples!r} is not a whole number of 1 or more.")
        sampler = DEFAULT_SAMPLER if sampler is None else sampler
        if not isinstance(sampler, Sampler):
            raise QueryError(f"sampler={sampler!r} is no sampler.\n  For example: sampler=sg.Heun(evaluations=30)")
        seed = secrets.randbits(62) if seed is None else check_seed(seed)
        values, states = self._tokens(asked)
        tokens = draw(self.trained.compiled, self.trained.denoiser, values, states, int(num_samples), sampler, seed)
        found = {name: self._values(name, tokens) for name in asked}
        if single:
            return found[asked[0]]
        return Samples(found, batched=self.batched, outside=self._outside(found))

    def log_prob(
        self, values: Mapping[str | Node, Any] | None = None, /, *, sampler: Flow | None = None, **named: Any
    ) -> Tensor:
        """Returns the log density of values given the evidence, normalised and in natural units.

        Variables that are neither given nor named are marginalised. Categories and counts have probabilities; a
        vector on a simplex has the density with respect to all of its coordinates but the last, as
        ``torch.distributions.Dirichlet``. The density is that of the probability flow, whose draws :meth:`sample`
        returns.

        Args:
            values: Values by name or node: one value, or many of them, (N, *shape). With B pieces of evidence: one
                value for all, (B, *shape), or (B, N, *shape).
            sampler: How densities are computed, for example ``sg.Flow(steps=40)``.
            **named: Values by name.

        Returns:
            Float64 tensor: (), (N,), (B,) or (B, N). It is -inf where a value lies outside of its support.

        Raises:
            QueryError: If a name is unknown or given, or a variable is deterministic or constant.
            ShapeError: If shapes do not fit one another, or the evidence.
            EvidenceError: If values are no numbers, or NaN.

        Warns:
            SimgraphWarning: If the density is an estimate, because many features depend on one another.

        Example:
            >>> from torch.distributions import Normal
            >>> import simgraph as sg
            >>> @sg.node
            ... def theta():
            ...     return Normal(0.0, 1.0)
            >>> settings = sg.Settings(steps=5)
            >>> model = sg.fit(sg.Graph(theta), num_simulations=100, preset=settings, progress=False)
            >>> model.log_prob(theta=[0.0, 0.5, 1.0]).shape
            torch.Size([3])
        """
        return log_prob(
            self.trained,
            self.evidence,
            self._tokens([]),
            batched=self.batched,
            values=values,
            named=named,
            sampler=sampler,
        )

    def map(
        self, *names: str | Node | Iterable[str | Node], seed: int | None = None, sampler: Flow | None = None
    ) -> Any:
        """Returns the most likely values of the named variables given the evidence; all others are marginalised.

        It is the maximum of the joint density that :meth:`log_prob` tells, probabilities and densities in natural
        units multiplied. The search begins among 256 draws, so that a mode which holds a hundredth of the mass is
        seldom missed. A density that has no maximum (as that of Exponential, at the open end of its support) gives the
        best value that was found.

        Args:
            *names: One name: the result is a tensor. Several, a list, or none (everything that is not given): the
                result is a dictionary.
            seed: Seed of the draws; fresh ones every time if there is none.
            sampler: How densities are computed, for example ``sg.Flow(steps=40)``.

        Returns:
            A tensor ([batch,] *event_shape), or a dictionary of such tensors.

        Raises:
            UnknownNameError: If a name is not in the model.
            QueryError: If a name is wholly given, deterministic or constant.
        """
        asked, single = self._asked(names)
        flow = check_flow(sampler)
        for name in asked:
            has_density(self.trained, name)
        seed = secrets.randbits(62) if seed is None else check_seed(seed)
        tokens = mode(self.trained, *self._tokens(asked), seed, flow).unsqueeze(1)
        found = {name: self._values(name, tokens).squeeze(1 if self.batched else 0) for name in asked}
        return found[asked[0]] if single else found

    def _asked(self, names: tuple[Any, ...]) -> tuple[list[str], bool]:
        for name in names:
            if not isinstance(name, (str, Node, Iterable)):
                raise QueryError(
                    f"sample(...) takes names of variables, not {name!r}.\n"
                    "  The number of draws is an option: sample('theta', num_samples=500)"
                )
        single = len(names) == 1 and isinstance(names[0], (str, Node))
        flat = [n for group in names for n in ([group] if isinstance(group, (str, Node)) else list(group))]
        asked = list(dict.fromkeys(self._known(name) for name in flat))
        for name in asked:
            if self._wholly_given(name):
                raise QueryError(f"{name!r} is both given and asked for.\n  Leave it out of one of the two.")
        if not asked:
            asked = [name for name in self.trained.compiled.layout.names if not self._wholly_given(name)]
        if not asked:
            raise QueryError("every variable is given; nothing is left to sample.")
        return asked, single

    def _wholly_given(self, name: str) -> bool:
        return name in self.evidence and bool(self.evidence[name].observed.all())

    def _known(self, key: str | Node) -> str:
        name, known = name_of(key), self.trained.compiled.layout.names
        if name not in known:
            raise UnknownNameError(f"{name!r} is not a variable of this model.\n  {did_you_mean(name, known)}")
        return name

    def _tokens(self, asked: Sequence[str]) -> tuple[Tensor, Tensor]:
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
            if self._wholly_given(name):
                support = layout.tokenizers[name].variable.support
                given = support.rounded(torch.from_numpy(self.evidence[name].values))
                full = given if len(given) == self.size else given.expand(self.size, *shape[name])
                values[name] = full.repeat_interleave(rows // self.size, 0)
        return {name: share for name, share in shares_outside(graph, values).items() if name in draws}

    def __repr__(self) -> str:
        given = ", ".join(self.evidence) or "nothing"
        rest = [name for name in self.trained.compiled.layout.names if not self._wholly_given(name)]
        batch = f" in {self.size} pieces" if self.batched else ""
        return f"<Query given {given}{batch}; can be asked for {', '.join(rest) or 'nothing'}>"


def _anywhere(compiled: Compiled, name: str) -> np.ndarray:
    """Returns a value of the right shape in the support, to stand where nothing is observed."""
    variable = compiled.layout.tokenizers[name].variable
    if variable.support.kind == "simplex":
        return np.full(variable.shape, 1 / variable.event_shape[-1])
    low, high = np.nan_to_num(variable.support.low, neginf=-1e300), np.nan_to_num(variable.support.high, posinf=1e300)
    return np.broadcast_to(np.clip(0.0, low, high), variable.shape)
