"""The benchmark: trains tasks on budgets of simulations, and holds the answers against right draws.

Each run is kept as soon as it is done, and a run that is kept is not repeated: an interrupted command goes on where it
stopped. The report and the pictures show all runs of the folder, those of earlier commands among them.
"""

from __future__ import annotations

import importlib.util
import itertools
import json
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from tqdm.auto import tqdm

from simgraph.benchmark.calibration import calibration
from simgraph.benchmark.methods import METHODS, check_method
from simgraph.benchmark.pictures import plot_draws, save
from simgraph.benchmark.plan import Plan
from simgraph.benchmark.posteriors import Posteriors
from simgraph.benchmark.question import Question
from simgraph.benchmark.report import machine, write_json
from simgraph.benchmark.summary import line, summarise, title
from simgraph.benchmark.tasks import Task, find_task
from simgraph.benchmark.trainings import Training, Trainings
from simgraph.diagnostics import c2st, mmd
from simgraph.errors import DeclarationError, FileFormatError, MissingExtraError, did_you_mean
from simgraph.plots.canvas import new_figure

__all__ = ["benchmark"]

RUNS = "benchmark.json"
"""Name of the file in the benchmark's folder that keeps the runs."""


def benchmark(
    names: Sequence[str],
    budgets: Sequence[int],
    seeds: Sequence[int],
    folder: str | Path,
    plan: Plan | None = None,
    *,
    against: Sequence[str] = (),
    alone: bool = False,
    progress: bool = True,
) -> list[dict[str, Any]]:
    """Trains and judges what is not kept yet; writes benchmark.json, benchmark.md and pictures to a folder.

    Args:
        names: Names of tasks.
        budgets: Numbers of simulations.
        seeds: Seeds of simulation, training and draws.
        folder: Where the runs are kept.
        plan: How to train and to judge.
        against: Other methods, directly after, on the same traces: ``"exact"``, the same model with its answers
            corrected by the graph's own densities; ``"focused"``, a training of which half asks for posteriors;
            ``"redrawn"``, the same, in which the noise of the data is drawn anew; ``"npe"``, that of sbi.
        alone: Whether to run the methods of ``against`` alone.
        progress: Whether to show progress bars.

    Returns:
        All runs that are kept, those of earlier commands among them.

    Raises:
        FileFormatError: If the folder's benchmark.json is something else.
        DeclarationError: If a task or a method is not known, a method cannot be run on a task, or a task has fewer
            questions or reference draws than asked for.
        MissingExtraError: If matplotlib, scikit-learn or another method is not installed.
        TrainingError: If a training was interrupted; what was done before it is kept.
    """
    plan = Plan() if plan is None else plan
    tasks = [find_task(name) for name in names]
    methods = _methods(against, alone)
    for task, method in itertools.product(tasks, methods):
        _check(task, plan)
        check_method(method, task)
    if any(budget < 1 for budget in budgets):
        raise DeclarationError(f"budgets={list(budgets)} holds a number of simulations below 1.")
    if not (tasks and methods and budgets and seeds):
        raise DeclarationError("the benchmark needs a task, a method, a budget and a seed at least.")
    _require_extras()
    target = Path(folder)
    kept = target / RUNS
    runs = _load(kept)
    train = Trainings(plan, progress)
    # The cheap ones first: all tasks have an answer early.
    for budget, seed, task, method in itertools.product(sorted(set(budgets)), seeds, tasks, methods):
        key = {"task": task.name, "method": method, "num_simulations": budget, "seed": seed, **plan.key(method)}
        if any(_is(run, key) for run in runs):
            continue
        floor = _floor(task, plan, runs, progress)
        found, draws = judged(task, method, train(task, method, budget, seed), seed, plan, progress)
        run = {**key, **found, "floor": floor, "machine": machine(seed)}
        runs.append(run)
        write_json(kept, {"runs": runs})
        largest = max(other["num_simulations"] for other in runs if other["task"] == task.name)
        if method == "simgraph" and budget == largest and draws.shape[1] > 1:
            figure = plot_draws(draws, task.question(0).reference(plan.draws, 0), title(run))
            save(figure, target / f"draws_{task.name}.png")
        tqdm.write(line(run))
        summarise(target, runs)
    summarise(target, runs)
    return runs


def judged(
    task: Task, method: str, training: Training, seed: int, plan: Plan, progress: bool
) -> tuple[dict[str, Any], np.ndarray]:
    """Holds a method's answers to a task's questions against right draws.

    Returns:
        The figures, and the draws (draws, dimensions) for the first question.
    """
    questions = _questions(task, plan)
    begin = time.monotonic()
    answer = training.learned.answers[method]
    draws = [answer(question, plan.draws, seed) for question in questions]
    sampled = time.monotonic()
    pairs = [(question.reference(plan.draws, 0), draw) for question, draw in zip(questions, draws, strict=True)]
    scores = _scores(pairs, plan, progress)
    discrepancies = [mmd(reference, draw) for reference, draw in pairs]
    return {
        "c2st": scores,
        "c2st_mean": {name: float(np.mean(each)) for name, each in scores.items()},
        "mmd": discrepancies,
        "mmd_mean": float(np.mean(discrepancies)),
        **training.learned.facts,
        **training.seconds,
        "sample_seconds": sampled - begin,
        "judge_seconds": time.monotonic() - sampled,
        **calibration(task, training.learned, method, progress),
    }, draws[0]


def _floor(task: Task, plan: Plan, runs: Iterable[Mapping[str, Any]], progress: bool) -> dict[str, float]:
    """Returns the mean C2ST between two sets of right draws, by classifier: what a perfect answer would score."""
    judging = plan.judging()
    for run in runs:
        if run["task"] == task.name and _is(run, judging):
            return dict(run["floor"])
    questions = _questions(task, plan)
    pairs = [(question.reference(plan.draws, 0), question.reference(plan.draws, 1)) for question in questions]
    return {name: float(np.mean(scores)) for name, scores in _scores(pairs, plan, progress).items()}


def _questions(task: Task, plan: Plan) -> list[Question]:
    return [task.question(number) for number in range(plan.questions or task.questions)]


def _scores(pairs: Sequence[tuple[np.ndarray, np.ndarray]], plan: Plan, progress: bool) -> dict[str, list[float]]:
    """Returns C2ST for each pair of draws, by classifier."""
    scores: dict[str, list[float]] = {name: [] for name in plan.classifiers}
    for reference, draw in tqdm(pairs, desc="judging", unit="question", disable=not progress, leave=False):
        for name in plan.classifiers:
            scores[name].append(c2st(reference, draw, classifier=name))  # type: ignore[arg-type]
    return scores


def _load(kept: Path) -> list[dict[str, Any]]:
    if not kept.is_file():
        return []
    try:
        runs: list[dict[str, Any]] = json.loads(kept.read_text())["runs"]
        known = all({"method", "floor"} <= run.keys() for run in runs)  # earlier versions kept less
    except (ValueError, KeyError, TypeError, AttributeError):
        known = False
    if not known:
        raise FileFormatError(f"{kept} holds no runs of the benchmark.\n  Move it away, or choose another folder.")
    return runs


def _is(run: Mapping[str, Any], key: Mapping[str, Any]) -> bool:
    return all(run[name] == value for name, value in key.items())


def _methods(against: Sequence[str], alone: bool) -> list[str]:
    for method in against:
        if method not in METHODS:
            raise DeclarationError(f"against={method!r} is no method.\n  {did_you_mean(method, METHODS, 'Methods')}")
    return list(dict.fromkeys(against if alone else ["simgraph", *against]))


def _check(task: Task, plan: Plan) -> None:
    if (plan.questions or 1) > task.questions:
        raise DeclarationError(f"task {task.name!r} has {task.questions} questions, not {plan.questions}.")
    if isinstance(task, Posteriors) and task.exact is None:
        task.reference(0, plan.draws, 1)


def _require_extras() -> None:
    """Fails before the first training where something that judges it is not installed."""
    new_figure(1, 1)
    if importlib.util.find_spec("sklearn") is None:
        raise MissingExtraError("sklearn", "diagnostics", "the benchmark")
