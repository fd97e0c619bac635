import re

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from simgraph.errors import EvidenceError, ShapeError
from simgraph.query import above, below, between

numbers = st.floats(-1e6, 1e6)


@given(numbers, numbers)
def test_an_interval_holds_its_ends_or_is_refused_as_empty(low, high):
    if low < high:
        found = between(low, high)
        assert (found.low, found.high) == (low, high)
        assert found.low.dtype == found.high.dtype == np.float64
    else:
        with pytest.raises(EvidenceError, match="is empty"):
            between(low, high)


def test_ends_are_broadcast_against_each_other():
    found = between(torch.zeros(2, 1), [1, 2, 3])
    assert found.low.tolist() == [[0, 0, 0], [0, 0, 0]]
    assert found.high.tolist() == [[1, 2, 3], [1, 2, 3]]


def test_an_interval_is_not_changed_through_the_array_it_was_made_of():
    low = np.zeros(2)
    found = between(low, 1.0)
    low[:] = 5.0
    found.high[0] = 7.0
    assert found.low.tolist() == [0, 0]
    assert found.high.tolist() == [7, 1]


def test_an_interval_may_be_open_on_one_side():
    assert above([0, 1]).low.tolist() == [0, 1]
    assert above([0, 1]).high.tolist() == [np.inf, np.inf]
    assert below(2).low == -np.inf
    assert below(2).high == 2
    half = between([-np.inf, 0.0], [0.0, np.inf])
    assert half.low.tolist() == [-np.inf, 0]
    assert half.high.tolist() == [0, np.inf]


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (
            lambda: between(2, 1),
            EvidenceError,
            "between(2, 1) is empty: no number lies between 2 and 1.\n"
            "  The low end comes first and is smaller. A value that is known is given as it is: given(x=1.0)",
        ),
        (lambda: between(1, 1), EvidenceError, "between(1, 1) is empty: no number lies between 1 and 1.\n"),
        (
            lambda: between([0, 3, 4], 2),
            EvidenceError,
            "between(3, 2) is empty: no number lies between 3 and 2; 2 of 3 elements are empty.\n",
        ),
        (lambda: above(np.inf), EvidenceError, "above(inf) is empty: no number lies between inf and inf.\n"),
        (lambda: below([-np.inf]), EvidenceError, "below(-inf) is empty: no number lies between -inf and -inf"),
        (
            lambda: between([np.nan, 0.0], np.nan),
            EvidenceError,
            "between(...) holds 2 NaN.\n  Leave an element open with an infinite end: sg.between(-numpy.inf, 1.0)",
        ),
        (
            lambda: above([np.nan]),
            EvidenceError,
            "above(...) holds 1 NaN.\n  Leave an element open with an infinite end: sg.above([-numpy.inf, 1.0])",
        ),
        (
            lambda: below([np.nan]),
            EvidenceError,
            "below(...) holds 1 NaN.\n  Leave an element open with an infinite end: sg.below([numpy.inf, 1.0])",
        ),
        (
            lambda: above(np.nan),
            EvidenceError,
            "above(...) holds 1 NaN.\n  A variable whose end is not known is left out of given(...).",
        ),
        (lambda: below("1"), EvidenceError, "below(...) holds text, not numbers."),
        (lambda: between(None, 1), EvidenceError, "between(...) holds values of type object, not numbers."),
        (lambda: above(None), EvidenceError, "above(...) holds values of type object, not numbers."),
        (
            lambda: between(np.zeros(2), np.ones(3)),
            ShapeError,
            "between(...) has ends of shapes (2,) and (3,), which do not fit together.\n"
            "  Each end is one number, or an array with one number per element.",
        ),
    ],
)
def test_an_interval_that_says_nothing_is_refused(call, error, message):
    with pytest.raises(error, match=f"^{re.escape(message)}"):
        call()
