"""What a graph generates: traces, joint draws of all nodes."""

from simgraph.traces.simulate import simulate
from simgraph.traces.store import Column, Traces

__all__ = ["Column", "Traces", "simulate"]
