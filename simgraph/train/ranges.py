"""Which values training saw, so that a query can tell when it is asked about others."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from simgraph.compile import Compiled
from simgraph.traces import Traces

__all__ = ["Ranges"]


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
            present = traces.present(name)
            values = np.where(present, traces[name], np.inf).reshape(-1, *event)
            low[name] = np.asarray(values.min(0), dtype=np.float64)
            values = np.where(present, traces[name], -np.inf).reshape(-1, *event)
            high[name] = np.asarray(values.max(0), dtype=np.float64)
            never = ~present.reshape(-1, *event).any(0)
            low[name] = np.where(never, -np.inf, low[name])
            high[name] = np.where(never, np.inf, high[name])
        return Ranges(low, high, traces.num_simulations)

    def joined(self, other: Ranges) -> Ranges:
        """Returns the ranges of these traces and others together."""
        low = {name: np.minimum(own, other.low[name]) for name, own in self.low.items()}
        high = {name: np.maximum(own, other.high[name]) for name, own in self.high.items()}
        return Ranges(low, high, self.count + other.count)
