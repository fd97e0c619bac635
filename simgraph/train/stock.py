"""The traces that a training learns from, and new ones that take their place as it goes on."""

from __future__ import annotations

import time
from collections.abc import Callable

import torch
from torch import Tensor

from simgraph.compile import Compiled
from simgraph.compile.layout import Tokens
from simgraph.errors import SimgraphError, SimgraphWarning, warn
from simgraph.traces import Traces
from simgraph.train.ranges import Ranges

__all__ = ["Fresh", "Stock"]

Fresh = Callable[[], Traces]
"""Simulates the next traces: as many each time, of which none came before."""

_USES = 4
"""How often a fresh trace is learned from before the next ones are simulated."""

_SHARE = 0.1
"""Share of the time of a training that simulating may take."""


class Stock:
    """The tokens of the traces that are learned from.

    Args:
        compiled: The compiled graph, fitted to the traces.
        traces: The traces to begin with.
        fresh: Simulates traces that take the place of the oldest; None to keep those of the beginning.
        generator: Random stream of tokenizers that draw.

    Attributes:
        tokens: The tokens of the traces that are in stock.
        ranges: Which values all traces so far held.
    """

    def __init__(self, compiled: Compiled, traces: Traces, fresh: Fresh | None, generator: torch.Generator) -> None:
        self.tokens = compiled.layout.tokenize_traces(traces, generator)
        self.ranges = Ranges.of(compiled, traces)
        self._compiled, self._fresh, self._generator = compiled, fresh, generator
        self._oldest, self._simulating = 0, 0.0
        self._began = time.monotonic()

    def renewed(self, drawn: int) -> Tokens:
        """Returns the tokens, with fresh ones among them where it is time to.

        That is once those before were learned from, unless simulating takes too much of the time.

        Args:
            drawn: How many traces the steps so far learned from.
        """
        started = time.monotonic()
        simulated = self.ranges.count - len(self.tokens)
        if (
            self._fresh is not None
            and drawn >= _USES * simulated
            and self._simulating <= _SHARE * (started - self._began)
        ):
            self._simulate(self._fresh)
            self._simulating += time.monotonic() - started
        return self.tokens

    def _simulate(self, fresh: Fresh) -> None:
        try:
            traces = fresh()
        except SimgraphError as error:
            self._fresh = None
            warn(f"training goes on with the traces it has, since fresh ones failed: {error}", SimgraphWarning)
            return
        self._put(self._compiled.layout.tokenize_traces(traces, self._generator))
        self.ranges = self.ranges.joined(Ranges.of(self._compiled, traces))

    def _put(self, fresh: Tokens) -> None:
        """Puts tokens in the place of the oldest."""
        rows = (self._oldest + torch.arange(len(fresh))) % len(self.tokens)
        self._oldest = (self._oldest + len(fresh)) % len(self.tokens)
        for old, new in zip(_parts(self.tokens), _parts(fresh), strict=True):
            old[rows] = new


def _parts(tokens: Tokens) -> list[Tensor]:
    """Returns the tensors that tokens consist of."""
    parts = (tokens.values, tokens.present, tokens.places, tokens.exists, *tokens.raw)
    return [part for part in parts if part is not None]
