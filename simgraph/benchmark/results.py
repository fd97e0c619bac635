"""Measures what docs/results.md says, and writes it: ``python -m simgraph.benchmark.results docs``.

Names of single parts behind the folder measure those again, and keep the others.
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

from simgraph.benchmark.demo import demo
from simgraph.benchmark.gaussian_linear import gaussian_linear, posterior_draws
from simgraph.benchmark.references import load_reference
from simgraph.benchmark.report import machine, machines, write_json, write_text
from simgraph.diagnostics import c2st
from simgraph.dsl import node
from simgraph.errors import DeclarationError, listed
from simgraph.graph import Graph
from simgraph.processor import tuned
from simgraph.query import fit
from simgraph.simformer import Architecture, Simformer
from simgraph.text import table
from simgraph.train.muon import Muon

__all__ = ["main"]

SEED = 0
DRAWS = 2_500
REPEATS = 9


def main(folder: str = "docs", *parts: str) -> None:
    """Measures all parts, or some again, and writes results.json, results.md and two_moons.png to a folder."""
    target = Path(folder)
    # The short measurements first, while nothing else is going on.
    measures: dict[str, Callable[[], dict[str, Any]]] = {
        "simulation": simulation_ratio,
        "muon": muon_ratio,
        "two_moons": lambda: two_moons(target / "two_moons.png"),
        "gaussian_linear": linear,
    }
    unknown = set(parts) - set(measures)
    if unknown:
        raise DeclarationError(f"unknown parts {sorted(unknown)}; the parts are {listed(measures)}.")
    kept = target / "results.json"
    found: dict[str, Any] = json.loads(kept.read_text()) if parts and kept.is_file() else {}
    for part in parts or measures:
        found[part] = {**measures[part](), "machine": machine(SEED)}
        write_json(kept, found)
    write_text(target / "results.md", report(found))
    print(report(found))


def two_moons(figure: Path) -> dict[str, Any]:
    """Runs the demo."""
    model, rows = demo(figure=figure, seed=SEED)
    return {
        "num_simulations": 10_000,
        "c2st_draws": 5_000,
        "train_seconds": model.history[-1]["seconds"],
        "c2st": [row.c2st for row in rows],
        "sample_seconds": [row.sample_seconds for row in rows],
    }


def linear() -> dict[str, Any]:
    """Trains the Gaussian linear task, and compares its posteriors, likelihood and a mixed conditional."""
    traces = gaussian_linear.simulate(10_000, seed=SEED)
    model = fit(gaussian_linear, traces, seed=SEED)
    scores, floors, seconds, means, sds = [], [], [], [], []
    for number, observation in enumerate(load_reference("gaussian_linear").observations):
        begin = time.monotonic()
        draws = model.given(x=observation).sample("theta", num_samples=DRAWS, seed=SEED).numpy()
        seconds.append(time.monotonic() - begin)
        exact = posterior_draws(observation, DRAWS, seed=number)
        scores.append(c2st(exact, draws, classifier="rf"))
        floors.append(c2st(exact, posterior_draws(observation, DRAWS, seed=100 + number), classifier="rf"))
        means.append(float(np.abs(draws.mean(0) - observation / 2).mean() / 0.05**0.5))
        sds.append(float(draws.std(0).mean() / 0.05**0.5))
    return {
        "num_simulations": 10_000,
        "c2st_draws": DRAWS,
        "train_seconds": model.history[-1]["seconds"],
        "c2st": scores,
        "floor": floors,
        "sample_seconds": seconds,
        "mean_error_in_sd": means,
        "sd_ratio": sds,
    }


def simulation_ratio() -> dict[str, Any]:
    """Times 100 000 traces of three linked Gaussians against a hand-vectorised torch program."""

    @node
    def a() -> Normal:
        return Normal(0.0, 1.0)

    @node
    def b(a: torch.Tensor) -> Normal:
        return Normal(a, 1.0)

    @node
    def c(b: torch.Tensor) -> Normal:
        return Normal(b, 0.5)

    graph, count = Graph(a, b, c), 100_000

    def by_hand() -> None:
        first = Normal(0.0, 1.0).sample((count,))
        second = Normal(first, 1.0).sample()
        Normal(second, 0.5).sample()

    ours, theirs = interleaved(lambda: graph.simulate(count, seed=SEED), by_hand)
    return {"ratio": ours / theirs, "simulate_seconds": ours, "by_hand_seconds": theirs}


def muon_ratio() -> dict[str, Any]:
    """Times a step of Muon against one of torch.optim.Muon, on the default network's matrices."""
    networks = [Simformer(Architecture(), identifiers=4, features=1) for _ in range(2)]
    for network in networks:
        for matrix in network.matrices():
            matrix.grad = torch.randn_like(matrix)
    ours, theirs = interleaved(Muon(networks[0].matrices()).step, torch.optim.Muon(networks[1].matrices()).step)
    return {"ratio": theirs / ours, "batched_seconds": ours, "torch_seconds": theirs}


def interleaved(first: Callable[[], Any], second: Callable[[], Any]) -> tuple[float, float]:
    """Returns the median seconds of two functions, called in turn in one thread after a warm-up."""
    times: tuple[list[float], list[float]] = ([], [])
    with tuned():
        for repeat in range(REPEATS + 2):
            for function, seconds in zip((first, second), times, strict=True):
                begin = time.perf_counter()
                function()
                if repeat >= 2:
                    seconds.append(time.perf_counter() - begin)
    return statistics.median(times[0]), statistics.median(times[1])


def report(found: dict[str, Any]) -> str:
    """Formats the measurements as Markdown."""
    moons, gauss = found["two_moons"], found["gaussian_linear"]
    head = ("task", "C2ST of five observations", "mean", "training [s]", "sampling [s]")
    rows = [
        (
            name,
            " ".join(f"{value:.3f}" for value in task["c2st"]),
            f"{np.mean(task['c2st']):.3f}",
            f"{task['train_seconds']:.0f}",
            f"{np.mean(task['sample_seconds']):.1f}",
        )
        for name, task in (("two moons (MLP)", moons), ("Gaussian linear (forest)", gauss))
    ]
    lines = [
        "# Results",
        "",
        "Written by `python -m simgraph.benchmark.results docs`. Times are wall seconds on a shared machine.",
        "",
        "```",
        machines(found),
        "",
        table(head, rows),
        "```",
        "",
        "10 000 simulations, default settings. Two moons: sbibm's observations and reference posteriors, its MLP"
        f" classifier, {moons['c2st_draws']} draws a side, 10 000 draws timed. Gaussian linear: sbibm's observations,"
        f" exact posteriors, a random forest, {gauss['c2st_draws']} draws a side and timed; exact against exact reads"
        f" {np.mean(gauss['floor']):.3f}; posterior means are off by {np.mean(gauss['mean_error_in_sd']):.3f} standard"
        f" deviations on average, standard deviations are {np.mean(gauss['sd_ratio']):.3f} of the exact ones.",
        "",
        "![two moons](two_moons.png)",
        "",
        "Ratios of medians, measured in turn in one process and one thread:",
        "",
        f"- 100 000 traces of three linked Gaussians take {found['simulation']['ratio']:.2f} times as long as a"
        " hand-vectorised torch program.",
        f"- A step of `torch.optim.Muon` takes {found['muon']['ratio']:.1f} times as long as one of simgraph's batched"
        " Muon on the matrices of the default network.",
        "",
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    main(*sys.argv[1:])
