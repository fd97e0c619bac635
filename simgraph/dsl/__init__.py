"""What the user writes: nodes and plates, as pure data."""

from simgraph.dsl.axes import Plate, plate
from simgraph.dsl.links import causal, lagged, window
from simgraph.dsl.node import Node, deterministic, node

__all__ = ["Node", "Plate", "causal", "deterministic", "lagged", "node", "plate", "window"]
