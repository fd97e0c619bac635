"""Compares derived masks with the full mask: ``python -m simgraph.benchmark.derived_masks docs``.

Each task is trained twice on the same traces, with the same seed and the same questions, for the same wall seconds:
once with the mask that the graph implies, once with the mask in which every present token attends to every other.
C2ST against the exact or published posteriors of five observations tells how good the answers became; of
``hmm_conditionals``, against the exact answers to twenty questions that condition on random parts of a trace.

Each run is kept as soon as it is done, and a run that is kept is not repeated: an interrupted command goes on where it
stopped. The two masks take turns, so that a machine that slows down hits both alike.
"""

from __future__ import annotations

import argparse
import itertools
import json
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import numpy as np

from simgraph.benchmark.endings import end_of
from simgraph.benchmark.report import facts, machine, markdown_table, write_json, write_text
from simgraph.benchmark.tasks import Task, find_task
from simgraph.compile import Compiled, compile
from simgraph.diagnostics import c2st
from simgraph.graph.dependence import Families
from simgraph.query import fit
from simgraph.traces import Traces
from simgraph.train import Settings

__all__ = ["compare", "full", "main"]

COMPARED = ("gaussian_linear", "hmm", "hmm_conditionals", "slcp")
"""Tasks that masks are compared on."""

DRAWS = 2_500

Mask = Literal["derived", "full"]
KEY = ("task", "num_simulations", "mask", "seed", "time_limit")
"""What tells runs apart."""

_ENDLESS = 10**9
"""Steps that no time limit lets come to an end."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs the command; arguments as on the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m simgraph.benchmark.derived_masks", description="Compares derived masks with the full mask."
    )
    parser.add_argument("folder", nargs="?", default="docs", help="where to write derived_masks.json and .md")
    parser.add_argument("--tasks", nargs="+", choices=COMPARED, default=list(COMPARED))
    parser.add_argument("--budgets", nargs="+", type=int, default=[1_000, 10_000], help="numbers of simulations")
    parser.add_argument("--seconds", type=float, default=180.0, help="wall seconds of each training")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0])
    chosen = parser.parse_args(arguments)
    compare(chosen.folder, chosen.tasks, chosen.budgets, chosen.seconds, chosen.seeds)


def compare(
    folder: str | Path,
    tasks: Iterable[str],
    budgets: Iterable[int],
    time_limit: float,
    seeds: Iterable[int],
    *,
    settings: Settings | None = None,
    draws: int = DRAWS,
    progress: bool = True,
) -> list[dict[str, Any]]:
    """Trains and judges what is not kept yet, and writes derived_masks.json and derived_masks.md to a folder.

    Args:
        folder: Where the runs are kept.
        tasks: Names of tasks.
        budgets: Numbers of simulations.
        time_limit: Wall seconds of each training.
        seeds: Seeds of simulation, training and draws.
        settings: Settings of the trainings but for their number of steps; the default ones if there are none.
        draws: Draws on each side of the classifier two-sample test.
        progress: Whether to show progress bars.

    Returns:
        All runs that are kept, those of earlier commands among them.
    """
    settings = Settings.of("default") if settings is None else settings
    kept = Path(folder) / "derived_masks.json"
    runs: list[dict[str, Any]] = json.loads(kept.read_text())["runs"] if kept.is_file() else []
    for number, (budget, seed, task) in enumerate(itertools.product(budgets, seeds, tasks)):
        # Each mask goes first half of the time.
        masks: tuple[Mask, Mask] = ("full", "derived") if number % 2 else ("derived", "full")
        done = {key_of(run) for run in runs}
        missing = [mask for mask in masks if (task, budget, mask, seed, time_limit) not in done]
        if not missing:
            continue
        problem = find_task(task)
        traces = problem.graph.simulate(budget, seed=seed, progress=False)
        compiled = compile(problem.graph, traces)
        for mask in missing:
            arm = full(compiled) if mask == "full" else compiled
            print(f"{task}, {budget} simulations, {mask} mask, seed {seed}, {time_limit:g} s", flush=True)
            found = judged(problem, arm, traces, settings, seed, time_limit, draws, progress)
            run = dict(zip(KEY, (task, budget, mask, seed, time_limit), strict=True))
            runs.append({**run, **found, "machine": machine(seed)})
            write_json(kept, {"runs": runs})
            write_text(kept.with_suffix(".md"), report(runs))
    write_text(kept.with_suffix(".md"), report(runs))
    return runs


def full(compiled: Compiled) -> Compiled:
    """Returns a compiled graph whose masks let every present token attend to every other.

    The law stays as it is, and with it the questions that training asks.
    """
    return replace(compiled, rule=replace(compiled.rule, families=Families.joint(len(compiled.layout))))


def key_of(run: Mapping[str, Any]) -> tuple[Any, ...]:
    """Returns what tells a run from others."""
    return tuple(run[name] for name in KEY)


def judged(
    task: Task,
    compiled: Compiled,
    traces: Traces,
    settings: Settings,
    seed: int,
    time_limit: float,
    count: int,
    progress: bool,
) -> dict[str, Any]:
    """Trains once, and holds so many draws for each of a task's questions against their references.

    Raises:
        TrainingError: If training was interrupted, or broke off.
    """
    planned = replace(settings, steps=_ENDLESS)
    begin = time.process_time()
    model = fit(compiled, traces, seed=seed, preset=planned, time_limit=time_limit, progress=progress)
    worked = time.process_time() - begin
    ending = end_of(model.history, planned, time_limit)
    questions = [task.question(number) for number in range(task.questions)]
    begin = time.monotonic()
    draws = [question.ask(model, count, seed) for question in questions]
    sampled = time.monotonic()
    scores = [
        c2st(question.reference(count, 0), draw, classifier="rf")
        for question, draw in zip(questions, draws, strict=True)
    ]
    given, of = tuple(questions[0].evidence), tuple(questions[0].latent)
    depth = planned.architecture_for(len(compiled.layout)).depth
    return {
        "c2st": scores,
        "c2st_mean": float(np.mean(scores)),
        "c2st_draws": count,
        "validation_loss": model.history.best,
        "steps": int(model.history[-1]["step"]),
        "ended_by": ending,
        "train_seconds": model.history[-1]["seconds"],
        "cpu_seconds": worked,  # fewer than the wall's where the machine was busy with other things
        "sample_seconds": sampled - begin,
        "tokens": len(compiled.layout),
        "pairs": int(compiled.edge_mask(given=given, of=of, depth=depth).sum()),
    }


def report(runs: Sequence[Mapping[str, Any]]) -> str:
    """Formats the runs as Markdown."""
    order = ("task", "num_simulations", "seed", "time_limit", "mask")
    ordered = sorted(runs, key=lambda run: tuple(run[name] for name in order))
    rows = [
        (
            *setting(run),
            run["mask"],
            f"{run['steps']}",
            f"{run['cpu_seconds']:.0f}",
            run["ended_by"],
            f"{run['pairs']}",
            f"{run['validation_loss']:.4f}",
            " ".join(f"{score:.3f}" for score in run["c2st"]),
            f"{run['c2st_mean']:.3f}",
        )
        for run in ordered
    ]
    pairs = [
        (one, other)
        for one, other in itertools.product(ordered, ordered)
        if (one["mask"], other["mask"]) == ("derived", "full")
        and setting(one) == setting(other)
        and len(one["c2st"]) == len(other["c2st"])
    ]
    differences = [
        (
            *setting(one),
            " ".join(f"{a - b:+.3f}" for a, b in zip(one["c2st"], other["c2st"], strict=True)),
            f"{one['c2st_mean'] - other['c2st_mean']:+.3f}",
            f"{one['validation_loss'] - other['validation_loss']:+.4f}",
            f"{one['steps'] / other['steps']:.2f}",
        )
        for one, other in pairs
    ]
    common = ("task", "simulations", "seed", "limit [s]")
    machines = {facts({**run["machine"], "seed": "as below"}): None for run in ordered}
    draws = sorted({run["c2st_draws"] for run in ordered})
    lines = [
        "# Derived masks against the full mask",
        "",
        "Written by `python -m simgraph.benchmark.derived_masks docs`. Both masks get the same traces, seed, questions"
        " and wall seconds; the best network on held-out traces answers. C2ST: a random forest,"
        f" {' or '.join(map(str, draws))} draws a side, against the exact posterior (Gaussian linear, HMM) or sbibm's"
        " reference draws (SLCP); `hmm_conditionals` asks the twenty questions of the benchmark. 0.5 is perfect, 1.0 is"
        " useless. Pairs: how many ordered pairs of tokens may attend in the first question, each with itself included."
        " The validation loss of both masks is measured on the same traces, questions and noise. A training ends by its"
        " time, or by its patience: as many evaluations without improvement as by default. CPU seconds tell how much"
        " time the machine gave: training can use two cores.",
        "",
        *(f"Machine: {line}." for line in machines),
        "",
        markdown_table(
            (
                *common,
                "mask",
                "steps",
                "CPU [s]",
                "ended by",
                "pairs",
                "validation loss",
                "C2ST of each observation",
                "mean",
            ),
            rows,
        ),
        "",
        "## Derived minus full",
        "",
        "Below zero, the derived mask is better.",
        "",
        markdown_table(
            (*common, "C2ST of each observation", "mean", "validation loss", "steps derived / full"), differences
        ),
        "",
    ]
    return "\n".join(lines)


def setting(run: Mapping[str, Any]) -> tuple[str, ...]:
    """Returns what both masks of a comparison share, as cells of a table."""
    return run["task"], f"{run['num_simulations']}", f"{run['seed']}", f"{run['time_limit']:g}"


if __name__ == "__main__":
    main()
