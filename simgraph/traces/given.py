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

from simgraph.dsl.signature import Signature
from simgraph.errors import EvidenceError, QueryError, ShapeError, listed
from simgraph.graph import Graph
from simgraph.traces.batch import Rows
from simgraph.traces.named import by_name, few_traces, lead

__all__ = ["below", "rows_of"]


def rows_of(graph: Graph, given: Any) -> dict[str, np.ndarray]:
    """Checks values that ``simulate(given=...)`` takes.

    Args:
        graph: The graph.
        given: Mapping from names or nodes to rows (rows, *plate sizes, *event_shape).

    Returns:
        Arrays by name, float64 or int64 as the node draws them.

    Raises:
        QueryError, EvidenceError, ShapeError: If they are no rows of the graph's variables, all of one number.
    """
    call = "simulate(given=...)"
    arrays = by_name(graph, given, call)
    if not arrays:
        raise QueryError(f"{call} holds no values.\n  For a simulation from the start: graph.simulate(1000)")
    drawn = [name for name in arrays if graph[name].shape is None or arrays[name].dtype == np.int64]
    like = few_traces(graph.prune(*drawn)) if drawn else {}
    for name, array in arrays.items():
        shape = like[name].shape[1:] if name in like else graph[name].plate_shape + (graph[name].shape or ())
        if not lead(array.shape, shape):
            many = ", ".join(["rows", *map(str, shape)])
            raise ShapeError(
                f"{call} has values of shape {array.shape} for {name!r}, which has shape {shape}.\n"
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
    return arrays


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
