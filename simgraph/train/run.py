"""A training in progress: one step after the other, and the loss on held-out traces."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial
from typing import cast

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from simgraph.compile import Compiled
from simgraph.compile.edges import EdgeList
from simgraph.compile.layout import Tokens
from simgraph.compile.masks import LATENT
from simgraph.train.conditions import Conditions, Pool, Pools
from simgraph.train.embedding import Learner
from simgraph.train.gradients import Batch, Workers
from simgraph.train.levels import Levels
from simgraph.train.muon import Muon
from simgraph.train.settings import Settings
from simgraph.train.thinning import Thinning

__all__ = ["Run", "Validation", "whole"]

_PACE = 20.0
"""Weights of scores are to be found in fewer steps than those of the network."""

_VALIDATION_COPIES = 4096
"""Held-out traces are repeated up to so many rows, each with a condition, a noise level and noise of its own."""

_VALIDATION_TOKENS = 2**19
"""Tokens in these rows: graphs of more than 128 tokens have fewer rows."""


class Run:
    """A training in progress: the weights, their average, the optimisers and the random streams."""

    def __init__(
        self,
        compiled: Compiled,
        learner: Learner,
        conditions: Conditions,
        settings: Settings,
        generator: torch.Generator,
        exists: Tensor | None = None,
        scored: bool = False,
    ) -> None:
        self.compiled, self.learner, self.settings, self.generator = compiled, learner, settings, generator
        self.conditions = conditions
        self.batch_size = settings.batch_for(_mean_tokens(compiled, exists), scored)
        self.depth = learner.denoiser.network.architecture.depth
        self.pool = Pool(conditions, compiled, self.depth, generator)
        self.thinning = Thinning(conditions, compiled, self.depth)
        others = self.thinning.elements(exists)
        self.pools = None if others is None else Pools(conditions, compiled, self.depth, generator, others)
        self.averaged = AveragedModel(learner, multi_avg_fn=partial(_averaged, settings.ema))
        matrices = learner.denoiser.network.matrices()
        known = {id(matrix) for matrix in matrices}
        shares = list(learner.control.parameters())
        known |= {id(parameter) for parameter in shares}
        self.rest: list[nn.Parameter] = [p for p in learner.parameters() if id(p) not in known]
        half = len(matrices) // 2  # the two halves take their steps side by side
        decay = settings.weight_decay
        self.optimizers: list[torch.optim.Optimizer] = [
            Muon(matrices[:half], lr=settings.matrix_lr, weight_decay=decay),
            Muon(matrices[half:], lr=settings.matrix_lr, weight_decay=decay),
            torch.optim.AdamW(self.rest, lr=settings.vector_lr, weight_decay=0.0, fused=True),
            torch.optim.AdamW(shares, lr=_PACE * settings.vector_lr, weight_decay=0.0, fused=True),
        ]
        self.peaks = [settings.matrix_lr, settings.matrix_lr, settings.vector_lr, _PACE * settings.vector_lr]
        self.levels = Levels(settings.noise)

    def set_rate(self, spent: float) -> float:
        """Sets the learning rates for the share of the training that is spent; returns that of the matrices."""
        warmup = self.settings.warmup
        rise = min(1.0, spent / warmup) if warmup else 1.0
        factor = rise * 0.5 * (1 + math.cos(math.pi * spent))
        for optimizer, peak in zip(self.optimizers, self.peaks, strict=True):
            optimizer.param_groups[0]["lr"] = peak * factor
        return self.peaks[0] * factor

    def step(self, tokens: Tokens, workers: Workers) -> float:
        """Takes one step on a random batch; returns its loss."""
        size = self.batch_size
        batch = tokens[torch.randint(len(tokens), (size,), generator=self.generator)]
        states, masks = self.ask(batch)
        sigma = self.levels.sample(size, self.generator)
        noise = torch.randn(batch.values.shape, generator=self.generator)
        loss = workers.backward(self.learner, whole((batch.values, noise, sigma, states, masks), batch))
        nn.utils.clip_grad_norm_(self.rest, self.settings.clip)
        workers.step(self.optimizers)
        self.averaged.update_parameters(self.learner)
        return loss

    def ask(self, batch: Tokens) -> tuple[Tensor, Tensor | EdgeList]:
        """Draws a condition state and its mask for each trace of a batch."""
        others = self.thinning.elements(batch.exists)
        if self.pools is None:
            states, masks = self.pool.draw(len(batch))
        else:
            assert others is not None
            states, masks = self.pools.draw(others)
        if batch.exists is not None:
            states, masks = self.thinning(states, masks, batch.exists, self.generator)
        if batch.whole:
            return states, masks
        states = self.conditions.fitting(states, batch.present)
        return states, self.compiled.rule.masks(states, self.depth, others)


class Validation:
    """The loss on held-out traces, with the same conditions, noise levels and noise every time."""

    def __init__(self, run: Run, tokens: Tokens, generator: torch.Generator) -> None:
        self.run = run
        most = min(_VALIDATION_COPIES, max(1, _VALIDATION_TOKENS // tokens.values.shape[1]))
        copies = max(1, min(8, most // len(tokens)))
        rows = torch.arange(len(tokens)).repeat(copies)[:most]
        self.batch = tokens[rows]
        drawn = run.conditions.draw(len(rows), generator, self.batch.exists)
        self.states = run.conditions.fitting(drawn, self.batch.present)
        self.masks = run.compiled.rule.masks(self.states, run.depth, run.thinning.elements(self.batch.exists))
        self.sigma = run.settings.noise.sample(len(rows), generator)
        self.noise = torch.randn(self.batch.values.shape, generator=generator)
        latent, classes = self.states == LATENT, run.compiled.layout.classes[run.compiled.layout.ids]
        self.latents = latent.sum(1)
        self.continuous = latent.any(1) & ~(latent & (classes > 0)).any(1)

    def __call__(self, workers: Workers) -> Tensor:
        """Returns the loss of each row, summed over its latent tokens: (rows,)."""
        batch = whole((self.batch.values, self.noise, self.sigma, self.states, self.masks), self.batch)
        return workers.losses(cast(Learner, self.run.averaged.module), batch, self.run.batch_size)

    def mean(self, losses: Tensor) -> float:
        """Returns the mean loss of the latent tokens."""
        return float(losses.sum() / self.latents.sum().clamp_min(1))

    def errors(self, losses: Tensor) -> tuple[Tensor, Tensor]:
        """Returns noise levels and mean errors, as :class:`Levels` follows them, of rows without latent categories."""
        rows, sigma = self.continuous, self.sigma[self.continuous]
        return sigma, losses[rows] / self.latents[rows] / (1 + sigma.square())


@torch.no_grad()
def _averaged(share: float, averages: Sequence[Tensor], weights: Sequence[Tensor], count: Tensor) -> None:
    """Moves averages of weights such that they reach back over a share of the steps so far, however many there are."""
    for average, weight in zip(averages, weights, strict=True):
        average.lerp_(weight, 1 / (1 + share * float(count)))


def whole(batch: tuple[Tensor, Tensor, Tensor, Tensor, Tensor | EdgeList], tokens: Tokens) -> Batch:
    """Returns a batch with the points of functions, scores and what embedding networks see, as far as there are any."""
    return cast(Batch, (*batch, tokens.places, tokens.scores, *tokens.raw))


def _mean_tokens(compiled: Compiled, exists: Tensor | None) -> int:
    """Returns how many tokens traces have, on average."""
    return len(compiled.layout) if exists is None else max(1, round(float(exists.sum(1).float().mean())))
