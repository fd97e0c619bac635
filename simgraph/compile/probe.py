"""What a node's values look like, learned from its traces and, for distribution nodes, from its function.

The hull of parent-dependent bounds is taken over the traces and over the corners of the parents'
supports; where a bound varies with a parent that is itself unbounded, it is dropped. It is exact for
bounds that are monotone in each parent.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from torch.distributions import Distribution, Independent

from simgraph.compile.supports import Support, describe_constraint
from simgraph.dsl import Node, TokenizerSpec
from simgraph.errors import ShapeError, SimulationError, SupportError, TracesError, listed
from simgraph.graph import Graph
from simgraph.traces import Traces
from simgraph.traces.distributions import as_torch, at_element, batched, call, mappable, unvalidated
from simgraph.traces.named import few_traces
from simgraph.traces.points import at_points

__all__ = ["Variable", "probe"]

_LOOP_TRACES = 100
"""Traces at which a node that cannot be mapped is asked for its support."""

_RUNS = 8
"""Traces that show the support of a node below an object."""

_CORNERS = 256

_FAR = 1e6
"""Stands for an unbounded end of a parent's support, and ten times as much beside it."""


@dataclass(frozen=True)
class Variable:
    """A named array of values.

    Attributes:
        name: Name of the node.
        plate_shape: Sizes of its plates.
        event_shape: Shape of one value.
        support: Where the values live; bounds are scalars or arrays of the event shape.
        joint_dim: Number of trailing event axes whose elements depend on one another given the parents;
            elements along the other event axes are independent given the parents.
        tokenizer: How a value becomes tokens; None for one token an element.
        atomic: Whether single values of a continuous variable may have a probability: the law of a black box is not
            known, that of a distribution has a density. Matters for fitting alone.
    """

    name: str
    plate_shape: tuple[int, ...]
    event_shape: tuple[int, ...]
    support: Support
    joint_dim: int
    tokenizer: TokenizerSpec | None = None
    atomic: bool = field(default=False, compare=False)

    @property
    def shape(self) -> tuple[int, ...]:
        """Sizes of the plates, then the event shape."""
        return self.plate_shape + self.event_shape


def probe(graph: Graph, traces: Traces) -> dict[str, Variable]:
    """Finds the shape and support of every variable of a graph.

    Args:
        graph: The graph.
        traces: Traces of the graph.

    Returns:
        Variables by name, in topological order.

    Raises:
        TracesError: If the traces lack a variable of the graph.
        ShapeError: If a variable's shape in the traces does not fit its declaration.
        SupportError: If a support has no tokenizer.
    """
    lacking = [name for name in graph.variables if name not in set(traces)]
    if lacking:
        raise TracesError(
            f"the traces lack {listed(lacking)}; they hold {listed(traces)}.\n"
            "  Simulate them with this graph: graph.simulate(...)"
        )
    variables: dict[str, Variable] = {}
    for name in graph.variables:
        node = graph[name]
        shape = traces[name].shape[1:]
        plates = len(node.plates)
        declared = node.plate_shape + (shape[plates:] if node.shape is None else node.shape)
        if shape != declared:
            raise ShapeError(
                f"the traces hold {name!r} with shape {shape}; the graph declares {declared}.\n"
                f"  declared at {node.where}"
            )
        event_shape = shape[plates:]
        if node.kind == "distribution":
            support, joint = _of_distribution(graph, node, traces, variables, len(event_shape))
        elif node.support is not None:
            support, joint = describe_constraint(node.support, name), len(event_shape)
        else:
            support, joint = Support("interval", np.array(-np.inf), np.array(np.inf)), len(event_shape)
        joint = max(joint, support.event_dim)
        atomic = node.kind != "distribution" and node.tokenizer is None and support.kind == "interval"
        variables[name] = Variable(name, node.plate_shape, event_shape, support, joint, node.tokenizer, atomic)
    return variables


def _of_distribution(
    graph: Graph, node: Node, traces: Traces, variables: Mapping[str, Variable], event_ndim: int
) -> tuple[Support, int]:
    """Returns the hull of a distribution node's supports, and the number of its joint event axes."""
    parents = dict(node.signature.parents)
    if any(graph[parent].is_opaque or graph[parent].index is not None for parent in parents.values()):
        support, joint = _as_run(graph, node, event_ndim)
        return support or _of_draws(traces[node.name], event_ndim), joint
    if node.index is not None:
        return _of_function(graph, node, traces, event_ndim), event_ndim
    complete = np.ones(traces.num_simulations, dtype=bool)
    for parent in parents.values():
        complete &= traces.present(parent).reshape(traces.num_simulations, -1).all(1)
    rows = np.flatnonzero(complete)
    values = {parameter: traces[parent][rows] for parameter, parent in parents.items()}

    seen, joint = _evaluated(graph, node, values)
    low, high = _hull(seen, event_ndim)
    first = seen[0]
    if first.kind not in ("interval", "integers"):
        return first, joint
    if _varies(seen):
        for corner, further in zip(_corners(node, variables, _FAR), _corners(node, variables, 10 * _FAR), strict=True):
            corner_low, corner_high = _bounds_at(graph, node, corner, event_ndim)
            further_low, further_high = _bounds_at(graph, node, further, event_ndim)
            # A bound that is unknown at some corner, or still moves far out there, does not hold.
            low = np.where(corner_low == further_low, np.minimum(low, corner_low), -np.inf)
            high = np.where(corner_high == further_high, np.maximum(high, corner_high), np.inf)
    return Support(first.kind, low, high), joint


def _of_function(graph: Graph, node: Node, traces: Traces, event_ndim: int) -> Support:
    """Returns the hull of the supports of a distribution over the points of an index."""
    assert node.index is not None
    axes = {parameter: graph[parent].plates for parameter, parent in node.signature.parents}
    plates, found = node.plates[:-1], []
    for row in range(min(traces.num_simulations, _LOOP_TRACES)):
        one = traces.trace(row)
        if any(not traces.present(name)[row].any() for name in node.parents):
            continue
        points = np.unique(one[node.index.name], axis=0)  # in order, and without the repeats that stand for others
        plain = at_points(node, len(points))
        for element in np.ndindex(*(one[node.name].shape[: len(plates)])):
            arguments = {p: at_element(as_torch(one[n]), axes[p], plates, element) for p, n in node.signature.parents}
            with unvalidated():
                distribution = call(plain, {**arguments, node.index.name: as_torch(points)})
            found.append(_support(distribution, node.name))
    if not found:
        raise TracesError(f"no trace holds all parents of {node.name!r}, so that its support cannot be told.")
    return _of_few(found, event_ndim)


def _as_run(graph: Graph, node: Node, event_ndim: int) -> tuple[Support | None, int]:
    """Returns the support of a node below an object or a function, which no trace holds, and its joint event axes.

    The support is None if no run shows it; then all axes count as joint.
    """
    found: list[Support] = []
    joint: list[int] = []

    @functools.wraps(node.function)
    def recorded(*args: Any, **kwargs: Any) -> Any:
        distribution = node.function(*args, **kwargs)
        found.append(_support(distribution, node.name))
        joint.append(_joint_dim(distribution))
        return distribution

    above = graph.prune(node.name)
    try:
        few_traces(Graph(*(replace(own, function=recorded) if own is node else own for own in above.values())), _RUNS)
    except (SimulationError, RuntimeError):  # nothing ran, or the bounds are tensors that tell no numbers
        return None, event_ndim
    # Values of a function depend on one another, whatever their distribution says of the points together.
    together = event_ndim if node.index is not None else max(joint, default=event_ndim)
    return (_of_few(found, event_ndim) if found else None), together


def _of_few(found: list[Support], event_ndim: int) -> Support:
    """Returns a support that holds for all parents, as a few of them show it."""
    if found[0].kind not in ("interval", "integers"):
        return found[0]
    # A bound that moves with a parent or with the point has no hull that a few traces could tell.
    low, high = _hull(found, event_ndim)
    turned = [Support(one.kind, one.high, one.low) for one in found]
    outermost, innermost = _hull(turned, event_ndim)  # the least upper and the largest lower bound
    return Support(found[0].kind, np.where(low == innermost, low, -np.inf), np.where(high == outermost, high, np.inf))


def _bounds_at(
    graph: Graph, node: Node, values: Mapping[str, np.ndarray], event_ndim: int
) -> tuple[np.ndarray, np.ndarray]:
    """Returns the bounds at one combination of parent values, NaN where the function refuses it."""
    try:
        with unvalidated():  # an end of an open interval is no valid parameter, but its bound is the limit
            found, _ = _evaluated(graph, node, {parameter: value[None] for parameter, value in values.items()})
        return _hull(found, event_ndim)
    except Exception:  # user code at an extreme value may fail in any way: nothing is known there
        return np.array(np.nan), np.array(np.nan)


def _evaluated(graph: Graph, node: Node, values: Mapping[str, np.ndarray]) -> tuple[list[Support], int]:
    """Returns the supports at all given parent values, batched into one where the node can be mapped."""
    axes = {parameter: graph[parent].plates for parameter, parent in node.signature.parents}
    rows = min((len(value) for value in values.values()), default=1)
    tensors = {parameter: as_torch(value) for parameter, value in values.items()}
    if mappable(node, tensors, axes, range(rows)):
        distribution = batched(node, tensors, axes, rows)
        return [_support(distribution, node.name)], _joint_dim(distribution)
    found: list[Support] = []
    joint = 0
    for row in range(min(rows, _LOOP_TRACES)):
        for element in np.ndindex(*node.plate_shape):
            arguments = {p: at_element(t[row], axes[p], node.plates, element) for p, t in tensors.items()}
            with unvalidated():
                distribution = call(node, arguments)
            found.append(_support(distribution, node.name))
            joint = max(joint, _joint_dim(distribution))
    return found, joint


def _support(distribution: Distribution, name: str) -> Support:
    if distribution.support is None:
        raise SupportError(f"node {name!r} returns a {type(distribution).__name__}, which states no support.")
    return describe_constraint(distribution.support, name)


def _joint_dim(distribution: Distribution) -> int:
    # Independent only relabels axes; the elements along them stay independent.
    while isinstance(distribution, Independent):
        distribution = distribution.base_dist
    return len(distribution.event_shape)


def _hull(seen: list[Support], event_ndim: int) -> tuple[np.ndarray, np.ndarray]:
    """Returns the lowest and highest bounds over traces and plates, by event element."""

    def reduced(bound: np.ndarray, reduce: np.ufunc) -> np.ndarray:
        leading = tuple(range(max(bound.ndim - event_ndim, 0)))
        return np.asarray(reduce.reduce(bound, axis=leading)) if leading else bound

    low = np.minimum.reduce([reduced(support.low, np.minimum) for support in seen])
    high = np.maximum.reduce([reduced(support.high, np.maximum) for support in seen])
    return np.asarray(low, dtype=np.float64), np.asarray(high, dtype=np.float64)


def _varies(seen: list[Support]) -> bool:
    bounds = [bound for support in seen for bound in (support.low, support.high)]
    return len(seen) > 1 or any(np.ndim(bound) > 0 for bound in bounds)


def _corners(node: Node, variables: Mapping[str, Variable], far: float) -> Iterator[dict[str, np.ndarray]]:
    """Yields combinations of extreme parent values; unbounded ends are stood for by ``far``."""
    parents = [(parameter, variables[parent]) for parameter, parent in node.signature.parents]
    ends: list[list[np.ndarray]] = []
    for _, parent in parents:
        support = parent.support
        if support.kind in ("interval", "integers"):
            kind = np.int64 if support.kind == "integers" else np.float64
            extremes = [np.nan_to_num(bound, posinf=far, neginf=-far) for bound in (support.low, support.high)]
            ends.append([np.broadcast_to(extreme, parent.shape).astype(kind) for extreme in extremes])
        else:
            ends.append([np.broadcast_to(row, parent.shape) for row in np.eye(parent.event_shape[-1])])
    for combination in itertools.islice(itertools.product(*ends), _CORNERS):
        yield {parameter: np.array(v) for (parameter, _), v in zip(parents, combination, strict=True)}


def _of_draws(values: np.ndarray, event_ndim: int) -> Support:
    """Returns what draws tell of a distribution whose function cannot be asked."""
    infinity = np.array(np.inf)
    if values.dtype.kind == "i":
        return Support("integers", np.array(float(values.min())), np.array(float(values.max())))
    return Support("interval", -infinity, infinity)
