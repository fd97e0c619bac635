"""Measures what docs/queries.md says, and writes it: ``python -m simgraph.benchmark.queries docs``.

Names of single parts behind the folder measure those again, and keep the others.
"""

from __future__ import annotations

import json
import resource
import sys
import time
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy.stats import multivariate_normal
from torch.distributions import Normal

from simgraph.benchmark.queries_report import report
from simgraph.benchmark.report import machine, write_json, write_text
from simgraph.benchmark.two_moons import two_moons
from simgraph.diagnostics import c2st
from simgraph.dsl import Node, node
from simgraph.errors import DeclarationError, RestrictionError, SimgraphWarning, listed
from simgraph.graph import Graph
from simgraph.query import Model, Query, RaggedQuery, between, constraint, fit, where
from simgraph.query.restrictions import Condition

__all__ = ["main"]

SEED = 0
SIMULATIONS = 10_000
DRAWS = 2_500
BRUTE = 10_000_000
"""Traces of two moons from which those that satisfy the demand are kept."""

NOISE = 0.5
METHODS = ("auto", "smc", "guided")
POINTS = 500
PIECES, EACH = 300, 1_000
LOW, HIGH = np.array([-0.2, -0.4]), np.array([0.1, -0.1])
"""The interval of the data of two moons."""


@node
def theta() -> Normal:
    return Normal(torch.zeros(2), 1.0)


@node
def x(theta: torch.Tensor) -> Normal:
    return Normal(theta, NOISE)


linear = Graph(theta, x)

QUESTIONS: dict[str, tuple[Mapping[str | Node, Any] | Condition, Callable[[Any, Any], Any]]] = {
    "0.2 < x[0] < 0.6": (
        {"x": between([0.2, -np.inf], [0.6, np.inf])},
        lambda theta, x: (x[..., 0] > 0.2) & (x[..., 0] < 0.6),
    ),
    "1 < x < 1.1, both": ({"x": between(1.0, 1.1)}, lambda theta, x: ((x > 1) & (x < 1.1)).all(-1)),
    "2 < theta < 3, both": ({"theta": between(2.0, 3.0)}, lambda theta, x: ((theta > 2) & (theta < 3)).all(-1)),
    "theta[0] + theta[1] > 2": (
        constraint(lambda theta: 2 - theta.sum()),
        lambda theta, x: theta.sum(-1) > 2,
    ),
    "theta[0] > x[1] + 1": (
        constraint(lambda theta, x: x[1] + 1 - theta[0]),
        lambda theta, x: theta[..., 0] > x[..., 1] + 1,
    ),
    "x[0] > max(theta), a predicate": (
        where(lambda theta, x: x[0] > theta.max()),
        lambda theta, x: x[..., 0] > theta.max(-1),
    ),
}
"""Demands by their text: the argument of ``given``, and the same for arrays of right draws."""


def main(folder: str = "docs", *parts: str) -> None:
    """Measures all parts, or some again, and writes queries.json and queries.md to a folder."""
    target = Path(folder)
    measures: dict[str, Callable[[dict[str, Model]], dict[str, Any]]] = {
        "restrictions": restrictions,
        "densities": densities,
        "moons": moons,
        "many": many,
    }
    unknown = set(parts) - set(measures)
    if unknown:
        raise DeclarationError(f"unknown parts {sorted(unknown)}; the parts are {listed(measures)}.")
    kept = target / "queries.json"
    found: dict[str, Any] = json.loads(kept.read_text()) if parts and kept.is_file() else {}
    found["simulations"] = SIMULATIONS
    models = _Models()
    for part in parts or measures:
        found[part] = {**measures[part](models), "machine": machine(SEED)}
        write_json(kept, found)
    write_text(target / "queries.md", report(found))
    print(report(found))


class _Models(dict[str, Model]):
    """Models by name, trained with the default preset when they are first asked for."""

    def __missing__(self, name: str) -> Model:
        self[name] = fit({"linear": linear, "two_moons": two_moons}[name], num_simulations=SIMULATIONS, seed=SEED)
        return self[name]


def restrictions(models: Mapping[str, Model]) -> dict[str, Any]:
    """Holds restricted draws of the linear-Gaussian graph against rejection from its exact law, method by method."""
    rows = []
    for text, (demand, holds) in QUESTIONS.items():
        right, other = (_linear_truth(holds, seed) for seed in (1, 2))
        for method in METHODS:
            if method != "auto" and "predicate" in text:
                continue  # these methods need a residual
            draws, told = _answer(models["linear"].given(demand), method, DRAWS)
            if draws is None:
                rows.append({"demand": text, "method": method, **told})
                continue
            scores = {"c2st": c2st(right, draws, classifier="rf"), "floor": c2st(right, other, classifier="rf")}
            satisfied = float(np.mean(holds(draws[:, :2], draws[:, 2:])))
            rows.append({"demand": text, "method": method, "satisfied": satisfied, **scores, **told})
    return {"noise": NOISE, "draws": DRAWS, "rows": rows}


def densities(models: Mapping[str, Model]) -> dict[str, Any]:
    """Holds log densities of the linear-Gaussian graph against the exact ones, and adds one up over a grid."""
    model = models["linear"]
    rng = np.random.default_rng(SEED)
    t = rng.normal(size=(POINTS, 2))
    d = t + NOISE * rng.normal(size=(POINTS, 2))
    gain, spread = 1 / (1 + NOISE**2), NOISE**2 / (1 + NOISE**2)
    laws = {
        "posterior": (
            lambda: model.given(x=d).log_prob(theta=t),
            lambda: _normal(t - gain * d, spread),
        ),
        "likelihood": (
            lambda: model.given(theta=t).log_prob(x=d),
            lambda: _normal(d - t, NOISE**2),
        ),
        "joint": (lambda: model.log_prob(theta=t, x=d), lambda: _normal(t, 1.0) + _normal(d - t, NOISE**2)),
    }
    found: dict[str, Any] = {}
    for name, (learned, exact) in laws.items():
        begin = time.monotonic()
        error = learned().numpy() - exact()
        found[name] = {
            "points": len(error),
            "mean_error": float(np.abs(error).mean()),
            "bias": float(error.mean()),
            "seconds": time.monotonic() - begin,
        }
    axis = np.linspace(-2.5, 2.5, 101)
    grid = np.stack(np.meshgrid(axis, axis, indexing="ij"), -1).reshape(-1, 2)
    mass = model.given(x=[0.3, -0.2]).log_prob(theta=grid).exp().sum() * (axis[1] - axis[0]) ** 2
    return {"laws": found, "mass": float(mass)}


def moons(models: Mapping[str, Model]) -> dict[str, Any]:
    """Two moons with both data in an interval and theta[0] > theta[1], against brute force."""
    begin = time.monotonic()
    right = np.concatenate([_moons_truth(block) for block in range(10)])
    brute, kept = time.monotonic() - begin, len(right)
    query = models["two_moons"].given(constraint(lambda theta: theta[1] - theta[0]), x=between(LOW, HIGH))
    right, other = right[:DRAWS], right[DRAWS : 2 * DRAWS]
    rows = []
    for method in ("auto", "guided"):
        draws, told = _answer(query, method, DRAWS)
        if draws is None:
            rows.append({"method": method, **told})
            continue
        scores = {"c2st": c2st(right, draws, classifier="rf"), "floor": c2st(right, other, classifier="rf")}
        rows.append({"method": method, "satisfied": float(np.mean(_moons_hold(draws))), **scores, **told})
    demand = {"low": LOW.tolist(), "high": HIGH.tolist()}
    return {**demand, "traces": BRUTE, "kept": kept, "draws": DRAWS, "brute_seconds": brute, "rows": rows}


def many(models: Mapping[str, Model]) -> dict[str, Any]:
    """Asks for EACH draws for each of PIECES observations of two moons, in one call."""
    observed = two_moons.simulate(PIECES, seed=1, progress=False)["x"]
    query = models["two_moons"].given(x=observed)
    before = _peak()
    begin = time.monotonic()
    draws = query.sample("theta", num_samples=EACH, seed=SEED)
    seconds = time.monotonic() - begin
    return {"shape": list(draws.shape), "seconds": seconds, "megabytes": _peak() - before}


def _linear_truth(holds: Callable[[Any, Any], Any], seed: int) -> np.ndarray:
    """Returns DRAWS right draws (draws, 4) of theta and x that satisfy a demand."""
    rng = np.random.default_rng(seed)
    parts: list[np.ndarray] = []
    while sum(map(len, parts)) < DRAWS:
        t = rng.normal(size=(1_000_000, 2))
        d = t + NOISE * rng.normal(size=t.shape)
        parts.append(np.concatenate([t, d], 1)[holds(t, d)])
    return np.concatenate(parts)[:DRAWS]


def _moons_truth(block: int) -> np.ndarray:
    """Returns those of a tenth of BRUTE traces (theta, x) that satisfy the demand, by the program's own formulas."""
    rng = np.random.default_rng([SEED, block])
    t = rng.uniform(-1, 1, size=(BRUTE // 10, 2))
    a, r = rng.uniform(-np.pi / 2, np.pi / 2, len(t)), rng.normal(0.1, 0.01, len(t))
    crescent = np.stack([r * np.cos(a) + 0.25, r * np.sin(a)], 1)
    d = crescent + np.stack([-np.abs(t.sum(1)), t[:, 1] - t[:, 0]], 1) / np.sqrt(2)
    both = np.concatenate([t, d], 1)
    return both[_moons_hold(both)]


def _moons_hold(both: np.ndarray) -> np.ndarray:
    return (both[:, 0] > both[:, 1]) & ((both[:, 2:] > LOW) & (both[:, 2:] < HIGH)).all(1)


def _normal(error: np.ndarray, variance: float) -> np.ndarray:
    return multivariate_normal(cov=variance * np.eye(error.shape[-1])).logpdf(error)


def _answer(query: Query | RaggedQuery, method: str, num_samples: int) -> tuple[np.ndarray | None, dict[str, Any]]:
    """Returns draws (draws, 4) of theta and x, if there are any within the time limit; and how they came about."""
    begin = time.monotonic()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", SimgraphWarning)  # that few draws satisfy the demand is in the table
        try:
            draws = query.sample("theta", "x", num_samples=num_samples, seed=SEED, method=method)
        except RestrictionError as error:
            return None, {"seconds": time.monotonic() - begin, "notes": [str(error)]}
    columns = np.concatenate([draws["theta"].numpy(), draws["x"].numpy()], 1)
    return columns, {"seconds": time.monotonic() - begin, "notes": list(draws.notes)}


def _peak() -> float:
    """Returns the most memory that the process ever held, in megabytes."""
    held = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return held / (2**20 if sys.platform == "darwin" else 2**10)


if __name__ == "__main__":
    main(*sys.argv[1:])
