"""What the runs of the benchmark came to: lines, a report, pictures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np

from simgraph.benchmark.calibration import SHARES, TRACES
from simgraph.benchmark.pictures import plot_scores, save
from simgraph.benchmark.plan import CLASSIFIERS, Plan
from simgraph.benchmark.report import facts, markdown_table, write_text

__all__ = ["line", "report", "summarise", "title"]

REPORT, BY_BUDGET, BY_SECONDS = "benchmark.md", "c2st_by_budget.png", "c2st_by_seconds.png"
"""Names of files in the benchmark's folder."""

PLAN = [field.name for field in fields(Plan)]

_OPTIONS = {"exact": "exact=True", "focused": "half on posteriors", "redrawn": "half on posteriors, redrawn"}
"""What methods that are simgraph's own do beside the default."""

STAGES = ("simulate", "train", "sample", "judge")


def line(run: Mapping[str, Any]) -> str:
    """Tells a run in one line."""
    scores = ", ".join(
        f"C2ST ({name}) {mean:.3f}, floor {run['floor'][name]:.3f}" for name, mean in run["c2st_mean"].items()
    )
    return (
        f"{title(run)}: {scores}, squared MMD {run['mmd_mean']:.4f};"
        f" simulated in {run['simulate_seconds']:.1f} s, trained in {run['train_seconds']:.0f} s,"
        f" sampled in {run['sample_seconds']:.1f} s, judged in {run['judge_seconds']:.0f} s"
    )


def report(runs: Sequence[Mapping[str, Any]], pictures: Sequence[str] = ()) -> str:
    """Formats runs as Markdown, one row for all seeds of a task, a budget, a method and a plan."""
    groups: dict[str, list[Mapping[str, Any]]] = {}
    for run in sorted(runs, key=lambda run: (run["task"], run["num_simulations"], run["method"], run["seed"])):
        same = (run[name] for name in ("task", "num_simulations", "method", *PLAN))
        groups.setdefault(str(tuple(same)), []).append(run)
    rows = [_row(group) for group in groups.values()]
    head = (
        "task",
        "simulations",
        "method",
        "seeds",
        "questions, draws",
        *(f"C2ST ({name}) ± error, floor" for name in CLASSIFIERS),
        "squared MMD",
        *(f"inside {share:.0%} intervals" for share in SHARES),
        "log p of the truth",
        *(f"{stage} [s]" for stage in STAGES),
        "cores used in training",
    )
    machines = {facts({**run["machine"], "seed": "as kept"}): None for run in runs}
    return "\n".join(
        [
            "# Benchmark",
            "",
            "Written by `simgraph benchmark`. C2ST: cross-validated accuracy of a classifier (rf: random forest; mlp:"
            " sbibm's network) between the method's draws and right draws, so many a side, averaged over questions and"
            " seeds; 0.5 is perfect, 1.0 is useless. Error: standard error of the mean over questions, whose"
            " difficulty differs. Floor: two sets of right draws against each other. Squared MMD: unbiased, Gaussian"
            " kernel, median distance; 0 is perfect. Seconds are wall seconds of one run, for all questions together;"
            " of two cores training uses some 1.8, and where it got fewer, other work was using them."
            " Right draws: exact ones, or those of sbibm 1.1.0."
            f" Intervals: how often central ones of the answers to {TRACES} fresh traces hold the truth. Log p:"
            " the mean log density there, in nats, and by how much the exact"
            " posterior's is above it, where the task has a closed form of it. A dash: not measured.",
            "",
            *(f"Machine: {found}." for found in machines),
            "",
            markdown_table(head, rows),
            "",
            *(f"![{name.removesuffix('.png').replace('_', ' ')}]({name})\n" for name in pictures),
        ]
    )


def _row(group: Sequence[Mapping[str, Any]]) -> tuple[str, ...]:
    """Returns the row of runs that differ in their seed alone."""
    run = group[0]
    return (
        run["task"],
        f"{run['num_simulations']}",
        _method(run),
        f"{len(group)}",
        f"{len(run['mmd'])}, {run['draws']}",
        *(_score(group, name) if name in run["classifiers"] else "-" for name in CLASSIFIERS),
        f"{np.mean([run['mmd_mean'] for run in group]):.4f}",
        *(_calibrated(group, "coverage", f"{share:g}") for share in SHARES),
        _log_score(group),
        *(f"{np.mean([run[f'{stage}_seconds'] for run in group]):.1f}" for stage in STAGES),
        f"{sum(run['train_cpu_seconds'] for run in group) / sum(run['train_seconds'] for run in group):.2f}",
    )


def _calibrated(group: Sequence[Mapping[str, Any]], name: str, key: str) -> str:
    """Returns the mean and its error where all runs have it; seeds share the traces, so that the error stays."""
    known = [run[name][key] for run in group if key in run.get(name, {})]
    return "{:.3f} ± {:.3f}".format(*np.mean(known, 0)) if len(known) == len(group) else "-"


def _log_score(group: Sequence[Mapping[str, Any]]) -> str:
    found, lost = (_calibrated(group, "log_score", key) for key in ("found", "lost"))
    ruled_out = sum(run.get("log_score", {}).get("ruled_out", 0) for run in group)
    parts = [found, *([] if lost == "-" else [f"{lost} too low"]), *([f"{ruled_out} ruled out"] if ruled_out else [])]
    return ", ".join(parts)


def _method(run: Mapping[str, Any]) -> str:
    """Names a method, with the plan of its training where that was simgraph's own."""
    if run["preset"] is None:
        return str(run["method"])
    limit = [] if run["time_limit"] is None else [f"{run['time_limit']:g} s"]
    option = [_OPTIONS[run["method"]]] if run["method"] in _OPTIONS else []
    return f"simgraph ({', '.join([run['preset'], *limit, *option])})"


def _score(group: Sequence[Mapping[str, Any]], classifier: str) -> str:
    each = np.mean([run["c2st"][classifier] for run in group], 0)
    error = f" ± {np.std(each, ddof=1) / len(each) ** 0.5:.3f}" if len(each) > 1 else ""
    return f"{np.mean(each):.3f}{error}, {group[0]['floor'][classifier]:.3f}"


def summarise(target: Path, runs: Sequence[Mapping[str, Any]]) -> None:
    """Writes the report and the pictures of scores to a folder."""
    save(plot_scores(_panels(runs, "num_simulations", PLAN), "simulations"), target / BY_BUDGET)
    # Trainings of different lengths make one line.
    plan = ["num_simulations", *(name for name in PLAN if name != "time_limit")]
    save(plot_scores(_panels(runs, "train_seconds", plan), "training [s]"), target / BY_SECONDS)
    drawn = sorted({f"draws_{run['task']}.png" for run in runs})
    pictures = [BY_BUDGET, BY_SECONDS, *(name for name in drawn if (target / name).is_file())]
    write_text(target / REPORT, report(runs, pictures))


def title(run: Mapping[str, Any]) -> str:
    """Names a run."""
    return f"{run['task']}, {run['num_simulations']} simulations, {run['method']}, seed {run['seed']}"


def _panels(
    runs: Sequence[Mapping[str, Any]], axis: str, naming: Sequence[str]
) -> dict[str, dict[str, list[tuple[float, float]]]]:
    """Returns points (what the axis shows, C2ST) by line, by task; lines are named by what differs among runs."""
    panels: dict[str, dict[str, list[tuple[float, float]]]] = {}
    for run in runs:
        lines = panels.setdefault(run["task"], {})
        score = run["c2st_mean"][run["classifiers"][0]]
        lines.setdefault(_label(run, runs, naming), []).append((run[axis], score))
    return panels


def _label(run: Mapping[str, Any], runs: Sequence[Mapping[str, Any]], naming: Sequence[str]) -> str:
    """Names the line of a run: its method, and of its plan what differs among the runs of that method."""
    own = [_shown(other) for other in runs if other["method"] == run["method"]]
    differing = [name for name in naming if len({str(other[name]) for other in own}) > 1]
    named = [
        f"{name.replace('num_', '').replace('_', ' ')} {_shown(run)[name]}"
        for name in differing
        if run[name] is not None
    ]
    return ", ".join([run["method"], *named])


def _shown(run: Mapping[str, Any]) -> dict[str, Any]:
    """Returns a run as pictures show it: by the first of its classifiers."""
    return {**run, "classifiers": run["classifiers"][0]}
