"""What was learned, by whichever method."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from simgraph.benchmark.question import Question

__all__ = ["Answer", "Learned", "Train"]

Answer = Callable[[Question, int, int], np.ndarray]
"""Draws (count, dimensions) for a question, a count and a seed."""


@dataclass(frozen=True)
class Learned:
    """What was learned.

    Attributes:
        answers: How it answers, by the names of the methods that share the training.
        facts: Facts of the training by name, for the report.
    """

    answers: Mapping[str, Answer]
    facts: Mapping[str, Any]


Train = Callable[[], Learned]
"""A training, ready to start."""
