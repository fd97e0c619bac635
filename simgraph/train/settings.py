"""What training can be told, and the presets."""

from __future__ import annotations

from dataclasses import dataclass, field, fields, replace
from numbers import Real
from typing import Any

from simgraph.compile.compiled import default_depth
from simgraph.errors import DeclarationError, TrainingError, did_you_mean
from simgraph.simformer import Architecture
from simgraph.simformer.attention import FEW
from simgraph.simformer.schedule import NoiseLevels

__all__ = ["PRESETS", "Settings", "is_positive"]


_SCORING_SHARE, _SCORING = 0.05, 30.0
"""Share of a time limit, and seconds where there is none, that the scores of traces may take."""

_STEP_TOKENS = 4096
"""Tokens that a step handles by default, so that thousands of steps stay within minutes for graphs of 20 tokens."""


@dataclass(frozen=True)
class Settings:
    """Settings of a training.

    Attributes:
        steps: Number of optimiser steps.
        batch_size: Traces per step; None for 256, more where a graph has few tokens and fewer where it has many, half
            as many where the scores of most of them are known.
        matrix_lr: Peak learning rate of Muon, for the matrices inside the blocks.
        vector_lr: Peak learning rate of AdamW, for all else.
        weight_decay: Share of its length that a matrix loses in a step, in units of the learning rate.
        warmup: Share of the steps in which the learning rate rises; afterwards it falls as a cosine.
        clip: Largest norm of the gradient of what AdamW trains.
        ema: Share of the steps so far over which weights are averaged.
        validation: Share of the traces that are held out, one of them at least.
        evaluations: How often the held-out loss is measured.
        patience: Evaluations without improvement after which training stops.
        time_limit: Seconds after which training ends, its learning rate having fallen accordingly; None for no limit.
        architecture: Sizes of the network; None to choose by the number of tokens.
        small: Sizes of the network of a graph of up to 32 tokens, where none are named.
        noise: Distribution of noise levels.
        scores: Whether targets are made less noisy by the densities that the graph states, where traces are its draws
            and that takes no more than 5 % of the time limit to prepare, or half a minute where there is none.
    """

    steps: int = 12_000
    batch_size: int | None = None
    matrix_lr: float = 1e-2
    vector_lr: float = 2e-3
    weight_decay: float = 0.1
    warmup: float = 0.03
    clip: float = 1.0
    ema: float = 0.05
    validation: float = 0.1
    evaluations: int = 25
    patience: int = 8
    time_limit: float | None = None
    architecture: Architecture | None = None
    small: Architecture = field(default_factory=Architecture)
    noise: NoiseLevels = field(default_factory=NoiseLevels)
    scores: bool = True

    def __post_init__(self) -> None:
        wholes = {name: getattr(self, name) for name in ("steps", "batch_size", "evaluations", "patience")}
        for name, value in wholes.items():
            if name == "batch_size" and value is None:
                continue
            if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                raise DeclarationError(f"{name}={value!r} is not a whole number of 1 or more.")
        for name in ("matrix_lr", "vector_lr", "clip", "ema"):
            if not is_positive(getattr(self, name)):
                raise DeclarationError(f"{name}={getattr(self, name)!r} is not a positive number.")
        for name in ("weight_decay", "warmup", "validation"):
            if isinstance(getattr(self, name), bool) or not isinstance(getattr(self, name), Real):
                raise DeclarationError(f"{name}={getattr(self, name)!r} is not a number.")
        kinds = {"noise": NoiseLevels, "small": Architecture, "architecture": Architecture}
        for name, kind in kinds.items():
            value = getattr(self, name)
            if not isinstance(value, kind) and not (name == "architecture" and value is None):
                raise DeclarationError(f"{name}={value!r} is not a {kind.__name__} (from {kind.__module__}).")
        if not 0 <= self.weight_decay * self.matrix_lr < 1:
            raise DeclarationError(
                f"weight_decay={self.weight_decay!r} is not a number of 0 or more and below 1 / matrix_lr."
            )
        if self.time_limit is not None and not is_positive(self.time_limit):
            raise DeclarationError(f"time_limit={self.time_limit!r} is not a positive number of seconds.")
        if not isinstance(self.scores, bool):
            raise DeclarationError(f"scores={self.scores!r} is neither True nor False.")
        for name in ("warmup", "validation"):
            if not 0 <= getattr(self, name) < 1:
                raise DeclarationError(f"{name}={getattr(self, name)!r} is not a share, 0 or more and below 1.")

    def batch_for(self, tokens: int, scored: bool = False) -> int:
        """Returns the traces per step where they have so many tokens: a step handles about 4 096 tokens, or fewer.

        Where scores are known, targets are less noisy, and more steps of half as many traces are worth more.
        """
        if self.batch_size is not None:
            return self.batch_size
        most = 512 if tokens <= FEW else 256  # of few tokens, twice the traces take little more time
        return max(32, min(most, _STEP_TOKENS // tokens) // (2 if scored else 1))

    @property
    def scoring(self) -> float:
        """Seconds that the scores of traces may take; 0 for none."""
        if not self.scores:
            return 0.0
        return _SCORING if self.time_limit is None else _SCORING_SHARE * self.time_limit

    def architecture_for(self, tokens: int) -> Architecture:
        """Returns the sizes of the network for a graph of so many tokens.

        Attention takes time with the square of the tokens: of a hundred, a larger network would take too few steps.
        """
        if self.architecture is not None:
            return self.architecture
        depth = default_depth(tokens)
        return self.small if depth == Architecture().depth else Architecture(width=48, depth=depth)

    @staticmethod
    def of(preset: str | Settings, time_limit: float | None = None, **changes: Any) -> Settings:
        """Returns a preset by name, or the settings that were handed over, with changes.

        Args:
            preset: A name, or settings.
            time_limit: Seconds; None for those of the preset.
            **changes: Other attributes.

        Raises:
            DeclarationError: If there is no such preset or attribute, or a value is not valid.
            TrainingError: If the time limit is no positive number.

        Example:
            >>> Settings.of("fast", steps=200).batch_size
            128
        """
        if not isinstance(preset, Settings):
            if preset not in PRESETS:
                raise DeclarationError(
                    f"preset={preset!r} is not known.\n  {did_you_mean(str(preset), PRESETS, 'Presets')}"
                )
            preset = PRESETS[preset]
        names = [own.name for own in fields(Settings)]
        for name in changes:
            if name not in names:
                raise DeclarationError(f"settings have no {name!r}.\n  {did_you_mean(name, names, 'They have')}")
        if changes:
            preset = replace(preset, **changes)
        if time_limit is None:
            return preset
        if not is_positive(time_limit):
            raise TrainingError(f"time_limit={time_limit!r} is no positive number of seconds.")
        return replace(preset, time_limit=time_limit)


def is_positive(value: object) -> bool:
    """Tells whether a value is a positive number."""
    return isinstance(value, Real) and not isinstance(value, bool) and float(value) > 0


PRESETS = {
    "default": Settings(time_limit=345.0),
    "thorough": Settings(steps=60_000, time_limit=2_640.0, small=Architecture(width=96, heads=6)),
    "fast": Settings(steps=1000, batch_size=128, architecture=Architecture(width=32, depth=4, heads=4, widening=2)),
}
"""``default``: some six minutes at most. ``thorough``: three quarters of an hour at most, for better answers. ``fast``:
a first look, less accurate, in a fraction of that."""
