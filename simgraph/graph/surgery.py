"""Graph -> Graph: interventions, replacement, composition, pruning."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace as with_fields
from typing import Any

import numpy as np

from simgraph.dsl import Index, Node
from simgraph.dsl.signature import Signature
from simgraph.errors import DeclarationError, ShapeError
from simgraph.graph.graph import Graph

__all__ = ["Constant", "do", "include", "prune", "replace"]


class Constant:
    """The function of a constant node: returns one value, whatever happens above it.

    Args:
        value: The value, of the node's full shape including its plates.
    """

    def __init__(self, value: np.ndarray) -> None:
        self.value = value
        self.value.setflags(write=False)

    def __call__(self) -> np.ndarray:
        return self.value

    def __repr__(self) -> str:
        return f"Constant({np.array2string(self.value, threshold=6)})"


def do(graph: Graph, values: Mapping[str, Any]) -> Graph:
    """Sets nodes to constants and cuts the edges into them; see :meth:`Graph.do`."""
    nodes = {name: graph[name] for name in graph}
    for name, value in values.items():
        nodes[name] = _constant(graph, graph[name], value)
    return Graph(*nodes.values())


def replace(graph: Graph, nodes: Sequence[Node]) -> Graph:
    """Swaps nodes by name; see :meth:`Graph.replace`."""
    swapped = {name: graph[name] for name in graph}
    for node in nodes:
        if not isinstance(node, Node):
            raise DeclarationError(f"graph.replace(...) takes nodes, not {node!r}.")
        graph[node.name]
        swapped[node.name] = node
    return Graph(*swapped.values())


def include(graph: Graph, other: Graph, *, prefix: str, share: Sequence[str]) -> Graph:
    """Adds the nodes of another graph under prefixed names; see :meth:`Graph.include`."""
    for name in share:
        graph[name], other[name]
    names = {name: name if name in share else prefix + name for name in other}
    # A child of a shared node goes on seeing it element by element only if their plate stays one plate.
    # The name of an index is that of a parameter, so it stays as it is.
    kept = {plate.name for name in share for plate in other[name].plates}
    kept |= {axis.name for axis in other.plates.values() if isinstance(axis, Index)}
    plates = {name: name if name in kept else prefix + name for name in other.plates}
    added = []
    for name in other:
        if name in share:
            continue
        node = other[name].renamed(names)
        added.append(with_fields(node, plates=tuple(with_fields(p, name=plates[p.name]) for p in node.plates)))
    return Graph(*graph.values(), *added)


def prune(graph: Graph, names: Sequence[str]) -> Graph:
    """Keeps ``names`` and their ancestors; see :meth:`Graph.prune`."""
    kept = graph.ancestors(*names) | set(names)
    return Graph(*(node for name, node in graph.items() if name in kept))


def _constant(graph: Graph, node: Node, value: Any) -> Node:
    if node.index is not None:
        raise DeclarationError(
            f"do({node.name}=...) would set a function of {node.index.name!r}, which has no constant value.\n"
            f"  Replace it: graph.replace(a node named {node.name!r} with index={node.index.name})"
        )
    array = np.array(value)
    if not (np.issubdtype(array.dtype, np.number) or array.dtype == bool):
        raise DeclarationError(f"do({node.name}=...) takes numbers, not {value!r}.")
    if not np.isfinite(array).all():
        raise DeclarationError(f"do({node.name}=...) holds NaN or infinity.")
    array = array.astype(np.int64 if array.dtype.kind in "iub" else np.float64)
    if node.shape is not None:
        full = node.plate_shape + node.shape
    else:
        # What a distribution node is like, one draw tells: do(mu=0) of a real variable is 0.0.
        like = graph.prune(node.name).simulate(1, progress=False)[node.name][0]
        full = like.shape
        array = array.astype(np.int64 if like.dtype.kind == "i" else np.float64)
    try:
        array = np.array(np.broadcast_to(array, full))
    except ValueError:
        raise ShapeError(f"do({node.name}=...) has shape {array.shape}; node {node.name!r} has {full}.") from None
    return Node(
        name=node.name,
        function=Constant(array),
        kind="constant",
        signature=Signature((), (), takes_rng=False, takes_workdir=False),
        shape=full[len(node.plates) :],
        support=None,
        plates=node.plates,
    )
