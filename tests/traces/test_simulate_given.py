"""Traces below values that are handed over."""

import math

import numpy as np
import pytest
import torch
from torch.distributions import Categorical, Normal, Poisson

from simgraph import Graph, Samples, Traces, deterministic, node, plate
from simgraph.errors import (
    DeclarationError,
    EvidenceError,
    MissingValueError,
    QueryError,
    ShapeError,
    SimulationError,
    UnknownNameError,
)

p = plate("p", 2)
calls = []


@node
def mu():
    return Normal(0.0, 1.0)


@node
def theta(mu):
    calls.append("theta")
    return Normal(mu * torch.ones(3), 1.0)


@deterministic
def total(theta):
    calls.append("total")
    return {"sum": theta.sum()}


@node(plates=p)
def x(total, rng):
    return total["sum"] + 1e-3 * rng.normal()


@node
def y(theta):
    return Normal(theta, 1e-3)


@node(plates=p)
def z(x):
    return Normal(x, 1e-3)


graph = Graph(mu, theta, total, x, y, z)
rows = np.arange(15.0).reshape(5, 3)


def test_given_nodes_are_not_run_and_all_below_see_them():
    calls.clear()
    graph.prune("theta").simulate(1)
    once = calls.count("theta")
    traces = graph.simulate(given={"theta": rows}, seed=1)
    assert calls.count("theta") == 2 * once  # one trace more, to learn its shape
    assert set(traces) == {"theta", "x", "y", "z"}
    assert traces.num_simulations == 5
    np.testing.assert_array_equal(traces["theta"], rows)
    # Noise of standard deviation 1e-3: six of them, or about eight after two nodes.
    np.testing.assert_allclose(traces["y"], rows, atol=6e-3)
    np.testing.assert_allclose(traces["z"], np.repeat(rows.sum(1)[:, None], 2, 1), atol=9e-3)
    assert traces.plates["x"] == ("p",)
    assert traces.sources == ()


def test_random_numbers_are_those_of_a_plain_simulation():
    plain = graph.simulate(1500, seed=3, progress=False)
    again = graph.simulate(given={"mu": plain["mu"], "theta": plain["theta"]}, seed=3)
    assert set(again) == set(plain)
    for name in plain:
        np.testing.assert_array_equal(plain[name], again[name])


@pytest.mark.parametrize("start", [0, 3, 1023, 1030])
def test_a_row_is_a_function_of_its_number_and_its_values(start):
    many = np.zeros((1040, 3))
    many[start:] = np.random.default_rng(0).normal(size=(1040 - start, 3))
    whole = graph.simulate(given={"theta": many}, seed=2)
    part = graph.simulate(given={"theta": many[start:]}, seed=2, start=start)
    for name in whole:
        np.testing.assert_array_equal(whole[name][start:], part[name])


def test_traces_samples_tensors_and_nodes_serve_alike():
    table = {"theta": rows}
    expected = graph.simulate(given=table)["z"]
    tensor = torch.from_numpy(rows)
    for given in (Traces(table), Samples({"theta": tensor}), {theta: tensor}, {"theta": rows.tolist()}):
        np.testing.assert_array_equal(graph.simulate(given=given)["z"], expected)
    np.testing.assert_array_equal(graph.simulate(5, given=table)["z"], expected)


def test_functions_of_given_values_are_computed_wherever_they_lie():
    @deterministic(shape=())
    def double(mu):
        return 2 * mu

    @node
    def a(double):
        return Normal(double, 1.0)

    @node
    def b(double, a):
        return Normal(double + a, 1e-3)

    traces = Graph(mu, double, a, b).simulate(given={"mu": [1.0, 2.0], "a": [10.0, 20.0]})
    np.testing.assert_array_equal(traces["double"], [2.0, 4.0])
    np.testing.assert_allclose(traces["b"], [12.0, 24.0], atol=6e-3)  # six standard deviations


def test_objects_that_nobody_asks_for_are_not_made():
    calls.clear()
    graph.simulate(given={"theta": rows, "x": np.zeros((5, 2))})
    assert "total" not in calls


def test_nodes_beside_given_ones_are_simulated():
    traces = graph.simulate(given={"mu": np.full(4, 100.0)})
    assert (traces["theta"] > 90).all()  # ten standard deviations
    other = Graph(mu, node(name="w")(lambda: Normal(0.0, 1.0))).simulate(given={"mu": [0.0]})
    assert set(other) == {"mu", "w"}


def test_constants_above_given_nodes_are_known():
    @node
    def w(mu, theta):
        return Normal(mu + theta.sum(), 1e-3)

    done = Graph(mu, theta, w).do(mu=7.0).simulate(given={"theta": rows})
    np.testing.assert_array_equal(done["mu"], np.full(5, 7.0))
    np.testing.assert_allclose(done["w"], 7 + rows.sum(1), atol=6e-3)


def test_whole_numbers_arrive_as_a_simulation_would_hand_them_on():
    seen = []

    @node
    def label():
        return Categorical(torch.ones(3))

    @node
    def count():
        return Poisson(3.0)

    @node(shape=())
    def out(label, count, rng):
        seen.append((type(label), type(count)))
        return 0.0

    own = Graph(label, count, out)
    own.simulate(1)
    own.simulate(given={"label": [2.0, 1.0], "count": torch.tensor([4, 5])})
    assert len(seen) == 3
    assert set(seen) == {(np.int64, np.float64)}


def test_failures_keep_their_policy_and_name_the_row():
    @node
    def fails(mu, rng):
        if mu < 0:
            raise ValueError("negative")
        return mu

    own = Graph(mu, fails)
    with pytest.raises(SimulationError) as caught:
        own.simulate(given={"mu": [1.0, -1.0, 2.0]}, seed=4, start=5)
    lines = str(caught.value).splitlines()
    assert lines[0] == "1 of 3 traces failed in node 'fails' (1 x ValueError); first: trace 6, seed 4."
    assert lines[1] == "  In trace 6, 'fails' raised ValueError: negative"
    assert lines[3] == "  or reproduce one with graph.simulate(given=<row 1>, seed=4, start=6)."
    np.testing.assert_array_equal(caught.value.traces["fails"], [1.0, math.nan, 2.0])


many = "one row for each trace. Samples of several pieces of evidence are handed over one piece at a time."


@pytest.mark.parametrize(
    ("options", "error", "text"),
    [
        (
            {"given": {"y": rows}},
            QueryError,
            "node 'total' asks for 'theta', which is not given and lies above y, which is.\n"
            "  Simulated, 'theta' would follow its prior instead of its law given those values.\n"
            "  Give theta too, drawn together with the rest; or leave 'total' out with graph.prune(...).",
        ),
        (
            {"given": {"z": np.zeros((5, 2)), "x": np.zeros((5, 2))}},
            QueryError,
            "node 'y' asks for 'theta', which is not given and lies above z, x, which are.\n"
            "  Simulated, 'theta' would follow its prior instead of its law given those values.\n"
            "  Give theta too, drawn together with the rest; or leave 'y' out with graph.prune(...).",
        ),
        (
            {"given": {"theta": rows[:, 0]}},
            ShapeError,
            "simulate(given=...) has values of shape (5,) for 'theta', which has shape (3,).\n"
            f"  Accepted: (rows, 3), {many}",
        ),
        (
            {"given": {"mu": 0.0}},
            ShapeError,
            f"simulate(given=...) has values of shape () for 'mu', which has shape ().\n  Accepted: (rows,), {many}",
        ),
        (
            {"given": {"mu": np.zeros(0)}},
            ShapeError,
            f"simulate(given=...) has values of shape (0,) for 'mu', which has shape ().\n  Accepted: (rows,), {many}",
        ),
        (
            {"given": {"mu": [0.0, 1.0], "theta": rows}},
            ShapeError,
            "simulate(given=...) has different numbers of rows: {'mu': 2, 'theta': 5}.\n"
            "  Each row is one trace, in every variable.",
        ),
        (
            {"given": {"mu": [0.0, math.nan]}},
            MissingValueError,
            "simulate(given=...) holds 1 NaN or missing values of 'mu'.\n"
            '  Leave such rows out; simulate(..., on_failure="drop") leaves out traces that failed.',
        ),
        (
            {"given": {"thetta": rows}},
            UnknownNameError,
            "'thetta' is not a node of this graph.\n  Did you mean 'theta'? Known names: theta, mu, total, x, y, z.",
        ),
        (
            {"given": {"total": rows}},
            UnknownNameError,
            "'total' is an object without a shape, so simulate(given=...) takes no values for it.\n"
            f"  declared at {total.where}\n  It is computed from its parents; hand these over.",
        ),
        ({"given": rows}, QueryError, "simulate(given=...) takes a mapping from names to values, not ndarray."),
        (
            {"given": {}},
            QueryError,
            "simulate(given=...) holds no values.\n  For a simulation from the start: graph.simulate(1000)",
        ),
        (
            {"num_simulations": 4, "given": {"theta": rows}},
            DeclarationError,
            "num_simulations=4, and simulate(given=...) has 5 rows.\n  Leave the number out.",
        ),
        ({}, DeclarationError, "simulate(...) needs a number of traces, or given= rows of values."),
    ],
)
def test_what_cannot_be_simulated_is_refused_by_name(options, error, text):
    with pytest.raises(error) as caught:
        graph.simulate(**options)
    assert str(caught.value) == text


def test_fractions_of_whole_numbers_are_refused():
    label = node(name="label")(lambda: Categorical(torch.ones(3)))
    with pytest.raises(EvidenceError) as caught:
        Graph(label).simulate(given={"label": [1.0, 1.5]})
    assert str(caught.value) == (
        "simulate(given=...) holds fractions for 'label', which draws whole numbers.\n  First: 1.5"
    )
