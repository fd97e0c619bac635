r"""The log density of traces under their graph, where every node's density is known.

.. math:: \log p(v_1, ..., v_n) = \sum_i \log p(v_i \mid v_{parents(i)})

Nodes that are functions of their parents have no density; they add 0 where a value agrees with the function, and
:math:`-\infty` where it does not. Rows are computed together, in double precision, where that agrees with calling the
node's function one trace at a time; which way a node takes is found out once, on a few traces.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from simgraph.dsl import Plate
from simgraph.errors import DeclarationError, QueryError, ShapeError, listed
from simgraph.graph import Graph
from simgraph.graph.ragged import ragged_plates, sized
from simgraph.traces.batch import Inputs
from simgraph.traces.conditional import Way, choose_way, log_density
from simgraph.traces.evaluate import evaluate
from simgraph.traces.named import by_name, few_traces, lead
from simgraph.traces.sizes import told_sizes
from simgraph.traces.store import Traces

__all__ = ["Density", "log_prob"]

_FEW = 8
"""Traces on which it is found out how to evaluate each node."""

_AGREEMENT = 1e-6
"""Relative difference up to which a value is the value of its function; single precision keeps 6e-8."""


def log_prob(graph: Graph, values: Any) -> Tensor:
    """Computes the log density of traces; see :meth:`Graph.log_prob`."""
    functions = [name for name, node in graph.items() if node.index is not None]
    if functions:
        raise QueryError(
            f"log_prob(...) does not know the density of functions, which {listed(functions)} is.\n"
            "  Leave them out: graph.prune(...) keeps what other variables need."
        )
    arrays = by_name(graph, values, "log_prob(...)")
    if isinstance(values, Traces) and values.sizes:
        return _by_size(graph, values)
    ragged = ragged_plates(graph)
    if ragged:
        graph = sized(graph, _told(graph, ragged, arrays))
    density = Density(graph, graph.variables)
    lacking = [name for name in density.names if name not in arrays]
    if lacking:
        mend = "Hand over all of them; what is unknown is asked of a trained model."
        if arrays and graph.ancestors(*arrays) - set(arrays) <= {n for n in graph if n not in density.names}:
            names = ", ".join(map(repr, arrays))
            mend = f"For the density of those that are there: graph.prune({names}).log_prob(...)"
        raise QueryError(f"log_prob(...) lacks values of {listed(lacking)}.\n  {mend}")
    leads = {name: lead(array.shape, density.shapes[name]) for name, array in arrays.items()}
    for name, axes in leads.items():
        if axes is None:
            shape = density.shapes[name]
            many = ", ".join(["rows", *map(str, shape)])
            raise ShapeError(
                f"log_prob(...) has values of shape {arrays[name].shape} for {name!r}, which has shape {shape}.\n"
                f"  Accepted: {shape} for one trace, ({many}{'' if shape else ','}) for many."
            )
    sizes = {name: axes[0] for name, axes in leads.items() if axes}
    if len(set(sizes.values())) > 1:
        raise ShapeError(
            f"log_prob(...) has different numbers of rows: {sizes}.\n  Each row is one trace, in every variable."
        )
    rows = next(iter(sizes.values()), 1)
    with torch.no_grad():
        tensors = {
            name: torch.from_numpy(np.array(np.broadcast_to(array, (rows, *density.shapes[name]))))
            for name, array in arrays.items()
        }
        found = density(tensors)
    return found if sizes else found[0]


def _by_size(graph: Graph, traces: Traces) -> Tensor:
    """Computes the log density of traces whose plates differ in size, (rows,): traces of one size together."""
    kinds, which = np.unique(np.stack(list(traces.sizes.values()), 1), axis=0, return_inverse=True)
    found = torch.empty(traces.num_simulations, dtype=torch.float64)
    for number, kind in enumerate(kinds.tolist()):
        sizes = dict(zip(traces.sizes, kind, strict=True))
        rows = np.flatnonzero(which.reshape(-1) == number)
        values = {
            name: traces[name][(rows, *(slice(sizes.get(plate)) for plate in traces.plates[name]))] for name in traces
        }
        found[rows] = log_prob(sized(graph, sizes), values)
    return found


def _told(graph: Graph, ragged: Mapping[str, Plate], arrays: Mapping[str, np.ndarray]) -> dict[str, int]:
    """Returns the sizes of ragged plates as values tell them."""
    dims = {name: like.ndim - 1 for name, like in few_traces(graph).items()}
    ends = {name: array.shape[array.ndim - dims[name] :] for name, array in arrays.items() if array.ndim >= dims[name]}
    told = told_sizes(ragged, {name: graph[name].plates for name in ends}, ends, "log_prob(...)")
    unknown = [name for name in ragged if name not in told]
    if unknown:
        raise QueryError(
            f"log_prob(...) does not tell the size of plate {listed(unknown)}.\n"
            "  Hand over a value of a variable in it; its length is the size."
        )
    return told


class Density:
    """The log density of some variables and all above them, prepared once to be called often.

    Gradients with respect to values are those of the density, except through deterministic nodes: their functions
    are plain Python, so no gradient flows through them (``cut`` names them). While it computes, it switches the
    default float type and the argument validation of ``torch.distributions``, which threads share.

    Args:
        graph: The graph. Nodes that are not above ``names`` are ignored.
        names: Names of variables.
        tick: Called after each trace for which a function is run by itself.

    Attributes:
        names: The distribution nodes, in topological order: values of all of them are needed.
        shapes: Shape (*plate sizes, *event_shape) of every variable.
        cut: Deterministic nodes above distribution nodes, in topological order.

    Raises:
        QueryError: If a node is a black box, or has no density that can be computed.
        SimulationError: If none of a few traces can be simulated.

    Example:
        >>> from torch.distributions import Normal
        >>> from simgraph import Graph, node
        >>> @node
        ... def theta():
        ...     return Normal(0.0, 1.0)
        >>> @node
        ... def x(theta):
        ...     return Normal(theta, 0.5)
        >>> density = Density(Graph(theta, x), ["x"])
        >>> density({"theta": torch.zeros(3), "x": torch.zeros(3)}).shape
        torch.Size([3])
    """

    def __init__(self, graph: Graph, names: Sequence[str], tick: Callable[[], Any] = lambda: None) -> None:
        self._tick = tick
        self.graph = graph.prune(*names)
        if not len(self.graph):
            raise DeclarationError("the graph has no nodes, so there is no density.")
        boxes = [name for name in self.graph.order if self.graph[name].kind == "simulator"]
        if boxes:
            raise QueryError(
                f"the density of {listed(boxes)} is not known: a node with rng returns draws, not their law.\n"
                f"  declared at {listed(self.graph[name].where for name in boxes)}\n"
                "  Write a node without rng that returns its torch distribution, leave it out with graph.prune(...),"
                " or ask a trained model."
            )
        kinds = {name: self.graph[name].kind for name in self.graph.order}
        self.names = tuple(name for name, kind in kinds.items() if kind == "distribution")
        above = self.graph.ancestors(*self.names) if self.names else frozenset()
        self.cut = tuple(name for name, kind in kinds.items() if kind == "deterministic" and name in above)
        traces = few_traces(self.graph, _FEW)
        self.shapes = {name: traces[name].shape[1:] for name in traces}
        self._types = {name: torch.from_numpy(traces[name][:1].copy()).dtype for name in traces}
        self._ways: dict[str, Way] = {}
        with torch.no_grad():
            self.terms({name: torch.from_numpy(traces[name].copy()) for name in self.names})

    def __call__(self, values: Mapping[str, Tensor]) -> Tensor:
        """Returns the log density of each row, float64 (rows,).

        Args:
            values: Tensors (rows, *shape) of all variables in ``names``; others may be left out.
        """
        terms = self.terms(values)
        # Impossible rows are set apart: the sum of minus infinity and a number has no useful gradient.
        total = torch.stack(list(terms.values())).sum(0)
        return torch.where(total.isneginf(), -torch.inf, total)

    def terms(self, values: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Returns log p(v | parents) of each node, summed over its plates and elements: float64 (rows,) by name.

        Nodes without a density have 0 where they agree with their function, and minus infinity elsewhere. A row that
        is impossible in one node is minus infinity in the nodes after it as well. Arguments as for a call.
        """
        rows = len(next(iter(values.values()))) if values else 1
        known: dict[str, Any] = {}
        found: dict[str, Tensor] = {}
        alive = torch.arange(rows)
        for name in self.graph.order:
            node = self.graph[name]
            every = len(alive) == rows
            parents = {
                parameter: known[parent] if every else _rows(known[parent], alive)
                for parameter, parent in node.signature.parents
            }
            axes = {parameter: self.graph[parent].plates for parameter, parent in node.signature.parents}
            own = values.get(name)
            here = own if own is None or every else own[alive]
            if not len(alive):
                term = torch.zeros(0, dtype=torch.float64)
                known[name] = values[name] if own is not None else torch.zeros(rows)
            elif node.kind == "distribution":
                assert here is not None
                if name not in self._ways:
                    self._ways[name] = choose_way(node, here, parents, axes)
                term = log_density(node, here, parents, axes, self._ways[name])
                kept = own if own is not None else here
                known[name] = kept.to(torch.int64 if self._types[name] == torch.int64 else torch.float64)
            else:
                value, term = self._computed(name, parents, axes, len(alive))
                if here is not None:
                    term = torch.where(_agree(value, here), term, -torch.inf)
                known[name] = value if every else _scattered(value, alive, rows)
            found[name] = (
                term if every else torch.full((rows,), -torch.inf, dtype=torch.float64).index_put((alive,), term)
            )
            alive = alive[~term.detach().isneginf()]
        return found

    def _computed(
        self, name: str, parents: Mapping[str, Any], axes: Mapping[str, Sequence[Plate]], rows: int
    ) -> tuple[Any, Tensor]:
        """Returns the values of a function of its parents, and minus infinity in rows in which it failed."""
        arrays = {p: v.detach().numpy() if isinstance(v, Tensor) else v for p, v in parents.items()}
        inputs = Inputs(arrays, dict(axes), 0, rows, np.ones(rows, dtype=bool))
        # Trusted: promises of nodes were checked when a few traces were simulated to begin with.
        batch = evaluate(self.graph[name], inputs, seed=0, tick=self._tick, trusted=True)
        term = torch.zeros(rows, dtype=torch.float64)
        term[list(batch.failures)] = -torch.inf
        return batch.values if batch.values.dtype == object else torch.tensor(batch.values), term


def _rows(value: Any, rows: Tensor) -> Any:
    return value[rows] if isinstance(value, Tensor) else value[rows.numpy()]


def _scattered(value: Any, rows: Tensor, count: int) -> Any:
    """Puts values of some rows where they belong among all; the rest is never read."""
    if isinstance(value, Tensor):
        return value.new_zeros(count, *value.shape[1:]).index_put((rows,), value)
    whole = np.empty((count, *value.shape[1:]), dtype=object)
    whole[rows.numpy()] = value
    return whole


def _agree(value: Tensor, given: Tensor) -> Tensor:
    """Tells in which rows a value that was handed over is the computed one, up to rounding."""
    computed, given = (side.detach().double().reshape(len(value), -1) for side in (value, given))
    scale = torch.maximum(computed.abs(), given.abs()).amax(1, keepdim=True)
    return ((computed - given).abs() <= _AGREEMENT * scale).all(1)
