"""Measures what docs/functions.md says, and writes it: ``python -m simgraph.benchmark.functions docs``.

Two graphs with function-valued variables are learned once each, and asked about many simulated data sets: few and many
points of each observed function. Where the truth ranks among the draws tells whether answers are calibrated; values
at held-out points, how often they lie in the predicted interval. Names of graphs behind the folder measure those again,
and keep the other; a number in front of them is the most seconds of each training.

References:
    Talts et al., "Validating Bayesian inference algorithms with simulation-based calibration" (2018), theorem 1.
    Sailynoja, Burkner and Vehtari, "Graphical test for discrete uniformity and its applications in goodness-of-fit
    evaluation and multiple sample comparison" (2022), section 2: the simultaneous band.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from scipy.stats import binom

from simgraph.benchmark.report import machine, machines, markdown_table, write_json, write_text
from simgraph.benchmark.sird import COUNTED, sird
from simgraph.benchmark.volterra import NAMES, volterra
from simgraph.dsl import Curve
from simgraph.errors import DeclarationError, MissingExtraError, listed
from simgraph.graph import Graph
from simgraph.query import Model, fit
from simgraph.simformer import Architecture
from simgraph.train import Settings

__all__ = ["main"]

SEED = 0
SIMULATIONS = 30_000
WIDTH = 64
SETTINGS = Settings(steps=14_000, architecture=Architecture(width=WIDTH, depth=4))
"""Many traces and steps: what a function does between many points is learned late."""

DATA_SETS = 200
POINTS = (4, 40)
"""Observed points of each function."""

DRAWS = 99
"""Draws among which the truth has a rank from 0 to 99."""

CONFIDENCE = 0.99
INTERVAL = 0.9


@dataclass(frozen=True)
class Task:
    """What is asked of a graph.

    Attributes:
        graph: The graph.
        parameters: Plain variables whose ranks are counted.
        observed: Functions that are seen.
        asked: Functions whose values are asked for, at the times.
        times: Where they are asked for.
    """

    graph: Graph
    parameters: Sequence[str]
    observed: Sequence[str]
    asked: Sequence[str]
    times: Sequence[float]


TASKS = {
    "volterra": Task(volterra, ("rates",), NAMES, NAMES, (1.5, 4.5, 7.5, 10.5, 13.5)),
    "sird": Task(sird, ("gamma", "delta"), COUNTED, ("beta", *COUNTED), (5.0, 15.0, 25.0, 35.0, 45.0)),
}


def main(folder: str = "docs", *arguments: str) -> None:
    """Measures all graphs, or some again, and writes functions.json and functions.md to a folder."""
    target = Path(folder)
    limit = float(arguments[0]) if arguments and arguments[0].isdecimal() else None
    names = arguments if limit is None else arguments[1:]
    unknown = set(names) - set(TASKS)
    if unknown:
        raise DeclarationError(f"unknown graphs {sorted(unknown)}; there are {listed(TASKS)}.")
    kept = target / "functions.json"
    found: dict[str, Any] = json.loads(kept.read_text()) if names and kept.is_file() else {"graphs": {}}
    for name in names or TASKS:
        task = TASKS[name]
        model = fit(task.graph, num_simulations=SIMULATIONS, seed=SEED, preset=SETTINGS, time_limit=limit)
        learned = {
            "simulations": SIMULATIONS,
            "width": WIDTH,
            "train_seconds": model.history[-1]["seconds"],
            "steps": model.history[-1]["step"],
        }
        points = {str(count): measure(task, model, count) for count in POINTS}
        found["graphs"][name] = {**learned, "points": points, "machine": machine(SEED)}
        write_json(kept, found)
        write_text(target / "functions.md", report(found))
    print(report(found))


def measure(task: Task, model: Model, count: int, data_sets: int = DATA_SETS, draws: int = DRAWS) -> dict[str, Any]:
    """Ranks the truth of simulated data sets among draws, and counts held-out values inside of intervals.

    Args:
        task: What is asked.
        model: The model.
        count: Observed points of each function.
        data_sets: How many.
        draws: Draws for each of them.

    Returns:
        By quantity: whether its ranks lie within the simultaneous band, and by how much they leave it; the share of
        held-out values inside of their interval, for observed functions.
    """
    begin = time.monotonic()
    truth, evidence = simulated(task, count, data_sets)
    at = {_index(task, name): list(task.times) for name in task.asked}
    queries = model.given(**evidence)
    answers = queries.sample([*task.parameters, *task.asked], num_samples=draws, seed=SEED, at=at)
    found: dict[str, Any] = {}
    for name in (*task.parameters, *task.asked):
        drawn = np.stack([answer[name].reshape(draws, -1).numpy() for answer in answers])  # data sets, draws, values
        right = truth[name].reshape(data_sets, 1, -1)
        rank = (drawn < right).sum(1)
        low, high = (np.quantile(drawn, q, axis=1) for q in ((1 - INTERVAL) / 2, (1 + INTERVAL) / 2))
        inside = ((right[:, 0] >= low) & (right[:, 0] <= high)).mean(0)
        for number in range(rank.shape[1]):
            label = name if rank.shape[1] == 1 else f"{name}({task.times[number]:g})"
            label = f"{name}[{number}]" if name in task.parameters and rank.shape[1] > 1 else label
            found[label] = {**band(rank[:, number], draws), "covered": float(inside[number])}
    return {"seconds": time.monotonic() - begin, "data_sets": data_sets, "quantities": found}


def simulated(task: Task, count: int, data_sets: int) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Returns the truth of simulated data sets by name, and what is seen of them."""
    rng = np.random.default_rng([SEED, count])
    asked, at = len(task.times), {}
    for name in dict.fromkeys((*task.observed, *task.asked)):  # in order, as random numbers are drawn
        index = task.graph[name].index
        assert index is not None
        seen = np.sort(rng.uniform(index.low[0], index.high[0], size=(data_sets, count)), 1)
        at[index.name] = np.concatenate([np.tile(task.times, (data_sets, 1)), seen], 1)
    traces = task.graph.simulate(data_sets, seed=SEED + 1, at=at, progress=False)
    truth = {name: traces[name] for name in task.parameters} | {name: traces[name][:, :asked] for name in task.asked}
    curves = {
        name: [
            Curve(points, values)
            for points, values in zip(at[_index(task, name)][:, asked:], traces[name][:, asked:], strict=True)
        ]
        for name in task.observed
    }
    return truth, curves


def band(ranks: np.ndarray, draws: int) -> dict[str, Any]:
    """Holds ranks from 0 to ``draws`` against the simultaneous band of uniform ones.

    Returns:
        Whether the distribution function of the ranks stays inside, and how far it leaves the band at most.
    """
    try:
        from arviz_stats.ecdf_utils import ecdf_pit
    except ImportError:
        raise MissingExtraError("arviz-stats", "arviz", "python -m simgraph.benchmark.functions") from None
    rng = np.random.default_rng(SEED)
    places = (ranks + rng.random(len(ranks))) / (draws + 1)
    _, ecdf, low, high = ecdf_pit(places, CONFIDENCE, 1000, rng=np.random.default_rng(SEED))
    beyond = float(np.maximum(low - ecdf, ecdf - high).max())
    return {"inside": beyond <= 0, "beyond": max(0.0, beyond), "mean_rank": float(places.mean())}


def report(found: Mapping[str, Any]) -> str:
    """Returns the measured as Markdown."""
    low, high = binom.ppf([(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2], DATA_SETS, INTERVAL) / DATA_SETS
    lines = [
        "# Functions: are the answers calibrated?",
        "",
        "Written by `python -m simgraph.benchmark.functions docs`. `volterra` is the unstructured Lotka-Volterra task,"
        " `sird` an epidemic with a contact rate that is a function of time, both of Gloeckler et al. (2024) and in"
        " `simgraph/benchmark`. One model each, from traces with 1 to 40 points of each function. Of"
        f" {DATA_SETS} simulated data sets, with so many observed points of each function, the parameters and the"
        f" functions at five times are asked for, {DRAWS} draws each. Inside: the ranks of the truth lie within the"
        f" simultaneous {CONFIDENCE:.0%} band of uniform ranks (a hundredth of right answers leave it); beyond tells by"
        f" how much their distribution function leaves it. Covered: the share of true values inside of their"
        f" {INTERVAL:.0%} interval; {CONFIDENCE:.0%} of right answers have {low:.3f} to {high:.3f}.",
        "",
        machines(found["graphs"]),
    ]
    for name, graph in found["graphs"].items():
        training = (
            f"{graph['simulations']} traces, width {graph['width']}, {graph['steps']:.0f} steps,"
            f" {graph['train_seconds']:.0f} s"
        )
        quantities = [one for measured in graph["points"].values() for one in measured["quantities"].values()]
        outside, beyond = sum(not one["inside"] for one in quantities), max(one["beyond"] for one in quantities)
        chance = binom.ppf(CONFIDENCE, len(quantities), 1 - CONFIDENCE)
        verdict = (
            f"{outside} of {len(quantities)} quantities leave the band, by {beyond:.3f} at most. Were all answers"
            f" right and quantities independent, up to {chance:.0f} would in {CONFIDENCE:.0%} of such tables."
        )
        lines += ["", f"## {name}", "", f"Training: {training}. {verdict}", ""]
        rows = []
        for count, measured in graph["points"].items():
            for label, one in measured["quantities"].items():
                inside = "yes" if one["inside"] else f"**no**, beyond {one['beyond']:.3f}"
                rows.append((count, label, inside, f"{one['mean_rank']:.3f}", f"{one['covered']:.3f}"))
        lines.append(markdown_table(("points", "quantity", "inside", "mean rank", "covered"), rows))
    return "\n".join(lines) + "\n"


def _index(task: Task, name: str) -> str:
    index = task.graph[name].index
    assert index is not None
    return index.name


if __name__ == "__main__":
    main(*sys.argv[1:])
