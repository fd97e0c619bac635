"""How long a training step takes: builds what training builds, and times its steps."""

from __future__ import annotations

import time
from collections.abc import Callable
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
from simgraph.train.fit import build
from simgraph.train.run import Run

__all__ = ["prepare", "seconds"]


def prepare(compiled: Compiled, traces: Traces, settings: Settings, seed: int) -> tuple[Run, Tokens]:
    """Returns a training that has taken no step yet, and the tokens that its steps learn from."""
    generator = torch_stream(seed, "pace")
    compiled = compiled.fit(traces)
    with isolated():
        torch.manual_seed(integer_seed(seed, "pace"))
        learner = Learner(build(compiled, settings.architecture_for(len(compiled.layout))), compiled.layout)
    tokens = compiled.layout.tokenize_traces(traces, generator)
    run = Run(compiled, learner, Conditions(compiled), settings, generator, tokens.exists)
    run.set_rate(0.5)
    return run, tokens


def seconds(function: Callable[[], Any]) -> float:
    """Returns the seconds that a call takes."""
    begin = time.perf_counter()
    function()
    return time.perf_counter() - begin
