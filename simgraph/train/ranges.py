"""Which values training saw, so that a query can tell when it is asked about others."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from simgraph.compile import Compiled
from simgraph.traces import Traces

__all__ = ["Ranges", "extremes"]


@dataclass(frozen=True)
class Ranges:
    """The lowest and highest training value of each event element, pooled over plates.

    Attributes:
        low: Arrays of the event shape by name.
        high: Arrays of the event shape by name.
        count: Number of traces.
    """

    low: dict[str, np.ndarray]
    high: dict[str, np.ndarray]
    count: int

    @staticmethod
    def of(compiled: Compiled, traces: Traces) -> Ranges:
        """Returns the ranges of traces; without any present value they are infinite."""
        low, high = {}, {}
        for name, tokenizer in compiled.layout.tokenizers.items():
            event = tokenizer.variable.event_shape
            lowest, highest = extremes(traces, name, len(event))
            never = lowest > highest
            low[name] = np.where(never, -np.inf, lowest)
            high[name] = np.where(never, np.inf, highest)
        return Ranges(low, high, traces.num_simulations)

    def joined(self, other: Ranges) -> Ranges:
        """Returns the ranges of these traces and others together."""
        low = {name: np.minimum(own, other.low[name]) for name, own in self.low.items()}
        high = {name: np.maximum(own, other.high[name]) for name, own in self.high.items()}
        return Ranges(low, high, self.count + other.count)


def extremes(traces: Traces, name: str, event: int) -> tuple[np.ndarray, np.ndarray]:
    """Returns the lowest and the highest present values, pooled over all but the last ``event`` axes.

    Without any present value the lowest is infinity, and the highest minus infinity.
    """
    values, present = traces[name], traces.present(name)
    axes = tuple(range(values.ndim - event))
    low = np.where(present, values, np.inf).min(axes)
    high = np.where(present, values, -np.inf).max(axes)
    return np.asarray(low, dtype=np.float64), np.asarray(high, dtype=np.float64)
