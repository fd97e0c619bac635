"""The traces that a training learns from, and new ones that take their place as it goes on."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import cast

import torch
from torch import Tensor

from simgraph.compile import Compiled
from simgraph.compile.layout import Tokens
from simgraph.errors import SimgraphWarning, TracesError, warn
from simgraph.traces import Traces
from simgraph.train.ranges import Ranges
from simgraph.train.scores import Scores

__all__ = ["Fresh", "Stock"]

_USES = 4
"""How often a trace is learned from, on average, before a fresh one takes its place."""

_SHARE = 0.1
"""Share of the time of a training with a limit that simulating may take."""


@dataclass(frozen=True)
class Fresh:
    """Where fresh traces come from.

    Attributes:
        simulate: Simulates the next traces: as many each time, of which none came before, unless they repeat.
        count: How many they are.
        seconds: Tells how long that is expected to take.
        repeats: Whether they are the traces that there are, in their order, with other noise.
    """

    simulate: Callable[[], Traces]
    count: int
    seconds: Callable[[], float]
    repeats: bool = False


class Stock:
    """The tokens of the traces that are learned from.

    Args:
        compiled: The compiled graph, fitted to the traces.
        traces: The traces to begin with.
        generator: Random stream of tokenizers that draw.
        fresh: Where traces come from that take the place of the oldest; None to keep those of the beginning.
        timed: Whether simulating takes a share of the time at most. Else the number of steps alone tells when fresh
            traces come, and the training is a function of its seed.
        scoring: Seconds that it may take to compute the scores of the traces; 0 where traces are no joint draws of the
            graph, so that those of its densities do not hold for them.
        progress: Whether to show a progress bar for that.

    Attributes:
        tokens: The tokens of the traces that are in stock.
        ranges: Which values all traces so far held.
    """

    def __init__(
        self,
        compiled: Compiled,
        traces: Traces,
        generator: torch.Generator,
        fresh: Fresh | None = None,
        *,
        timed: bool = True,
        scoring: float = 0.0,
        progress: bool = False,
    ) -> None:
        self.tokens = compiled.layout.tokenize_traces(traces, generator)
        self._scores: Scores | None = None
        if scoring and self.tokens.whole:
            found = Scores.of(compiled, traces, self.tokens, scoring, progress)
            if found is not None:
                self._scores, scores = found
                self.tokens = replace(self.tokens, scores=scores)
        self.ranges = Ranges.of(compiled, traces)
        self._compiled, self._fresh, self._generator, self._timed = compiled, fresh, generator, timed
        self._renewals, self._simulating, self._last = 0, 0.0, fresh.seconds() if fresh and timed else 0.0
        self._began, self._late = time.monotonic(), False

    def renewed(self, drawn: int) -> Tokens:
        """Returns the tokens, with fresh ones among them where it is time to.

        Args:
            drawn: How many traces the steps so far learned from.
        """
        while self._fresh is not None and drawn >= _USES * (self._renewals + self._fresh.count):
            started = time.monotonic()
            self._late = self._timed and self._simulating + self._last > _SHARE * (started - self._began)
            if self._late:
                break
            self._renew(self._fresh)
            self._last = time.monotonic() - started
            self._simulating += self._last
        return self.tokens

    def check(self) -> None:
        """Warns where traces were to be drawn anew, and there was no time for it."""
        if self._fresh is not None and self._fresh.repeats and not self._renewals and self._late:
            warn(
                f"redraw= drew nothing anew: it takes {self._last:.2g} s, and may take {_SHARE:.0%} of the training.\n"
                "  Give it more time (time_limit=...), or redraw what is cheaper: distributions, or nodes with"
                " vectorized=True.",
                SimgraphWarning,
            )

    def _renew(self, fresh: Fresh) -> None:
        try:
            self._take(fresh.simulate(), fresh.repeats)
        except Exception as error:  # a user's code can raise anything, and a training is not to be lost for it
            self._fresh = None
            advice = (
                "To learn from the traces as they are, leave out redraw=."
                if fresh.repeats
                else "To say what becomes of traces that fail, simulate them and hand them over:"
                ' fit(graph, graph.simulate(10_000, on_failure="drop")).'
            )
            warn(
                "training goes on with the traces it has, since fresh ones failed:"
                f" {type(error).__name__}: {error}\n  {advice}",
                SimgraphWarning,
            )

    @property
    def scored(self) -> tuple[str, ...]:
        """Names of the variables that have scores."""
        layout = self._compiled.layout
        if self.tokens.scores is None:
            return ()
        known = self.tokens.scores[..., 1].isfinite().any(0)
        return tuple(name for name in layout.names if known[layout.slots(name)].any())

    def _take(self, traces: Traces, repeats: bool) -> None:
        """Puts traces in the place of the oldest, which lie in the rows after the last that were put there."""
        count = traces.num_simulations
        ranges = Ranges.of(self._compiled, traces)
        for name, low in self.ranges.low.items():
            constant = low == self.ranges.high[name]
            if (constant & ((ranges.low[name] != low) | (ranges.high[name] != low))).any():
                raise TracesError(
                    f"{name!r} has other values than the one it had in the first {self.ranges.count} traces,"
                    " and training took it for a constant."
                )
        traces = traces[: len(self.tokens)]
        fresh = self._compiled.layout.tokenize_traces(traces, self._generator)
        if self._scores is not None:
            fresh = replace(fresh, scores=self._scores(traces, fresh.values))
            self._scores.without_lost(cast(Tensor, self.tokens.scores))  # some may be lost by these traces
        rows = (self._renewals + torch.arange(len(fresh))) % len(self.tokens)
        for old, new in zip(_parts(self.tokens), _parts(fresh), strict=True):
            old[rows] = new
        self._renewals += count
        self.ranges = self.ranges.joined(replace(ranges, count=0) if repeats else ranges)


def _parts(tokens: Tokens) -> list[Tensor]:
    """Returns the tensors that tokens consist of."""
    parts = (tokens.values, tokens.present, tokens.places, tokens.exists, tokens.scores, *tokens.raw)
    return [part for part in parts if part is not None]
