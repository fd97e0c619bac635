"""The command line, from a file with a graph to a file with draws."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from simgraph import Graph, Traces
from simgraph.benchmark import run as runner
from simgraph.benchmark.plan import Plan
from simgraph.cli import main, output
from simgraph.cli.commands import MODEL
from simgraph.cli.graph_file import load_graph

pytestmark = pytest.mark.filterwarnings("ignore:the time limit of")  # these trainings are as short as can be

PROGRAM = """
import torch
from torch.distributions import Normal
from simgraph import Graph, node

@node
def theta():
    return Normal(torch.zeros(2), 1.0)

@node
def x(theta):
    return Normal(theta.sum(), 0.5)

graph = Graph(theta, x)
"""


@pytest.fixture
def program(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "program.py").write_text(PROGRAM)
    return "program.py"


def run(monkeypatch, *arguments):
    """Runs a command; returns its exit code."""
    monkeypatch.setattr(sys, "argv", ["simgraph", *arguments])
    with pytest.raises(SystemExit) as stop:
        main()
    return stop.value.code


def test_inspect_prints_graph_tokens_and_mask_and_draws_it(program, monkeypatch, capsys, tmp_path):
    assert run(monkeypatch, "inspect", program, "--picture", "mask.png", "--given", "x") == 0
    out = capsys.readouterr().out
    assert "Graph with 2 nodes and 1 edges" in out
    assert "theta --> x" in out
    assert "3 tokens, 3 identifiers" in out
    assert (tmp_path / "mask.png").read_bytes().startswith(b"\x89PNG")


def test_simulate_writes_traces(program, monkeypatch):
    assert run(monkeypatch, "simulate", program, "--simulations", "20", "--out", "some.sg") == 0
    assert Traces.load("some.sg")["theta"].shape == (20, 2)


@pytest.mark.parametrize("wrong", [("--time-limit", "0"), ("--preset", "quick")])
def test_fit_looks_at_its_options_before_it_simulates(program, monkeypatch, tmp_path, wrong):
    assert run(monkeypatch, "fit", program, "--simulations", "60", *wrong, "--out", "out") == 1
    assert not (tmp_path / "out").exists()


def test_fit_then_sample_to_csv_npz_and_screen(program, monkeypatch, capsys, tmp_path):
    fitted = ["--simulations", "60", "--preset", "fast", "--time-limit", "0.5", "--out", "out"]
    assert run(monkeypatch, "fit", program, *fitted) == 0
    assert (tmp_path / "out" / MODEL).is_file()
    assert (tmp_path / "out" / "history.csv").read_text().startswith("step,seconds")
    common = ["sample", "out", "--given", "x=0.5", "--num-samples", "7", "--seed", "1"]
    assert run(monkeypatch, *common, "--of", "theta", "--out", "a.csv") == 0
    lines = (tmp_path / "a.csv").read_text().splitlines()
    assert lines[0] == "theta[0],theta[1]"
    assert len(lines) == 8
    assert run(monkeypatch, *common, "--out", "a.npz") == 0
    with np.load(tmp_path / "a.npz") as arrays:
        assert arrays["theta"].shape == (7, 2)
    xarray = pytest.importorskip("xarray")
    pytest.importorskip("h5netcdf")
    assert run(monkeypatch, *common, "--out", "a.nc") == 0
    with xarray.open_dataset("a.nc", engine="h5netcdf") as data, np.load("a.npz") as arrays:
        assert data["theta"].dims == ("draw", "theta_dim_0")
        assert (data["theta"].values == arrays["theta"]).all(), "the same seed"
    assert {path.name for path in tmp_path.glob(".a*")} == set(), "no temporary file is left"
    capsys.readouterr()
    assert run(monkeypatch, "sample", "out", "--given", "theta[1]=1", "--of", "x", "--num-samples", "5") == 0
    assert "Samples with 5 draws" in capsys.readouterr().out
    assert run(monkeypatch, "sample", "out", "--given", "theta[2]=1") == 1
    assert "--given names the element theta[2], which does not exist" in capsys.readouterr().err
    assert run(monkeypatch, "sample", "out", "--given", "theta=[nan, 1.0]", "--of", "x", "--num-samples", "5") == 0
    assert "Samples with 5 draws" in capsys.readouterr().out


def test_netcdf_needs_its_packages_before_anything_is_drawn(program, monkeypatch, capsys):
    monkeypatch.setattr(output, "find_spec", lambda package: None if package == "h5netcdf" else package)
    assert run(monkeypatch, "sample", "nowhere", "--out", "a.nc") == 1
    error = capsys.readouterr().err
    assert error.startswith("MissingExtraError: --out a.nc needs 'h5netcdf'.\n  Install it with: pip install 'simgraph")


def test_the_command_line_names_its_extra_where_typer_is_missing(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "typer", None)
    assert run(monkeypatch, "inspect", "nowhere.py") == 1
    assert "the command line needs 'typer'.\n  Install it with: pip install 'simgraph[cli]'" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["inspect", "nowhere.py"], "FileNotFoundError: nowhere.py is not a file."),
        (["inspect", "program.py:grap"], "Did you mean 'graph'?"),
        (["sample", "nowhere"], "FileNotFoundError"),
        (["sample", "nowhere", "--out", "a.txt"], "--out a.txt is neither .csv nor .npz nor .nc."),
    ],
)
def test_mistakes_end_with_a_message_and_not_a_traceback(program, monkeypatch, capsys, arguments, message):
    assert run(monkeypatch, *arguments) == 1
    error = capsys.readouterr().err
    assert message in error
    assert "Traceback" not in error


def test_load_graph_asks_for_a_name_when_there_are_two(tmp_path):
    path = tmp_path / "two.py"
    path.write_text(PROGRAM + "\nother = graph.do(theta=[0.0, 0.0])\n")
    assert isinstance(load_graph(f"{path}:other"), Graph)
    with pytest.raises(Exception, match="holds 2 graphs: graph, other"):
        load_graph(str(path))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["two_mons"], "Did you mean 'two_moons'?"),
        (["sir", "--budgets", "1000;x"], "--budgets '1000;x' is no list of whole numbers."),
        (["sir", "--draws", "9999"], "'sir' has 5000 reference draws"),
    ],
)
def test_a_benchmark_that_cannot_be_run_says_why(program, monkeypatch, capsys, arguments, message):
    assert run(monkeypatch, "benchmark", *arguments) == 1
    assert message in capsys.readouterr().err


def test_a_benchmark_is_run_with_its_options(program, monkeypatch, capsys):
    called = []
    monkeypatch.setattr(runner, "benchmark", lambda *arguments, **options: called.append((*arguments, options)))
    options = [
        "--budgets",
        "100,200",
        "--seeds",
        "2",
        "--out",
        "results",
        "--preset",
        "fast",
        "--classifiers",
        "rf,mlp",
    ]
    assert (
        run(monkeypatch, "benchmark", "sir", "slcp", *options, "--questions", "1", "--draws", "50", "--against", "npe")
        == 0
    )
    plan = Plan("fast", None, ("rf", "mlp"), 1, 50)
    options = {"against": ["npe"], "alone": False}
    assert called == [(["sir", "slcp"], [100, 200], range(2), Path("results"), plan, options)]
    assert "Report: results/benchmark.md" in capsys.readouterr().out


@pytest.mark.slow
def test_the_module_runs_as_a_program():
    done = subprocess.run([sys.executable, "-m", "simgraph", "--help"], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0
    for command in ("inspect", "simulate", "fit", "sample", "demo", "benchmark"):
        assert command in done.stdout


RAGGED = """
from torch.distributions import Normal
from simgraph import Graph, node, plate

@node
def mu():
    return Normal(0.0, 1.0)

@node(plates=plate("school", size=(2, 4)))
def score(mu):
    return Normal(mu, 1.0)

graph = Graph(mu, score)
"""


def test_sizes_of_plates_are_asked_for(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "program.py").write_text(RAGGED)
    assert run(monkeypatch, "fit", "program.py", "--simulations", "40", "--time-limit", "0.1", "--out", "m") == 0
    drawn = ["sample", "m", "--of", "score", "--num-samples", "5"]
    assert run(monkeypatch, *drawn, "--at", "school=3", "--given", "score[1]=0.5", "--out", "some.csv") == 0
    assert Path("some.csv").read_text().splitlines()[0] == "score[0],score[1],score[2]"
    assert run(monkeypatch, *drawn, "--at", "school=9") != 0
    assert "at={'school': 9} is out of range" in "".join(capsys.readouterr())


CURVES = """
from torch.distributions import Normal
from simgraph import Graph, index, node

t = index("t", 0, 1, num=(1, 4))

@node
def slope():
    return Normal(0.0, 1.0)

@node(index=t)
def line(slope, t, rng):
    return slope * t + rng.normal(0, 0.1, len(t))

graph = Graph(slope, line)
"""


def test_functions_are_given_and_asked_for(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "program.py").write_text(CURVES)
    assert run(monkeypatch, "fit", "program.py", "--simulations", "40", "--time-limit", "0.1", "--out", "m") == 0
    asked = ["sample", "m", "--given", "line=[0.5,1]:[0.2,0.4]", "--num-samples", "5", "--out", "some.csv"]
    assert run(monkeypatch, *asked, "--of", "slope", "--of", "line", "--at", "t=[0.1,0.9,0.7]") == 0
    assert Path("some.csv").read_text().splitlines()[0] == "slope,line[t=0.1],line[t=0.9],line[t=0.7]"
    assert run(monkeypatch, *asked, "--of", "line", "--at", "t=[7]") != 0
    assert "outside of the range" in "".join(capsys.readouterr())
