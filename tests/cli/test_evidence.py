"""What stands behind ``--given``."""

import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from simgraph.cli.evidence import evidence, places
from simgraph.errors import EvidenceError, UnknownNameError
from simgraph.errors import QueryError as Refused
from simgraph.query import Interval, Missing

SHAPES = {"x": (), "y": (3,), "z": (2, 2)}


def ends(found):
    assert isinstance(found, Interval)
    return found.low.tolist(), found.high.tolist()


def test_numbers_and_lists_are_values():
    found = evidence(["x=0.5", " y = [1, -2, 3e-1]"], SHAPES)
    assert found["x"] == 0.5
    assert found["y"].tolist() == [1, -2, 0.3]


def test_nan_is_missing():
    found = evidence(["y=[nan, 1, nan]", "x=nan"], SHAPES)
    assert isinstance(found["y"], Missing)
    assert found["y"].observed.tolist() == [False, True, False]
    assert found["x"].observed.tolist() is False


@pytest.mark.parametrize(
    ("text", "low", "high"),
    [
        ("0.1..0.4", 0.1, 0.4),
        ("-1..1", -1, 1),
        ("1e-3..1e3", 1e-3, 1e3),
        (".5...7", 0.5, 0.7),
        (" 0 .. 1 ", 0, 1),
        ("0.1..", 0.1, np.inf),
        ("..0.4", -np.inf, 0.4),
        ("..-2", -np.inf, -2),
    ],
)
def test_two_dots_are_an_interval(text, low, high):
    assert ends(evidence([f"x={text}"], SHAPES)["x"]) == (low, high)


@given(st.floats(allow_nan=False, allow_infinity=False), st.floats(allow_nan=False, allow_infinity=False))
def test_ends_are_read_as_they_are_written(low, high):
    if low < high:
        assert ends(evidence([f"x={low!r}..{high!r}"], SHAPES)["x"]) == (low, high)


def test_elements_that_are_not_named_are_missing_or_without_bounds():
    found = evidence(["y[1]=5", "z[0, 1]=0..1", "z[1,1]=..2"], SHAPES)
    assert found["y"].observed.tolist() == [False, True, False]
    assert found["y"].values[1] == 5
    assert ends(found["z"]) == ([[-np.inf, 0], [-np.inf, -np.inf]], [[np.inf, 1], [np.inf, 2]])


def test_all_elements_make_a_value():
    assert evidence(["y[2]=3", "y[0]=1", "y[1]=2"], SHAPES)["y"].tolist() == [1, 2, 3]


@pytest.mark.parametrize(
    ("texts", "error", "message"),
    [
        (["x"], Refused, "--given 'x' is not of the form name=value.\n  For example: x=0.5, y=[1,2], x=0.1..0.4, "),
        (["=1"], Refused, "--given '=1' is not of the form name=value."),
        (["y[1=1"], Refused, "--given 'y[1=1' is not of the form name=value."),
        (
            ["x=red"],
            Refused,
            "--given x has the value 'red', which is no number, no list of numbers, no interval and no function.\n"
            "  For example: x=",
        ),
        (["x=[1,"], Refused, "--given x has the value '[1,', which is no number"),
        (["x=[[1],[1,2]]"], Refused, "--given x has the value '[[1],[1,2]]', which is no number"),
        (["x=.."], Refused, "--given x has the value '..', which is no number"),
        (["x=0..red"], Refused, "--given x has the value '0..red', which is no number"),
        (["y=[0..1, 2, 3]"], Refused, "--given y has the value '[0..1, 2, 3]', which is no number"),
        (["x=2..1"], EvidenceError, "between(2, 1) is empty"),
        (["x=nan..1"], EvidenceError, "between(...) holds 1 NaN."),
        (["x=1", "x=2"], Refused, "--given names 'x' twice.\n  Give each variable, or each element, once."),
        (["y[1]=1", "y[1]=2"], Refused, "--given names 'y[1]' twice."),
        (["y[1]=1", "y=[1,2,3]"], Refused, "--given names 'y' twice."),
        (["y=[1,2,3]", "y[1]=1"], Refused, "--given names 'y[1]' twice."),
        (["yy[1]=1"], UnknownNameError, "'yy' is not a variable of this model.\n  Did you mean 'y'? Known names: y, "),
        (
            ["y[3]=1"],
            Refused,
            "--given names the element y[3], which does not exist: 'y' has the shape (3,).\n"
            "  Elements are numbered from 0.",
        ),
        (["y[-1]=1"], Refused, "--given names the element y[-1], which does not exist"),
        (["z[1]=1"], Refused, "--given names the element z[1], which does not exist: 'z' has the shape (2, 2)."),
        (["y[a]=1"], Refused, "--given names the element y[a], which does not exist"),
        (["x[0]=1"], Refused, "--given names the element x[0], which does not exist: 'x' has the shape ()."),
        (["x[]=1"], Refused, "--given names the element x[], which does not exist: 'x' has the shape ()."),
        (["y[1]=[1]"], Refused, "--given y[1] is a list; an element is one number."),
        (
            ["y[0]=1", "y[1]=0..1"],
            Refused,
            "--given gives numbers for some elements of 'y' and intervals for others.\n"
            "  Elements of one variable are given in one way.",
        ),
    ],
)
def test_text_that_is_no_evidence_is_refused(texts, error, message):
    with pytest.raises(error, match=f"^{re.escape(message)}"):
        evidence(texts, SHAPES)


def test_functions_have_points_and_values():
    found = evidence(["x=[0, 2.5]:[.1,-3]"], {"x": ()})
    assert list(found) == ["x"]
    assert found["x"].points.ravel().tolist() == [0, 2.5]
    assert found["x"].values.tolist() == [0.1, -3]


def test_sizes_are_whole_numbers_of_plates_and_points_are_lists():
    assert places(["school=7", " year = 2", "t=[0, 2.5]"]) == {"school": 7, "year": 2, "t": [0.0, 2.5]}
    assert places([]) == {}


@pytest.mark.parametrize("text", ["school", "school=", "=7", "school=2.5", "school=-1", "school=x", "t=[a]"])
def test_sizes_that_are_none_are_refused(text):
    with pytest.raises(Refused) as caught:
        places([text])
    assert str(caught.value) == (
        f"--at {text!r} is not of the form plate=number or index=[points].\n"
        "  For example: --at school=7, or --at t=[0,2.5]"
    )


def test_a_plate_has_one_size():
    with pytest.raises(Refused, match=r"--at names 'school' twice.\n  Give each plate and index once."):
        places(["school=7", "school=8"])
