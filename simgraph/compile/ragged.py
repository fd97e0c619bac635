"""What compiling asks of plates whose size varies: traces that tell the sizes, supports that hold for all of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from simgraph.compile.probe import Variable, probe
from simgraph.dsl import Plate
from simgraph.errors import TracesError
from simgraph.graph import Graph
from simgraph.graph.ragged import sized
from simgraph.traces import Traces

__all__ = ["at_both_ends", "check_sizes"]


def check_sizes(ragged: Mapping[str, Plate], traces: Traces) -> None:
    """Checks that traces tell the sizes of plates whose size varies.

    Raises:
        TracesError: If they do not, or a size is out of its plate's range.
    """
    for name, plate in ragged.items():
        if name not in traces.sizes:
            raise TracesError(
                f"the traces do not tell how many elements plate {name!r} has, which varies from {plate.least} to"
                f" {plate.most}.\n  Simulate them with this graph, or say it:"
                f" Traces(..., plates=..., sizes={{{name!r}: numbers}})"
            )
        own = traces.sizes[name]
        if own.size and not plate.least <= own.min() <= own.max() <= plate.most:
            raise TracesError(
                f"the traces have {own.min()} to {own.max()} elements of plate {name!r};"
                f" the graph declares {plate.least} to {plate.most}.\n  Simulate them with this graph."
            )


def at_both_ends(
    graph: Graph, ragged: Mapping[str, Plate], filled: Traces, variables: dict[str, Variable]
) -> dict[str, Variable]:
    """Returns variables with supports that hold for the least and the largest sizes of plates.

    A node that receives the stack of a plate may set a bound by it: the hull is exact for bounds that are monotone in
    the size.
    """
    least = {name: plate.least for name, plate in ragged.items()}
    columns = {
        name: filled[name][(slice(None), *(slice(least.get(plate)) for plate in filled.plates[name]))]
        for name in filled
    }
    few = probe(sized(graph, least), Traces(columns, plates=filled.plates))
    found = {}
    for name, variable in variables.items():
        one, other = variable.support, few[name].support
        if one.kind in ("interval", "integers"):
            low, high = np.minimum(one.low, other.low), np.maximum(one.high, other.high)
            variable = replace(variable, support=replace(one, low=low, high=high))
        found[name] = variable
    return found
