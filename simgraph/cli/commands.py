"""What each command does; the text of a function is the help of its command."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

from typer import Option

from simgraph import files
from simgraph.cli.evidence import evidence, places
from simgraph.cli.graph_file import load_graph
from simgraph.cli.output import check_out, write_csv, write_samples
from simgraph.compile import compile
from simgraph.dsl import Node, Plate
from simgraph.errors import DeclarationError
from simgraph.query import Samples, fit, load
from simgraph.train import Settings

__all__ = ["COMMANDS", "MODEL"]

MODEL, TRACES, HISTORY = "model.sg", "traces.sg", "history.csv"
"""Names of the files in the folder that ``simgraph fit`` writes."""


def inspect(
    file: str,
    given: Annotated[list[str] | None, Option(help="A variable that is given: --given x --given y.")] = None,
    of: Annotated[list[str] | None, Option(help="A variable that is asked for; all others by default.")] = None,
    picture: Annotated[Path | None, Option(help="Write the mask to this file: mask.png.")] = None,
) -> None:
    """Print a graph, its tokens, supports, links and mask, and what lint finds.

    FILE is a Python file, or FILE:NAME for one of its graphs.
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
    graph, settings = load_graph(file), Settings.of(preset, time_limit)
    traces = graph.simulate(simulations, seed=seed)
    out.mkdir(parents=True, exist_ok=True)
    traces.save(out / TRACES)
    model = fit(graph, traces, seed=seed, preset=settings)
    model.save(out / MODEL)
    write_csv(out / HISTORY, model.history.columns())
    print(model.history)
    print(model)


def sample(
    model: Path,
    of: Annotated[
        list[str] | None,
        Option(
            help="A variable to draw: --of theta --of z; by default all that are not given. Others are averaged out."
        ),
    ] = None,
    given: Annotated[
        list[str] | None,
        Option(
            help="Evidence, once per variable. A number: --given x=0.5. A list, nan where missing: --given y=[1,nan,2]."
            " An interval: --given x=0.1..0.4, x=0.1.. or x=..0.4. One element: --given y[1]=0.1..0.4."
            " Points and values of a function: --given f=[0,2.5]:[0.1,0.3]."
        ),
    ] = None,
    at: Annotated[
        list[str] | None,
        Option(
            help="Elements of a plate whose size varies, where no evidence tells: --at school=7. Points at which"
            " functions are asked for: --at t=[0,2.5]."
        ),
    ] = None,
    num_samples: Annotated[int, Option(help="Number of draws.")] = 1000,
    seed: Annotated[int | None, Option(help="Seed of the draws; fresh ones every time if there is none.")] = None,
    out: Annotated[
        Path | None,
        Option(help="Write the draws to FILE.csv, FILE.npz or FILE.nc (netCDF) instead of printing a table."),
    ] = None,
) -> None:
    """Draw from any conditional of a fitted MODEL (a folder, or a model file).

    For example: simgraph sample model --given x=0.5 --of theta --out theta.csv
    """
    if out is not None:
        check_out(out)
    trained = load(model / MODEL if model.is_dir() else model)
    there, layout = places(at or ()), trained.compiled.layout
    # What is no size of the plate is refused below, with all other questions that do not fit.
    numbers = {plate: size for plate, size in there.items() if isinstance(size, int)}
    fitting = {plate: size for plate, size in numbers.items() if _in_range(layout.ragged.get(plate), size)}
    layout = layout.sized(fitting)
    shapes = {name: part.variable.shape for name, part in layout.tokenizers.items()}
    named: dict[str | Node, Any] = dict(evidence(given or (), shapes).items())
    samples: Samples = trained.given(named).sample(list(of or ()), num_samples=num_samples, seed=seed, at=there)
    if out is None:
        print(samples)
    else:
        write_samples(out, samples)


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
    alone: bool = False,
) -> None:
    """Train TASKS on budgets of simulations, and hold their answers against right draws, in the folder OUT.

    --budgets 1000,10000: numbers of simulations; --seeds 3: the seeds 0, 1 and 2; --classifiers rf,mlp: random forest
    and the network of sbibm; --questions: how many of a task's questions; --against exact,focused,redrawn,npe:
    answers of the same model corrected by the graph's own densities, a training of which half asks for posteriors, one
    in which noise is drawn anew beside, and sbi's NPE; --alone: run these without the plain training.

    Each run is kept as soon as it is done; the same command goes on where it was stopped.
    """
    from simgraph.benchmark.plan import Plan
    from simgraph.benchmark.run import benchmark as run

    plan = Plan(preset, time_limit, tuple(_words(classifiers)), questions, draws)
    run(tasks, _numbers(budgets), range(seeds), out, plan, against=_words(against), alone=alone)
    print(f"\nReport: {out / 'benchmark.md'}")


def _in_range(plate: Plate | None, size: int) -> bool:
    return plate is not None and plate.least <= size <= plate.most


def _numbers(text: str) -> list[int]:
    try:
        return [int(piece) for piece in text.split(",")]
    except ValueError:
        raise DeclarationError(
            f"--budgets {text!r} is no list of whole numbers.\n  For example: --budgets 1000,10000"
        ) from None


def _words(text: str) -> list[str]:
    return [word.strip() for word in text.split(",") if word.strip()]


COMMANDS: dict[str, Callable[..., Any]] = {
    "inspect": inspect,
    "simulate": simulate,
    "fit": fit_command,
    "sample": sample,
    "demo": demo,
    "benchmark": benchmark,
}
"""Commands by name, in the order of the help."""
