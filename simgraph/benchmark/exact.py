"""Measures what docs/exact.md says, and writes it: ``python -m simgraph.benchmark.exact docs``.

Each task is learned from 10 000 simulations, and its questions are answered with ``exact=True`` and without. A number
behind the folder is the most seconds of each training; names of tasks behind it measure those again, and keep others.
"""

from __future__ import annotations

import json
import sys
import time
import warnings
from pathlib import Path
from typing import Any

import numpy as np

from simgraph.benchmark.report import machine, machines, markdown_table, write_json, write_text
from simgraph.benchmark.tasks import Task, find_task
from simgraph.diagnostics import c2st
from simgraph.errors import CoverageWarning
from simgraph.query import Model, fit

__all__ = ["TASKS", "main", "measure", "report"]

TASKS = (
    "gaussian_linear",
    "gaussian_mixture",
    "slcp",
    "bernoulli_glm_raw",
    "sir",
    "lotka_volterra",
    "tree_conditionals",
    "hmm_conditionals",
)
"""Tasks all of whose nodes return distributions, or compute something without noise."""

SEED = 0
SIMULATIONS = 10_000
DRAWS = 2_500


def main(folder: str = "docs", seconds: str | None = None, *names: str) -> None:
    """Measures all tasks, or some again, and writes exact.json and exact.md to a folder."""
    target = Path(folder)
    kept = target / "exact.json"
    found: dict[str, Any] = json.loads(kept.read_text()) if names and kept.is_file() else {"tasks": {}}
    for name in names or TASKS:
        task, limit = find_task(name), None if seconds is None else float(seconds)
        model = fit(task.graph, num_simulations=SIMULATIONS, seed=SEED, time_limit=limit)
        learned = {"train_seconds": model.history[-1]["seconds"], "time_limit": limit}
        found["tasks"][name] = {**learned, **measure(task, model), "machine": machine(SEED)}
        write_json(kept, found)
    write_text(target / "exact.md", report(found))
    print(report(found))


def measure(task: Task, model: Model, questions: int | None = None, draws: int = DRAWS) -> dict[str, Any]:
    """Holds corrected and plain answers to a task's questions against right draws.

    Args:
        task: The task.
        model: A model of its graph.
        questions: Number of questions, the first of the task's; all by default.
        draws: Draws on each side of the comparison.
    """
    columns: dict[str, list[Any]] = {}
    for number in range(questions or task.questions):
        question = task.question(number)
        query = model.given(**question.evidence)
        names = list(question.latent)
        begin = time.monotonic()
        with warnings.catch_warnings(record=True) as doubts:
            warnings.simplefilter("always", CoverageWarning)
            exact = query.sample(names, num_samples=draws, seed=SEED, exact=True)
        seconds = time.monotonic() - begin
        plain = query.sample(names, num_samples=draws, seed=SEED)
        right, other = (question.reference(draws, part) for part in (0, 1))
        row = {
            "c2st": c2st(right, question.columns(exact), classifier="rf"),
            "plain": c2st(right, question.columns(plain), classifier="rf"),
            "floor": c2st(right, other, classifier="rf"),
            "ess": exact.ess,
            "log_evidence": None if exact.log_evidence is None else float(exact.log_evidence),
            "seconds": seconds,
            "doubts": sum(issubclass(doubt.category, CoverageWarning) for doubt in doubts),
            "notes": list(exact.notes),
        }
        for key, value in row.items():
            columns.setdefault(key, []).append(value)
    return {"draws": draws, **columns}


def report(found: dict[str, Any]) -> str:
    """Formats the measurements as Markdown."""
    head = (
        "task",
        "questions",
        "training [s]",
        "C2ST plain",
        "C2ST exact ± error",
        "floor",
        "largest",
        "least ESS",
        "seconds, longest",
        "warnings",
    )
    rows = [_row(name, task) for name, task in found["tasks"].items()]
    return "\n".join(
        [
            "# Exact answers",
            "",
            "Written by `python -m simgraph.benchmark.exact docs`. Times are wall seconds on a shared machine.",
            "",
            machines(found["tasks"]),
            "",
            markdown_table(head, rows),
            "",
            f"{SIMULATIONS} simulations, {DRAWS} draws a side, a random forest. Plain draws are those of the network;"
            " exact ones are corrected by the graph's own density, `sample(..., exact=True)`. The error is that of the"
            " mean of as many guesses; the floor is what two sets of right draws score. The effective number of draws"
            " (ESS) is at most the number that is asked for.",
            "",
        ]
    )


def _row(name: str, task: dict[str, Any]) -> tuple[str, ...]:
    count = len(task["c2st"])
    # Of 2 * draws guesses a classifier without a clue gets half right, give or take a binomial error.
    error = (0.25 / (2 * task["draws"] * count)) ** 0.5
    return (
        name,
        f"{count}",
        f"{task['train_seconds']:.0f}",
        f"{np.mean(task['plain']):.3f}",
        f"{np.mean(task['c2st']):.3f} ± {error:.3f}",
        f"{np.mean(task['floor']):.3f}",
        f"{max(task['c2st']):.3f}",
        f"{min(task['ess']):.0f}",
        f"{np.mean(task['seconds']):.1f}, {max(task['seconds']):.1f}",
        f"{sum(task['doubts'])}",
    )


if __name__ == "__main__":
    main(*sys.argv[1:])
