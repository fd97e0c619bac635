import json
import struct

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from simgraph import Traces, files
from simgraph.errors import FileFormatError, TracesError, UnknownNameError
from simgraph.traces import Column


@pytest.fixture
def traces():
    present = np.array([True, False, True, True])
    return Traces(
        {
            "theta": np.arange(8.0).reshape(4, 2),
            "x": Column(np.array([1.0, np.nan, 3.0, 4.0]), present),
            "n": [1, 2, 3, 4],
        },
        plates={"theta": ("p",)},
        sources=[(0, 0, 4)],
    )


def same(left, right):
    assert list(left) == list(right)
    assert left.plates == right.plates
    for name in left:
        np.testing.assert_array_equal(left[name], right[name])
        assert left[name].dtype == right[name].dtype
        np.testing.assert_array_equal(left.present(name), right.present(name))


def test_traces_are_a_mapping_from_names_to_arrays(traces):
    assert list(traces) == ["theta", "x", "n"]
    assert len(traces) == 3
    assert traces.num_simulations == 4
    assert "theta" in traces
    assert "y" not in traces
    assert 0 not in traces
    assert traces.get("y") is None
    assert dict(traces).keys() == {"theta", "x", "n"}


def test_unknown_names_are_refused(traces):
    with pytest.raises(UnknownNameError) as caught:
        traces["thetta"]
    assert str(caught.value) == (
        "'thetta' is not a variable of these traces.\n  Did you mean 'theta'? Known names: theta, n, x."
    )


def test_presence_is_true_unless_masked(traces):
    assert traces.present("theta").shape == (4, 2)
    assert traces.present("theta").all()
    assert traces.present("x").tolist() == [True, False, True, True]


@pytest.mark.parametrize("rows", [slice(1, 3), slice(None, None, 2), [0, 3], np.array([True, False, True, False])])
def test_slices_select_traces_with_their_masks(traces, rows):
    part = traces[rows]
    assert isinstance(part, Traces)
    np.testing.assert_array_equal(part["theta"], traces["theta"][rows])
    np.testing.assert_array_equal(part.present("x"), traces.present("x")[rows])
    assert part.plates == traces.plates


@pytest.mark.parametrize("row", [0, 3, -1, -4, np.int64(2)])
def test_a_number_selects_one_trace(traces, row):
    assert traces[row].num_simulations == 1
    np.testing.assert_array_equal(traces[row]["theta"][0], traces["theta"][row])


@pytest.mark.parametrize("row", [4, -5])
def test_a_number_out_of_range_is_an_index_error(traces, row):
    with pytest.raises(IndexError, match=f"trace {row} is out of range: there are 4"):
        traces[row]


def test_values_become_float_or_int64():
    narrow = np.zeros(2, dtype=np.int8)
    traces = Traces({"a": torch.zeros(2), "b": np.array([True, False]), "c": narrow, "d": [1.0, 2.0]})
    assert [traces[name].dtype for name in "abcd"] == [np.float32, np.int64, np.int64, np.float64]


@pytest.mark.parametrize(
    ("columns", "text"),
    [
        ({}, "traces need at least one variable.\n  For example: Traces({'theta': array})"),
        ({"a": np.zeros(2), "b": np.zeros(3)}, "variables have different numbers of traces: {'a': 2, 'b': 3}."),
        ({"a": 1.0}, "'a' is a single number; a variable needs a leading trace axis."),
        ({"a": ["x"]}, "'a' holds <U1, not numbers."),
    ],
)
def test_columns_that_do_not_fit_are_refused(columns, text):
    with pytest.raises(TracesError) as caught:
        Traces(columns)
    assert str(caught.value) == text


def test_masks_have_the_shape_of_the_values():
    with pytest.raises(TracesError, match=r"present has shape \(2,\); the values have \(3,\)"):
        Column(np.zeros(3), np.ones(2, dtype=bool))


def test_concatenate_joins_rows_and_masks(traces):
    other = Traces({"theta": np.ones((2, 2)), "x": np.zeros(2), "n": [5, 6]}, sources=[(0, 4, 2)])
    both = Traces.concatenate(traces, other)
    assert both.num_simulations == 6
    np.testing.assert_array_equal(both["theta"], np.concatenate([traces["theta"], other["theta"]]))
    assert both.present("x").tolist() == [True, False, True, True, True, True]
    assert both.sources == ((0, 0, 4), (0, 4, 2))
    assert both.plates == traces.plates


@pytest.mark.parametrize("other", [(0, 0, 4), (0, 3, 1), (0, 2, 9)])
def test_concatenate_refuses_the_same_simulations_twice(traces, other):
    part = Traces({name: traces[name] for name in traces}, sources=[other])
    with pytest.raises(TracesError) as caught:
        Traces.concatenate(traces, part)
    assert str(caught.value) == (
        f"two parts hold the same simulations: seed 0, traces from {other[1]} on.\n"
        "  Simulate the second part with another seed=, or with start= after the first."
    )


@pytest.mark.parametrize("other", [(1, 0, 4), (0, 4, 4)])
def test_other_seeds_and_later_traces_may_be_joined(traces, other):
    part = Traces({name: traces[name] for name in traces}, sources=[other])
    assert Traces.concatenate(traces, part).num_simulations == 8


def test_concatenate_refuses_other_variables_and_shapes(traces):
    with pytest.raises(TracesError, match="parts have different variables: theta, x, n and theta"):
        Traces.concatenate(traces, Traces({"theta": np.zeros((1, 2))}))
    other = Traces({"theta": np.zeros((1, 3)), "x": np.zeros(1), "n": [1]})
    with pytest.raises(TracesError, match=r"'theta' has shapes \(2,\) and \(3,\) in two parts"):
        Traces.concatenate(traces, other)
    with pytest.raises(TracesError, match="at least one part"):
        Traces.concatenate()


def test_cutting_and_joining_gives_the_whole(traces):
    same(Traces.concatenate(traces[:1], traces[1:]), traces)


def test_saved_traces_come_back(traces, tmp_path):
    traces.save(tmp_path / "t.sg")
    loaded = Traces.load(tmp_path / "t.sg")
    same(loaded, traces)
    assert loaded.sources == traces.sources


@given(
    st.integers(1, 4).flatmap(
        lambda rows: st.dictionaries(
            st.sampled_from(["a", "b", "θ"]),
            st.tuples(
                hnp.arrays(
                    st.sampled_from([np.float32, np.float64, np.int64]),
                    st.sampled_from([(rows,), (rows, 2), (rows, 1, 3)]),
                    elements=st.integers(-100, 100),
                ),
                st.booleans(),
            ),
            min_size=1,
        )
    )
)
def test_any_traces_come_back(tmp_path, columns):
    traces = Traces({
        name: Column(values, values > 0 if masked else None)
        for name, (values, masked) in columns.items()
    })  # fmt: skip
    traces.save(tmp_path / "t.sg")
    loaded = Traces.load(tmp_path / "t.sg")
    same(loaded, traces)


def test_a_failed_save_leaves_the_old_file(traces, tmp_path, monkeypatch):
    traces.save(tmp_path / "t.sg")

    def broken(*args, **kwargs):
        raise OSError("disk full")

    monkeypatch.setattr(files, "save_file", broken)
    with pytest.raises(OSError, match="disk full"):
        traces[:1].save(tmp_path / "t.sg")
    same(Traces.load(tmp_path / "t.sg"), traces)
    assert [path.name for path in tmp_path.iterdir()] == ["t.sg"]


def test_truncated_and_foreign_files_are_refused(traces, tmp_path):
    path = tmp_path / "t.sg"
    traces.save(path)
    path.write_bytes(path.read_bytes()[:-3])
    with pytest.raises(FileFormatError, match="cut short"):
        Traces.load(path)
    path.write_bytes(struct.pack("<Q", 2**60) + b"{}")
    with pytest.raises(FileFormatError, match="cannot be read"):
        Traces.load(path)
    files.write(path, "model", {}, {})
    with pytest.raises(FileFormatError, match="holds 'model', not 'traces'"):
        Traces.load(path)
    with pytest.raises(FileNotFoundError):
        Traces.load(tmp_path / "nothing.sg")


VALUES = {"values/a": np.zeros(3)}
VARIABLE = {"name": "a", "plates": []}


@pytest.mark.parametrize(
    ("arrays", "manifest"),
    [
        (VALUES, {}),
        (VALUES, {"variables": [VARIABLE]}),
        (VALUES, {"variables": [], "sources": []}),
        (VALUES, {"variables": None, "sources": []}),
        (VALUES, {"variables": ["a"], "sources": []}),
        (VALUES, {"variables": [{"name": "a"}], "sources": []}),
        (VALUES, {"variables": [{"name": "b", "plates": []}], "sources": []}),
        (VALUES, {"variables": [VARIABLE], "sources": [[1, 2]]}),
        (VALUES, {"variables": [VARIABLE], "sources": [["x", 0, 1]]}),
        (VALUES, {"variables": [VARIABLE], "sources": [[float("inf"), 0, 1]]}),
        (VALUES, {"variables": [VARIABLE], "sources": 3}),
        (VALUES, {"variables": [{"name": "a", "plates": ["p", "q"]}], "sources": []}),
        ({"values/a": np.zeros(())}, {"variables": [VARIABLE], "sources": []}),
        ({"values/a": np.zeros(3, dtype=np.uint8)}, {"variables": [VARIABLE], "sources": []}),
        ({**VALUES, "present/a": np.ones(3)}, {"variables": [VARIABLE], "sources": []}),
        ({**VALUES, "present/a": np.ones(2, dtype=bool)}, {"variables": [VARIABLE], "sources": []}),
        ({**VALUES, "values/b": np.ones(2)}, {"variables": [VARIABLE, {"name": "b", "plates": []}], "sources": []}),
    ],
)
def test_files_whose_parts_do_not_fit_are_refused(tmp_path, arrays, manifest):
    files.write(tmp_path / "t.sg", "traces", arrays, json.loads(json.dumps(manifest)))
    with pytest.raises(FileFormatError, match="holds traces that do not fit together"):
        Traces.load(tmp_path / "t.sg")


def test_repr_is_a_table(traces):
    assert repr(traces) == (
        "Traces with 4 simulations\n"
        "variable  shape   type     mean   sd     min  max  missing\n"
        "theta     p=(2,)  float64  3.5    2.291  0    7    -\n"
        "x         ()      float64  2.667  1.247  1    4    25.0%\n"
        "n         ()      int64    2.5    1.118  1    4    -"
    )


def test_all_missing_is_shown_without_statistics():
    column = Column(np.full(2, np.nan), np.zeros(2, dtype=bool))
    assert repr(Traces({"x": column})).splitlines()[2].split() == ["x", "()", "float64", "-", "-", "-", "-", "100.0%"]
