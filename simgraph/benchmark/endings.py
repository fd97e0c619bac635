"""What ended a training."""

from __future__ import annotations

from simgraph.errors import TrainingError
from simgraph.train import History, Settings

__all__ = ["end_of"]


def end_of(history: History, settings: Settings, time_limit: float) -> str:
    """Tells what ended a training: ``"time"``, ``"patience"`` or ``"steps"``.

    Raises:
        TrainingError: If it was none of them; an interrupted run must not be kept as a finished one.
    """
    if len(history):
        losses = history["validation_loss"]
        if history[-1]["seconds"] >= time_limit:
            return "time"
        if history[-1]["step"] >= settings.steps:
            return "steps"
        if len(losses) - 1 - losses.index(min(losses)) >= settings.patience:
            return "patience"
    raise TrainingError("the training was interrupted or broke off; its run is not kept.")
