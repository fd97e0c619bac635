"""What each node is drawn from: what the user declared, then what its code shows, then everything.

A distribution node's function is read (:mod:`simgraph.compile.traced`). Of a black box nothing is known but
its declarations: all elements of its parents reach all of its own, which may depend on one another. Where
declared links differ between such elements, the chain rule still separates them: an element is drawn from
the earlier ones, and from what reaches it or them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from simgraph.compile.law import Law, Origin
from simgraph.compile.probe import Variable
from simgraph.compile.traced import traced_law
from simgraph.compile.tracer import Untraceable
from simgraph.dsl import Node
from simgraph.dsl.links import Full
from simgraph.errors import DeclarationError
from simgraph.graph import Graph
from simgraph.traces import Traces
from simgraph.traces.distributions import as_torch, at_element

__all__ = ["law_of"]

_TRACES = 4
"""Traces at which a function is read and its reading checked."""


Readings = dict[Any, Law | Untraceable]
"""What functions were read to say, or why they cannot be read, by function and shapes."""


def law_of(
    graph: Graph, name: str, variables: Mapping[str, Variable], traces: Traces, readings: Readings | None = None
) -> Law:
    """Finds the law of one event of a node.

    Args:
        graph: The graph.
        name: The node.
        variables: All variables of the graph.
        traces: Traces of the graph; the node is read at a few of them.
        readings: What was read of other nodes; nodes of one function and of the same shapes are read once.

    Raises:
        DeclarationError: If a declared link does not fit the shapes of the two nodes.
    """
    node, variable = graph[name], variables[name]
    shapes = {
        parameter: _received_shape(graph, node, parent, variables) for parameter, parent in node.signature.parents
    }
    if node.index is not None:
        return _of_function(node, variable.event_shape, shapes)
    law = _read(graph, node, variable, shapes, traces, {} if readings is None else readings)
    if not node.depends and node.within is None:
        return law
    for parameter, parent in node.signature.parents:
        whole = graph[parent].is_opaque or graph[parent].index is not None
        if parameter in node.depends and whole and not isinstance(node.depends[parameter], Full):
            raise DeclarationError(
                f"depends= of node {name!r}: {parent!r} is an object without elements, so that no link of them can be"
                f" declared.\n  declared at {node.where}\n  Give {parent!r} a shape=, or leave {parameter!r} out."
            )
    try:
        return _declared(node, variable.event_shape, law, shapes)
    except DeclarationError as error:
        raise DeclarationError(f"depends= of node {name!r}: {error}\n  declared at {node.where}") from None


def _received_shape(graph: Graph, node: Node, parent: str, variables: Mapping[str, Variable]) -> tuple[int, ...]:
    """Returns the shape of what a node's function receives of a parent; () for an object, or for a function."""
    if graph[parent].is_opaque or graph[parent].index is not None:
        return ()
    shared = {plate.name for plate in node.plates}
    stacked = tuple(plate.most for plate in graph[parent].plates if plate.name not in shared)
    return stacked + variables[parent].event_shape


def _of_function(node: Node, event: tuple[int, ...], shapes: Mapping[str, tuple[int, ...]]) -> Law:
    """Returns the law of a function: it is drawn from all of its parents, and its values from it."""
    size = int(np.prod(event, dtype=int))
    origins: dict[str, Origin] = {**dict.fromkeys(shapes, "assumed"), node.name: "declared"}
    return Law(
        members=np.eye(size, dtype=bool).reshape(size, *event),
        own=np.zeros((size, *event), dtype=bool),
        sources={parameter: np.ones((1, *shape), dtype=bool) for parameter, shape in shapes.items()},
        origins=origins,
        notes={**dict.fromkeys(shapes, "a function of an index"), node.name: "values of one function"},
    )


def _read(
    graph: Graph,
    node: Node,
    variable: Variable,
    shapes: Mapping[str, tuple[int, ...]],
    traces: Traces,
    readings: Readings,
) -> Law:
    """Returns the law as the code shows it, or the fullest one."""
    drawn = node.kind == "distribution"
    reason = "a black box: only depends= can say more"
    if drawn or (node.kind == "deterministic" and node.backend == "torch"):
        objects = tuple(graph[parent].is_opaque or graph[parent].index is not None for parent in node.parents)
        key = (node.function, node.kind, tuple(shapes.items()), variable.event_shape, objects)
        if key not in readings:
            try:
                readings[key] = traced_law(node, list(_examples(graph, node, traces)))
            except Untraceable as error:
                readings[key] = error
        found = readings[key]
        if isinstance(found, Law):
            own = {**found.origins, node.name: "traced"}
            return replace(found, origins={name: own[name] for name in (*shapes, node.name)})
        reason = str(found)
    event = variable.event_shape
    # What is a function of the parents is independent given them; a constant has none.
    joint = 0 if node.kind in ("deterministic", "constant") else variable.joint_dim
    slices = int(np.prod(event[: len(event) - joint], dtype=int))
    members = np.repeat(np.eye(slices, dtype=bool), int(np.prod(event, dtype=int)) // slices, axis=1)
    known = dict.fromkeys(shapes, reason)
    origins: dict[str, Origin] = dict.fromkeys(shapes, "assumed")
    if joint == len(event) and joint:
        origins[node.name], known[node.name] = "assumed", reason
    else:
        origins[node.name] = "declared"
        known[node.name] = "by the batch shape of its distribution" if drawn else "a function of its parents"
    return Law(
        members=members.reshape(slices, *event),
        own=np.zeros((slices, *event), dtype=bool),
        sources={parameter: np.ones((slices, *shape), dtype=bool) for parameter, shape in shapes.items()},
        origins=origins,
        notes=known,
    )


def _examples(graph: Graph, node: Node, traces: Traces) -> Iterator[dict[str, Any]]:
    """Yields what a node's function receives at its first plate element, in a few complete traces."""
    parents = dict(node.signature.parents)
    opaque = [parent for parent in parents.values() if graph[parent].is_opaque]
    if opaque:
        raise Untraceable(f"it receives the object {opaque[0]!r}")
    functions = [parent for parent in parents.values() if graph[parent].index is not None]
    if functions:
        raise Untraceable(f"it receives the function {functions[0]!r}")
    complete = np.ones(traces.num_simulations, dtype=bool)
    for parent in parents.values():
        complete &= traces.present(parent).reshape(len(complete), -1).all(1)
    rows = np.flatnonzero(complete)[:_TRACES]
    if not len(rows):
        raise Untraceable("no trace holds all of its parents")
    first = (0,) * len(node.plates)
    for row in rows:
        yield {
            parameter: at_element(as_torch(traces[parent][row]), graph[parent].plates, node.plates, first)
            for parameter, parent in parents.items()
        }


def _declared(node: Node, event: tuple[int, ...], law: Law, shapes: Mapping[str, tuple[int, ...]]) -> Law:
    """Puts declared links in the place of what was read or assumed."""
    count, size = len(law.members), int(np.prod(event, dtype=int))
    members = law.members.reshape(count, size)
    family = members.argmax(0)
    links = {p: link.incidence(event, shapes[p]).reshape(size, -1) for p, link in node.depends.items()}
    for parameter, rows in links.items():
        if not rows.any():
            raise DeclarationError(
                f"the link of {parameter!r}, {node.depends[parameter]!r}, reaches no element for the shapes"
                f" {shapes[parameter]} and {event}.\n  Leave the parameter out if the node does not use it."
            )
    of_family = {parameter: _composed(members, rows) for parameter, rows in links.items()}
    uniform = all((of_family[p][family] == rows).all() for p, rows in links.items())
    if node.within is None and uniform and not law.own.any():
        return _with_links(node, law, of_family, shapes)

    before = np.tri(size, k=-1, dtype=bool)
    if node.within is None:
        # An element that shares its noise with earlier ones tells of what reaches them, too.
        within = law.own.reshape(count, size)[family] | ((family[:, None] == family) & before)
        links = {parameter: rows | _composed(within, rows) for parameter, rows in links.items()}
    elif isinstance(node.within, Full):
        within = before
    else:
        within = node.within.incidence(event, event).reshape(size, size) & ~np.eye(size, dtype=bool)
        if (within & ~before).any():
            raise DeclarationError(
                f"elements of {node.name!r} would be drawn from later ones of the same event.\n"
                f'  Link them to earlier ones, for example depends={{{node.name!r}: sg.lagged(1)}}; or "independent",'
                ' "causal", "full" for all together.'
            )
    single = Law(
        members=np.eye(size, dtype=bool).reshape(size, *event),
        own=within.reshape(size, *event),
        sources={parameter: source[family] for parameter, source in law.sources.items()},
        origins=law.origins,
        notes=law.notes,
    )
    found = _with_links(node, single, links, shapes)
    if node.within is not None or uniform:
        return found
    wider = f"widened, since elements may share their noise: declare {node.name!r} as well"
    return replace(found, notes={**found.notes, **dict.fromkeys(links, wider)})


def _composed(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Composes two boolean relations; NumPy multiplies floats a hundred times as fast as booleans."""
    return np.asarray(first.astype(np.float32) @ second.astype(np.float32) > 0)


def _with_links(node: Node, law: Law, links: Mapping[str, np.ndarray], shapes: Mapping[str, tuple[int, ...]]) -> Law:
    """Returns a law with the sources of some parameters, (families, elements), replaced."""
    sources = {parameter: rows.reshape(len(rows), *shapes[parameter]) for parameter, rows in links.items()}
    declared = [*links, *([node.name] if node.within is not None else [])]
    return replace(
        law,
        sources={**law.sources, **sources},
        origins={**law.origins, **dict.fromkeys(declared, "declared")},
        notes={key: note for key, note in law.notes.items() if key not in declared},
    )
