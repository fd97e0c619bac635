"""What the user writes: nodes, plates and indices, as pure data."""

from simgraph.dsl.axes import Plate, plate
from simgraph.dsl.curve import Curve
from simgraph.dsl.index import Index, index
from simgraph.dsl.links import causal, lagged, window
from simgraph.dsl.node import Node, deterministic, node
from simgraph.dsl.patches import Patches

__all__ = [
    "Curve",
    "Index",
    "Node",
    "Patches",
    "Plate",
    "causal",
    "deterministic",
    "index",
    "lagged",
    "node",
    "plate",
    "window",
]
