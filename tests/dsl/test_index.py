"""Indices, curves, and nodes that are functions of an index."""

import numpy as np
import pytest

from simgraph import Curve, Graph, deterministic, index, node, plate
from simgraph.errors import (
    DeclarationError,
    DuplicateNameError,
    GraphError,
    ReservedNameError,
    ShapeError,
    UnknownParentError,
)

t = index("t", 0, 10, num=(2, 5))


def test_an_index_tells_its_range_and_numbers():
    assert (t.low, t.high, t.least, t.most, t.is_ragged, t.dims, t.grid) == ((0.0,), (10.0,), 2, 5, True, 1, 200)
    assert repr(t) == "index('t', 0.0, 10.0, num=(2, 5))"
    plane = index("u", (0, -1), (1, 1), num=8)
    assert (plane.dims, plane.is_ragged, plane.size) == (2, False, 8)
    assert np.array_equal(plane.unit(np.array([[0.5, 0.0], [1.0, -1.0]])), [[0, 0], [1, -1]])
    assert np.array_equal(plane.of_unit(np.array([[0, 0], [1, -1]])), [[0.5, 0.0], [1.0, -1.0]])


@pytest.mark.parametrize(
    ("arguments", "options", "text"),
    [
        (("t", 1, 1), {"num": 3}, "which is empty"),
        (("t", 2, 1), {"num": 3}, "which is empty"),
        (("t", 0, np.inf), {"num": 3}, "finite numbers"),
        (("t", (0, 0), (1, 1, 1)), {"num": 3}, "vectors of one length"),
        (("t", "a", 1), {"num": 3}, "both are numbers"),
        (("t", 0, 1), {"num": 0}, "whole number of 1 or more"),
        (("t", 0, 1), {"num": (3, 2)}, "the smaller one first"),
        (("t", 0, 1), {"num": 3, "grid": 1}, "grid=1"),
        (("2t", 0, 1), {"num": 3}, "Python identifier"),
    ],
)
def test_an_index_refuses(arguments, options, text):
    with pytest.raises(DeclarationError, match=text):
        index(*arguments, **options)


def test_the_parameter_of_an_index_is_no_parent():
    @node
    def rate():
        return None

    @node(index=t)
    def f(rate, t, rng):
        return rate * t

    assert f.parents == ("rate",)
    assert f.index is t
    assert f(2, np.array([1.0, 2.0]), None).tolist() == [2.0, 4.0]
    assert repr(f) == "<node f(rate) simulator shape=() index=t>"
    assert "t=2..5 × ()" in repr(Graph(rate, f))


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"plates": t}, "index=t"),
        ({"index": plate("p", 3)}, "which is no index"),
        ({"index": index("other", 0, 1, num=2)}, "no parameter of that name"),
        ({"index": t, "depends": {"f": "independent"}}, "linked by its index"),
    ],
)
def test_a_node_refuses(options, text):
    with pytest.raises(DeclarationError, match=text):

        @node(**options)
        def f(t, rng):
            return t


def test_a_function_without_tokens_has_no_index():
    with pytest.raises(DeclarationError, match="needs shape="):

        @deterministic(index=t)
        def f(t):
            return t


def test_a_graph_refuses_what_indices_cannot_be():
    @node(index=t)
    def f(t, rng):
        return t

    @node
    def reader(f, t, rng):
        return 0.0

    with pytest.raises(ReservedNameError, match="which is an index"):
        Graph(f, reader)

    @node(index=index("t", 0, 11, num=(2, 5)))
    def g(t, rng):
        return t

    with pytest.raises(DuplicateNameError, match="Share one index object"):
        Graph(f, g)

    @node(index=index("f", 0, 1, num=3))
    def h(f, rng):
        return f

    with pytest.raises(DuplicateNameError, match="has the name of an index"):
        Graph(f, h)

    @node(index=index("u", (0, 0), (1, 1), num=4))
    def plane(u, rng):
        return u[:, 0]

    @node
    def under(plane, rng):
        return 0.0

    with pytest.raises(UnknownParentError, match="several coordinates"):
        Graph(plane, under)
    with pytest.raises(DeclarationError, match="has no constant value"):
        Graph(f).do(f=0.0)

    @node(vectorized=True)
    def fast(f, rng):
        return 0.0

    with pytest.raises(GraphError, match="'fast' is vectorized and asks for 'f', a function of an index"):
        Graph(f, fast)


def test_a_prefix_leaves_the_name_of_an_index():
    @node(index=t)
    def f(t, rng):
        return t

    both = Graph(f).include(Graph(f), prefix="other_")
    assert set(both) == {"f", "other_f"}
    assert set(both.indices) == {"t"}


def test_a_curve_is_linear_between_its_points_and_constant_beyond():
    curve = Curve([2.0, 0.0, 1.0], [0.0, 0.0, 10.0])
    assert curve(0.5) == 5.0
    assert curve([-1.0, 0.25, 1.5, 3.0]).tolist() == [0.0, 2.5, 5.0, 0.0]
    several = Curve([0.0, 1.0], [[0.0, 1.0], [2.0, 3.0]])
    assert several(0.5).tolist() == [1.0, 2.0]
    assert several([0.0, 0.5]).tolist() == [[0.0, 1.0], [1.0, 2.0]]
    assert (len(several), repr(several)) == (2, "<Curve of 2 points>")


def test_a_curve_refuses():
    for points, values in (([0.0, 1.0], [0.0]), ([], []), (0.0, 1.0), ([[[0.0]]], [0.0])):
        with pytest.raises(ShapeError, match="one value for each point"):
            Curve(points, values)
    with pytest.raises(ShapeError, match="not interpolated"):
        Curve([[0.0, 0.0]], [1.0])([0.0, 0.0])


@pytest.mark.parametrize(("points", "values"), [("abc", [1.0]), ([1.0], [[1.0], [2.0, 3.0]]), ([[0.0], 1.0], [0.0])])
def test_a_curve_of_what_is_no_array_is_refused(points, values):
    with pytest.raises(ShapeError, match="make no array"):
        Curve(points, values)
