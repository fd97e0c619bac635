"""Shapes and supports that are found from traces and functions."""

import numpy as np
import pytest
import torch
from torch.distributions import (
    Beta,
    Binomial,
    Categorical,
    Dirichlet,
    HalfNormal,
    Independent,
    MixtureSameFamily,
    MultivariateNormal,
    Normal,
    Poisson,
    Uniform,
    constraints,
)

from simgraph import Graph, Traces, deterministic, index, node, plate
from simgraph.compile.probe import probe
from simgraph.errors import ShapeError, TracesError

INF = float("inf")


@node
def between():
    return Uniform(1.0, 2.0)


@node
def positive():
    return HalfNormal(1.0)


@node
def real():
    return Normal(0.0, 1.0)


@node
def label():
    return Categorical(torch.ones(3))


def found(*nodes, count=20):
    graph = Graph(*nodes)
    return probe(graph, graph.simulate(count, seed=0, progress=False))


def bounds(variable):
    return variable.support.low.tolist(), variable.support.high.tolist()


def test_bounds_that_follow_a_bounded_parent_get_their_hull():
    @node
    def x(between):
        return Uniform(0.0, between)

    assert bounds(found(between, x)["x"]) == (0.0, 2.0)


def test_both_bounds_may_follow_parents():
    @node
    def x(between):
        return Uniform(-between, 3 * between)

    assert bounds(found(between, x)["x"]) == (-2.0, 6.0)


def test_a_bound_that_follows_an_unbounded_parent_is_dropped_and_the_other_one_kept():
    @node
    def x(positive):
        return Uniform(0.0, positive)

    assert bounds(found(positive, x)["x"]) == (0.0, np.inf)


def test_a_bound_that_saturates_in_an_unbounded_parent_is_kept():
    @node
    def x(real):
        return Uniform(-1.0, torch.sigmoid(real))

    assert bounds(found(real, x)["x"]) == (-1.0, 1.0)


def test_an_unbounded_parent_that_moves_no_bound_drops_none():
    @node
    def x(between, real):
        return Uniform(0.0 * real, between)

    assert bounds(found(between, real, x)["x"]) == (0.0, 2.0)


def test_functions_that_cannot_be_mapped_are_asked_one_by_one():
    @node
    def x(between):
        return Uniform(0.0, between) if between.item() > 1.5 else Uniform(-1.0, between)

    @node
    def y(positive):
        return Uniform(0.0, positive) if positive.item() > 0 else Uniform(0.0, 1.0)

    variables = found(between, positive, x, y)
    assert bounds(variables["x"]) == (-1.0, 2.0)
    assert bounds(variables["y"])[0] == 0.0
    assert bounds(variables["y"])[1] == np.inf


def test_a_categorical_parent_reaches_the_function_as_a_whole_number():
    @node
    def x(label):
        return Uniform(0.0, torch.tensor([1.0, 2.0, 4.0])[label])

    assert bounds(found(label, x)["x"]) == (0.0, 4.0)


def test_a_function_that_refuses_an_extreme_parent_keeps_no_bound():
    @node
    def x(positive):
        if positive.item() > 1e3:
            raise RuntimeError
        return Uniform(0.0, positive)

    assert bounds(found(positive, x)["x"]) == (-np.inf, np.inf)


def test_hulls_are_taken_element_by_element_and_over_plates():
    @node(plates=plate("p", 4))
    def low():
        return Uniform(-1.0, 0.0)

    @node(plates=plate("p", 4))
    def x(low):
        return Uniform(torch.stack([low, low - 2]), torch.tensor([1.0, 5.0]))

    variable = found(low, x)["x"]
    assert bounds(variable) == ([-1.0, -3.0], [1.0, 5.0])
    assert (variable.plate_shape, variable.event_shape, variable.shape) == ((4,), (2,), (4, 2))


def test_counts_have_the_hull_of_their_totals():
    @node
    def total(label):
        return Binomial(5 + label, torch.tensor(0.5))

    variable = found(label, total)["total"]
    assert variable.support.kind == "integers"
    assert bounds(variable) == (0.0, 7.0)


def test_mixtures_have_the_hull_of_their_components():
    @node
    def peaks():
        return MixtureSameFamily(Categorical(torch.ones(2)), Normal(torch.tensor([-1.0, 1.0]), 0.1))

    @node
    def boxes():
        low, high = torch.tensor([[0.0, -1.0], [2.0, 0.0]]), torch.tensor([[1.0, 1.0], [3.0, 4.0]])
        return MixtureSameFamily(Categorical(torch.ones(2)), Independent(Uniform(low, high), 1))

    variables = found(peaks, boxes)
    assert variables["peaks"].support.is_real
    assert bounds(variables["boxes"]) == ([0.0, -1.0], [3.0, 4.0])
    assert variables["boxes"].joint_dim == 1


def test_batch_axes_are_independent_and_event_axes_joint():
    @node
    def batch():
        return Normal(torch.zeros(3), 1.0)

    @node
    def relabelled():
        return Independent(Normal(torch.zeros(3), 1.0), 1)

    @node
    def event():
        return MultivariateNormal(torch.zeros(2, 3), torch.eye(3))

    @node
    def simplex():
        return Dirichlet(torch.ones(2, 3))

    @node(shape=(2, 3))
    def black_box(rng):
        return rng.normal(size=(2, 3))

    joint = {name: v.joint_dim for name, v in found(batch, relabelled, event, simplex, black_box).items()}
    assert joint == {"batch": 0, "relabelled": 0, "event": 1, "simplex": 1, "black_box": 2}


def test_simulators_live_where_they_declare():
    @node(support=constraints.interval(-1.0, 1.0))
    def x(rng):
        return rng.uniform(-1, 1)

    @deterministic(shape=())
    def y(x):
        return 2 * x

    variables = found(x, y)
    assert bounds(variables["x"]) == (-1.0, 1.0)
    assert variables["y"].support.is_real


@pytest.mark.parametrize("fails", [False, True])
def test_distributions_below_an_object_are_known_by_their_draws_where_nothing_runs(fails):
    @deterministic
    def thing(real):
        if fails:
            raise ValueError("no licence")
        return {"rate": abs(real) + 1}

    @node
    def count(thing):
        return Poisson(torch.tensor(thing["rate"]))

    @node
    def value(thing):
        return Normal(thing["rate"], 1.0)

    traces = Traces({"real": np.zeros(4), "count": np.array([7, 2, 3, 5]), "value": np.array([0.0, 1.0, 2.0, 3.0])})
    variables = probe(Graph(real, thing, count, value), traces)
    assert "thing" not in variables
    assert variables["count"].support.kind == "integers"
    assert bounds(variables["count"]) == ((2, 7) if fails else (0, INF))
    assert variables["value"].support.is_real


def test_traces_of_another_graph_are_refused():
    with pytest.raises(TracesError, match="the traces lack real; they hold other"):
        probe(Graph(real), Traces({"other": np.zeros(5)}))

    @node(shape=(3,))
    def x(rng):
        return rng.normal(size=3)

    with pytest.raises(ShapeError, match=r"hold 'x' with shape \(2,\); the graph declares \(3,\)"):
        probe(Graph(x), Traces({"x": np.zeros((5, 2))}))


@deterministic
def doubling(positive):
    return lambda value: positive * value


def test_supports_below_an_object_are_those_of_its_runs():
    @node
    def count(doubling):
        return Poisson(doubling(3.0))

    @node
    def share(doubling):
        return Beta(1 + doubling(1.0), 2.0)

    @node
    def label(doubling):
        return Categorical(torch.ones(4) + 0 * doubling(1.0))

    @node
    def moving(doubling):
        return Uniform(0.0, doubling(1.0))

    @node
    def shares(doubling):
        return Dirichlet(torch.ones(3) + doubling(1.0))

    variables = found(positive, doubling, count, share, label, moving, shares)
    assert (variables["count"].support.kind, *bounds(variables["count"])) == ("integers", 0.0, INF)
    assert bounds(variables["share"]) == (0.0, 1.0)
    assert bounds(variables["label"]) == (0.0, 3.0)
    assert bounds(variables["moving"]) == (0.0, INF)
    assert variables["shares"].support.kind == "simplex"


def test_supports_below_a_function_are_those_of_its_runs():
    t = index("t", 0.0, 1.0, num=(1, 5))

    @node(index=t)
    def rate(positive, t):
        return Independent(Normal(positive * t, 1.0), 1)

    @node
    def hits(rate):
        return Poisson(torch.as_tensor(rate(0.5)).exp())

    assert (found(positive, rate, hits)["hits"].support.kind, *bounds(found(positive, rate, hits)["hits"])) == (
        "integers",
        0.0,
        INF,
    )
