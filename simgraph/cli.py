"""The command line: inspect, simulate, fit, sample, demo, benchmark."""

from __future__ import annotations

import csv
import importlib.util
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np

from simgraph import files
from simgraph.compile import compile
from simgraph.dsl import Node
from simgraph.errors import DeclarationError, MissingExtraError, QueryError, SimgraphError, did_you_mean
from simgraph.graph import Graph
from simgraph.query import Samples, fit, load, missing

__all__ = ["main"]

MODEL, TRACES, HISTORY = "model.sg", "traces.sg", "history.csv"
"""Names of the files in the folder that ``simgraph fit`` writes."""


def main() -> None:
    """Runs the command line."""
    try:
        import typer
    except ImportError:
        print(MissingExtraError("typer", "cli", "the command line"), file=sys.stderr)
        raise SystemExit(1) from None
    app = typer.Typer(
        help="Declare a simulator as a graph, train once, ask any conditional by name.",
        no_args_is_help=True,
        add_completion=False,
        pretty_exceptions_enable=False,
    )
    for command in (inspect, simulate, fit_command, sample, demo, benchmark):
        app.command(name=command.__name__.removesuffix("_command"))(command)
    try:
        app()
    except (SimgraphError, FileNotFoundError) as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
        raise SystemExit(1) from None


def inspect(
    file: str,
    given: list[str] | None = None,
    of: list[str] | None = None,
    picture: Path | None = None,
) -> None:
    """Print a graph, its tokens, supports, links and mask, and what lint finds.

    FILE is a Python file, or FILE:NAME for one of its graphs.

    --given and --of name nodes for the mask; --picture writes it to a file.
    """
    graph = load_graph(file)
    compiled = compile(graph)
    print(graph, end="\n\n")
    print(graph.draw("mermaid", given=given or (), of=of or None), end="\n\n")
    print(compiled.explain(given or (), of or None))
    for finding in compiled.lint():
        print(f"\n{finding}")
    if picture is not None:
        figure = compiled.plot_mask(given or (), of or None)
        files.write_with(picture, lambda path: figure.savefig(path, dpi=110))
        print(f"\nMask: {picture}")


def simulate(file: str, out: Path = Path(TRACES), simulations: int = 1000, seed: int = 0) -> None:
    """Draw traces of a graph and write them to OUT (read them with Traces.load)."""
    traces = load_graph(file).simulate(simulations, seed=seed)
    traces.save(out)
    print(traces)


def fit_command(
    file: str,
    out: Path = Path("model"),
    simulations: int = 10_000,
    seed: int = 0,
    preset: str = "default",
    time_limit: float | None = None,
) -> None:
    """Simulate a graph, train a model, and write model, traces and history to the folder OUT."""
    graph = load_graph(file)
    traces = graph.simulate(simulations, seed=seed)
    out.mkdir(parents=True, exist_ok=True)
    traces.save(out / TRACES)
    model = fit(graph, traces, seed=seed, preset=preset, time_limit=time_limit)
    model.save(out / MODEL)
    files.write_with(out / HISTORY, lambda path: _write_csv(path, model.history.columns()))
    print(model.history)
    print(model)


def sample(
    model: Path,
    of: list[str] | None = None,
    given: list[str] | None = None,
    num_samples: int = 1000,
    seed: int | None = None,
    out: Path | None = None,
) -> None:
    """Draw from any conditional of a fitted MODEL (a folder, or a model file).

    --given name=value (numbers, or a JSON list; nan for missing entries), --of names (all others are
    marginalised), --out FILE.csv or FILE.npz.
    """
    if out is not None and out.suffix not in (".csv", ".npz"):
        raise QueryError(f"--out {out} is neither .csv nor .npz.")
    trained = load(model / MODEL if model.is_dir() else model)
    evidence: dict[str | Node, Any] = dict(_evidence(text) for text in given or ())
    samples: Samples = trained.given(evidence).sample(list(of or ()), num_samples=num_samples, seed=seed)
    if out is None:
        print(samples)
    elif out.suffix == ".csv":
        files.write_with(out, lambda path: _write_csv(path, samples.columns()))
    else:
        files.write_with(out, lambda path: np.savez_compressed(path, **samples.to_numpy()))  # type: ignore[arg-type]


def demo(
    simulations: int = 10_000,
    num_samples: int = 10_000,
    preset: str = "default",
    figure: Path = Path("two_moons.png"),
    seed: int = 0,
) -> None:
    """Train two moons, and hold its posteriors against the published reference posteriors."""
    from simgraph.benchmark.demo import demo as run

    run(num_simulations=simulations, num_samples=num_samples, preset=preset, figure=figure, seed=seed)


def benchmark(
    tasks: list[str],
    budgets: str = "1000,10000",
    seeds: int = 3,
    out: Path = Path("benchmark"),
    preset: str = "default",
    time_limit: float | None = None,
    classifiers: str = "rf",
    questions: int | None = None,
    draws: int = 2_500,
    against: str = "",
) -> None:
    """Train TASKS on budgets of simulations, and hold their answers against right draws, in the folder OUT.

    --budgets 1000,10000: numbers of simulations; --seeds 3: the seeds 0, 1 and 2; --classifiers rf,mlp: random forest
    and the network of sbibm; --questions: how many of a task's questions; --against npe: sbi's NPE on the same traces.

    Each run is kept as soon as it is done; the same command goes on where it was stopped.
    """
    from simgraph.benchmark.plan import Plan
    from simgraph.benchmark.run import benchmark as run

    plan = Plan(preset, time_limit, tuple(_words(classifiers)), questions, draws)
    run(tasks, _numbers(budgets), range(seeds), out, plan, against=_words(against))
    print(f"\nReport: {out / 'benchmark.md'}")


def load_graph(target: str) -> Graph:
    """Runs a Python file and returns a graph from it.

    Args:
        target: ``FILE.py``, or ``FILE.py:NAME`` if the file holds several graphs.

    Raises:
        FileNotFoundError: If there is no such file.
        DeclarationError: If the file holds no graph of that name, or several and none is named.
    """
    path, _, name = target.partition(":")
    if not Path(path).is_file():
        raise FileNotFoundError(f"{path} is not a file.")
    spec = importlib.util.spec_from_file_location(Path(path).stem, path)
    if spec is None or spec.loader is None:
        raise DeclarationError(f"{path} is no Python file.")
    module = importlib.util.module_from_spec(spec)
    sys.path.insert(0, str(Path(path).resolve().parent))
    try:
        spec.loader.exec_module(module)
    finally:
        sys.path.pop(0)
    graphs = {key: value for key, value in vars(module).items() if isinstance(value, Graph)}
    if name and name not in graphs:
        raise DeclarationError(f"{path} has no graph named {name!r}.\n  {did_you_mean(name, graphs, 'Its graphs')}")
    if not name and len(graphs) != 1:
        raise DeclarationError(
            f"{path} holds {len(graphs)} graphs: {', '.join(graphs) or '(none)'}.\n"
            f"  Name one: {path}:{next(iter(graphs), 'graph')}"
        )
    return graphs[name] if name else next(iter(graphs.values()))


def _evidence(text: str) -> tuple[str, Any]:
    name, equals, value = text.partition("=")
    if not equals:
        raise QueryError(
            f"--given {text!r} is not of the form name=value.\n  For example: --given x=0.5 --given y=[1,2]"
        )
    try:
        parsed = json.loads(value.replace("nan", "NaN")) if value.strip().startswith("[") else float(value)
        array = np.asarray(parsed, dtype=np.float64)
    except (ValueError, TypeError):
        raise QueryError(
            f"--given {name} has the value {value!r}, which is no number and no list of numbers."
        ) from None
    return name.strip(), missing(array) if np.isnan(array).any() else array


def _numbers(text: str) -> list[int]:
    try:
        return [int(piece) for piece in text.split(",")]
    except ValueError:
        raise DeclarationError(
            f"--budgets {text!r} is no list of whole numbers.\n  For example: --budgets 1000,10000"
        ) from None


def _words(text: str) -> list[str]:
    return [word.strip() for word in text.split(",") if word.strip()]


def _write_csv(path: str, columns: dict[str, Any]) -> None:
    with open(path, "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(columns)
        writer.writerows(zip(*columns.values(), strict=True))
