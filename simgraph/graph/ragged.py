"""Plates whose size varies: the graph at one size, and which nodes see how many elements there are."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from simgraph.dsl import Index, Node, Plate
from simgraph.graph.graph import Graph
from simgraph.graph.surgery import Constant

__all__ = ["largest", "ragged_plates", "sized", "stacked"]


def ragged_plates(graph: Graph) -> dict[str, Plate]:
    """Returns the plates whose size varies, by name."""
    return {name: plate for name, plate in graph.plates.items() if plate.is_ragged}


def sized(graph: Graph, sizes: Mapping[str, int]) -> Graph:
    """Returns the graph in which some plates have one size; constants in them lose the elements beyond it.

    Args:
        graph: The graph.
        sizes: Sizes by name of plates, each within the plate's range.
    """
    return Graph(*(_sized(node, sizes) for node in graph.values())) if sizes else graph


def largest(graph: Graph) -> Graph:
    """Returns the graph in which every plate has its largest size."""
    return sized(graph, {name: plate.most for name, plate in ragged_plates(graph).items()})


def stacked(graph: Graph, name: str) -> tuple[str, ...]:
    """Returns the ragged plates of a node's parents that are not its own: it receives their elements as a stack.

    A function of an index is received as a curve on a fixed grid, however many points the trace has.
    """
    own = {plate.name for plate in graph[name].plates}
    above = (plate for parent in graph[name].parents for plate in graph[parent].plates if plate.name not in own)
    return tuple(dict.fromkeys(axis.name for axis in above if axis.is_ragged and not isinstance(axis, Index)))


def _sized(node: Node, sizes: Mapping[str, int]) -> Node:
    if not any(plate.name in sizes for plate in node.plates):
        return node
    plates = tuple(replace(plate, size=sizes.get(plate.name, plate.size)) for plate in node.plates)
    if not isinstance(node.function, Constant):
        return replace(node, plates=plates)
    value = node.function.value[tuple(slice(plate.most) for plate in plates)]
    return replace(node, plates=plates, function=Constant(value.copy()))
