"""The main job on real input: train two moons once, and hold its posteriors against published ones."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from simgraph import files
from simgraph.benchmark.references import load_reference
from simgraph.benchmark.two_moons import two_moons
from simgraph.diagnostics import c2st
from simgraph.plots.posterior import plot_against_reference
from simgraph.query import Model, fit
from simgraph.text import table

__all__ = ["Row", "demo"]


@dataclass(frozen=True)
class Row:
    """One published observation: how well and how fast its posterior was answered."""

    observation: int
    c2st: float
    sample_seconds: float


def demo(
    *,
    num_simulations: int = 10_000,
    num_samples: int = 10_000,
    c2st_samples: int = 5_000,
    preset: str = "default",
    time_limit: float | None = 345.0,
    figure: str | Path = "two_moons.png",
    seed: int = 0,
) -> tuple[Model, list[Row]]:
    """Trains two moons, conditions on the five published observations, prints a table and draws a figure.

    Args:
        num_simulations: Simulation budget.
        num_samples: Posterior draws per observation.
        c2st_samples: Draws on each side of the classifier two-sample test.
        preset: Preset of the training.
        time_limit: Seconds after which training ends.
        figure: Where to write the figure.
        seed: Seed of everything.

    Returns:
        The model and the rows of the table.
    """
    c2st_samples = min(c2st_samples, num_samples)
    print(two_moons, end="\n\n")
    reference = load_reference("two_moons")
    started = time.monotonic()
    traces = two_moons.simulate(num_simulations, seed=seed)
    simulated = time.monotonic()
    model = fit(two_moons, traces, seed=seed, preset=preset, time_limit=time_limit)
    trained = time.monotonic()
    print(f"\n{num_simulations} simulations in {simulated - started:.1f} s, training in {trained - simulated:.0f} s")
    print(model, end="\n\n")

    rows: list[Row] = []
    draws: list[np.ndarray] = []
    for number, (observation, expected) in enumerate(
        zip(reference.observations, reference.samples, strict=True), start=1
    ):
        begin = time.monotonic()
        posterior = model.given(x=observation).sample("theta", num_samples=num_samples, seed=seed)
        seconds = time.monotonic() - begin
        draws.append(posterior.numpy())
        rows.append(Row(number, c2st(expected[:c2st_samples], draws[-1][:c2st_samples]), seconds))
    cells = [(f"{row.observation}", f"{row.c2st:.3f}", f"{row.sample_seconds:.1f}") for row in rows]
    mean = f"{np.mean([row.c2st for row in rows]):.3f}"
    cells.append(("mean", mean, f"{np.mean([row.sample_seconds for row in rows]):.1f}"))
    print(table(("observation", "C2ST", f"seconds for {num_samples} draws"), cells))
    print(f"\nC2ST: sbibm's MLP classifier, {c2st_samples} draws a side; 0.5 is perfect, 1.0 is useless.")
    print(f"torch {torch.__version__}, seed {seed}")
    picture = plot_against_reference(draws, list(reference.samples), [f"C2ST {row.c2st:.3f}" for row in rows])
    files.write_with(figure, lambda path: picture.savefig(path, dpi=110))
    print(f"Figure: {figure}")
    return model, rows
