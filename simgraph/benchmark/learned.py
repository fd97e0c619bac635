"""What was learned, by whichever method."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from simgraph.benchmark.question import Question

__all__ = ["Answer", "Learned", "LogProb", "Train"]

Answer = Callable[[Question, int, int], np.ndarray]
"""Draws (count, dimensions) for a question, a count and a seed."""

LogProb = Callable[[Mapping[str, Any], Mapping[str, Any]], np.ndarray]
"""Log densities (rows,) given data (rows, *event_shape) by name, of parameters (rows, *event_shape) by name."""


@dataclass(frozen=True)
class Learned:
    """What was learned.

    Attributes:
        answers: How it answers, by the names of the methods that share the training.
        log_probs: Log densities, by the names of those methods that answer in a moment.
        facts: Facts of the training by name, for the report.
    """

    answers: Mapping[str, Answer]
    log_probs: Mapping[str, LogProb]
    facts: Mapping[str, Any]


Train = Callable[[], Learned]
"""A training, ready to start."""
