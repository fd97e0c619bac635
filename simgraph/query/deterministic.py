r"""Deterministic variables as what they are: functions of their parents.

If d = f(parents), then drawing the parents jointly with everything else that is asked, given the evidence, and applying
f gives a draw of d from the same joint law: p(d, rest | e) is the image of p(parents, rest | e). It is used where the
code is at hand and nothing is known of d itself; elsewhere d is a learned variable like any other.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from simgraph.errors import SimulationError, listed
from simgraph.graph import Graph

if TYPE_CHECKING:
    from simgraph.query.answering import Answering

__all__ = ["computed", "sources", "split"]


def split(query: Answering, asked: Sequence[str]) -> tuple[list[str], list[str]]:
    """Splits what is asked for into what is drawn and what is computed from draws.

    Returns:
        What to draw: the rest of ``asked``, and the unknown variables that functions follow from; and the functions.
    """
    graph = query.trained.compiled.graph
    if graph is None:
        return list(asked), []
    functions = [name for name in asked if graph[name].kind == "deterministic" and name not in query.evidence]
    # What follows from a function of an index is learned: it is looked at in a few points alone.
    functions = [n for n in functions if all(graph[above].index is None for above in (n, *graph.ancestors(n)))]
    drawn = [name for name in asked if name not in functions]
    needed = sources(graph, functions, query.evidence)
    return drawn + [name for name in needed if name not in drawn and not query.wholly_given(name)], functions


def sources(graph: Graph, functions: Sequence[str], evidence: Collection[str]) -> list[str]:
    """Returns the variables that functions follow from, through other functions of which nothing is given."""
    found: dict[str, None] = {}
    for name in functions:
        for parent in graph[name].parents:
            if graph[parent].kind == "deterministic" and parent not in evidence:
                found |= dict.fromkeys(sources(graph, [parent], evidence))
            elif graph[parent].kind != "constant":
                found[parent] = None
    return list(found)


def computed(
    query: Answering, functions: Sequence[str], draws: Mapping[str, Tensor], num_samples: int
) -> dict[str, Tensor]:
    """Evaluates functions at draws of their parents, and at what is given of them.

    Args:
        query: The question.
        functions: Names of deterministic variables.
        draws: Draws ([batch,] num_samples, *plate sizes, *event_shape) by name.
        num_samples: Number of draws for each piece of evidence.

    Returns:
        Values ([batch,] num_samples, *plate sizes, *event_shape) by name: what the function returns, as floats of the
        default type or int64.

    Raises:
        SimulationError: If a function fails at some of the draws.
    """
    layout, graph = query.trained.compiled.layout, query.trained.compiled.graph
    assert graph is not None
    shape = {name: layout.tokenizers[name].variable.shape for name in layout.names}
    rows = {
        name: draws[name].reshape(-1, *shape[name]) if name in draws else query.given_rows(name, num_samples)
        for name in sources(graph, functions, query.evidence)
    }
    below = graph.prune(*functions)
    try:
        if rows:
            traces = below.simulate(given=rows, progress=False)
        else:  # functions of constants alone
            traces = below.simulate(query.size * num_samples, progress=False)
    except SimulationError as error:
        raise SimulationError(
            f"a function failed at draws of its parents: {str(error).splitlines()[0]}\n"
            f"  The model drew values that the function does not take. Sample {listed(rows)} instead, or load the"
            " model without its graph, which draws what it learned of the function."
        ) from error
    found = {}
    for name in functions:
        whole = layout.tokenizers[name].variable.support.kind == "integers"
        value = torch.tensor(traces[name])
        found[name] = query.arranged(value.long() if whole else value.to(torch.get_default_dtype()))
    return found
