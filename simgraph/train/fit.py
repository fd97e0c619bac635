"""The training loop: denoising score matching on latent tokens.

References:
    Gloeckler et al., "All-in-one simulation-based inference" (2024), equation 5 (loss on latent tokens only).
"""

from __future__ import annotations

import contextlib
import copy
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor
from tqdm.auto import tqdm

from simgraph.compile import Compiled
from simgraph.compile.counted import counted_kinds
from simgraph.compile.layout import Tokens
from simgraph.errors import SimgraphWarning, TrainingError, warn
from simgraph.simformer import Architecture, Denoiser, Simformer
from simgraph.traces import Traces
from simgraph.traces.blocks import isolated
from simgraph.traces.seeds import integer_seed, torch_stream
from simgraph.train.conditions import Conditions
from simgraph.train.embedding import Learner
from simgraph.train.gradients import Workers
from simgraph.train.history import History
from simgraph.train.ranges import Ranges
from simgraph.train.run import Run, Validation
from simgraph.train.settings import Settings
from simgraph.train.stock import Fresh, Stock

__all__ = ["Trained", "build", "build_network", "train"]

_LEAST_TRACES = 10

_FEW_STEPS = 300
"""After fewer, draws stray beyond the prior's range, and look fine otherwise: users should hear of it."""


@dataclass(frozen=True)
class Trained:
    """What a training returns.

    Attributes:
        compiled: The compiled graph, its tokenizers fitted to the training split of the first traces.
        denoiser: The denoiser with the best averaged weights.
        history: What happened.
        ranges: Which values the training split, and fresh traces, held.
        scored: Names of the variables whose scores training used.
    """

    compiled: Compiled
    denoiser: Denoiser
    history: History
    ranges: Ranges
    scored: tuple[str, ...] = ()

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
    fresh: Callable[[Traces], Fresh] | None = None,
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
        fresh: Tells, of the traces that are learned from, where further ones come from, which take the place of the
            oldest as training goes on.
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
    source = None if fresh is None else fresh(kept)
    stock = Stock(compiled, kept, generator, source, timed=time_limit is not None, scoring=scoring, progress=progress)
    validation = compiled.layout.tokenize_traces(held_out, generator)

    with isolated():
        torch.manual_seed(integer_seed(seed, "weights"))
        learner = Learner(build(compiled, settings.architecture_for(len(compiled.layout))), compiled.layout)
    conditions, scored = Conditions(compiled, queries), _mostly_scored(stock.tokens)
    run = Run(compiled, learner, conditions, settings, generator, stock.tokens.exists, scored)
    judge = Validation(run, validation, torch_stream(seed, "validation"))
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
    stock.check()
    denoiser = best.denoiser.eval().requires_grad_(False)
    return Trained(best.fitted(compiled), denoiser, history, stock.ranges, stock.scored)


def _mostly_scored(tokens: Tokens) -> bool:
    """Tells whether scores of most tokens that exist are known."""
    if tokens.scores is None:
        return False
    there = torch.ones_like(tokens.present) if tokens.exists is None else tokens.exists
    return float(tokens.scores[..., 1][there].isfinite().float().mean()) > 0.5


def _stalled(history: History, patience: int) -> bool:
    losses = history["validation_loss"]
    return len(losses) - 1 - losses.index(min(losses)) >= patience
