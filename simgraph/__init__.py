"""simgraph: declare a simulator as a graph of named variables, train once, ask any conditional by name."""

from simgraph.compile import Compiled, compile
from simgraph.dsl import Node, Plate, causal, deterministic, lagged, node, plate, window
from simgraph.errors import SimgraphError, SimgraphWarning
from simgraph.graph import Graph
from simgraph.query import Flow, Heun, Model, Multistep, Query, Sampler, Samples, fit, load, missing
from simgraph.simformer import Architecture
from simgraph.traces import Traces, simulate
from simgraph.train import Settings
from simgraph.version import __version__

__all__ = [
    "Architecture",
    "Compiled",
    "Flow",
    "Graph",
    "Heun",
    "Model",
    "Multistep",
    "Node",
    "Plate",
    "Query",
    "Sampler",
    "Samples",
    "Settings",
    "SimgraphError",
    "SimgraphWarning",
    "Traces",
    "__version__",
    "causal",
    "compile",
    "deterministic",
    "fit",
    "lagged",
    "load",
    "missing",
    "node",
    "plate",
    "simulate",
    "window",
]
