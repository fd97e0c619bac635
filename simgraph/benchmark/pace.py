"""How long a training step takes: builds what training builds, and times its steps."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import torch

from simgraph.compile import Compiled
from simgraph.compile.layout import Tokens
from simgraph.traces import Traces
from simgraph.traces.blocks import isolated
from simgraph.traces.seeds import integer_seed, torch_stream
from simgraph.train import Settings
from simgraph.train.conditions import Conditions
from simgraph.train.embedding import Learner
from simgraph.train.fit import _Run, build
from simgraph.train.gradients import Workers

__all__ = ["prepare", "seconds", "step_seconds"]

_WARM_UP, _STEPS = 3, 9


def prepare(compiled: Compiled, traces: Traces, settings: Settings, seed: int) -> tuple[_Run, Tokens]:
    """Returns a training that has taken no step yet, and the tokens that its steps learn from."""
    generator = torch_stream(seed, "pace")
    compiled = compiled.fit(traces)
    with isolated():
        torch.manual_seed(integer_seed(seed, "pace"))
        learner = Learner(build(compiled, settings.architecture), compiled.layout)
    tokens = compiled.layout.tokenize_traces(traces, generator)
    run = _Run(compiled, learner, Conditions(compiled), settings, generator, tokens.exists)
    run.set_rate(0.5)
    return run, tokens


def step_seconds(compiled: Compiled, traces: Traces, settings: Settings, seed: int) -> float:
    """Returns the median seconds of a training step, after a warm-up."""
    with Workers.start() as workers:
        run, tokens = prepare(compiled, traces, settings, seed)
        times = [seconds(partial(run.step, tokens, workers)) for _ in range(_WARM_UP + _STEPS)]
    return statistics.median(times[_WARM_UP:])


def seconds(function: Callable[[], Any]) -> float:
    """Returns the seconds that a call takes."""
    begin = time.perf_counter()
    function()
    return time.perf_counter() - begin
