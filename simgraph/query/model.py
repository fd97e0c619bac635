"""A trained model, and the questions put to it by name."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from simgraph.compile import Compiled, compile
from simgraph.compile.masks import LATENT
from simgraph.compile.names import Names, as_names
from simgraph.dsl import Embedding, Node
from simgraph.errors import DeclarationError, QueryError, SimgraphWarning, TracesError, TrainingError, warn
from simgraph.graph import Graph
from simgraph.graph.fingerprint import differences, fingerprint
from simgraph.query.check import Check
from simgraph.query.intervene import Intervention
from simgraph.query.nuisance import with_nuisances
from simgraph.query.query import Query
from simgraph.query.ragged import RaggedQuery
from simgraph.query.restrictions import Condition
from simgraph.traces import Traces
from simgraph.traces.seeds import check_seed
from simgraph.train import History, Settings, Trained, checkpoint, train
from simgraph.train.fresh import endless, redrawn

__all__ = ["Model", "fit", "load"]


def fit(
    target: Graph | Compiled,
    traces: Traces | None = None,
    *,
    num_simulations: int | None = None,
    seed: int = 0,
    preset: str | Settings = "default",
    queries: Sequence[Mapping[str, Names]] | None = None,
    redraw: Names | None = None,
    time_limit: float | None = None,
    progress: bool = True,
) -> Model:
    """Trains one model that answers every question about a graph.

    Args:
        target: The graph, or a compiled graph.
        traces: Traces to learn from, from ``graph.simulate(...)``.
        num_simulations: Number of traces to simulate instead. With neither of the two, training begins with 10 240
            traces and goes on with fresh ones, which it simulates in at most a tenth of its time: for simulators that
            take a millisecond or less. How many there are depends on the machine, unless there is no time limit.
        seed: Seed of the simulation and the training.
        preset: ``"default"`` (at most six minutes), ``"thorough"`` (at most three quarters of an hour), ``"fast"``
            (a first look), or a :class:`Settings` object.
        queries: Questions that matter most, as dictionaries with the keys ``given`` and ``of``; half of
            the training is spent on them.
        redraw: Nodes that are cheap to draw beside what they are drawn from, such as noise around the result of a long
            computation: as training goes on, they and all below them are drawn anew from the stored values above, so
            that few traces hold for many. A deterministic node is stored if it has a shape, else computed again. The
            traces must not have been selected by what is redrawn.
        time_limit: Seconds after which training ends, in place of those of the preset. Where it is time that ends a
            training, another machine takes another number of steps.
        progress: Whether to show progress bars.

    Returns:
        The model. Interrupting training (Ctrl-C) returns the best one so far.

    Raises:
        TrainingError: If both traces and a number are given, nodes are to be redrawn where traces are fresh anyway or
            that is not possible, or training cannot start.
        TracesError: If the traces are not those of the graph.
        UnknownNameError, QueryError: If names of ``queries`` or ``redraw`` do not fit.

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
    settings = Settings.of(preset, time_limit)
    seed = check_seed(seed)
    graph = target.graph if isinstance(target, Compiled) else target
    if traces is not None and num_simulations is not None:
        raise TrainingError(
            "fit(...) takes traces or num_simulations, and not both.\n"
            "  For example: fit(graph, num_simulations=10_000), or fit(graph, graph.simulate(10_000))"
        )
    asked = _queries(() if queries is None else queries)
    fresh = None
    if redraw is not None:
        if traces is None and num_simulations is None:
            raise TrainingError("fit(redraw=...) is for traces that are kept.\n  Hand over traces, or num_simulations.")
        if not isinstance(graph, Graph):
            raise DeclarationError(f"fit(redraw=...) takes a Graph, or a compiled graph that has it, not {target!r}.")
        fresh = redrawn(graph, as_names(redraw, "redraw"), seed)
    if traces is None:
        if not isinstance(graph, Graph):
            raise DeclarationError(f"fit(...) takes a Graph or a compiled graph, not {target!r}.")
        if num_simulations is None:
            traces, fresh = endless(graph, seed, progress)
        else:
            traces = graph.simulate(num_simulations, seed=seed, progress=progress)
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
    states = [state for query in asked for state in _own_query(compiled, query)]
    return Model(train(compiled, traces, settings, seed=seed, queries=states, fresh=fresh, progress=progress))


def load(path: str | os.PathLike[str], graph: Graph | None = None) -> Model:
    """Loads a model that :meth:`Model.save` wrote.

    Args:
        path: The file.
        graph: The graph it was trained on, to link its simulator code again, and embedding networks of your own.

    Returns:
        The model; it answers every question that needs no code of yours, with or without the graph.

    Raises:
        FileNotFoundError: If there is no such file.
        FileFormatError: If the file is damaged or holds something else.
        QueryError: If the graph has another structure than the one that was trained, or there is none where embedding
            networks of your own are needed.
    """
    specs = {} if graph is None else {name: graph[name].tokenizer for name in graph}
    trained, nodes = checkpoint.load(path, {name: s for name, s in specs.items() if isinstance(s, Embedding)})
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

    @property
    def scored(self) -> tuple[str, ...]:
        """Names of the variables of which training used the slopes of the graph's densities (``Settings.scores``)."""
        return self._trained.scored

    def given(
        self, /, *conditions: Mapping[str | Node, Any] | Condition, strict: bool = False, **values: Any
    ) -> Query | RaggedQuery:
        """Attaches evidence.

        A value of a variable in a plate whose size varies tells the size. Pieces whose sizes differ are handed over as
        a list of arrays; every answer is then a list, with one entry for each piece.

        Args:
            *conditions: Mappings from names or nodes to values; :func:`constraint`, :func:`where`.
            strict: Whether evidence far outside of the training range is an error instead of a warning.
            **values: Values by name: one observation, a batch of independent ones, ``sg.missing(...)``, or an
                interval (``sg.between(0, 1)``, ``sg.above(0)``, ``sg.below(1)``).

        Returns:
            The query. All checks are made here.

        Raises:
            QueryError: If a name is unknown or given twice.
            EvidenceError, ShapeError, SupportError: If a value cannot be evidence.
        """
        return Query(self._trained, {}, 1, batched=False).given(*conditions, strict=strict, **values)

    def sample(self, *names: str | Node | Iterable[str | Node], **options: Any) -> Any:
        """Draws from the joint, or from the marginal of the named variables; see :meth:`Query.sample`."""
        return Query(self._trained, {}, 1, batched=False).sample(*names, **options)

    def check(self, *names: str | Node | Iterable[str | Node], **options: Any) -> Check:
        """Holds draws from the joint or a marginal against the graph's own; see :meth:`Query.check`."""
        return Query(self._trained, {}, 1, batched=False).check(*names, **options)

    def do(self, /, *settings: Mapping[str | Node, Any], **values: Any) -> Intervention:
        """Sets variables to constants, as an experimenter would: nothing is learned about what lies above them.

        Args:
            *settings: Mappings from names or nodes to values.
            **values: A value by name, of the variable's full shape or broadcastable to it.

        Returns:
            The intervention, to be asked like a query: ``model.do(a=1.0).given(z=0.5).sample("y")``.

        Raises:
            QueryError: If a name is unknown or set twice, or nothing is set.
            EvidenceError, ShapeError, SupportError: If a variable cannot have the value.

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
            >>> model.do(theta=1.0)
            <Intervention on theta; changes x>
            >>> model.do(theta=1.0).sample("x", num_samples=10).shape
            torch.Size([10])
        """
        return Intervention.of(Query(self._trained, {}, 1, batched=False), settings, values)

    def log_prob(self, values: Mapping[str | Node, Any] | None = None, /, **options: Any) -> Tensor:
        """Returns the log density of values under the joint or a marginal; see :meth:`Query.log_prob`."""
        return Query(self._trained, {}, 1, batched=False).log_prob(values, **options)

    def map(self, *names: str | Node | Iterable[str | Node], **options: Any) -> Any:
        """Returns the most likely values under the joint or a marginal; see :meth:`Query.map`."""
        return Query(self._trained, {}, 1, batched=False).map(*names, **options)

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
                warn(
                    f"the code of {', '.join(changed)} has changed since training; the model learned the old code.",
                    SimgraphWarning,
                )
        return Model(replace(self._trained, compiled=replace(self._trained.compiled, graph=graph)))

    def __repr__(self) -> str:
        layout = self.compiled.layout
        names = ", ".join(f"{name}[{layout.shape_text(name)[1:-1].rstrip(',')}]" for name in layout.names)
        rows = self.history.rows
        steps = f"{rows[-1]['step']:.0f} steps, {rows[-1]['seconds']:.0f} s" if rows else "no steps"
        scored = f", scores of {', '.join(self._trained.scored)}" if self._trained.scored else ""
        loss = f"validation loss {self.history.best:.4f}"
        return f"<Model of {names}: {self._trained.ranges.count} traces, {steps}{scored}, {loss}>"


def _queries(queries: Any) -> list[Mapping[str, Names]]:
    """Returns the user's queries, after the checks that need no compiled graph."""
    found = list(queries) if isinstance(queries, Iterable) and not isinstance(queries, Mapping) else [queries]
    if isinstance(queries, Mapping) or not all(isinstance(query, Mapping) for query in found):
        raise QueryError(
            f"fit(queries=...) takes a list of mappings, not {queries!r}.\n"
            '  For example: queries=[dict(given=["x"], of=["theta"])]'
        )
    for query in found:
        if unknown := set(query) - {"given", "of"}:
            raise QueryError(f"a query of fit(queries=...) has the keys given and of, not {sorted(unknown)}.")
    return found


def _own_query(compiled: Compiled, query: Mapping[str, Names]) -> list[Tensor]:
    """Returns the condition states of a user's query: as its density is asked for, and as it is drawn."""
    states = compiled.states(query.get("given", ()), query.get("of"))
    if not (states == LATENT).any():
        raise QueryError(f"the query {dict(query)} asks for nothing.")
    along = with_nuisances(compiled, states)
    return [states] if torch.equal(along, states) else [states, along]
