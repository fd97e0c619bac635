"""What is likely a mistake in a graph, each with its mend."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch

from simgraph.compile.masks import LATENT, OBSERVED
from simgraph.dsl import Node, Plate
from simgraph.errors import SimgraphError, listed
from simgraph.graph import Graph
from simgraph.graph.bitsets import unpack
from simgraph.graph.dependence import Dependence
from simgraph.graph.ragged import largest
from simgraph.traces import Traces
from simgraph.traces.batch import Inputs
from simgraph.traces.evaluate import evaluate

if TYPE_CHECKING:
    from simgraph.compile.compiled import Compiled

__all__ = ["Finding", "lint"]

_TRACES = 32
"""Traces in which a parent's values are swapped to see whether they matter."""

_BUDGET = 512
"""Tokens up to which attention is cheap."""

_DEEP = 12
"""Layers up to which a deeper network is worth a thought."""


@dataclass(frozen=True)
class Finding:
    """One thing that a graph's author may want to look at.

    Attributes:
        rule: What kind of thing, a short name.
        message: What, why and how to mend it.
    """

    rule: str
    message: str

    def __str__(self) -> str:
        return f"[{self.rule}] {self.message}"


def lint(compiled: Compiled, depth: int, budget: int = _BUDGET) -> list[Finding]:
    """Looks for likely mistakes in a graph; see :meth:`Compiled.lint`."""
    graph = compiled.graph
    if graph is None:
        return [*_budget(compiled, budget), *_depth(compiled, depth)]
    graph = largest(graph)
    traces = graph.simulate(_TRACES, seed=0, progress=False, on_failure="missing")
    return [
        *_unused_nodes(graph),
        *_isolated(compiled, graph),
        *_unused_parents(compiled, graph, traces),
        *_contradicted_links(graph, compiled, traces),
        *_budget(compiled, budget),
        *_depth(compiled, depth),
    ]


def _unused_nodes(graph: Graph) -> Iterator[Finding]:
    for name in graph:
        if graph[name].is_opaque and not graph.children(name):
            yield Finding(
                "unused-node",
                f"nothing uses {name!r}, and as an object without shape= no query can name it.\n"
                f"  declared at {graph[name].where}\n  Let a node ask for it, give it shape=..., or leave it out.",
            )


def _isolated(compiled: Compiled, graph: Graph) -> Iterator[Finding]:
    """Finds variables that no query connects with any other."""
    layout = compiled.layout
    if len(layout.names) < 2:
        return
    joint = np.ones((1, len(layout)), dtype=bool)
    met = unpack(Dependence(compiled.families, joint, ~joint).depends, len(layout))[0]
    for name in layout.names:
        slots = layout.slots(name)
        others = met[slots].any(0)
        others[slots] = False
        if not others.any():
            yield Finding(
                "unreachable",
                f"{name!r} is connected with no other variable, so no evidence ever tells anything about it.\n"
                f"  declared at {graph[name].where}\n  Let another node ask for it, or leave it out.",
            )


def _unused_parents(compiled: Compiled, graph: Graph, traces: Traces) -> Iterator[Finding]:
    known = {(link.child, link.parent): link.origin for link in compiled.links}
    for name in compiled.layout.names:
        node = graph[name]
        mine = compiled.families.members[:, compiled.layout.slots(name)].any(1)
        for parent in node.parents:
            if known.get((name, parent)) == "traced":
                slots = compiled.layout.slots(parent)
                if not compiled.families.parents[mine][:, slots].any():
                    yield Finding(
                        "unused-parent",
                        f"{name!r} asks for {parent!r}, but none of its operations leads from it to the distribution.\n"
                        f"  declared at {node.where}\n  Remove the parameter, or use it.",
                    )
            elif _stands_still(graph, node, parent, traces):
                yield Finding(
                    "unused-parent",
                    f"{name!r} did not move when {parent!r} got other values, with the same random numbers, in"
                    f" {traces.num_simulations} traces.\n  declared at {node.where}\n"
                    "  Remove the parameter if it does not matter. If it matters in rare cases only, all is well.",
                )


def _contradicted_links(graph: Graph, compiled: Compiled, traces: Traces) -> Iterator[Finding]:
    """Finds declared links that leave out elements which do move the node."""
    for name in compiled.layout.names:
        node = graph[name]
        event = compiled.layout.tokenizers[name].variable.event_shape
        for parameter, parent in node.signature.parents:
            if parameter not in node.depends or any(plate not in node.plates for plate in graph[parent].plates):
                continue
            above = compiled.layout.tokenizers[parent].variable.event_shape
            link = node.depends[parameter].incidence(event, above)
            for element in np.ndindex(*above):
                free = ~link[(..., *element)]
                if free.any() and _moves(graph, node, parent, traces, element, free):
                    yield Finding(
                        "contradicted-link",
                        f"{name!r} declares that elements do not depend on {parent}{list(element)}, but they moved when"
                        f" it got other values, with the same random numbers.\n  declared at {node.where}\n"
                        f"  Widen depends={{{parameter!r}: ...}}. If the node only draws its random numbers in another"
                        " order then, all is well.",
                    )
                    break


def _moves(graph: Graph, node: Node, parent: str, traces: Traces, element: tuple[int, ...], free: np.ndarray) -> bool:
    """Tells whether elements of a node move when one element of a parent gets other values."""
    values = _with_rolled(graph, node, parent, traces, element)
    return values is not None and not np.array_equal(values[0][..., free], values[1][..., free], equal_nan=True)


def _stands_still(graph: Graph, node: Node, parent: str, traces: Traces) -> bool:
    """Tells whether a node's values stay the same when a parent gets other values."""
    values = _with_rolled(graph, node, parent, traces, ())
    return values is not None and np.array_equal(*values, equal_nan=True)


def _with_rolled(
    graph: Graph, node: Node, parent: str, traces: Traces, element: tuple[int, ...]
) -> tuple[np.ndarray, np.ndarray] | None:
    """Returns a node's values, and those when an element of a parent moves on by one trace; None if nothing can be
    said.
    """
    parents = dict(node.signature.parents)
    if node.index is not None or any(
        graph[name].is_opaque or graph[name].index is not None for name in parents.values()
    ):
        return None  # objects and functions are not kept in traces
    usable = np.ones(traces.num_simulations, dtype=bool)
    for name in parents.values():
        usable &= traces.present(name).reshape(len(usable), -1).all(1)
    rows = np.flatnonzero(usable)
    before = {parameter: traces[name][rows] for parameter, name in parents.items()}
    after = {parameter: values.copy() for parameter, values in before.items()}
    moved = False
    for parameter, name in parents.items():
        if name == parent:
            part = (..., *element)
            after[parameter][part] = np.roll(before[parameter], 1, axis=0)[part]
            moved |= not np.array_equal(after[parameter], before[parameter])
    if not moved:
        return None  # a constant cannot be told from an unused one
    axes: dict[str, Sequence[Plate]] = {parameter: graph[name].plates for parameter, name in parents.items()}
    try:
        return tuple(  # type: ignore[return-value]
            evaluate(node, Inputs(values, axes, 0, len(rows), np.ones(len(rows), dtype=bool)), seed=0).values
            for values in (before, after)
        )
    except SimgraphError:
        return None


def _budget(compiled: Compiled, budget: int) -> Iterator[Finding]:
    layout = compiled.layout
    if len(layout) > budget:
        counts = {name: layout.slots(name).stop - layout.slots(name).start for name in layout.names}
        largest = sorted(counts, key=lambda name: -counts[name])[:3]
        yield Finding(
            "token-budget",
            f"{len(layout)} tokens, of which {listed([f'{name}: {counts[name]}' for name in largest])};"
            f" up to {budget} are cheap, and the cost of a step grows with the square.\n"
            "  Return fewer numbers (summaries, a coarser grid), or split the question with graph.prune(...).",
        )


def _depth(compiled: Compiled, depth: int) -> Iterator[Finding]:
    """Finds out whether the joint, or all but the leaves given the leaves, needs shortcuts at this depth."""
    layout, rule = compiled.layout, compiled.rule
    above = compiled.drawn_from.any(0)[layout.variables]
    questions = {
        "the joint": torch.full((len(layout),), LATENT),
        "the posterior given the leaves": torch.where(above, LATENT, OBSERVED),
    }
    for text, states in questions.items():
        if not (states == LATENT).any():
            continue
        shortcuts = int((rule.edge_mask(states[None], depth) & ~rule.local_mask(states[None])).sum())
        if shortcuts:
            enough = _enough_depth(compiled, states)
            deeper = f" Without shortcuts: Architecture(depth={enough})." if enough <= _DEEP else ""
            yield Finding(
                "depth",
                f"in {text}, tokens lie up to {enough} hops apart, and the network has {depth} layers:"
                f" the mask has {shortcuts} shortcuts.\n  Nothing is wrong with that.{deeper}",
            )
            return  # the other question says no more


def _enough_depth(compiled: Compiled, states: torch.Tensor) -> int:
    """Returns the least depth at which a question needs no shortcuts."""
    local = compiled.rule.local_mask(states[None])
    low, high = 1, len(states)
    while low < high:
        middle = (low + high) // 2
        if torch.equal(compiled.rule.edge_mask(states[None], middle), local):
            high = middle
        else:
            low = middle + 1
    return low
