"""What node functions receive, and what they may return."""

import os

import numpy as np
import pytest
import torch
from torch.distributions import (
    Categorical,
    Dirichlet,
    Independent,
    LogNormal,
    MixtureSameFamily,
    MultivariateNormal,
    Normal,
    constraints,
)

from simgraph import Graph, deterministic, node, plate
from simgraph.errors import NodeReturnError, ShapeError, SimulationError

p, q = plate("p", 2), plate("q", 3)


@node
def a():
    return Normal(0.0, 1.0)


@node
def vector():
    return Normal(torch.zeros(3), 1.0)


@node
def label():
    return Categorical(torch.ones(3))


def seen_by(*parents, **options):
    """What a function saw of its parents and of the library, in one trace."""
    seen = {}

    def x(rng, **values):
        seen.update(values, rng=rng)
        return 0.0

    Graph(*parents, node(name="x", parents={n.name: n.name for n in parents}, **options)(x)).simulate(1)
    return seen


def test_simulators_see_numpy_scalars_and_arrays():
    seen = seen_by(a, vector, label)
    assert type(seen["a"]) is np.float64
    assert type(seen["label"]) is np.int64
    assert type(seen["vector"]) is np.ndarray
    assert (seen["vector"].dtype, seen["vector"].shape) == (np.float64, (3,))
    assert type(seen["rng"]) is np.random.Generator


def test_simulators_with_the_torch_backend_see_tensors():
    seen = seen_by(a, vector, label, backend="torch")
    assert [(seen[n].dtype, tuple(seen[n].shape)) for n in ("a", "vector", "label")] == [
        (torch.float64, ()), (torch.float64, (3,)), (torch.int64, ()),
    ]  # fmt: skip
    assert type(seen["rng"]) is torch.Generator


def test_vectorized_simulators_see_arrays_with_a_leading_axis():
    shapes = []

    @node(vectorized=True)
    def x(a, vector, label, rng):
        shapes.append((a.shape[1:], vector.shape[1:], label.shape[1:]))
        assert len(a) == len(vector) == len(label)
        assert (a.dtype, label.dtype) == (np.float64, np.int64)
        return rng.normal(a)

    assert Graph(a, vector, label, x).simulate(5)["x"].shape == (5,)
    assert set(shapes) == {((), (3,), ())}


def test_distributions_see_tensors():
    seen = {}

    @node
    def count(rng):
        return 3

    @node
    def value(rng):
        return 0.5

    @node
    def x(count, value):
        if not torch.is_floating_point(count):  # looked at once more in the map
            seen.update(count=count, value=value)
        return Normal(value, 1.0)

    Graph(count, value, x).simulate(1)
    assert (seen["count"].dtype, seen["value"].dtype) == (torch.int64, torch.float32)
    assert seen["value"].shape == ()


def test_values_are_stored_as_float_or_int64():
    def column(value):
        return Graph(node(name="x")(lambda rng: value)).simulate(2)["x"]

    assert [column(value).dtype for value in (1, True, np.int8(3), torch.tensor(2))] == [np.int64] * 4
    assert [column(value).dtype for value in (1.5, np.float32(2), torch.tensor(2.0))] == [np.float64] * 3


def test_functions_get_copies():
    @node
    def spoil(vector, rng):
        vector[:] = 7.0
        return 0.0

    traces = Graph(vector, spoil).simulate(3)
    assert not (traces["vector"] == 7.0).any()


def test_opaque_objects_arrive_unchanged():
    objects = {
        "dict": {"k": 1},
        "function": np.sin,
        "complex": np.array([1j, 2.0]),
        "float32": np.zeros(2, dtype=np.float32),
        "text": np.array(["a", "b"]),
        "list": [1, [2, 3]],
        "none": None,
    }
    for name, value in objects.items():
        made = deterministic(name="made")(lambda a, value=value: value)
        seen = []
        x = node(name="x")(lambda made, rng, seen=seen: seen.append(made) or 0.0)
        Graph(a, made, x).simulate(1)
        assert len(seen) == 1, name
        assert seen[0] is value, name


def test_distributions_may_have_opaque_parents():
    @deterministic
    def line(a):
        return lambda t: a + t

    @node
    def seen(line):
        return Normal(torch.as_tensor(line(10.0), dtype=torch.float32), 0.1)

    traces = Graph(a, line, seen).simulate(50)
    np.testing.assert_allclose(traces["seen"], traces["a"] + 10, atol=0.6)  # six standard deviations
    assert "line" not in traces


def test_opaque_nodes_in_plates_are_objects_per_element():
    local = node(name="local", plates=p)(lambda a: Normal(a, 1.0))
    box = deterministic(name="box", plates=p)(lambda local: {"value": local})
    inside = node(name="inside", plates=p)(lambda box, rng: box["value"])
    outside = node(name="outside", shape=2)(lambda box, rng: [b["value"] for b in box])
    traces = Graph(a, local, box, inside, outside).simulate(4)
    np.testing.assert_allclose(traces["inside"], traces["local"])
    np.testing.assert_allclose(traces["outside"], traces["local"])


def test_a_deterministic_node_with_a_shape_is_a_variable():
    total = deterministic(name="total", shape=())(lambda vector: vector.sum())
    traces = Graph(vector, total).simulate(5)
    np.testing.assert_allclose(traces["total"], traces["vector"].astype(float).sum(1))


def test_workdir_is_a_fresh_empty_folder_that_goes_away():
    folders = []

    @node
    def x(a, rng, workdir):
        assert os.listdir(workdir) == []
        (workdir / "out.txt").write_text(str(a))
        folders.append(workdir)
        return float((workdir / "out.txt").read_text())

    traces = Graph(a, x).simulate(3)
    np.testing.assert_allclose(traces["x"], traces["a"])
    assert len(set(folders)) == 3
    assert not any(os.path.exists(folder) for folder in folders)


def test_workdir_goes_away_after_a_failure_and_for_distributions_is_no_parent():
    folders = []

    @node
    def x(rng, workdir):
        folders.append(workdir)
        raise OSError("no such program")

    with pytest.raises(SimulationError):
        Graph(x).simulate(2)
    assert len(folders) == 2
    assert not any(os.path.exists(folder) for folder in folders)


def test_loop_and_map_follow_one_law():
    mapped = node(name="x")(lambda a: Normal(2 * a, 0.5))
    looped = node(name="x")(lambda a: Normal(2 * a.item(), 0.5))
    for x in (mapped, looped):
        traces = Graph(a, x).simulate(1500)
        residual = (traces["x"] - 2 * traces["a"]) / 0.5
        assert abs(residual.mean()) < 5 / 1500**0.5  # five standard errors
        assert abs(residual.std() - 1) < 5 / 3000**0.5


@pytest.mark.parametrize("looped", [False, True])
def test_branches_give_each_trace_its_own_law(looped):
    @node
    def x(a):
        if looped:
            return Normal(10.0, 0.1) if a > 0 else Normal(-10.0, 0.1)
        return Normal(torch.where(a > 0, 10.0, -10.0), 0.1)

    traces = Graph(a, x).simulate(100)
    np.testing.assert_array_equal(traces["x"] > 0, traces["a"] > 0)


MIXED = {
    "LogNormal": (lambda a, b: LogNormal(a + b, 0.01), lambda a, b: np.exp(a + b)),
    "Dirichlet": (
        lambda a, b: Dirichlet(1e6 * torch.stack([a.exp(), b.exp(), torch.ones(())])),
        lambda a, b: (
            np.stack([np.exp(a), np.exp(b), np.ones_like(a)], -1)
            / np.stack([np.exp(a), np.exp(b), np.ones_like(a)], -1).sum(-1, keepdims=True)
        ),
    ),
    "MultivariateNormal": (
        lambda a, b: MultivariateNormal(torch.stack([a, b]), 1e-6 * torch.eye(2)),
        lambda a, b: np.stack([a, b], -1),
    ),
    "Categorical": (lambda a, b: Categorical(logits=1e4 * torch.stack([a, b])), lambda a, b: (b > a).astype(int)),
    "MixtureSameFamily": (
        lambda a, b: MixtureSameFamily(
            Categorical(logits=torch.tensor([50.0, -50.0])), Normal(torch.stack([a, b + 100]), 1e-3)
        ),
        lambda a, b: a,
    ),
    "Independent": (
        lambda a, b: Independent(Normal(torch.stack([a, b, a]), 1e-3), 1),
        lambda a, b: np.stack([a, b, a], -1),
    ),
}


@pytest.mark.parametrize("law", MIXED)
def test_laws_in_crossed_plates_reach_the_right_elements(law):
    """Laws so narrow that each draw shows its own parents: one in plate p, one in plate q."""
    function, expected = MIXED[law]
    u = node(name="u", plates=p)(lambda: Normal(0.0, 1.0))
    v = node(name="v", plates=q)(lambda: Normal(0.0, 1.0))
    x = node(name="x", plates=(q, p), parents={"a": "u", "b": "v"})(function)
    traces = Graph(u, v, x).simulate(20)
    left = np.broadcast_to(traces["u"][:, None, :], (20, 3, 2))
    right = np.broadcast_to(traces["v"][:, :, None], (20, 3, 2))
    np.testing.assert_allclose(traces["x"], expected(left, right), rtol=0.06, atol=0.02)
    assert traces.plates["x"] == ("q", "p")


@pytest.mark.parametrize("kind", ["simulator", "vectorized", "torch", "deterministic"])
def test_functions_in_crossed_plates_reach_the_right_elements(kind):
    u = node(name="u", plates=p)(lambda: Normal(0.0, 1.0))
    w = node(name="w", plates=(p, q))(lambda: Normal(torch.zeros(2), 1.0))
    if kind == "deterministic":
        x = deterministic(name="x", plates=(q, p), shape=2)(lambda u, w, a: u + 10 * w + 100 * a)
    elif kind == "vectorized":
        x = node(name="x", plates=(q, p), shape=2, vectorized=True)(
            lambda u, w, a, rng: u[:, None] + 10 * w + 100 * a[:, None]
        )
    else:
        backend = "torch" if kind == "torch" else "numpy"
        x = node(name="x", plates=(q, p), shape=2, backend=backend)(lambda u, w, a, rng: u + 10 * w + 100 * a)
    traces = Graph(a, u, w, x).simulate(4)
    expected = (
        traces["u"][:, None, :, None] + 10 * traces["w"].transpose(0, 2, 1, 3) + 100 * traces["a"][:, None, None, None]
    )
    np.testing.assert_allclose(traces["x"], expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("kind", ["distribution", "simulator", "vectorized"])
def test_a_child_outside_gets_the_stack(kind):
    w = node(name="w", plates=(p, q))(lambda: Normal(torch.zeros(4), 1.0))
    if kind == "distribution":
        x = node(name="x")(lambda w: Normal(w.sum((0, 1)), 1e-3))
    elif kind == "simulator":
        x = node(name="x", shape=4)(lambda w, rng: w.sum((0, 1)))
    else:
        x = node(name="x", shape=4, vectorized=True)(lambda w, rng: w.sum((1, 2)))
    traces = Graph(w, x).simulate(5)
    np.testing.assert_allclose(traces["x"], traces["w"].sum((1, 2)), atol=0.01)


def test_a_child_in_one_of_two_plates_gets_the_other_as_a_stack():
    w = node(name="w", plates=(p, q))(lambda: Normal(0.0, 1.0))
    inside = node(name="x", plates=q, shape=2)(lambda w, rng: w)
    mapped = node(name="y", plates=q)(lambda w: Normal(w, 1e-3))
    vectorized = node(name="z", plates=q, shape=2, vectorized=True)(lambda w, rng: w)
    traces = Graph(w, inside, mapped, vectorized).simulate(3)
    for name in "xyz":
        assert traces[name].shape == (3, 3, 2)
        np.testing.assert_allclose(traces[name], traces["w"].transpose(0, 2, 1), atol=0.01)


def test_elements_of_a_plate_draw_their_own_numbers():
    simulated = node(name="x", plates=p)(lambda rng: rng.normal())
    looped = node(name="y", plates=p)(lambda a: Normal(a.item(), 1.0))
    traces = Graph(a, simulated, looped).simulate(3)
    for name in "xy":
        assert len(np.unique(traces[name])) == 6


def message(error, *nodes, count=3):
    with pytest.raises(error) as caught:
        Graph(*nodes).simulate(count)
    return str(caught.value)


def test_a_wrong_shape_prints_the_shape_seen():
    x = node(name="x")(lambda rng: rng.normal(size=3))
    assert message(ShapeError, x) == (
        f"node 'x' returned a value of shape (3,); declared is shape=().\n  declared at {x.where}\n"
        "  Declare what it returns: shape=(3,)"
    )


def test_shapes_that_vary_are_refused():
    x = node(name="x")(lambda a: Normal(torch.zeros(1 if a > 0 else 2), 1.0))
    assert message(ShapeError, a, x, count=20) == (
        f"node 'x' returned values of different shapes: [(1,), (2,)].\n  declared at {x.where}\n"
        "  Every trace must return the same event shape."
    )


@pytest.mark.parametrize(
    ("result", "first", "last"),
    [
        (None, "node 'x' returned None (is a return statement missing?).", "Return numbers of one fixed shape;"),
        ("text", "node 'x' returned a str.", "Return numbers of one fixed shape;"),
        ({}, "node 'x' returned a dict.", "Return numbers of one fixed shape;"),
        (1j, "node 'x' returned a complex.", "Return numbers of one fixed shape;"),
        (Normal(0.0, 1.0), "node 'x' returned a distribution.", "A node with rng returns a value: draw it,"),
    ],
)
def test_what_is_no_value_is_refused(result, first, last):
    found = message(NodeReturnError, node(name="x")(lambda rng: result)).splitlines()
    assert found[0] == first
    assert found[2].startswith(f"  {last}")


def test_vectorized_results_need_a_leading_axis():
    x = node(name="x", vectorized=True)(lambda a, rng: a.mean())
    assert message(ShapeError, a, x) == (
        "vectorized node 'x' returned shape () for 2 traces of event shape ().\n"
        f"  declared at {x.where}\n  Return a leading trace axis, or remove vectorized=True."
    )


def test_arrays_without_a_declared_shape_need_a_leading_axis_as_well():
    x = deterministic(name="x", vectorized=True)(lambda a: a[:1])
    assert message(ShapeError, a, x) == (
        "vectorized node 'x' returned shape (1,) for 2 traces.\n"
        f"  declared at {x.where}\n  Return a leading trace axis, or remove vectorized=True."
    )


@pytest.mark.parametrize("plates", [(), p])
def test_an_array_without_a_declared_shape_is_no_variable_and_its_children_see_their_row(plates):
    powers = deterministic(name="powers", vectorized=True, plates=plates)(lambda a: np.stack([a, a**2, a**3], 1))
    x = node(name="x", plates=plates)(lambda powers: Normal(torch.as_tensor(powers), 1e-6))
    alone = deterministic(name="powers", plates=plates)(lambda a: np.array([a, a**2, a**3]))
    graph = Graph(a, powers, x)
    assert graph.variables == ("a", "x")
    traces = graph.simulate(5, seed=0, progress=False)
    expected = traces["a"].reshape(5, *[1] * (traces["x"].ndim - 1)) ** np.arange(1, 4)
    np.testing.assert_allclose(traces["x"], np.broadcast_to(expected, traces["x"].shape), atol=1e-5)
    np.testing.assert_allclose(Graph(a, alone, x).log_prob(traces), graph.log_prob(traces), rtol=1e-6)


def test_vectorized_functions_that_mix_traces_are_refused():
    x = deterministic(name="x", shape=(), vectorized=True)(lambda a: a - a.mean())
    assert message(NodeReturnError, a, x) == (
        "vectorized node 'x' gives other values for 2 traces together than for one.\n"
        f"  declared at {x.where}\n  Every operation must treat the leading axis as traces; or remove vectorized=True."
    )


def test_an_error_at_three_traces_is_seen_as_well():
    x = deterministic(name="x", shape=(), vectorized=True)(lambda a: a if len(a) < 3 else a[::-1])
    assert message(NodeReturnError, a, x).startswith("vectorized node 'x' gives other values for 3 traces together")


def test_vectorized_types_must_not_depend_on_the_number_of_traces():
    x = node(name="x", vectorized=True)(lambda a, rng: np.zeros(len(a), dtype=float if len(a) > 1 else int))
    assert message(NodeReturnError, a, x).startswith("vectorized node 'x' gives other values for 2 traces together")


def test_vectorized_agrees_with_the_loop():
    loop = deterministic(name="x", shape=3)(lambda vector: np.sort(vector))
    whole = deterministic(name="y", shape=3, vectorized=True, parents={"v": "vector"})(lambda v: np.sort(v, axis=-1))
    traces = Graph(vector, loop, whole).simulate(1100)
    np.testing.assert_array_equal(traces["x"], traces["y"])


def test_values_outside_of_a_declared_support_fail():
    x = node(name="x", support=constraints.positive)(lambda a, rng: float(a))
    with pytest.raises(SimulationError, match=r"traces failed in node 'x' \(\d+ x outside GreaterThan"):
        Graph(a, x).simulate(20)
