"""Families of tokens from the laws of nodes: which tokens a token is drawn from.

A law speaks of the elements of one event; here it is repeated over the plates. Inside a plate, element k
is drawn from element k of a parent in the same plate and from all elements of any other parent. An opaque
deterministic node hands its own parents on. Elements that share a token are drawn together.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import networkx as nx
import numpy as np
import torch

from simgraph.compile.law import Law, Origin
from simgraph.compile.layout import Layout
from simgraph.dsl import Node
from simgraph.graph import Graph
from simgraph.graph.dependence import Families

__all__ = ["LinkOrigin", "families", "link_origins"]


@dataclass(frozen=True)
class LinkOrigin:
    """How the link of a variable to a parent is known.

    Attributes:
        child: The variable.
        parent: Its parent, or the variable itself for what its own elements say of one another.
        origin: ``"declared"``, ``"traced"`` or ``"assumed"``.
        note: Why it had to be assumed.
    """

    child: str
    parent: str
    origin: Origin
    note: str = ""


def families(graph: Graph, layout: Layout, laws: Mapping[str, Law]) -> Families:
    """Lays the laws of nodes out over tokens.

    Args:
        graph: The graph.
        layout: Its tokens.
        laws: The law of one event of each variable.

    Returns:
        The families of all variables and plate elements.
    """
    members: list[np.ndarray] = []
    parents: list[np.ndarray] = []
    slots_in_all = len(layout) + layout.hidden
    for name in layout.names:
        law, node = laws[name], graph[name]
        function = layout.index_of(name) is not None
        shape = layout.tokenizers[name].variable.plate_shape
        for element in np.ndindex(*(shape[:-1] if function else shape)):
            own = layout.element_slots(name)[element]
            drawn, above = (np.zeros((1, slots_in_all), dtype=bool) for _ in range(2))
            if function:
                drawn[:, layout.hidden_slots(name)[element]] = True
            else:
                drawn, above = _hit(law.members, own, slots_in_all), _hit(law.own, own, slots_in_all)
            for parameter, parent in node.signature.parents:
                for slots, source in _received(graph, layout, node, element, parent, law.sources[parameter]):
                    above |= _hit(source, slots, slots_in_all)
            if function:
                # What is seen of a function is drawn from the function alone.
                values = np.unique(own)
                members += [drawn[0], *np.eye(slots_in_all, dtype=bool)[values]]
                parents += [above[0], *drawn.repeat(len(values), 0)]
                continue
            for group in _sharing_tokens(drawn):
                together = np.asarray(drawn[group].any(0))
                members.append(together)
                parents.append(above[group].any(0) & ~together)
    return Families(torch.from_numpy(np.stack(members)), torch.from_numpy(np.stack(parents)))


def link_origins(graph: Graph, layout: Layout, laws: Mapping[str, Law]) -> tuple[LinkOrigin, ...]:
    """Tells how each link is known, in the order of the variables."""
    found: dict[tuple[str, str], LinkOrigin] = {}
    for name in layout.names:
        law = laws[name]
        for parameter, parent in graph[name].signature.parents:
            origin, note = law.origins[parameter], law.notes.get(parameter, "")
            for source, _ in _sources(graph, graph[name], parent):
                # Of two ways to one parent, the less certain one counts.
                if (name, source) not in found or origin == "assumed":
                    found[name, source] = LinkOrigin(name, source, origin, note)
        if layout.slots(name).stop - layout.slots(name).start > len(list(np.ndindex(*graph[name].plate_shape))):
            found[name, name] = LinkOrigin(name, name, law.origins[name], law.notes.get(name, ""))
    return tuple(found.values())


def _hit(elements: np.ndarray, slots: np.ndarray, tokens: int) -> np.ndarray:
    """Maps sets of elements (families, *shape), whose slots are known (*shape), to sets of tokens."""
    found = np.zeros((len(elements), tokens), dtype=bool)
    family, element = np.nonzero(elements.reshape(len(elements), -1))
    found[family, slots.ravel()[element]] = True
    return found


def _received(
    graph: Graph, layout: Layout, node: Node, element: tuple[int, ...], parent: str, source: np.ndarray
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yields the slots that a node sees at one plate element behind a parent, and which of them it is drawn from."""
    at = dict(zip((plate.name for plate in node.plates), element, strict=False))  # a function has its index behind
    for name, aligned in _sources(graph, node, parent):
        function = layout.index_of(name) is not None
        plates = graph[name].plates[:-1] if function else graph[name].plates
        index = tuple(at[plate.name] if plate.name in aligned else slice(None) for plate in plates)
        slots = np.asarray((layout.hidden_slots if function else layout.element_slots)(name)[index])
        if function or graph[parent].is_opaque:
            yield slots, np.broadcast_to(source.reshape(-1, *[1] * slots.ndim), (len(source), *slots.shape))
        else:
            yield slots, source


def _sources(graph: Graph, node: Node, parent: str) -> Iterator[tuple[str, frozenset[str]]]:
    """Yields the variables behind a parent, with the plates in which element meets element."""
    found: dict[str, frozenset[str]] = {}
    pending = [(parent, frozenset(plate.name for plate in node.plates))]
    while pending:
        name, aligned = pending.pop()
        aligned &= {plate.name for plate in graph[name].plates}
        if graph[name].is_opaque:
            pending += [(above, aligned) for above in graph[name].parents]
        else:
            # Two ways to one variable: what either of them shows is seen.
            found[name] = found.get(name, aligned) & aligned
    yield from sorted(found.items())


def _sharing_tokens(members: np.ndarray) -> Iterator[list[int]]:
    """Yields groups of families, (families, tokens), that have a token in common."""
    if (members.sum(0) <= 1).all():
        yield from ([number] for number in range(len(members)))
        return
    graph = nx.Graph()
    graph.add_nodes_from(range(len(members)))
    for token in members.T[members.any(0)]:
        nx.add_path(graph, np.flatnonzero(token).tolist())
    yield from (sorted(group) for group in nx.connected_components(graph))
