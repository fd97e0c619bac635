"""fit, save, load, link."""

import json
import subprocess
import sys

import pytest
import torch
from torch.distributions import Normal

import simgraph as sg
from simgraph import Graph, Traces, node
from simgraph.errors import (
    DeclarationError,
    FileFormatError,
    QueryError,
    ShapeError,
    SimgraphWarning,
    TracesError,
    TrainingError,
)


def test_saved_and_loaded_models_draw_the_same(mixed_model, tmp_path):
    path = tmp_path / "model.sg"
    mixed_model.save(path)
    loaded = sg.load(path)
    for given in ({}, {"count": 30}, {"level": [0.1, 0.2, 0.3]}):
        before = mixed_model.given(given).sample(num_samples=5, seed=1)
        after = loaded.given(given).sample(num_samples=5, seed=1)
        assert all(torch.equal(before[name], after[name]) for name in before)
    assert loaded.history.rows == mixed_model.history.rows
    assert repr(loaded) == repr(mixed_model)


@pytest.mark.slow
def test_a_new_process_draws_the_same(gaussian_model, tmp_path):
    path = tmp_path / "model.sg"
    gaussian_model.save(path)
    program = (
        "import simgraph as sg, json, sys;"
        "d = sg.load(sys.argv[1]).given(x=[0.1, 0.2]).sample('theta', num_samples=4, seed=7);"
        "print(json.dumps(d.tolist()))"
    )
    done = subprocess.run([sys.executable, "-c", program, str(path)], capture_output=True, text=True, timeout=120)
    here = gaussian_model.given(x=[0.1, 0.2]).sample("theta", num_samples=4, seed=7)
    assert json.loads(done.stdout) == here.tolist()


def test_a_loaded_model_can_be_saved_and_linked_again(gaussian_model, tmp_path):
    gaussian_model.save(tmp_path / "a.sg")
    sg.load(tmp_path / "a.sg").save(tmp_path / "b.sg")
    linked = sg.load(tmp_path / "b.sg", graph=gaussian_model.graph)
    assert linked.graph is gaussian_model.graph
    assert sg.load(tmp_path / "b.sg").graph is None


def test_linking_another_graph_is_refused_with_the_differences(gaussian_model, tmp_path):
    gaussian_model.save(tmp_path / "a.sg")

    @node
    def z():
        return Normal(0.0, 1.0)

    with pytest.raises(QueryError, match="node 'theta' is missing; node 'x' is missing; node 'z' is new"):
        sg.load(tmp_path / "a.sg", graph=Graph(z))


def test_changed_code_is_a_warning(gaussian_model, tmp_path):
    gaussian_model.save(tmp_path / "a.sg")

    @node
    def x(theta):
        return Normal(theta, 0.75)

    with pytest.warns(SimgraphWarning, match="the code of x has changed since training"):
        sg.load(tmp_path / "a.sg", graph=gaussian_model.graph.replace(x))


def test_damaged_and_foreign_files_are_refused(gaussian_model, tmp_path):
    path = tmp_path / "model.sg"
    gaussian_model.save(path)
    whole = path.read_bytes()
    for name, content in {"cut": whole[: len(whole) // 2], "empty": b"", "text": b"hello", "zeros": bytes(100)}.items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises(FileFormatError, match=name):
            sg.load(tmp_path / name)
    gaussian_model.graph.simulate(3).save(tmp_path / "traces.sg")
    with pytest.raises(FileFormatError, match="holds 'traces', not 'model'"):
        sg.load(tmp_path / "traces.sg")
    with pytest.raises(FileNotFoundError):
        sg.load(tmp_path / "nowhere.sg")


def test_fit_is_deterministic(gaussian_model, tiny):
    again = sg.fit(gaussian_model.graph, num_simulations=400, preset=tiny, progress=False)
    assert torch.equal(again.sample("x", num_samples=5, seed=1), gaussian_model.sample("x", num_samples=5, seed=1))


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        (
            {"num_simulations": 50, "traces": Traces({"theta": torch.zeros(20, 2)})},
            TrainingError,
            "fit(...) takes traces or num_simulations, and not both.",
        ),
        ({"num_simulations": 5}, TrainingError, "5 traces are too few"),
        ({"num_simulations": 0}, DeclarationError, "num_simulations=0 is not a whole number of 1 or more."),
        ({"num_simulations": 50, "preset": "defualt"}, DeclarationError, "Did you mean 'default'?"),
        ({"num_simulations": 50, "time_limit": -1}, TrainingError, "time_limit=-1 is no positive number of seconds."),
        (
            {"num_simulations": 50, "time_limit": "1m"},
            TrainingError,
            "time_limit='1m' is no positive number of seconds.",
        ),
        ({"num_simulations": 50, "seed": -1}, DeclarationError, "seed=-1 is no seed"),
        ({"traces": Traces({"theta": torch.zeros(20, 2)})}, TracesError, "the traces lack x; they hold theta."),
        ({"traces": {"theta": 1}}, TracesError, "takes traces from graph.simulate(...), not dict."),
        (
            {"traces": Traces({"theta": torch.zeros(20, 3), "x": torch.zeros(20)}), "shape": True},
            ShapeError,
            "the traces hold 'x' with shape (); the graph declares (2,).",
        ),
        ({"num_simulations": 50, "queries": [{"given": ["y"]}]}, sg.SimgraphError, "'y' is not a variable"),
        (
            {"num_simulations": 50, "queries": {"given": ["x"], "of": ["theta"]}},
            QueryError,
            "takes a list of mappings, not {'given': ['x'], 'of': ['theta']}.\n  For example: queries=[dict(given=",
        ),
        ({"num_simulations": 50, "queries": [{"gven": ["x"]}]}, QueryError, "has the keys given and of, not ['gven']"),
        ({"num_simulations": 50, "queries": [{"given": ["x", "theta"]}]}, QueryError, "asks for nothing."),
    ],
)
def test_wrong_trainings_are_refused(gaussian_model, arguments, error, message):
    graph = gaussian_model.graph
    if arguments.pop("shape", False):

        @node(shape=(2,))
        def x(theta, rng):
            return rng.normal(size=2)

        graph = graph.replace(x)
    with pytest.raises(error) as caught:
        sg.fit(graph, progress=False, **arguments)
    assert message in str(caught.value)


def test_fit_needs_a_graph():
    with pytest.raises(DeclarationError, match=r"takes a Graph or a compiled graph, not 3\."):
        sg.fit(3, num_simulations=50)
