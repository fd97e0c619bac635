"""The training loop: denoising score matching on latent tokens.

References:
    Gloeckler et al., "All-in-one simulation-based inference" (2024), equation 5 (loss on latent tokens only).
"""

from __future__ import annotations

import contextlib
import copy
import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import cast

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel
from tqdm.auto import tqdm

from simgraph.compile import Compiled
from simgraph.compile.counted import counted_kinds
from simgraph.compile.edges import EdgeList
from simgraph.compile.layout import Tokens
from simgraph.compile.masks import LATENT
from simgraph.errors import SimgraphWarning, TrainingError, warn
from simgraph.simformer import Architecture, Denoiser, Simformer
from simgraph.traces import Traces
from simgraph.traces.blocks import isolated
from simgraph.traces.seeds import integer_seed, torch_stream
from simgraph.train.conditions import Conditions, Pool, Pools
from simgraph.train.embedding import Learner
from simgraph.train.gradients import Batch, Workers
from simgraph.train.history import History
from simgraph.train.levels import Levels
from simgraph.train.muon import Muon
from simgraph.train.ranges import Ranges
from simgraph.train.settings import Settings
from simgraph.train.stock import Fresh, Stock
from simgraph.train.thinning import Thinning

__all__ = ["Trained", "build", "build_network", "train"]

_LEAST_TRACES = 10

_FEW_STEPS = 300
"""After fewer, draws stray beyond the prior's range, and look fine otherwise: users should hear of it."""

_PACE = 20.0
"""Weights of scores are to be found in fewer steps than those of the network."""

_VALIDATION_COPIES = 4096
"""Held-out traces are repeated up to so many rows, each with a condition, a noise level and noise of its own."""

_VALIDATION_TOKENS = 2**19
"""Tokens in these rows: graphs of more than 128 tokens have fewer rows."""


@dataclass(frozen=True)
class Trained:
    """What a training returns.

    Attributes:
        compiled: The compiled graph, its tokenizers fitted to the training split of the first traces.
        denoiser: The denoiser with the best averaged weights.
        history: What happened.
        ranges: Which values the training split, and fresh traces, held.
    """

    compiled: Compiled
    denoiser: Denoiser
    history: History
    ranges: Ranges

    def sized(self, sizes: Mapping[str, int], points: Mapping[str, np.ndarray] | None = None) -> Trained:
        """Returns the model in which some plates whose size varies have one size, with the same weights.

        Elements of a plate share their identifiers, so that no weight belongs to a size; nor does any to a point.

        Args:
            sizes: Sizes by name of plates, each within the plate's range; numbers of points by name of indices.
            points: Points (points, coordinates) of all indices by name, where they are known.
        """
        if not sizes and not points:
            return self
        compiled, places = self.compiled.sized(sizes), None
        if points:
            compiled = compiled.at(points)
            places = compiled.layout.places({name: own[None] for name, own in points.items()})[0]
        return replace(self, compiled=compiled, denoiser=_denoiser(compiled, self.denoiser.network, places).eval())


def build(compiled: Compiled, architecture: Architecture, counted: bool = True) -> Denoiser:
    """Builds an untrained denoiser for a compiled graph; see :func:`build_network`."""
    return _denoiser(compiled, build_network(compiled, architecture, counted))


def _denoiser(compiled: Compiled, network: Simformer, places: Tensor | None = None) -> Denoiser:
    layout = compiled.layout
    return Denoiser(network, layout.ids, layout.told_coordinates, layout.widths, layout.classes, places)


def build_network(compiled: Compiled, architecture: Architecture, counted: bool = True) -> Simformer:
    """Builds an untrained network for a compiled graph.

    Args:
        compiled: The compiled graph.
        architecture: Sizes.
        counted: Whether tokens are told how many others they may attend to, where numbers vary.
    """
    layout = compiled.layout
    return Simformer(
        architecture,
        identifiers=len(layout.widths),
        features=layout.width,
        plates=len(layout.joining),
        coordinates=layout.coordinates_of_points,
        timeless=compiled.rule.form == "cached",
        kinds=counted_kinds(layout) if counted else None,
    )


def train(
    compiled: Compiled,
    traces: Traces,
    settings: Settings,
    *,
    seed: int = 0,
    queries: Sequence[Tensor] = (),
    fresh: Fresh | None = None,
    progress: bool = True,
) -> Trained:
    """Trains a denoiser.

    Interrupting it (Ctrl-C) returns the best weights so far.

    Args:
        compiled: The compiled graph.
        traces: Traces to learn from; a part is held out for validation.
        settings: Settings.
        seed: Seed of everything that is random here.
        queries: Condition states (tokens,) of the user's own queries.
        fresh: Where further traces come from, which take the place of the oldest as training goes on.
        progress: Whether to show a progress bar.

    Returns:
        The best denoiser on the held-out traces, and the history.

    Raises:
        TrainingError: If there are too few traces, or the loss is not finite from the start.
    """
    count = traces.num_simulations
    if count < _LEAST_TRACES:
        raise TrainingError(
            f"{count} traces are too few to train on and to validate with; use {_LEAST_TRACES} or more."
        )
    started, time_limit = time.monotonic(), settings.time_limit
    generator = torch_stream(seed, "train")
    order = torch.randperm(count, generator=generator)
    held = max(1, round(settings.validation * count))
    kept, held_out = traces[order[held:].numpy()], traces[order[:held].numpy()]
    compiled = compiled.fit(kept)
    joint = sum(rows for _, _, rows in traces.sources) == count  # as the graph drew them, none dropped
    scoring = settings.scoring if joint else 0.0
    stock = Stock(compiled, kept, generator, fresh, timed=time_limit is not None, scoring=scoring, progress=progress)
    validation = compiled.layout.tokenize_traces(held_out, generator)

    with isolated():
        torch.manual_seed(integer_seed(seed, "weights"))
        learner = Learner(build(compiled, settings.architecture_for(len(compiled.layout))), compiled.layout)
    conditions, scored = Conditions(compiled, queries), _mostly_scored(stock.tokens)
    run = _Run(compiled, learner, conditions, settings, generator, stock.tokens.exists, scored)
    judge = _Validation(run, validation, torch_stream(seed, "validation"))
    best = copy.deepcopy(learner)
    history = History()
    running, since, judged = 0.0, 0, 0

    with (
        Workers.start() as workers,
        tqdm(total=settings.steps, desc="training", unit="step", smoothing=0, disable=not progress) as bar,
        contextlib.suppress(KeyboardInterrupt),
    ):
        for step in range(1, settings.steps + 1):
            elapsed = time.monotonic() - started
            spent = step / settings.steps
            if time_limit is not None:
                spent = max(spent, elapsed / time_limit)
            rate = run.set_rate(min(spent, 1.0))
            loss = run.step(stock.renewed((step - 1) * run.batch_size), workers)
            if not math.isfinite(loss):
                if not len(history):
                    raise TrainingError(f"the loss is {loss} at step {step}: the traces cannot be learned from.")
                break
            running, since = running + loss, since + 1
            bar.total = max(step, round(step / spent))  # fewer than planned where time ends the training
            bar.update()
            last = step == settings.steps or spent >= 1
            due = math.floor(spent * settings.evaluations + 1e-6)
            if due == judged and not last:
                continue
            judged = due
            losses = judge(workers)
            validation_loss = judge.mean(losses)
            run.levels.follow(*judge.errors(losses))
            improved = validation_loss < history.best
            history = history.with_row(
                step=step,
                seconds=time.monotonic() - started,
                learning_rate=rate,
                training_loss=running / since,
                validation_loss=validation_loss,
            )
            running, since = 0.0, 0
            bar.set_postfix(loss=f"{history[-1]['training_loss']:.4f}", validation=f"{validation_loss:.4f}")
            if improved:
                best.load_state_dict(run.averaged.module.state_dict())
            if last or _stalled(history, settings.patience):
                break
    if not len(history):  # interrupted before the first evaluation
        best.load_state_dict(run.averaged.module.state_dict())
    elif step < min(_FEW_STEPS, settings.steps) and spent >= 1:
        warn(
            f"the time limit of {time_limit:g} s ended training after step {step} of {settings.steps}:"
            " answers are rough.\n"
            '  Give it more time, as the default preset does, up to six minutes; or take preset="fast", whose steps are'
            " shorter.",
            SimgraphWarning,
        )
    return Trained(best.fitted(compiled), best.denoiser.eval().requires_grad_(False), history, stock.ranges)


class _Run:
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
        loss = workers.backward(self.learner, _whole((batch.values, noise, sigma, states, masks), batch))
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


class _Validation:
    """The loss on held-out traces, with the same conditions, noise levels and noise every time."""

    def __init__(self, run: _Run, tokens: Tokens, generator: torch.Generator) -> None:
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
        batch = _whole((self.batch.values, self.noise, self.sigma, self.states, self.masks), self.batch)
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


def _whole(batch: tuple[Tensor, Tensor, Tensor, Tensor, Tensor | EdgeList], tokens: Tokens) -> Batch:
    """Returns a batch with the points of functions, scores and what embedding networks see, as far as there are any."""
    return cast(Batch, (*batch, tokens.places, tokens.scores, *tokens.raw))


def _mean_tokens(compiled: Compiled, exists: Tensor | None) -> int:
    """Returns how many tokens traces have, on average."""
    return len(compiled.layout) if exists is None else max(1, round(float(exists.sum(1).float().mean())))


def _mostly_scored(tokens: Tokens) -> bool:
    """Tells whether scores of most tokens are known."""
    return tokens.scores is not None and float(tokens.scores[..., 1].isfinite().float().mean()) > 0.5


def _stalled(history: History, patience: int) -> bool:
    losses = history["validation_loss"]
    return len(losses) - 1 - losses.index(min(losses)) >= patience
