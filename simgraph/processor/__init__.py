"""How small networks run fast on a processor."""

from simgraph.processor.tuned import tuned, workers

__all__ = ["tuned", "workers"]
