r"""Traces in which some nodes hold values that are handed over, and the rest is simulated below them.

Given nodes G are roots that are known row by row; every other node v of the new graph draws from
:math:`p(v \mid parents(v))`. What lies above a given node would have to be drawn from its conditional given G, which
the simulator cannot do: such nodes are left out, and a node that asks for one of them is an error. Functions of what is
known are known themselves.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from simgraph.dsl import Node
from simgraph.dsl.signature import Signature
from simgraph.errors import EvidenceError, QueryError, ShapeError, listed
from simgraph.graph import Graph
from simgraph.graph.ragged import ragged_plates
from simgraph.traces.batch import Rows
from simgraph.traces.named import by_name, few_traces, lead
from simgraph.traces.sizes import told_sizes
from simgraph.traces.store import Traces

__all__ = ["below", "rows_of"]


def rows_of(graph: Graph, given: Any) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Checks values that ``simulate(given=...)`` takes.

    Args:
        graph: The graph.
        given: Mapping from names or nodes to rows (rows, *plate sizes, *event_shape).

    Returns:
        Arrays by name, float64 or int64 as the node draws them, ragged plates at their largest size; and the sizes
        of ragged plates that the rows tell, one () for all or one for each row, by name.

    Raises:
        QueryError, EvidenceError, ShapeError: If they are no rows of the graph's variables, all of one number.
    """
    call = "simulate(given=...)"
    arrays = by_name(graph, given, call)
    if not arrays:
        raise QueryError(f"{call} holds no values.\n  For a simulation from the start: graph.simulate(1000)")
    drawn = [name for name in arrays if graph[name].shape is None or arrays[name].dtype == np.int64]
    like = few_traces(graph.prune(*drawn)) if drawn else {}
    shapes = {
        name: like[name].shape[1:] if name in like else graph[name].plate_shape + (graph[name].shape or ())
        for name in arrays
    }
    if isinstance(given, Traces) and given.sizes:
        told = dict(given.sizes)
    else:
        seen = {name: array.shape[1:] for name, array in arrays.items() if array.ndim == 1 + len(shapes[name])}
        sizes_told = told_sizes(ragged_plates(graph), {name: graph[name].plates for name in seen}, seen, call)
        told = {plate: np.array(size) for plate, size in sizes_told.items()}
    for name, shape in shapes.items():
        array = arrays[name] = _padded(graph[name], arrays[name], shape)
        if not lead(array.shape, shape):
            plates = graph[name].plates
            spans = [*(plate.span for plate in plates), *map(str, shape[len(plates) :])]
            many = ", ".join(["rows", *spans])
            plain = f"({', '.join(spans)}{',' if len(spans) == 1 else ''})"
            raise ShapeError(
                f"{call} has values of shape {array.shape} for {name!r}, which has shape {plain}.\n"
                f"  Accepted: ({many}{'' if shape else ','}), one row for each trace."
                " Samples of several pieces of evidence are handed over one piece at a time."
            )
        if name in like and like[name].dtype == np.int64:
            whole = array.astype(np.int64)
            if (whole != array).any():
                raise EvidenceError(
                    f"{call} holds fractions for {name!r}, which draws whole numbers.\n  First:"
                    f" {array[whole != array][0]}"
                )
            arrays[name] = whole
        else:
            arrays[name] = array.astype(np.float64)
    sizes = {name: len(array) for name, array in arrays.items()}
    if len(set(sizes.values())) > 1:
        raise ShapeError(f"{call} has different numbers of rows: {sizes}.\n  Each row is one trace, in every variable.")
    return arrays, told


def _padded(node: Node, array: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Returns rows as long as the largest size of the node's ragged plates; new elements repeat the first one."""
    if array.ndim != 1 + len(shape):
        return array
    for axis, plate in enumerate(node.plates, start=1):
        if plate.is_ragged and plate.least <= array.shape[axis] < plate.most:
            first = np.take(array, [0], axis)
            array = np.concatenate([array, np.repeat(first, plate.most - array.shape[axis], axis)], axis)
    return array


def below(graph: Graph, given: Mapping[str, np.ndarray], start: int = 0) -> Graph:
    """Returns the graph in which given nodes hold rows of values, without what lies above them.

    Args:
        graph: The graph.
        given: Arrays (rows, *plate sizes, *event_shape) by name.
        start: Number of the trace to which the first row belongs.

    Raises:
        QueryError: If a node that is left out is needed.
    """
    known = set(given)
    for name in graph.order:
        node = graph[name]
        if node.kind == "constant" or (node.kind == "deterministic" and known.issuperset(node.parents)):
            known.add(name)
    lost = graph.ancestors(*given) - known
    kept = [name for name in graph.order if name not in lost]
    for name in kept:
        needed = [parent for parent in graph[name].parents if parent in lost]
        if needed and name not in given:
            mine = [below for below in given if needed[0] in graph.ancestors(below)]
            raise QueryError(
                f"node {name!r} asks for {needed[0]!r}, which is not given and lies above {listed(mine)}, which"
                f" {'is' if len(mine) == 1 else 'are'}.\n"
                f"  Simulated, {needed[0]!r} would follow its prior instead of its law given those values.\n"
                f"  Give {listed(needed)} too, drawn together with the rest; or leave {name!r} out with"
                " graph.prune(...)."
            )
    for name in reversed(graph.order):  # objects that only given nodes would have asked for
        if name not in lost and graph[name].is_opaque and all(c in given or c in lost for c in graph.children(name)):
            lost = lost | {name}
    signature = Signature((), (), takes_rng=False, takes_workdir=False)
    nodes = {name: graph[name] for name in graph if name not in lost}
    for name, values in given.items():
        nodes[name] = replace(
            graph[name],
            function=Rows(values, start),
            kind="constant",
            signature=signature,
            shape=values.shape[1 + len(graph[name].plates) :],
            support=None,
            vectorized=False,
            depends={},
            within=None,
        )
    return Graph(*nodes.values())
