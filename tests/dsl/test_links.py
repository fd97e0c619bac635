"""Incidences that ``depends=`` can declare, against double loops (MASKS.md, property 28)."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from simgraph import causal, deterministic, lagged, node, window
from simgraph.dsl.links import as_link
from simgraph.errors import DeclarationError

sizes = st.integers(1, 4)
shapes = st.lists(sizes, min_size=1, max_size=3).map(tuple)


def looped(child, parent, reaches):
    found = np.zeros(child + parent, dtype=bool)
    for i in np.ndindex(*child):
        for j in np.ndindex(*parent):
            found[i + j] = reaches(i, j)
    return found


@settings(max_examples=300)
@given(shapes, shapes)
def test_full_reaches_everything_and_contains_every_other_link(child, parent):
    full = as_link("full").incidence(child, parent)
    assert np.array_equal(full, looped(child, parent, lambda i, j: True))
    for link in (lagged(1), window(-1, 1), causal(), as_link("independent")):
        assert not (link.incidence(child, parent) & ~full).any()


@settings(max_examples=300)
@given(shapes)
def test_elementwise_links_each_to_its_own(shape):
    assert np.array_equal(as_link("elementwise").incidence(shape, shape), looped(shape, shape, lambda i, j: i == j))


@settings(max_examples=300)
@given(sizes, sizes)
def test_elementwise_broadcasts_the_parent(rows, columns):
    link = as_link("elementwise")
    assert np.array_equal(
        link.incidence((rows, columns), (columns,)), looped((rows, columns), (columns,), lambda i, j: i[1] == j[0])
    )
    assert np.array_equal(
        link.incidence((rows, columns), (rows, 1)), looped((rows, columns), (rows, 1), lambda i, j: i[0] == j[0])
    )
    assert link.incidence((rows,), ()).all()


@settings(max_examples=300)
@given(shapes, shapes, st.lists(st.integers(-2, 3), min_size=1, max_size=3), st.integers(0, 2))
def test_lagged_links_positions_a_distance_apart(child, parent, lags, axis):
    axis %= min(len(child), len(parent))
    expected = looped(child, parent, lambda i, j: i[axis] - j[axis] in lags)
    assert np.array_equal(lagged(*lags, axis=axis).incidence(child, parent), expected)


@settings(max_examples=300)
@given(shapes, shapes, st.integers(-3, 3), st.integers(0, 3))
def test_window_links_positions_around(child, parent, low, width):
    expected = looped(child, parent, lambda i, j: low <= j[0] - i[0] <= low + width)
    assert np.array_equal(window(low, low + width).incidence(child, parent), expected)


@settings(max_examples=300)
@given(shapes, shapes)
def test_causal_links_the_own_position_and_those_before(child, parent):
    expected = looped(child, parent, lambda i, j: j[0] <= i[0])
    assert np.array_equal(causal().incidence(child, parent), expected)
    assert np.array_equal(as_link("causal").incidence(child, parent), expected)


@settings(max_examples=300)
@given(shapes, shapes, st.integers(0, 2**32 - 1))
def test_arrays_and_functions_say_it_entry_by_entry(child, parent, seed):
    entries = np.random.default_rng(seed).random(child + parent) < 0.5
    assert np.array_equal(as_link(entries).incidence(child, parent), entries)
    flat = entries.reshape(int(np.prod(child)), int(np.prod(parent))).astype(int)
    assert np.array_equal(as_link(flat.tolist()).incidence(child, parent), entries)
    by_index = as_link(lambda i, j: entries[i + j])
    assert np.array_equal(by_index.incidence(child, parent), entries)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: as_link("elementwize"), "the link 'elementwize' is not known.\n  Did you mean 'elementwise'?"),
        (lambda: as_link(3.5), "3.5 is no link."),
        (lambda: as_link([[0.5]]), "[[0.5]] is no link."),
        (lambda: lagged(), "lagged(): it takes one lag or more, whole numbers."),
        (lambda: lagged(1.5), "lagged(1.5): it takes one lag or more, whole numbers."),
        (lambda: window(2, 1), "window(2, 1): two whole numbers, the lower first."),
        (
            lambda: as_link("elementwise").incidence((3,), (2,)),
            "an element-wise link of shape (2,) to shape (3,): the parent cannot be broadcast to the child.",
        ),
        (lambda: lagged(1).incidence((3,), ()), "lagged(1) of shape () to shape (3,): there is no axis 0."),
        (
            lambda: as_link(np.ones((2, 2))).incidence((3,), (2,)),
            "a link of shape (2, 2) between a child of shape (3,) and a parent of shape (2,).\n  Accepted: (3, 2)",
        ),
    ],
)
def test_links_that_make_no_sense_are_refused(make, message):
    with pytest.raises(DeclarationError) as caught:
        make()
    assert str(caught.value).startswith(message)


def test_depends_names_parameters_or_the_node_itself():
    with pytest.raises(DeclarationError, match=r"depends= of node 'x' names 'thetta', which is none of its parameters"):

        @node(shape=2, depends={"thetta": "full"})
        def x(theta, rng):
            return rng.normal(theta, size=2)

    @node(shape=2, depends={"theta": "elementwise", "y": "independent"})
    def y(theta, rng):
        return rng.normal(theta)

    assert list(y.depends) == ["theta"]
    assert y.within is not None


def test_an_object_without_a_shape_has_no_elements_to_link():
    with pytest.raises(DeclarationError, match="needs shape= when support=, index=, tokenizer= or depends= is set"):

        @deterministic(depends={"theta": "full"})
        def orbit(theta):
            return object()


def test_a_wrong_link_is_named_with_its_node():
    with pytest.raises(DeclarationError, match=r"depends= of node 'x': the link 'fulll' is not known"):

        @node(shape=2, depends={"theta": "fulll"})
        def x(theta, rng):
            return rng.normal(theta)


def test_rows_of_the_product_of_two_axes_are_all_reached():
    """Elements along other axes than the one that counts all reach one another."""
    link = lagged(1, axis=1).incidence((2, 3), (2, 3))
    for i, j in itertools.product(np.ndindex(2, 3), np.ndindex(2, 3)):
        assert link[i + j] == (i[1] - j[1] == 1)
