"""Families of tokens from nodes: which tokens a token is drawn from.

Elements along the batch axes of a distribution are independent given the parents; elements along its
event axes, and all elements of a black box, may depend on one another. Inside a plate, element k is
drawn from element k of a parent in the same plate and from all elements of any other parent. An opaque
deterministic node hands its own parents on.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np
import torch

from simgraph.compile.layout import Layout
from simgraph.compile.probe import Variable
from simgraph.graph import Graph
from simgraph.graph.dependence import Families

__all__ = ["families"]


def families(graph: Graph, layout: Layout) -> Families:
    """Derives the families of a graph's tokens.

    Args:
        graph: The graph.
        layout: Its tokens.

    Returns:
        One family per plate element and independent slice of each variable.
    """
    members: list[torch.Tensor] = []
    parents: list[torch.Tensor] = []
    grids = {name: _grid(layout, name) for name in layout.names}
    for name in layout.names:
        variable = layout.tokenizers[name].variable
        sources = dict(_sources(graph, name))
        for element in np.ndindex(*variable.plate_shape):
            above = torch.zeros(len(layout), dtype=torch.bool)
            for parent, aligned in sources.items():
                above[_seen(grids[parent], graph, name, element, parent, aligned)] = True
            for slots in _slices(np.asarray(grids[name][element]), variable):
                own = torch.zeros(len(layout), dtype=torch.bool)
                own[slots] = True
                members.append(own)
                parents.append(above)
    return Families(torch.stack(members), torch.stack(parents))


def _grid(layout: Layout, name: str) -> np.ndarray:
    """Returns the slots of a variable's tokens, arranged by (*plate sizes, *token axes)."""
    tokenizer = layout.tokenizers[name]
    slots = layout.slots(name)
    return np.arange(slots.start, slots.stop).reshape((*tokenizer.variable.plate_shape, *tokenizer.token_shape))


def _sources(graph: Graph, name: str) -> Iterator[tuple[str, frozenset[str]]]:
    """Yields the variables that a node is drawn from, with the plates in which element meets element."""
    found: dict[str, frozenset[str]] = {}
    pending = [(parent, frozenset(plate.name for plate in graph[name].plates)) for parent in graph[name].parents]
    while pending:
        parent, aligned = pending.pop()
        aligned &= {plate.name for plate in graph[parent].plates}
        if graph[parent].is_opaque:
            pending += [(above, aligned) for above in graph[parent].parents]
        else:
            # Two ways to one parent: what either of them shows is seen.
            found[parent] = found.get(parent, aligned) & aligned
    yield from sorted(found.items())


def _seen(
    grid: np.ndarray, graph: Graph, name: str, element: tuple[int, ...], parent: str, aligned: frozenset[str]
) -> np.ndarray:
    at: Mapping[str, int] = dict(zip((plate.name for plate in graph[name].plates), element, strict=True))
    index = tuple(at[plate.name] if plate.name in aligned else slice(None) for plate in graph[parent].plates)
    return np.asarray(grid[index]).ravel()


def _slices(slots: np.ndarray, variable: Variable) -> Iterator[np.ndarray]:
    """Yields the slots of one event in groups that are independent of one another given the parents."""
    joint = variable.joint_dim - variable.support.event_dim  # axes inside one token are joint anyway
    independent = slots.shape[: slots.ndim - joint]
    yield from slots.reshape(int(np.prod(independent)), -1)
