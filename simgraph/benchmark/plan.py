"""How the runs of the benchmark train and are judged."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

from simgraph.errors import DeclarationError
from simgraph.train import Settings

__all__ = ["Classifier", "Plan"]

Classifier = Literal["rf", "mlp"]


@dataclass(frozen=True)
class Plan:
    """How every run trains and is judged.

    Attributes:
        preset: Preset of the training.
        time_limit: Seconds after which training ends.
        classifier: Classifier of the two-sample test, ``"rf"`` or ``"mlp"``.
        observations: Number of observations, the first of the task's.
        draws: Draws on each side of the comparison.
    """

    preset: str = "default"
    time_limit: float | None = None
    classifier: Classifier = "rf"
    observations: int = 5
    draws: int = 2_500

    def __post_init__(self) -> None:
        Settings.of(self.preset)
        if self.time_limit is not None and not self.time_limit > 0:
            raise DeclarationError(f"time_limit={self.time_limit!r} is no positive number of seconds.")
        if self.classifier not in get_args(Classifier):
            raise DeclarationError(f"classifier={self.classifier!r} is not known; choose 'rf' or 'mlp'.")
        if self.observations < 1:
            raise DeclarationError(f"observations={self.observations!r} is not a whole number of 1 or more.")
        if self.draws < 10:
            raise DeclarationError(f"draws={self.draws!r} is too few to compare; 10 is the least.")
