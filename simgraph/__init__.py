"""simgraph: declare a simulator as a graph of named variables, train once, ask any conditional by name."""

from simgraph.compile import Compiled, compile
from simgraph.dsl import Curve, Index, Node, Patches, Plate, causal, deterministic, index, lagged, node, plate, window
from simgraph.errors import SimgraphError, SimgraphWarning
from simgraph.graph import Graph
from simgraph.query import (
    Flow,
    Guided,
    Heun,
    Interval,
    Intervention,
    Model,
    Multistep,
    Query,
    RaggedQuery,
    Rejection,
    Sampler,
    Samples,
    Splitting,
    above,
    below,
    between,
    constraint,
    fit,
    load,
    missing,
    where,
)
from simgraph.simformer import Architecture
from simgraph.traces import Traces, simulate
from simgraph.train import Settings
from simgraph.version import __version__

__all__ = [
    "Architecture",
    "Compiled",
    "Curve",
    "Flow",
    "Graph",
    "Guided",
    "Heun",
    "Index",
    "Interval",
    "Intervention",
    "Model",
    "Multistep",
    "Node",
    "Patches",
    "Plate",
    "Query",
    "RaggedQuery",
    "Rejection",
    "Sampler",
    "Samples",
    "Settings",
    "SimgraphError",
    "SimgraphWarning",
    "Splitting",
    "Traces",
    "__version__",
    "above",
    "below",
    "between",
    "causal",
    "compile",
    "constraint",
    "deterministic",
    "fit",
    "index",
    "lagged",
    "load",
    "missing",
    "node",
    "plate",
    "simulate",
    "where",
    "window",
]
