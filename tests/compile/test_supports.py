"""Bijections between supports and R^n: properties, whatever their formulas."""

import json

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.distributions import constraints

from simgraph.compile.supports import Support, describe_constraint
from simgraph.errors import FileFormatError, SupportError

INF = np.inf

BOUNDS = {
    "real": (-INF, INF),
    "positive": (0.0, INF),
    "above": (-3.0, INF),
    "negative": (-INF, 0.0),
    "below": (-INF, 5.0),
    "unit": (0.0, 1.0),
    "wide": (-1e4, 1e4),
    "far": (1e6, 1e6 + 1.0),
    "narrow": (-1e-6, 1e-6),
}
kinds = pytest.mark.parametrize("kind", BOUNDS)


def interval(low, high):
    return Support("interval", np.asarray(low, dtype=float), np.asarray(high, dtype=float))


def inside(support, units):
    """Values in the support, from numbers in [0.001, 0.999]."""
    low, high, units = float(support.low), float(support.high), np.asarray(units)
    if np.isfinite(low) and np.isfinite(high):
        return low + (high - low) * units
    tail = units / (1 - units)
    if np.isfinite(low):
        return low + tail
    return high - tail if np.isfinite(high) else np.log(tail)


units = st.lists(st.floats(0.001, 0.999), min_size=1, max_size=5)


@kinds
@settings(max_examples=20)
@given(units=units)
def test_constrain_inverts_unconstrain(kind, units):
    support = interval(*BOUNDS[kind])
    values = torch.tensor(inside(support, units), dtype=torch.float64)
    free = support.unconstrain(values)
    scale = min(float(support.high - support.low), 1.0)
    assert free.isfinite().all()
    assert torch.allclose(support.constrain(free), values, rtol=1e-9, atol=1e-9 * scale)


@kinds
def test_unconstrain_inverts_constrain_within_the_bulk(kind):
    support = interval(*BOUNDS[kind])
    middle = support.unconstrain(torch.tensor(inside(support, [0.3, 0.7]), dtype=torch.float64))
    free = torch.linspace(float(middle[0]), float(middle[1]), 7, dtype=torch.float64)
    assert torch.allclose(support.unconstrain(support.constrain(free)), free, rtol=1e-6, atol=1e-6)


@kinds
def test_the_bijection_is_increasing(kind):
    support = interval(*BOUNDS[kind])
    values = torch.tensor(np.sort(inside(support, np.linspace(0.001, 0.999, 201))), dtype=torch.float64)
    assert (support.unconstrain(values).diff() > 0).all()


@kinds
@pytest.mark.parametrize("extreme", [-1e6, -1e3, -40.0, 0.0, 40.0, 1e3, 1e6])
def test_draws_never_leave_the_support(kind, extreme):
    support = interval(*BOUNDS[kind])
    value = support.constrain(torch.tensor([extreme], dtype=torch.float64))
    rounded = support.rounded(value)
    assert not value.isnan().any()
    assert support.contains(value.numpy()).all()
    assert rounded.dtype == torch.float32
    assert ((rounded > float(support.low)) & (rounded < float(support.high))).all() or kind == "far"


@kinds
def test_values_on_the_bounds_have_finite_coordinates_and_come_back(kind):
    support = interval(*BOUNDS[kind])
    ends = [bound for bound in BOUNDS[kind] if np.isfinite(bound)]
    values = torch.tensor(ends, dtype=torch.float64)
    free = support.unconstrain(values)
    assert free.isfinite().all()
    width = np.nan_to_num(float(support.high - support.low), posinf=1.0)
    assert torch.allclose(support.constrain(free), values, rtol=1e-12, atol=1e-9 * width)


@kinds
@settings(max_examples=20)
@given(units=units)
def test_the_log_determinant_is_that_of_the_bijection(kind, units):
    support = interval(*BOUNDS[kind])
    values = torch.tensor(inside(support, units), dtype=torch.float64, requires_grad=True)
    (slope,) = torch.autograd.grad(support.unconstrain(values).sum(), values)
    assert torch.allclose(support.log_abs_det(values.detach()), slope.log(), rtol=1e-9, atol=1e-9)


@settings(max_examples=20)
@given(st.lists(st.floats(1e-3, 1.0), min_size=2, max_size=6))
def test_the_log_determinant_of_the_simplex_is_that_of_all_coordinates_but_the_last(weights):
    support = Support("simplex", np.array(0.0), np.array(1.0))
    values = torch.tensor(weights, dtype=torch.float64) / sum(weights)

    def free(first):
        return support.unconstrain(torch.cat([first, 1 - first.sum(-1, keepdim=True)]))

    matrix = torch.autograd.functional.jacobian(free, values[:-1])
    assert torch.allclose(support.log_abs_det(values), torch.linalg.slogdet(matrix)[1], rtol=1e-7, atol=1e-7)


@kinds
def test_the_log_determinant_is_finite_on_the_bounds(kind):
    support = interval(*BOUNDS[kind])
    ends = torch.tensor([bound for bound in BOUNDS[kind] if np.isfinite(bound)], dtype=torch.float64)
    assert support.log_abs_det(ends).isfinite().all()


def test_integers_have_no_log_determinant():
    with pytest.raises(SupportError, match="a support of integers has no bijection"):
        Support("integers", np.array(0.0), np.array(3.0)).log_abs_det(torch.zeros(1))


def test_bounds_may_differ_by_element():
    support = interval([-INF, 0.0, -INF, -1.0], [INF, INF, 2.0, 1.0])
    values = torch.tensor([[-7.0, 0.3, -4.0, 0.9], [3.0, 1e5, 1.999, -0.2]], dtype=torch.float64)
    free = support.unconstrain(values)
    for column, (low, high) in enumerate(zip(support.low, support.high, strict=True)):
        assert torch.equal(free[:, column], interval(low, high).unconstrain(values[:, column]))
    assert torch.allclose(support.constrain(free), values, rtol=1e-9)
    extreme = torch.tensor([[-1e6] * 4, [1e6] * 4], dtype=torch.float64)
    out = support.rounded(support.constrain(extreme)).double()
    assert ((out > torch.from_numpy(support.low)) & (out < torch.from_numpy(support.high))).all()
    assert torch.equal(out[:, 0], extreme[:, 0])


def test_reals_are_left_as_they_are():
    values = torch.tensor([-1e300, 0.0, 1e-300], dtype=torch.float64)
    support = interval(-INF, INF)
    assert support.is_real
    assert torch.equal(support.unconstrain(values), values)
    assert torch.equal(support.constrain(values), values)


@pytest.mark.parametrize(("low", "high"), [(0.0, 0.1), (0.1, 0.3), (-0.3, 0.7), (1 / 3, 2 / 3), (0.0, INF), (0.1, INF)])
def test_rounded_values_lie_strictly_inside_bounds_that_floats_do_not_hold(low, high):
    support = interval(low, high)
    ends = torch.tensor([low, min(high, 1e30)], dtype=torch.float64)
    out = support.rounded(torch.cat([ends, ends + 1e-12, ends - 1e-12]).clamp(low, high)).double()
    assert ((out > low) & (out < high)).all()


def test_rounded_integers_are_integers():
    support = Support("integers", np.array(2.0), np.array(9.0))
    assert support.rounded(torch.tensor([2.0, 9.0], dtype=torch.float64)).tolist() == [2, 9]
    assert support.rounded(torch.tensor([2.0], dtype=torch.float64)).dtype == torch.int64


@given(st.lists(st.floats(1e-4, 1.0), min_size=2, max_size=6))
def test_simplex_round_trip(weights):
    support = Support("simplex", np.array(0.0), np.array(1.0))
    values = torch.tensor(weights, dtype=torch.float64)[None] / sum(weights)
    free = support.unconstrain(values)
    assert free.shape == (1, len(weights) - 1)
    assert torch.allclose(support.constrain(free), values, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("extreme", [-1e6, -30.0, 30.0, 1e6])
def test_simplex_draws_are_probabilities(extreme):
    support = Support("simplex", np.array(0.0), np.array(1.0))
    value = support.constrain(torch.tensor([[extreme, 0.0], [0.0, extreme], [extreme, -extreme]], dtype=torch.float64))
    assert support.contains(value.numpy()).all()
    assert not value.isnan().any()


def test_simplex_corners_have_finite_coordinates():
    support = Support("simplex", np.array(0.0), np.array(1.0))
    corners = torch.eye(3, dtype=torch.float64)
    free = support.unconstrain(corners)
    assert free.isfinite().all()
    assert torch.allclose(support.constrain(free), corners, atol=1e-6)


def test_contains_knows_bounds_whole_numbers_and_sums():
    found = interval([0, -1], [1, INF]).contains(np.array([[0.5, 7.0], [2.0, -2.0]]))
    assert found.tolist() == [[True, True], [False, False]]
    integers = Support("integers", np.array(0.0), np.array(3.0))
    assert integers.contains(np.array([0, 3, 4, 1.5, -1])).tolist() == [True, True, False, False, False]
    simplex = Support("simplex", np.array(0.0), np.array(1.0))
    assert simplex.contains(np.array([[0.2, 0.8], [0.5, 0.6], [-0.5, 1.5]])).tolist() == [True, False, False]


def test_integers_have_no_bijection():
    with pytest.raises(SupportError, match="a support of integers has no bijection"):
        Support("integers", np.array(0.0), np.array(3.0)).unconstrain(torch.zeros(1))


@pytest.mark.parametrize(
    ("constraint", "kind", "low", "high"),
    [
        (constraints.real, "interval", -INF, INF),
        (constraints.real_vector, "interval", -INF, INF),
        (constraints.positive, "interval", 0, INF),
        (constraints.nonnegative, "interval", 0, INF),
        (constraints.unit_interval, "interval", 0, 1),
        (constraints.less_than(2.0), "interval", -INF, 2),
        (constraints.greater_than_eq(2.0), "interval", 2, INF),
        (constraints.half_open_interval(1.0, 2.0), "interval", 1, 2),
        (constraints.independent(constraints.interval(-1.0, 1.0), 1), "interval", -1, 1),
        (constraints.boolean, "integers", 0, 1),
        (constraints.integer_interval(2, 5), "integers", 2, 5),
        (constraints.nonnegative_integer, "integers", 0, INF),
        (constraints.positive_integer, "integers", 1, INF),
        (constraints.simplex, "simplex", 0, 1),
    ],
)
def test_constraints_are_read(constraint, kind, low, high):
    support = describe_constraint(constraint, "x")
    assert (support.kind, float(support.low), float(support.high)) == (kind, low, high)


@pytest.mark.parametrize("constraint", [constraints.positive_definite, constraints.lower_cholesky, constraints.one_hot])
def test_other_constraints_are_refused_by_name(constraint):
    with pytest.raises(SupportError, match=r"node 'x' has the support .* which has no tokenizer") as caught:
        describe_constraint(constraint, "x")
    assert "Known are reals" in str(caught.value)


def test_supports_survive_json():
    for support in (
        interval([-INF, 0.0], [INF, 1.5]),
        Support("integers", np.array(0.0), np.array(INF)),
        Support("simplex", np.array(0.0), np.array(1.0)),
    ):
        back = Support.from_json(json.loads(json.dumps(support.to_json())))
        assert back.kind == support.kind
        assert np.array_equal(back.low, support.low)
        assert np.array_equal(back.high, support.high)


def test_unknown_kinds_are_refused():
    with pytest.raises(FileFormatError, match="a support of kind 'sphere' is not known"):
        Support.from_json({"kind": "sphere", "low": 0, "high": 1})


def test_supports_print_short():
    assert str(interval(-INF, INF)) == "real"
    assert str(interval(0.0, INF)) == "(0, inf)"
    assert str(interval([0.0, -1.0], [1.0, 2.0])) == "(-1..0, 1..2)"
    assert str(Support("integers", np.array(0.0), np.array(2.0))) == "{0..2}"
    assert str(Support("simplex", np.array(0.0), np.array(1.0))) == "simplex"
