"""Trainings of the benchmark, timed, and shared by the tasks that ask about one graph."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from simgraph.benchmark.learned import Learned
from simgraph.benchmark.methods import METHODS
from simgraph.benchmark.plan import Plan
from simgraph.benchmark.tasks import Task

__all__ = ["Training", "Trainings"]


@dataclass(frozen=True)
class Training:
    """What a method learned, and how long it took: traces, wall seconds and processor seconds."""

    learned: Learned
    seconds: Mapping[str, float]


class Trainings:
    """Trains, but never the same twice in a row: methods, and tasks about one graph, share a model."""

    def __init__(self, plan: Plan, progress: bool) -> None:
        self.plan, self.progress = plan, progress
        self._last: dict[Any, tuple[tuple[int, int, int], Training]] = {}

    def __call__(self, task: Task, method: str, num_simulations: int, seed: int) -> Training:
        """Returns what a method learned for a task.

        Raises:
            TrainingError: If training was interrupted, or broke off.
        """
        kind, key = METHODS[method], (id(task.graph), num_simulations, seed)
        if kind not in self._last or self._last[kind][0] != key:
            self._last[kind] = key, self._train(task, method, num_simulations, seed)
        return self._last[kind][1]

    def _train(self, task: Task, method: str, num_simulations: int, seed: int) -> Training:
        begin = time.monotonic()
        traces = task.graph.simulate(num_simulations, seed=seed, progress=self.progress)
        seconds = {"simulate_seconds": time.monotonic() - begin}
        train = METHODS[method](task, traces, seed, self.plan, self.progress)
        begin, worked = time.monotonic(), time.process_time()
        learned = train()
        seconds["train_seconds"] = time.monotonic() - begin
        seconds["train_cpu_seconds"] = time.process_time() - worked
        return Training(learned, seconds)
