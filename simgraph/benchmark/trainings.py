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
    """Trains, but never twice in a row: tasks that ask different questions about one graph share a model."""

    def __init__(self, plan: Plan, progress: bool) -> None:
        self.plan, self.progress = plan, progress
        self.key: tuple[Any, ...] = ()
        self.last: Training | None = None

    def __call__(self, task: Task, method: str, num_simulations: int, seed: int) -> Training:
        """Returns what a method learned for a task.

        Raises:
            TrainingError: If training was interrupted, or broke off.
        """
        key = (id(task.graph), method, num_simulations, seed)
        if self.last is None or key != self.key:
            self.key, self.last = key, self._train(task, method, num_simulations, seed)
        return self.last

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
