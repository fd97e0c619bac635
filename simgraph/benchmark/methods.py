"""The methods that are benchmarked: each learns from traces, and answers questions with draws."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import numpy as np

from simgraph.benchmark import npe
from simgraph.benchmark.endings import end_of
from simgraph.benchmark.learned import Learned, Train
from simgraph.benchmark.plan import Plan
from simgraph.benchmark.posteriors import Posteriors
from simgraph.benchmark.question import Question
from simgraph.benchmark.tasks import Task
from simgraph.errors import DeclarationError, MissingExtraError, listed
from simgraph.query import fit
from simgraph.traces import Traces
from simgraph.train import Settings

__all__ = ["METHODS", "check_method"]


def check_method(method: str, task: Task) -> None:
    """Fails before any work starts where a method cannot be run on a task.

    Raises:
        DeclarationError: If a method that is about one posterior is asked for arbitrary conditionals; or the density
            of a black box would be needed.
        MissingExtraError: If sbi is not installed.
    """
    if method == "exact":
        boxes = [name for name, node in task.graph.items() if node.kind == "simulator"]
        if boxes:
            raise DeclarationError(
                f"exact answers need densities; task {task.name!r} has black boxes: {listed(boxes)}.\n"
                "  Leave out 'exact' for this task."
            )
    if method in ("focused", "redrawn") and not isinstance(task, Posteriors):
        raise DeclarationError(
            f"{method!r} trains the posterior of a task most; task {task.name!r} asks for other conditionals.\n"
            f"  Leave out {method!r} for this task."
        )
    if method != "npe":
        return
    if not isinstance(task, Posteriors):
        raise DeclarationError(f"NPE learns one posterior; it cannot answer the questions of task {task.name!r}.")
    if importlib.util.find_spec("sbi") is None:
        raise MissingExtraError("sbi", "peers", "NPE")


def _simgraph(task: Task, traces: Traces, seed: int, plan: Plan, progress: bool, *, focus: str | None = None) -> Train:
    options: dict[str, Any] = {}
    if focus is not None:
        assert isinstance(task, Posteriors)  # check_method has seen to it
        options["queries"] = [{"given": list(task.data), "of": list(task.parameters)}]
        if focus == "redrawn":
            options["redraw"] = list(task.data)

    def train() -> Learned:
        settings = Settings.of(plan.preset, plan.time_limit)
        model = fit(task.graph, traces, seed=seed, preset=settings, progress=progress, **options)
        facts = {
            "validation_loss": model.history.best,
            "steps": int(model.history[-1]["step"]),
            "ended_by": end_of(model.history, settings, settings.time_limit or float("inf")),
            "tokens": len(model.compiled.layout),
        }

        def log_prob(data: Mapping[str, Any], parameters: Mapping[str, Any]) -> np.ndarray:
            return np.asarray(model.given(**data).log_prob(**parameters))

        def plain(question: Question, count: int, number: int) -> np.ndarray:
            return question.ask(model, count, number)

        if focus is not None:
            return Learned({focus: plain}, {focus: log_prob}, facts)
        answers = {
            "simgraph": plain,
            "exact": lambda question, count, number: question.ask(model, count, number, exact=True),
        }
        return Learned(answers, {"simgraph": log_prob}, facts)

    return train


def _npe(task: Task, traces: Traces, seed: int, plan: Plan, progress: bool) -> Train:
    assert isinstance(task, Posteriors)  # check_method has seen to it
    return npe.prepare(task, traces, seed, progress)


METHODS: Mapping[str, Callable[[Task, Traces, int, Plan, bool], Train]] = {
    "simgraph": _simgraph,
    "exact": _simgraph,  # the same model; its draws are corrected by the graph's own densities
    "focused": partial(_simgraph, focus="focused"),  # half of its training asks for the task's posterior
    "redrawn": partial(_simgraph, focus="redrawn"),  # the same, and the noise of the data is drawn anew
    "npe": _npe,
}
"""(task, traces, seed, plan, progress) -> the training, ready to start, by the name of the method."""
