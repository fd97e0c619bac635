"""How the runs of the benchmark train and are judged."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from simgraph.errors import DeclarationError
from simgraph.train import Settings
from simgraph.train.settings import is_positive

__all__ = ["CLASSIFIERS", "Plan"]

CLASSIFIERS = ("rf", "mlp")
"""Classifiers of the two-sample test: the random forest of the Simformer paper, the network of sbibm."""


@dataclass(frozen=True)
class Plan:
    """How every run trains and is judged.

    Attributes:
        preset: Preset of the training.
        time_limit: Seconds after which training ends.
        classifiers: Classifiers of the two-sample test, of ``"rf"`` and ``"mlp"``.
        questions: Number of questions, the first of the task's; all by default.
        draws: Draws on each side of the comparison.
    """

    preset: str = "default"
    time_limit: float | None = None
    classifiers: tuple[str, ...] = ("rf",)
    questions: int | None = None
    draws: int = 2_500

    def __post_init__(self) -> None:
        Settings.of(self.preset)
        if self.time_limit is not None and not is_positive(self.time_limit):
            raise DeclarationError(f"time_limit={self.time_limit!r} is no positive number of seconds.")
        unknown = set(self.classifiers) - set(CLASSIFIERS)
        if unknown or not self.classifiers:
            raise DeclarationError(f"classifiers={self.classifiers!r}: choose of 'rf' and 'mlp'.")
        if self.questions is not None and self.questions < 1:
            raise DeclarationError(f"questions={self.questions!r} is not a whole number of 1 or more.")
        if self.draws < 10:
            raise DeclarationError(f"draws={self.draws!r} is too few to compare; 10 is the least.")

    def judging(self) -> dict[str, Any]:
        """Returns what answers are judged by, as it is kept in JSON."""
        return {"classifiers": list(self.classifiers), "questions": self.questions, "draws": self.draws}

    def key(self, method: str) -> dict[str, Any]:
        """Returns what tells runs of a method apart, as it is kept in JSON. NPE knows no presets and no limits."""
        own = {"preset": self.preset, "time_limit": self.time_limit}
        return {**(dict.fromkeys(own) if method == "npe" else own), **self.judging()}
