"""What the declaration means: an immutable, named, directed acyclic graph."""

from simgraph.graph.graph import Graph

__all__ = ["Graph"]
