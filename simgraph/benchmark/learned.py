"""What a method has learned, whichever it is."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from simgraph.benchmark.question import Question

__all__ = ["Learned", "Train"]


@dataclass(frozen=True)
class Learned:
    """What a method has learned.

    Attributes:
        answer: Draws (count, dimensions) for a question, a count and a seed.
        facts: Facts of the training by name, for the report.
    """

    answer: Callable[[Question, int, int], np.ndarray]
    facts: Mapping[str, Any]


Train = Callable[[], Learned]
"""A training, ready to start."""
