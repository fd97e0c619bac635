"""Measures what docs/sampling.md says, and writes it: ``python -m simgraph.benchmark.sampling docs``.

Seconds and accuracy of posterior draws by the default solver, beside a solver of many steps; and what it saves to
encode observed tokens once. Names of single parts behind the folder measure those again, and keep the others.
"""

from __future__ import annotations

import json
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.distributions import Normal

from simgraph.benchmark.report import machine, machines, markdown_table, write_json, write_text
from simgraph.benchmark.tasks import find_task
from simgraph.compile import compile
from simgraph.compile.masks import Form
from simgraph.diagnostics import c2st
from simgraph.dsl import node, plate
from simgraph.errors import DeclarationError, listed
from simgraph.graph import Graph
from simgraph.query import Model, Multistep, fit
from simgraph.train import Settings

__all__ = ["main"]

SEED = 0
SIMULATIONS = 10_000
DRAWS = 10_000
SCORED = 5_000
"""Draws on each side of the classifier two-sample test: as many as there are right ones of both tasks."""

STEPS = 200
"""Network evaluations of the solver that counts as exact."""

OBSERVED, LATENT = 1_000, 5
ROWS = 512
"""Draws by which encoding observed tokens once is compared with encoding them at each step."""

_LABELS = {
    "two_moons": "two moons",
    "slcp": "SLCP",
    "slcp_cached": 'SLCP, `observed="cached"`',
    "cached": f"{OBSERVED} observed tokens",
}


def main(folder: str = "docs", *parts: str) -> None:
    """Measures all parts, or some again, and writes sampling.json and sampling.md to a folder."""
    target = Path(folder)
    measures: dict[str, Callable[[], dict[str, Any]]] = {
        "cached": cached,
        "two_moons": lambda: posterior("two_moons"),
        "slcp": lambda: posterior("slcp"),
        "slcp_cached": lambda: posterior("slcp", "cached"),
    }
    unknown = set(parts) - set(measures)
    if unknown:
        raise DeclarationError(f"unknown parts {sorted(unknown)}; the parts are {listed(measures)}.")
    kept = target / "sampling.json"
    found: dict[str, Any] = json.loads(kept.read_text()) if parts and kept.is_file() else {}
    for part in parts or measures:
        found[part] = {**measures[part](), "machine": machine(SEED)}
        write_json(kept, found)
    write_text(target / "sampling.md", report(found))
    print(report(found))


def posterior(name: str, form: Form = "relay") -> dict[str, Any]:
    """Trains a task with a form of masks, times draws of its posteriors, and scores them beside those of many steps."""
    task = find_task(name)
    traces = task.graph.simulate(SIMULATIONS, seed=SEED)
    model = fit(compile(task.graph, traces, observed=form), traces, seed=SEED)
    seconds: list[float] = []
    scores: list[float] = []
    many: list[float] = []
    for number in range(task.questions):
        question = task.question(number)
        query, names = model.given(**question.evidence), list(question.latent)
        begin = time.monotonic()
        query.sample(names, num_samples=DRAWS, seed=SEED)
        seconds.append(time.monotonic() - begin)
        right = question.reference(SCORED, 0)
        for kept, sampler in ((scores, None), (many, Multistep(evaluations=STEPS))):
            draws = query.sample(names, num_samples=SCORED, seed=SEED, sampler=sampler)
            kept.append(c2st(right, question.columns(draws), classifier="rf"))
    return {
        "seconds": seconds,
        "c2st": scores,
        "c2st_many": many,
        "scored": SCORED,
        "evaluations": Multistep().evaluations,
        "train_seconds": model.history[-1]["seconds"],
    }


def cached() -> dict[str, Any]:
    """Times draws of five latent tokens given a thousand observed ones, in both forms of the masks."""
    return {form: _seconds(_wide(form)) for form in ("relay", "cached")}


def _wide(form: Form) -> Model:
    """Returns a model that is hardly trained: how good it is makes no difference to how fast it is."""
    datum = plate("datum", OBSERVED)

    @node
    def theta() -> Normal:
        return Normal(torch.zeros(LATENT), 1.0)

    @node(plates=datum)
    def x(theta: torch.Tensor) -> Normal:
        return Normal(theta.sum(), 1.0)

    graph = Graph(theta, x)
    traces = graph.simulate(64, seed=SEED, progress=False)
    settings = Settings(steps=1, batch_size=8, evaluations=1)
    return fit(compile(graph, traces, observed=form), traces, seed=SEED, preset=settings, progress=False)


def _seconds(model: Model) -> float:
    """Returns the median seconds of a few draws."""
    query = model.given(x=np.zeros(OBSERVED))
    found = []
    for _ in range(3):
        begin = time.monotonic()
        query.sample("theta", num_samples=ROWS, seed=SEED)
        found.append(time.monotonic() - begin)
    return statistics.median(found)


def report(found: dict[str, Any]) -> str:
    """Formats what was measured as Markdown."""
    rows = [
        (
            label,
            f"{found[name]['train_seconds']:.0f}",
            str(found[name]["evaluations"]),
            f"{statistics.median(found[name]['seconds']):.1f}",
            str(found[name]["scored"]),
            f"{np.mean(found[name]['c2st']):.4f}",
            f"{np.mean(found[name]['c2st_many']):.4f}",
            _difference(found[name]["c2st"], found[name]["c2st_many"]),
        )
        for name, label in _LABELS.items()
        if "c2st" in found.get(name, {})
    ]
    lines = [
        "# Drawing",
        "",
        "Written by `python -m simgraph.benchmark.sampling docs`. Times are wall seconds on a shared machine.",
        "",
        machines({_LABELS[name]: part for name, part in found.items()}),
        "",
        f"{DRAWS} draws of each posterior of five observations after a training on {SIMULATIONS} simulations with"
        " default settings, and the form of the masks where one is named: the median of their seconds, and the"
        " mean C2ST (random forest) with the default number of network evaluations and with"
        f" {STEPS}, and of the difference the standard error over observations.",
        "",
        markdown_table(
            (
                "task",
                "training [s]",
                "evaluations",
                "drawing [s]",
                "draws a side",
                "C2ST",
                f"with {STEPS}",
                "difference",
            ),
            rows,
        ),
        "",
    ]
    if "cached" in found:
        relay, once = found["cached"]["relay"], found["cached"]["cached"]
        lines += [
            f"{ROWS} draws of {LATENT} latent tokens given {OBSERVED} observed ones take {relay:.2f} s where observed"
            f' tokens are encoded anew at each noise level (`observed="relay"`), and {once:.2f} s where they are'
            f' encoded once (`observed="cached"`): {relay / once:.0f} times less.',
            "",
        ]
    return "\n".join(lines)


def _difference(scores: list[float], others: list[float]) -> str:
    """Formats the mean difference of scores of the same questions with its standard error."""
    each = np.subtract(scores, others)
    return f"{each.mean():+.4f} ± {each.std(ddof=1) / len(each) ** 0.5:.4f}"


if __name__ == "__main__":
    main(*sys.argv[1:])
