"""Traces of graphs with function-valued variables."""

import numpy as np
import pytest
from curves import covariance, field, line, s, seen, slope, smooth, straight, t
from scipy.stats import kstest
from torch.distributions import Normal

from simgraph import Curve, Graph, Traces, index, node, plate
from simgraph.errors import DeclarationError, QueryError, ShapeError, SimulationError, UnknownNameError


def test_points_are_in_range_rising_and_as_many_as_declared():
    traces = straight.simulate(500, seed=3, progress=False)
    points, numbers = traces["s"], traces.sizes["s"]
    assert set(numbers) == {2, 3, 4, 5}
    assert np.array_equal(np.isfinite(points), np.arange(5) < numbers[:, None])
    assert np.array_equal(np.isfinite(traces["line"]), np.isfinite(points))
    assert all((np.diff(row[:number]) > 0).all() for row, number in zip(points, numbers, strict=True))
    assert kstest(points[np.isfinite(points)] / 10, "uniform").pvalue > 1e-3


def test_a_trace_depends_on_its_number_alone():
    whole = smooth.simulate(4, seed=1, progress=False)
    part = smooth.simulate(2, seed=1, start=2, progress=False)
    for name in whole:
        assert np.array_equal(whole[2:][name], part[name], equal_nan=True)


def test_what_children_do_does_not_depend_on_where_a_function_is_looked_at():
    @node(index=t)
    def known(t, rng):
        return np.sin(t)

    @node(index=s)
    def copy(known, s, rng):
        return known(s)

    graph = Graph(known, copy)
    first = graph.simulate(3, at={t: [0.0, 5.0], s: [1.0, 5.0]}, progress=False)["copy"]
    second = graph.simulate(3, at={t: [2.0], s: [1.0, 5.0]}, progress=False)["copy"]
    assert np.array_equal(first, second)
    assert np.abs(first - np.sin([1.0, 5.0])).max() < 0.01  # linear between forty points


def test_a_random_function_has_its_covariance():
    points = [1.0, 2.0, 6.0]
    values = Graph(field).simulate(4000, at={"t": points}, progress=False)["field"]
    # Four standard errors of a covariance of unit normals.
    assert np.abs(np.cov(values.T) - covariance(points, points)).max() < 4 * np.sqrt(2 / 4000) + 1e-3


def test_a_child_follows_the_function():
    traces = smooth.simulate(300, at={"t": [2.0, 8.0], "s": [2.0, 8.0]}, progress=False)
    left = traces["seen"] - 2 * traces["field"]
    assert np.abs(left).mean() < 2 * traces["spread"].mean()  # of a half normal with the same scale: 0.8


def test_values_have_shapes_of_their_own_plates_too():
    group = plate("group", 3)

    @node(plates=group)
    def level(rng):
        return rng.normal()

    @node(plates=group, index=t, shape=(2,))
    def pair(level, t, rng):
        return np.stack([level + t, t], 1)

    @node(plates=group)
    def total(pair, rng):
        return pair(5.0)[0]

    traces = Graph(level, pair, total).simulate(4, at={"t": [1.0, 2.0]}, progress=False)
    assert traces["pair"].shape == (4, 3, 2, 2)
    assert np.allclose(traces["pair"][..., 0], traces["level"][..., None] + [1.0, 2.0])
    assert np.allclose(traces["total"], traces["level"] + 5.0)


def test_vectorised_functions_receive_points_of_all_traces():
    @node(index=t, vectorized=True)
    def fast(t, rng):
        return 2 * t

    traces = Graph(fast).simulate(20, progress=False)
    assert np.allclose(traces["fast"], 2 * traces["t"], equal_nan=True)


def test_fields_have_points_of_several_coordinates():
    plane = index("u", (0, -1), (1, 1), num=4)

    @node(index=plane)
    def height(u, rng):
        return u[:, 0] + 10 * u[:, 1]

    traces = Graph(height).simulate(5, progress=False)
    assert traces["u"].shape == (5, 4, 2)
    assert np.allclose(traces["height"], traces["u"] @ [1, 10])


def test_traces_with_points_are_saved_cut_and_joined(tmp_path):
    traces = straight.simulate(6, progress=False)
    traces.save(tmp_path / "traces.st")
    loaded = Traces.load(tmp_path / "traces.st")
    for name in traces:
        assert np.array_equal(loaded[name], traces[name], equal_nan=True)
    one = traces.trace(2)
    assert one["s"].shape == one["line"].shape == (traces.sizes["s"][2],)
    both = Traces.concatenate(traces, straight.simulate(3, start=6, progress=False))
    assert both["s"].shape == (9, 5)


def test_points_that_do_not_fit_are_refused():
    with pytest.raises(UnknownNameError, match="no index of this graph"):
        straight.simulate(2, at={"z": [1.0]})
    with pytest.raises(DeclarationError, match="maps no index to points"):
        straight.simulate(2, at=[1.0])
    with pytest.raises(DeclarationError, match="outside of the range"):
        straight.simulate(2, at={"s": [11.0]})
    with pytest.raises(DeclarationError, match=r"outside of the range .*: 1 of 1. First: nan"):
        straight.simulate(2, at={"s": [np.nan]})
    with pytest.raises(ShapeError, match="has shape"):
        straight.simulate(2, at={"s": 1.0})
    with pytest.raises(ShapeError, match="for 3 traces, not for 2"):
        straight.simulate(2, at={"s": np.ones((3, 1))})


def test_a_function_returns_one_value_for_each_point():
    @node(index=s)
    def short(s, rng):
        return s[:-1]

    @node(index=s)
    def alone(s, rng):
        return rng.normal()

    for wrong in (short, alone):
        with pytest.raises(ShapeError, match=r"A function of 's' returns one value for each point"):
            Graph(wrong).simulate(2, progress=False)


def test_functions_that_fail_are_counted():
    @node(index=s)
    def fragile(slope, s, rng):
        if slope > 0:
            raise ValueError
        return s

    with pytest.warns(match="traces failed in node 'fragile'"):
        traces = Graph(slope, fragile).simulate(40, on_failure="drop", progress=False)
    assert (traces["slope"] <= 0).all()
    assert np.allclose(traces["fragile"], traces["s"], equal_nan=True)


def test_a_curve_is_what_a_child_receives():
    kinds = set()

    @node
    def reader(line, rng):
        kinds.add(type(line))
        return line(0.0)

    Graph(slope, line, reader).simulate(2, progress=False)
    assert kinds == {Curve}
    assert seen.parents == ("doubled", "spread")


def test_values_of_functions_are_no_rows_and_have_no_density():
    rows = straight.simulate(3, progress=False)
    with pytest.raises(QueryError, match="takes no values of functions, which line is"):
        straight.simulate(given=rows)
    again = straight.simulate(given={"slope": rows["slope"]}, progress=False)
    assert again["line"].shape == (3, 5)
    with pytest.raises(QueryError, match="does not know the density of functions, which line is"):
        straight.log_prob({"slope": 0.0, "line": [0.0]})
    assert straight.prune("slope").log_prob({"slope": 0.0}).shape == ()


def test_a_distribution_node_calls_a_function_with_tensors():
    @node(index=s)
    def seen_again(line, s):
        return Normal(line(s), 0.1)

    traces = Graph(slope, line, seen_again).simulate(5, progress=False)
    assert np.isfinite(traces["seen_again"][:, :2]).all()


def test_a_function_that_always_fails_says_why():
    @node(index=s)
    def broken(s):
        raise ValueError("no")

    with pytest.raises(SimulationError, match="4 x ValueError"):
        Graph(broken).simulate(4, progress=False)


def test_curves_are_copies():
    values = np.zeros(2)
    curve = Curve([0.0, 1.0], values)
    values[:] = 5.0
    assert curve(0.5) == 0.0
