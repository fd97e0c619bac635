"""All that can be wrong with a set of nodes, found before anything runs and reported at once."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import networkx as nx

from simgraph.dsl import Index, Node, Plate
from simgraph.dsl.signature import PROVIDED
from simgraph.errors import (
    CycleError,
    DeclarationError,
    DuplicateNameError,
    GraphError,
    InvalidGraphError,
    ReservedNameError,
    UnknownParentError,
    did_you_mean,
    listed,
)

__all__ = ["OPTIONS", "validate"]

OPTIONS = ("strict", "num_samples", "seed", "at", "exact", "sampler", "method")
"""Names of options of ``given`` and ``sample``; a node of that name could not be given by keyword."""


def validate(nodes: Sequence[Node]) -> None:
    """Checks names, parents, plates and cycles of the nodes of a graph.

    Raises:
        DeclarationError: If an argument is no node.
        GraphError: The one problem that was found, in its own class.
        InvalidGraphError: All problems, if there are several.
    """
    for node in nodes:
        if not isinstance(node, Node):
            if isinstance(node, Mapping):
                raise DeclarationError(
                    f"Graph(...) takes nodes, not a {type(node).__name__} of {listed(map(str, node))}.\n"
                    "  To join graphs: one.include(other)"
                )
            several = isinstance(node, (list, tuple)) and node and all(isinstance(item, Node) for item in node)
            mend = (
                f"Hand the nodes over one by one: Graph({', '.join(item.name for item in node)})"
                if several
                else "Decorate the function with @node or @deterministic."
            )
            raise DeclarationError(f"Graph(...) takes nodes, not {node!r}.\n  {mend}")
    problems = [*_names(nodes), *_plates(nodes), *_parents(nodes)]
    # Where two nodes share a name, a cycle may be one in name only.
    problems += [] if any(isinstance(p, DuplicateNameError) for p in problems) else _cycles(nodes)
    if len(problems) == 1:
        raise problems[0]
    if problems:
        raise InvalidGraphError(problems)


def _names(nodes: Sequence[Node]) -> Iterator[GraphError]:
    seen: dict[str, Node] = {}
    for node in nodes:
        if node.name in PROVIDED or node.name in OPTIONS:
            kind = "a parameter that the library provides" if node.name in PROVIDED else "an option of queries"
            yield ReservedNameError(
                f"node {node.name!r} has a reserved name: it is {kind}.\n  declared at {node.where}\n"
                f"  Rename the function, for example to '{node.name}_'."
            )
        if node.name in seen:
            yield DuplicateNameError(
                f"two nodes are named {node.name!r}.\n  declared at {seen[node.name].where}"
                f" and at {node.where}\n  Names are unique in a graph; rename one, or use graph.replace(...)."
            )
        seen.setdefault(node.name, node)


def _plates(nodes: Sequence[Node]) -> Iterator[GraphError]:
    plates: dict[str, Plate] = {}
    for node in nodes:
        for plate in node.plates:
            known = plates.setdefault(plate.name, plate)
            if known != plate:
                kind = "index" if isinstance(known, Index) or isinstance(plate, Index) else "plate"
                clash = (
                    f"{kind} {plate.name!r} has two sizes, {known.size} and {plate.size}"
                    if kind == "plate"
                    else f"{plate.name!r} is declared as {known!r} and as {plate!r}"
                )
                yield DuplicateNameError(
                    f"{clash}.\n  declared at {node.where}\n"
                    f"  Share one {kind} object between the nodes, or rename one {kind}."
                )
    for node in nodes:
        if node.name in plates:
            kind = "an index" if isinstance(plates[node.name], Index) else "a plate"
            yield DuplicateNameError(
                f"node {node.name!r} has the name of {kind}.\n  declared at {node.where}\n  Rename one of the two."
            )


def _parents(nodes: Sequence[Node]) -> Iterator[GraphError]:
    by_name = {node.name: node for node in nodes}
    names = set(by_name)
    axes = {plate.name: plate for node in nodes for plate in node.plates}
    for node in nodes:
        for parent in node.parents:
            if isinstance(axes.get(parent), Index) and parent not in names:
                yield ReservedNameError(
                    f"node {node.name!r} asks for {parent!r}, which is an index.\n  declared at {node.where}\n"
                    f"  Points are handed to functions of the index alone: @node(index={parent})."
                )
            elif parent in axes and parent not in names:
                yield ReservedNameError(
                    f"node {node.name!r} asks for {parent!r}, which is a plate.\n  declared at {node.where}\n"
                    "  Elements of a plate are exchangeable and have no number. For a constant of each element,"
                    " declare a node in the plate with a prior, and give it in every query."
                )
            elif parent not in names:
                meant = getattr(node.function, "__globals__", {}).get(parent)
                cure = (
                    f"Points are handed to functions of an index, as {meant.name!r}: @node(index={parent})."
                    if isinstance(meant, Index)
                    else f"A node of that name has to be handed over as well: Graph(..., {parent}, {node.name})."
                )
                yield UnknownParentError(
                    f"node {node.name!r} asks for {parent!r}, which is not in the graph.\n"
                    f"  declared at {node.where}\n  {did_you_mean(parent, {*names, *PROVIDED})}\n  {cure}"
                )
            elif _is_field(by_name[parent]):
                yield UnknownParentError(
                    f"node {node.name!r} asks for {parent!r}, a function of an index with several coordinates.\n"
                    f"  declared at {node.where}\n  Such a field can be looked at, but is no parent."
                )
            elif node.vectorized and by_name[parent].index is not None:
                yield GraphError(
                    f"node {node.name!r} is vectorized and asks for {parent!r}, a function of an index.\n"
                    f"  declared at {node.where}\n  Each trace has a function of its own: leave vectorized=True out."
                )


def _is_field(node: Node) -> bool:
    return node.index is not None and node.index.dims > 1


def _cycles(nodes: Sequence[Node]) -> Iterator[GraphError]:
    edges = nx.DiGraph((parent, node.name) for node in nodes for parent in node.parents)
    tangles = sorted(nx.strongly_connected_components(edges), key=min)
    for tangle in tangles:
        try:
            cycle = nx.find_cycle(edges.subgraph(tangle), source=min(tangle))
        except nx.NetworkXNoCycle:
            continue
        names = [source for source, _ in cycle]
        start = names.index(min(names))
        path = names[start:] + names[:start] + [names[start]]
        yield CycleError(
            f"nodes form a cycle: {' -> '.join(path)}.\n  A simulator graph must be acyclic."
            " For feedback in time, put the loop inside one node."
        )
