"""What training can be told, and the presets."""

from __future__ import annotations

from dataclasses import dataclass, field

from simgraph.errors import DeclarationError, did_you_mean
from simgraph.simformer import Architecture
from simgraph.simformer.schedule import NoiseLevels

__all__ = ["PRESETS", "Settings"]


@dataclass(frozen=True)
class Settings:
    """Settings of a training.

    Attributes:
        steps: Number of optimiser steps.
        batch_size: Traces per step.
        matrix_lr: Peak learning rate of Muon, for the matrices inside the blocks.
        vector_lr: Peak learning rate of AdamW, for all else.
        warmup: Share of the steps in which the learning rate rises; afterwards it falls as a cosine.
        clip: Largest norm of the gradient of what AdamW trains.
        ema: Share of the steps over which weights are averaged (exponentially).
        validation: Share of the traces that are held out.
        evaluations: How often the held-out loss is measured.
        patience: Evaluations without improvement after which training stops.
        architecture: Sizes of the network.
        noise: Distribution of noise levels.
    """

    steps: int = 4000
    batch_size: int = 256
    matrix_lr: float = 1e-2
    vector_lr: float = 2e-3
    warmup: float = 0.03
    clip: float = 1.0
    ema: float = 0.05
    validation: float = 0.1
    evaluations: int = 25
    patience: int = 8
    architecture: Architecture = field(default_factory=Architecture)
    noise: NoiseLevels = field(default_factory=NoiseLevels)

    @staticmethod
    def of(preset: str | Settings) -> Settings:
        """Returns a preset by name, or the settings that were handed over."""
        if isinstance(preset, Settings):
            return preset
        if preset not in PRESETS:
            raise DeclarationError(
                f"preset={preset!r} is not known.\n  {did_you_mean(str(preset), PRESETS, 'Presets')}"
            )
        return PRESETS[preset]


PRESETS = {
    "default": Settings(),
    "fast": Settings(steps=1000, batch_size=128, architecture=Architecture(width=32, depth=4, heads=4, widening=2)),
}
"""``default``: minutes on two cores. ``fast``: a first look, in a fraction of that, less accurate."""
