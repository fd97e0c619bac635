"""A trained model, and the questions put to it by name."""

from __future__ import annotations

import os
import secrets
import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from simgraph.compile import Compiled, compile
from simgraph.compile.compiled import Names, name_of
from simgraph.compile.masks import ABSENT, LATENT, OBSERVED
from simgraph.dsl import Node
from simgraph.errors import (
    DeclarationError,
    QueryError,
    SimgraphWarning,
    TracesError,
    TrainingError,
    UnknownNameError,
    did_you_mean,
)
from simgraph.graph import Graph
from simgraph.graph.fingerprint import differences, fingerprint
from simgraph.graph.validate import OPTIONS
from simgraph.query.bounds import shares_outside
from simgraph.query.draw import draw
from simgraph.query.evidence import Evidence, check
from simgraph.query.samples import Samples
from simgraph.query.solvers import DEFAULT_SAMPLER, Sampler
from simgraph.traces import Traces
from simgraph.traces.seeds import check_seed
from simgraph.train import History, Settings, Trained, checkpoint, train

__all__ = ["Model", "Query", "fit", "load"]


def fit(
    target: Graph | Compiled,
    traces: Traces | None = None,
    *,
    num_simulations: int | None = None,
    seed: int = 0,
    preset: str | Settings = "default",
    queries: Sequence[Mapping[str, Names]] | None = None,
    time_limit: float | None = None,
    progress: bool = True,
) -> Model:
    """Trains one model that answers every question about a graph.

    Args:
        target: The graph, or a compiled graph.
        traces: Traces to learn from, from ``graph.simulate(...)``.
        num_simulations: Number of traces to simulate instead.
        seed: Seed of the simulation and the training.
        preset: ``"default"``, ``"fast"``, or a :class:`Settings` object.
        queries: Questions that matter most, as dictionaries with the keys ``given`` and ``of``; half of
            the training is spent on them.
        time_limit: Seconds after which training ends.
        progress: Whether to show progress bars.

    Returns:
        The model. Interrupting training (Ctrl-C) returns the best one so far.

    Raises:
        TrainingError: If neither or both of traces and a number are given, or training cannot start.
        TracesError: If the traces are not those of the graph.

    Example:
        >>> from torch.distributions import Normal
        >>> from simgraph import Graph, Settings, node
        >>> @node
        ... def theta():
        ...     return Normal(0.0, 1.0)
        >>> @node
        ... def x(theta):
        ...     return Normal(theta, 0.5)
        >>> model = fit(Graph(theta, x), num_simulations=100, preset=Settings(steps=5), progress=False)
        >>> model.given(x=0.3).sample("theta", num_samples=10).shape
        torch.Size([10])
    """
    settings = Settings.of(preset)
    seed = check_seed(seed)
    if time_limit is not None and not time_limit > 0:
        raise TrainingError(f"time_limit={time_limit!r} is no positive number of seconds.")
    graph = target.graph if isinstance(target, Compiled) else target
    if (traces is None) == (num_simulations is None):
        raise TrainingError(
            "fit(...) needs traces or num_simulations, and not both.\n"
            "  For example: fit(graph, num_simulations=10_000), or fit(graph, graph.simulate(10_000))"
        )
    if traces is None:
        if not isinstance(graph, Graph):
            raise DeclarationError(f"fit(...) takes a Graph or a compiled graph, not {target!r}.")
        traces = graph.simulate(num_simulations, seed=seed, progress=progress)  # type: ignore[arg-type]
    if not isinstance(traces, Traces):
        raise TracesError(f"fit(...) takes traces from graph.simulate(...), not {type(traces).__name__}.")
    compiled = target if isinstance(target, Compiled) else compile(target, traces)
    for name, tokenizer in compiled.layout.tokenizers.items():
        if name not in traces or traces[name].shape[1:] != tokenizer.variable.shape:
            found = traces[name].shape[1:] if name in traces else "nothing"
            raise TracesError(
                f"the traces hold {found} for {name!r}; the compiled graph has shape {tokenizer.variable.shape}.\n"
                "  Simulate them with the graph that was compiled."
            )
    states = [_own_query(compiled, query) for query in queries or ()]
    trained = train(compiled, traces, settings, seed=seed, queries=states, time_limit=time_limit, progress=progress)
    return Model(trained)


def load(path: str | os.PathLike[str], graph: Graph | None = None) -> Model:
    """Loads a model that :meth:`Model.save` wrote.

    Args:
        path: The file.
        graph: The graph it was trained on, to link its simulator code again.

    Returns:
        The model; it answers every question that needs no simulator code, with or without the graph.

    Raises:
        FileNotFoundError: If there is no such file.
        FileFormatError: If the file is damaged or holds something else.
        QueryError: If the graph has another structure than the one that was trained.
    """
    trained, nodes = checkpoint.load(path)
    model = Model(trained, nodes)
    return model if graph is None else model.linked(graph)


class Model:
    """A trained model: answers any conditional of the joint law by name.

    Args:
        trained: What training returned.
        nodes: Fingerprint of the graph, where the graph itself is not at hand.
    """

    def __init__(self, trained: Trained, nodes: dict[str, Any] | None = None) -> None:
        self._trained = trained
        self._nodes = nodes

    @property
    def compiled(self) -> Compiled:
        """Tokens, supports and masks."""
        return self._trained.compiled

    @property
    def graph(self) -> Graph | None:
        """The graph, unless the model was loaded without it."""
        return self.compiled.graph

    @property
    def history(self) -> History:
        """What happened during training, as a table."""
        return self._trained.history

    def given(self, /, *conditions: Mapping[str | Node, Any], strict: bool = False, **values: Any) -> Query:
        """Attaches evidence.

        Args:
            *conditions: Mappings from names or nodes to values.
            strict: Whether evidence far outside of the training range is an error instead of a warning.
            **values: Values by name: one observation, a batch of independent ones, or ``sg.missing(...)``.

        Returns:
            The query. All checks are made here.

        Raises:
            QueryError: If a name is unknown or given twice.
            EvidenceError, ShapeError, SupportError: If a value cannot be evidence.
        """
        return Query(self, {}, 1, batched=False).given(*conditions, strict=strict, **values)

    def sample(self, *names: str | Node | Iterable[str | Node], **options: Any) -> Any:
        """Draws from the joint, or from the marginal of the named variables; see :meth:`Query.sample`."""
        return Query(self, {}, 1, batched=False).sample(*names, **options)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Writes the model to one file (safetensors with a JSON manifest), atomically."""
        checkpoint.save(path, self._trained, self._nodes)

    def linked(self, graph: Graph) -> Model:
        """Returns the model linked to the graph it was trained on.

        Raises:
            QueryError: If the graph has another structure.
        """
        nodes = fingerprint(self.graph) if self.graph is not None else self._nodes
        if nodes is not None:
            structure, changed = differences(nodes, graph)
            if structure:
                raise QueryError("the graph is not the one that was trained: " + "; ".join(structure) + ".")
            if changed:
                warnings.warn(
                    f"the code of {', '.join(changed)} has changed since training; the model learned the old code.",
                    SimgraphWarning,
                    stacklevel=3,
                )
        trained = self._trained
        compiled = replace(trained.compiled, graph=graph)
        return Model(Trained(compiled, trained.denoiser, trained.history, trained.ranges))

    def __repr__(self) -> str:
        layout = self.compiled.layout
        names = ", ".join(f"{name}{list(layout.tokenizers[name].variable.shape)}" for name in layout.names)
        rows = self.history.rows
        steps = f"{rows[-1]['step']:.0f} steps, {rows[-1]['seconds']:.0f} s" if rows else "no steps"
        return (
            f"<Model of {names}: {self._trained.ranges.count} traces, {steps}, validation loss {self.history.best:.4f}>"
        )


class Query:
    """A model with evidence: knows what is given, and is asked by name.

    Args:
        model: The model.
        evidence: Checked evidence by name.
        size: Number of pieces of evidence.
        batched: Whether results have a batch axis.
    """

    def __init__(self, model: Model, evidence: Mapping[str, Evidence], size: int, *, batched: bool) -> None:
        self.model, self.evidence, self.size, self.batched = model, dict(evidence), size, batched

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
        trained = self.model._trained
        evidence = self.evidence | check(trained.compiled, trained.ranges, named, strict=strict)
        sizes = {len(piece.values) for piece in evidence.values() if piece.batched}
        if len(sizes) > 1:
            raise QueryError(f"given(...) has batches of different sizes: {sorted(sizes)}.")
        return Query(self.model, evidence, max(sizes, default=1), batched=bool(sizes))

    def sample(
        self,
        *names: str | Node | Iterable[str | Node],
        num_samples: int = 1000,
        seed: int | None = None,
        sampler: Sampler | None = None,
    ) -> Any:
        """Draws from the law of the named variables given the evidence; all others are marginalised.

        Args:
            *names: One name: the result is a tensor. Several, a list, or none (everything that is not
                given): the result is :class:`Samples`, which also reports draws outside of the bounds that
                their own parents set.
            num_samples: Number of draws, for each piece of evidence.
            seed: Seed of the draws; fresh ones every time if there is none.
            sampler: The solver and its number of network evaluations.

        Returns:
            A tensor ([batch,] num_samples, *event_shape), or Samples of such tensors.

        Raises:
            UnknownNameError: If a name is not in the model.
            QueryError: If a name is wholly given, or an option is not valid.
        """
        asked, single = self._asked(names)
        if isinstance(num_samples, bool) or not isinstance(num_samples, (int, np.integer)) or num_samples < 1:
            raise QueryError(f"num_samples={num_samples!r} is not a whole number of 1 or more.")
        sampler = DEFAULT_SAMPLER if sampler is None else sampler
        if not isinstance(sampler, Sampler):
            raise QueryError(f"sampler={sampler!r} is no sampler.\n  For example: sampler=sg.Heun(evaluations=30)")
        seed = secrets.randbits(62) if seed is None else check_seed(seed)
        values, states = self._tokens(asked)
        trained = self.model._trained
        tokens = draw(trained.compiled, trained.denoiser, values, states, int(num_samples), sampler, seed)
        found = {name: self._values(name, tokens) for name in asked}
        if single:
            return found[asked[0]]
        return Samples(found, batched=self.batched, outside=self._outside(found))

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
            asked = [name for name in self.model.compiled.layout.names if not self._wholly_given(name)]
        if not asked:
            raise QueryError("every variable is given; nothing is left to sample.")
        return asked, single

    def _wholly_given(self, name: str) -> bool:
        return name in self.evidence and bool(self.evidence[name].observed.all())

    def _known(self, key: str | Node) -> str:
        name, known = name_of(key), self.model.compiled.layout.names
        if name not in known:
            raise UnknownNameError(f"{name!r} is not a variable of this model.\n  {did_you_mean(name, known)}")
        return name

    def _tokens(self, asked: Sequence[str]) -> tuple[Tensor, Tensor]:
        """Returns token values and condition states, (evidence, tokens, width) and (evidence, tokens)."""
        layout = self.model.compiled.layout
        values = torch.zeros(self.size, len(layout), layout.width)
        states = torch.full((self.size, len(layout)), ABSENT)
        for name in asked:
            states[:, layout.slots(name)] = LATENT
        for name, piece in self.evidence.items():
            slots = layout.slots(name)
            observed = layout.token_mask(name, piece.observed)
            given = np.where(piece.observed, piece.values, _anywhere(self.model.compiled, name))
            values[:, slots] = layout.tokenize(name, given) * observed.unsqueeze(-1)
            states[:, slots] = torch.where(observed, OBSERVED, states[:, slots])
        return values, states

    def _values(self, name: str, tokens: Tensor) -> Tensor:
        """Returns natural values ([batch,] num_samples, *shape) of a variable's tokens."""
        layout = self.model.compiled.layout
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
        graph, layout = self.model.graph, self.model.compiled.layout
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
        rest = [name for name in self.model.compiled.layout.names if not self._wholly_given(name)]
        batch = f" in {self.size} pieces" if self.batched else ""
        return f"<Query given {given}{batch}; can be asked for {', '.join(rest) or 'nothing'}>"


def _anywhere(compiled: Compiled, name: str) -> np.ndarray:
    """Returns a value of the right shape in the support, to stand where nothing is observed."""
    variable = compiled.layout.tokenizers[name].variable
    if variable.support.kind == "simplex":
        return np.full(variable.shape, 1 / variable.event_shape[-1])
    low, high = np.nan_to_num(variable.support.low, neginf=-1e300), np.nan_to_num(variable.support.high, posinf=1e300)
    return np.broadcast_to(np.clip(0.0, low, high), variable.shape)


def _own_query(compiled: Compiled, query: Mapping[str, Names]) -> Tensor:
    unknown = set(query) - {"given", "of"}
    if unknown:
        raise QueryError(f"a query of fit(queries=...) has the keys given and of, not {sorted(unknown)}.")
    states = compiled.states(query.get("given", ()), query.get("of"))
    if not (states == LATENT).any():
        raise QueryError(f"the query {dict(query)} asks for nothing.")
    return states
