"""How many draws lie outside of the bounds that their own parents set.

A support that depends on a parent (``Uniform(0, b)``) is learned on the hull of all its values, so a draw can
lie inside of the hull and still outside of what its parents in the same draw allow.
"""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor
from torch.distributions import constraints

from simgraph.graph import Graph
from simgraph.traces.distributions import as_torch, batched, mappable

__all__ = ["shares_outside"]

_MOST_ROWS = 10_000


def shares_outside(graph: Graph, values: Mapping[str, Tensor]) -> dict[str, float]:
    """Returns the share of draws outside of their parents' bounds, for each node that has such draws.

    Args:
        graph: The graph; only distribution nodes that can be evaluated for many draws at once are judged.
        values: Draws and evidence by name, each (rows, *plate sizes, *event_shape).
    """
    found: dict[str, float] = {}
    for name in values:
        node = graph[name]
        if node.index is not None or any(graph[parent].index is not None for parent in node.parents):
            continue
        if node.kind != "distribution" or not node.parents or not all(parent in values for parent in node.parents):
            continue
        step = -(-len(values[name]) // _MOST_ROWS)
        parents = {parameter: as_torch(values[parent][::step].numpy()) for parameter, parent in node.signature.parents}
        axes = {parameter: graph[parent].plates for parameter, parent in node.signature.parents}
        rows = len(next(iter(parents.values())))
        if not mappable(node, parents, axes, range(rows)):
            continue
        try:
            support = batched(node, parents, axes, rows).support
        except Exception:  # drawn parents that the function cannot take: nothing can be said
            continue
        while isinstance(support, constraints.independent):
            support = support.base_constraint
        if support is None:
            continue
        inside = support.check(values[name][::step]).reshape(rows, -1).all(1)
        if not inside.all():
            found[name] = 1 - float(inside.double().mean())
    return found
