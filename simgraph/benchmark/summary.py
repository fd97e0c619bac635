"""What the runs of the benchmark came to: lines, a report, pictures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np

from simgraph.benchmark.pictures import plot_scores, save
from simgraph.benchmark.plan import Plan
from simgraph.benchmark.report import facts, markdown_table, write_text

__all__ = ["line", "report", "summarise", "title"]

REPORT, BY_BUDGET, BY_SECONDS = "benchmark.md", "c2st_by_budget.png", "c2st_by_seconds.png"
"""Names of files in the benchmark's folder."""

PLAN = [field.name for field in fields(Plan)]


def line(run: Mapping[str, Any]) -> str:
    """Tells a run in one line."""
    return (
        f"{title(run)}: C2ST {run['c2st_mean']:.3f}, squared MMD {run['mmd_mean']:.4f};"
        f" simulated in {run['simulate_seconds']:.1f} s, trained in {run['train_seconds']:.0f} s"
        f" ({run['steps']} steps), sampled in {run['sample_seconds']:.1f} s, judged in {run['judge_seconds']:.0f} s"
    )


def report(runs: Sequence[Mapping[str, Any]], pictures: Sequence[str] = ()) -> str:
    """Formats runs as Markdown, one row for all seeds of a task, a budget and a plan."""
    groups: dict[tuple[Any, ...], list[Mapping[str, Any]]] = {}
    for run in sorted(runs, key=lambda run: (run["task"], run["num_simulations"], run["preset"], run["seed"])):
        groups.setdefault((run["task"], run["num_simulations"], *(run[name] for name in PLAN)), []).append(run)
    rows = []
    for (task, budget, preset, limit, classifier, _, draws), group in groups.items():
        means = [run["c2st_mean"] for run in group]
        error = f"{np.std(means, ddof=1) / len(means) ** 0.5:.3f}" if len(means) > 1 else "-"
        each = np.mean([run["c2st"] for run in group], 0)
        rows.append(
            (
                task,
                f"{budget}",
                preset if limit is None else f"{preset}, {limit:g} s",
                f"{len(group)}",
                f"{np.mean(means):.3f}",
                error,
                " ".join(f"{score:.3f}" for score in each),
                f"{classifier}, {draws}",
                f"{np.mean([run['mmd_mean'] for run in group]):.4f}",
                *(
                    f"{np.mean([run[f'{stage}_seconds'] for run in group]):.1f}"
                    for stage in ("simulate", "train", "sample", "judge")
                ),
            )
        )
    head = (
        "task",
        "simulations",
        "training",
        "seeds",
        "C2ST",
        "standard error",
        "C2ST of each observation",
        "classifier, draws",
        "squared MMD",
        "simulate [s]",
        "train [s]",
        "sample [s]",
        "judge [s]",
    )
    machines = {facts({**run["machine"], "seed": "as kept"}): None for run in runs}
    return "\n".join(
        [
            "# Benchmark",
            "",
            "Written by `simgraph benchmark`. C2ST: cross-validated accuracy of a classifier between the posterior's"
            " draws and reference draws, so many a side; 0.5 is perfect, 1.0 is useless. Its standard error is that of"
            " the mean over seeds. Squared MMD: unbiased, Gaussian kernel, median distance; 0 is perfect. Seconds are"
            " wall seconds of one run, for all observations together. References: exact posteriors, or the draws of"
            " sbibm 1.1.0.",
            "",
            *(f"Machine: {found}." for found in machines),
            "",
            markdown_table(head, rows),
            "",
            *(f"![{name.removesuffix('.png').replace('_', ' ')}]({name})\n" for name in pictures),
        ]
    )


def summarise(target: Path, runs: Sequence[Mapping[str, Any]]) -> None:
    """Writes the report and the pictures of scores to a folder."""
    for name, axis in ((BY_BUDGET, "num_simulations"), (BY_SECONDS, "train_seconds")):
        lines: dict[str, list[tuple[float, float]]] = {}
        for run in runs:
            lines.setdefault(_label(run, runs), []).append((run[axis], run["c2st_mean"]))
        label = "simulations" if axis == "num_simulations" else "training [s]"
        save(plot_scores(lines, label, joined=axis == "num_simulations"), target / name)
    drawn = sorted({f"draws_{run['task']}.png" for run in runs})
    pictures = [BY_BUDGET, BY_SECONDS, *(name for name in drawn if (target / name).is_file())]
    write_text(target / REPORT, report(runs, pictures))


def title(run: Mapping[str, Any]) -> str:
    """Names a run."""
    return f"{run['task']}, {run['num_simulations']} simulations, seed {run['seed']}"


def _label(run: Mapping[str, Any], runs: Sequence[Mapping[str, Any]]) -> str:
    """Names the line of a run: its task, and of its plan what differs among the runs."""
    fields = [name for name in PLAN if len({str(other[name]) for other in runs}) > 1]
    return ", ".join([run["task"], *(f"{name.replace('_', ' ')} {run[name]}" for name in fields)])
