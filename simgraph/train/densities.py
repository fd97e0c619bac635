"""Which densities of a graph have slopes that can be computed for many traces together."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor
from torch.distributions import Distribution, Independent, VonMises

from simgraph.compile.atoms import zones
from simgraph.compile.elements import Elements
from simgraph.compile.layout import Layout
from simgraph.graph import Graph
from simgraph.traces.conditional import Way, choose_way, log_density
from simgraph.traces.distributions import as_torch, first_alone
from simgraph.train.local_scores import Values, parents_of

__all__ = ["factors", "readable", "ways_of"]


def readable(graph: Graph, layout: Layout) -> list[str]:
    """Returns the variables whose scores can be computed, as far as the kinds of nodes tell."""
    plain = {name for name in layout.names if graph[name].index is None}
    stated = {name for name in plain if graph[name].kind == "distribution" and set(graph[name].parents) <= plain}
    return [
        name
        for name in layout.names
        if name in stated
        and set(graph.children(name)) <= stated
        and isinstance(tokenizer := layout.tokenizers[name], Elements)
        and not tokenizer.counts
        and not zones(tokenizer.statistics)
    ]


def factors(graph: Graph, names: Iterable[str]) -> set[str]:
    """Returns the nodes whose densities depend on variables: these and their children."""
    return {factor for name in names for factor in (name, *graph.children(name))}


def ways_of(graph: Graph, names: set[str], values: Values) -> dict[str, Way]:
    """Returns how nodes are evaluated, in topological order, of those that can be for many traces together."""
    found = {}
    for name in graph.order:
        if name not in names or _circular(graph, name, values):
            continue
        try:
            way = choose_way(graph[name], values[name], *parents_of(graph, name, values))
            _differentiate_twice(graph, name, values, way)
        except Exception:  # no log_prob, or one without second derivatives: it is the user's code, or torch's
            continue
        if way.together:  # else it takes long, and numbers may be taken out of tensors on the way
            found[name] = way
    return found


def _circular(graph: Graph, name: str, values: Values) -> bool:
    """Tells whether values lie on a circle, which torch calls the real line: its ends are none of the density's."""
    parents, axes = parents_of(graph, name, values)
    laws = first_alone(graph[name], {p: as_torch(value.numpy()) for p, value in parents.items()}, axes, range(1))
    return any(isinstance(_base(law), VonMises) for own in laws.values() for law in own)


def _base(law: Distribution) -> Distribution:
    return _base(law.base_dist) if isinstance(law, Independent) else law


def _differentiate_twice(graph: Graph, name: str, values: Values, way: Way) -> None:
    """Takes second derivatives of a density; raises what they raise."""
    values = {key: value.clone().requires_grad_(value.is_floating_point()) for key, value in values.items()}
    at = [value for value in values.values() if value.requires_grad]
    with torch.enable_grad():
        slopes = [log_density(graph[name], values[name], *parents_of(graph, name, values), way)]
        for _ in range(2):
            total = sum(slope.sum() for slope in slopes if slope.requires_grad)
            if not isinstance(total, Tensor):  # nothing depends on anything
                return
            found = torch.autograd.grad(total, at, create_graph=True, allow_unused=True)
            slopes = [slope for slope in found if slope is not None]
