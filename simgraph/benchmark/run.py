"""The benchmark: trains tasks on budgets of simulations, and holds the posteriors against their references.

Each run is kept as soon as it is done, and a run that is kept is not repeated: an interrupted command goes on where it
stopped. The report and the pictures show all runs of the folder, those of earlier commands among them.
"""

from __future__ import annotations

import importlib.util
import itertools
import json
import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from tqdm.auto import tqdm

from simgraph.benchmark.endings import end_of
from simgraph.benchmark.pictures import plot_draws, save
from simgraph.benchmark.plan import Plan
from simgraph.benchmark.problems import Task, find_task, flat
from simgraph.benchmark.report import machine, write_json
from simgraph.benchmark.summary import line, summarise, title
from simgraph.diagnostics import c2st, mmd
from simgraph.errors import DeclarationError, FileFormatError, MissingExtraError
from simgraph.plots.canvas import new_figure
from simgraph.query import fit
from simgraph.train import Settings

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
    progress: bool = True,
) -> list[dict[str, Any]]:
    """Trains and judges what is not kept yet; writes benchmark.json, benchmark.md and pictures to a folder.

    Args:
        names: Names of tasks.
        budgets: Numbers of simulations.
        seeds: Seeds of simulation, training and draws.
        folder: Where the runs are kept.
        plan: How to train and to judge.
        progress: Whether to show progress bars.

    Returns:
        All runs that are kept, those of earlier commands among them.

    Raises:
        FileFormatError: If the folder's benchmark.json is something else.
        DeclarationError: If a task is not known, or has fewer observations or reference draws than asked for.
        MissingExtraError: If matplotlib or scikit-learn is not installed.
        TrainingError: If a training was interrupted; what was done before it is kept.
    """
    plan = Plan() if plan is None else plan
    tasks = [find_task(name) for name in names]
    for task in tasks:
        _check(task, plan)
    if any(budget < 1 for budget in budgets):
        raise DeclarationError(f"budgets={list(budgets)} holds a number of simulations below 1.")
    if not (tasks and budgets and seeds):
        raise DeclarationError("the benchmark needs a task, a budget and a seed at least.")
    _require_extras()
    target = Path(folder)
    kept = target / RUNS
    runs = _load(kept)
    # The cheap ones first: all tasks have an answer early.
    for budget, seed, task in itertools.product(sorted(set(budgets)), seeds, tasks):
        key = _key(task.name, budget, seed, plan)
        if any(_is(run, key) for run in runs):
            continue
        found, draws = judged(task, budget, seed, plan, progress)
        run = {**key, **found, "machine": machine(seed)}
        runs.append(run)
        if budget == max(other["num_simulations"] for other in runs if other["task"] == task.name):
            figure = plot_draws(draws, task.reference(0, plan.draws), f"{title(run)}, C2ST {run['c2st'][0]:.3f}")
            save(figure, target / f"draws_{task.name}.png")
        write_json(kept, {"runs": runs})
        tqdm.write(line(run))
        summarise(target, runs)
    summarise(target, runs)
    return runs


def judged(
    task: Task, num_simulations: int, seed: int, plan: Plan, progress: bool
) -> tuple[dict[str, Any], np.ndarray]:
    """Trains once, and holds the posteriors of the observations against their references.

    Returns:
        The figures, and the draws (draws, dimensions) for the first observation.

    Raises:
        TrainingError: If training was interrupted, or broke off.
    """
    begin = time.monotonic()
    traces = task.graph.simulate(num_simulations, seed=seed, progress=progress)
    simulated, worked = time.monotonic(), time.process_time()
    model = fit(task.graph, traces, seed=seed, preset=plan.preset, time_limit=plan.time_limit, progress=progress)
    trained, worked = time.monotonic(), time.process_time() - worked
    limit = math.inf if plan.time_limit is None else plan.time_limit
    ending = end_of(model.history, Settings.of(plan.preset), limit)

    draws = []
    for observation in task.observations()[: plan.observations]:
        query = model.given(**task.evidence(observation))
        draws.append(flat(query.sample(list(task.parameters), num_samples=plan.draws, seed=seed), task.parameters))
    sampled = time.monotonic()
    scores, discrepancies = [], []
    for number, draw in enumerate(tqdm(draws, desc="judging", unit="observation", disable=not progress, leave=False)):
        reference = task.reference(number, plan.draws)
        scores.append(c2st(reference, draw, classifier=plan.classifier))
        discrepancies.append(mmd(reference, draw))
    return {
        "c2st": scores,
        "c2st_mean": float(np.mean(scores)),
        "mmd": discrepancies,
        "mmd_mean": float(np.mean(discrepancies)),
        "validation_loss": model.history.best,
        "steps": int(model.history[-1]["step"]),
        "ended_by": ending,
        "tokens": len(model.compiled.layout),
        "simulate_seconds": simulated - begin,
        "train_seconds": trained - simulated,
        "train_cpu_seconds": worked,  # fewer than the wall's where the machine was busy with other things
        "sample_seconds": sampled - trained,
        "judge_seconds": time.monotonic() - sampled,
    }, draws[0]


def _load(kept: Path) -> list[dict[str, Any]]:
    if not kept.is_file():
        return []
    try:
        runs: list[dict[str, Any]] = json.loads(kept.read_text())["runs"]
    except (ValueError, KeyError, TypeError):
        raise FileFormatError(
            f"{kept} holds no runs of the benchmark.\n  Move it away, or choose another folder."
        ) from None
    return runs


def _key(task: str, num_simulations: int, seed: int, plan: Plan) -> dict[str, Any]:
    """Returns what tells runs apart."""
    return {"task": task, "num_simulations": num_simulations, "seed": seed, **asdict(plan)}


def _is(run: Mapping[str, Any], key: Mapping[str, Any]) -> bool:
    return all(run[name] == value for name, value in key.items())


def _check(task: Task, plan: Plan) -> None:
    known = len(task.observations())
    if plan.observations > known:
        raise DeclarationError(f"task {task.name!r} has {known} observations, not {plan.observations}.")
    task.reference(0, plan.draws)


def _require_extras() -> None:
    """Fails before the first training where something that judges it is not installed."""
    new_figure(1, 1)
    if importlib.util.find_spec("sklearn") is None:
        raise MissingExtraError("sklearn", "diagnostics", "the benchmark")
