import re

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.distributions import Normal

from simgraph import Samples, node
from simgraph.errors import QueryError, ShapeError, UnknownNameError

ONE = Samples({"a": torch.arange(4.0), "b": torch.arange(8.0).reshape(4, 2)})
MANY = Samples({"a": torch.arange(6.0).reshape(2, 3)}, batched=True)
SITES = Samples(
    {"level": torch.arange(24.0).reshape(4, 3, 2), "mu": torch.arange(4)}, dims={"level": ["site"]}, notes=["a note"]
)


def refused(error, message):
    return pytest.raises(error, match=f"^{re.escape(message)}")


def test_it_is_a_mapping_of_tensors():
    assert list(ONE) == ["a", "b"]
    assert ONE.num_samples == 4
    assert MANY.num_samples == 3
    assert dict(ONE)["b"].shape == (4, 2)


def test_a_node_stands_for_its_name():
    @node
    def a():
        return Normal(0.0, 1.0)

    assert ONE[a] is ONE["a"]


def test_an_unknown_name_is_suggested():
    with refused(UnknownNameError, "'c' was not sampled.\n  Sampled: a, b."):
        ONE["c"]


def looked(*points):
    return Samples({"f": torch.zeros(1, len(points))}, dims={"f": ["t"]}, coords={"t": points})


LOOKED_NOWHERE = Samples({"f": torch.zeros(1, 2)}, dims={"f": ["t"]})


@pytest.mark.parametrize(
    ("key", "kept"),
    [
        (slice(1, None), [1, 2, 3]),
        (slice(None, None, -2), [3, 1]),
        (2, [2]),
        (-1, [3]),
        (np.array([3, -4]), [3, 0]),
        (torch.tensor([1, 2]), [1, 2]),
        ([True, False, False, True], [0, 3]),
        (torch.arange(4.0) > 1, [2, 3]),
    ],
)
def test_chosen_draws_stay_joint(key, kept):
    chosen = ONE[key]
    assert chosen["a"].tolist() == kept
    assert chosen["b"].tolist() == [[2 * row, 2 * row + 1] for row in kept]
    assert chosen.ess == len(kept)


def test_the_same_draws_are_chosen_of_every_piece_of_evidence():
    chosen = MANY[1:]
    assert chosen.batched
    assert chosen["a"].tolist() == [[1, 2], [4, 5]]


def test_a_choice_keeps_notes_and_axes_and_drops_what_is_known_of_the_whole():
    whole = Samples({"a": torch.zeros(4, 2)}, outside={"a": 0.5}, notes=["slow"], dims={"a": ["site"]})
    assert whole[:2].notes == ("slow",)
    assert whole[:2].dims == {"a": ("site",)}
    assert whole[:2].outside == {}


@pytest.mark.parametrize(
    ("ess", "key", "expected"),
    [(None, [0, 0, 1, 1, 2, 2], 3.0), (2.0, slice(0, 2), 1.5), (2.0, [0, 0], 1.0), (2.0, slice(None), 2.0)],
)
def test_a_repeated_draw_counts_once(ess, key, expected):
    assert Samples({"a": torch.zeros(4)}, ess=ess)[key].ess == expected


@pytest.mark.parametrize(
    ("key", "message"),
    [
        (slice(9, None), "samples[...] chooses none of the 4 draws."),
        ([False] * 4, "samples[...] chooses none of the 4 draws."),
        (4, "samples[...] chooses draw 4; there are 4, numbered from 0."),
        ([0, -5], "samples[...] chooses draw -5; there are 4, numbered from 0."),
        (
            [True, False],
            "samples[...] takes a name, a slice, numbers of draws, or 4 booleans; not [True, False].\n"
            "  Elements of a variable: samples['theta'][..., 0]",
        ),
        (("a", 0), "samples[...] takes a name, a slice, numbers of draws, or 4 booleans; not ('a', 0)."),
        ((0, 1), "samples[...] takes a name, a slice, numbers of draws, or 4 booleans; not (0, 1)."),
        (0.5, "samples[...] takes a name, a slice, numbers of draws, or 4 booleans; not 0.5."),
        (True, "samples[...] takes a name, a slice, numbers of draws, or 4 booleans; not True."),
        (None, "samples[...] takes a name, a slice, numbers of draws, or 4 booleans; not None."),
    ],
)
def test_draws_that_are_not_there_are_refused(key, message):
    with refused(QueryError, message):
        ONE[key]


@pytest.mark.parametrize(
    ("values", "options", "error", "message"),
    [
        ({}, {}, QueryError, "Samples(...) needs a variable or more."),
        ({"a": torch.zeros(0, 2)}, {}, QueryError, "Samples(...) needs a draw or more; (num_samples,) is (0,)."),
        (
            {"a": torch.zeros(2), "b": torch.zeros(3)},
            {},
            ShapeError,
            "Samples(...) needs values that agree in their first axes (num_samples,); they have {'a': (2,), 'b': (3,)}",
        ),
        (
            {"a": torch.zeros(2)},
            {"batched": True},
            ShapeError,
            "Samples(...) needs values that agree in their first axes (batch, num_samples); they have {'a': (2,)}.",
        ),
        ({"a": torch.zeros(2)}, {"ess": 0.0}, QueryError, "ess=0.0 is no positive number of draws."),
        ({"a": torch.zeros(2)}, {"ess": float("nan")}, QueryError, "ess=nan is no positive number of draws."),
        (
            {"a": torch.zeros(2)},
            {"dims": {"b": ["site"]}},
            UnknownNameError,
            "dims name 'b'.\n  Sampled: a.",
        ),
        (
            {"a": torch.zeros(2)},
            {"dims": {"a": ["site"]}},
            ShapeError,
            "dims name the axes of 'a' ('site',); its values have the shape ().",
        ),
        (
            {"a": torch.zeros(2, 3, 3)},
            {"dims": {"a": ["site", "site"]}},
            ShapeError,
            "dims name the axes of 'a' ('site', 'site'); its values have the shape (3, 3).",
        ),
        (
            {"a": torch.zeros(2, 3), "b": torch.zeros(2, 4)},
            {"dims": {"a": ["site"], "b": ["site"]}},
            ShapeError,
            "the axis 'site' has the sizes 3 and 4 in two variables.",
        ),
        (
            {"a": torch.zeros(2, 3)},
            {"dims": {"a": ["t"]}, "coords": {"t": [0.0, 1.0]}},
            ShapeError,
            "coords have 2 points along 't', an axis of size 3.",
        ),
        (
            {"a": torch.zeros(2, 3)},
            {"dims": {"a": ["t"]}, "coords": {"s": [0.0, 1.0, 2.0]}},
            UnknownNameError,
            "coords name the axis 's'.\n  Axes: t",
        ),
        (
            {"a": torch.zeros(2, 2)},
            {"dims": {"a": ["t"]}, "coords": {"t": [1.0, 1.0]}},
            ShapeError,
            "coords name a point of 't' twice, or are no numbers.",
        ),
        (
            {"a": torch.zeros(2, 2)},
            {"dims": {"a": ["t"]}, "coords": {"t": ["x", "y"]}},
            ShapeError,
            "coords name a point of 't' twice, or are no numbers.",
        ),
    ],
)
def test_draws_that_do_not_fit_together_are_refused(values, options, error, message):
    with refused(error, message):
        Samples(values, **options)


def test_joined_draws_follow_one_another():
    joined = Samples.concatenate(ONE, ONE[1:3], ONE[[0]])
    assert joined["a"].tolist() == [0, 1, 2, 3, 1, 2, 0]
    assert joined["b"].shape == (7, 2)
    assert joined.ess == 7
    assert Samples.concatenate(MANY, MANY)["a"].tolist() == [[0, 1, 2, 0, 1, 2], [3, 4, 5, 3, 4, 5]]


def test_what_is_known_of_joined_draws_is_joined():
    first = Samples({"a": torch.zeros(2, 3)}, ess=1.5, outside={"a": 0.5}, notes=["x"], dims={"a": ["site"]})
    second = Samples({"a": torch.zeros(6, 3)}, notes=["x", "y"], dims={"a": ["site"]})
    joined = Samples.concatenate(first, second)
    assert joined.ess == 1.5 + 6
    assert joined.outside == {"a": 0.5 * 2 / 8}
    assert joined.notes == ("x", "y")
    assert joined.dims == {"a": ("site",)}


@pytest.mark.parametrize(
    ("parts", "error", "message"),
    [
        ([], QueryError, "concatenate needs at least one part."),
        ([ONE, SITES], QueryError, "parts have different variables: a, b and level, mu."),
        (
            [MANY, Samples({"a": torch.zeros(2)})],
            QueryError,
            "of two parts, one has a batch of evidence and the other has one piece.",
        ),
        (
            [MANY, Samples({"a": torch.zeros(1, 3)}, batched=True)],
            ShapeError,
            "'a' has shapes (2,) and (1,) in two parts, without their draws.",
        ),
        (
            [Samples({"a": torch.zeros(2, 3)}), Samples({"a": torch.zeros(2, 4)})],
            ShapeError,
            "'a' has shapes (3,) and (4,) in two parts, without their draws.",
        ),
        (
            [Samples({"a": torch.zeros(2, 3)}), Samples({"a": torch.zeros(2, 3)}, dims={"a": ["site"]})],
            QueryError,
            "parts have different names of axes: {} and {'a': ('site',)}.",
        ),
        (
            [looked(0.0, 1.0), looked(0.0, 2.0)],
            QueryError,
            "parts look at functions of 't' in different points.",
        ),
        ([looked(0.0, 1.0), LOOKED_NOWHERE], QueryError, "parts look at functions of 't' in different points."),
        ([LOOKED_NOWHERE, looked(0.0, 1.0)], QueryError, "parts look at functions of 't' in different points."),
    ],
)
def test_parts_of_different_queries_are_not_joined(parts, error, message):
    with refused(error, message):
        Samples.concatenate(*parts)


def test_the_draws_of_a_query_know_their_plates(mixed_model):
    drawn = mixed_model.sample("level", "shares", num_samples=3, seed=0)
    assert drawn.dims == {"level": ("bed",), "shares": ()}


def test_columns_are_flat_and_named_by_element():
    columns = ONE.columns()
    assert list(columns) == ["a", "b[0]", "b[1]"]
    assert columns["b[1]"].tolist() == [1, 3, 5, 7]


def test_values_of_functions_are_called_by_their_points():
    values = {"f": torch.arange(4.0).view(1, 2, 2), "g": torch.zeros(1, 2)}
    named = Samples(
        values, dims={"f": ["tank", "t"], "g": ["place"]}, coords={"t": [0.5, 10], "place": [[0, 1], [2, 3]]}
    )
    assert list(named.columns()) == [
        "f[0, t=0.5]",
        "f[0, t=10]",
        "f[1, t=0.5]",
        "f[1, t=10]",
        "g[place=(0, 1)]",
        "g[place=(2, 3)]",
    ]
    assert named[[0]].coords["t"].tolist() == [0.5, 10]
    assert Samples.concatenate(named, named).coords["t"].tolist() == [0.5, 10]
    assert named.to_xarray().coords["t"].values.tolist() == [0.5, 10]
    assert named.to_xarray().coords["place"].values.tolist() == [0, 1]  # of two numbers there is no one coordinate


def test_points_that_six_digits_do_not_tell_apart_have_more():
    near = Samples({"f": torch.zeros(1, 2)}, dims={"f": ["t"]}, coords={"t": [1.0, 1.0 + 1e-9]})
    assert list(near.columns()) == ["f[t=1.0]", "f[t=1.000000001]"]


def test_columns_of_batches_are_stacked_with_their_number():
    columns = MANY.columns()
    assert columns["batch"].tolist() == [0, 0, 0, 1, 1, 1]
    assert columns["a"].tolist() == [0, 1, 2, 3, 4, 5]


def test_a_variable_called_batch_is_not_lost_under_the_numbers_of_batches():
    assert Samples({"batch": torch.zeros(2)}).columns()["batch"].tolist() == [0, 0]
    clash = Samples({"batch": torch.zeros(2, 3)}, batched=True)
    assert "batch 1: batch" in repr(clash)
    message = "the column 'batch' numbers the pieces of evidence, and a variable has that name too.\n  Rename the"
    with refused(QueryError, message):
        clash.columns()


def test_numpy_arrays_by_name():
    assert np.array_equal(ONE.to_numpy()["b"], ONE["b"].numpy())


def test_repr_is_a_short_table():
    assert repr(ONE[:3]).splitlines() == [
        "Samples with 3 draws",
        "      mean  sd      5%   50%  95%  ess",
        # draws 0, 1, 2: sd sqrt(2/3); quantiles interpolate linearly between sorted draws: 0.05 * 2 = 0.1
        "a     1     0.8165  0.1  1    1.9  3",
        "b[0]  2     1.633   0.2  2    3.8  3",
        "b[1]  3     1.633   1.2  3    4.8  3",
    ]
    long = repr(Samples({"a": torch.zeros(3, 50)}))
    assert long.endswith("... and 30 more elements")


def test_repr_of_batches_tells_pieces_of_evidence_apart():
    lines = repr(MANY).splitlines()
    assert lines[0] == "Samples with 3 draws for each of 2 pieces of evidence"
    assert [line.split()[:4] for line in lines[2:]] == [["batch", "0:", "a", "1"], ["batch", "1:", "a", "4"]]


def test_repr_ends_with_bounds_and_notes():
    samples = Samples({"a": torch.zeros(4)}, outside={"a": 0.25}, notes=["drawn by hand"], ess=2.5)
    assert repr(samples).splitlines()[2:] == [
        "a  0     0   0   0    0    2.5",
        "25.0% of the draws of 'a' lie outside of the bounds that their parents set",
        "drawn by hand",
    ]


def test_the_summary_is_a_mapping_of_columns():
    summary = ONE.summary()
    assert list(summary) == ["mean", "sd", "5%", "50%", "95%", "ess"]
    assert "mean" in summary
    assert summary["mean"] == {"a": 1.5, "b[0]": 3.0, "b[1]": 4.0}
    assert summary["ess"] == {"a": 4.0, "b[0]": 4.0, "b[1]": 4.0}
    with refused(UnknownNameError, "'means' is no column of the summary.\n  Did you mean 'mean'? Columns: mean, "):
        summary["means"]


def test_the_summary_becomes_a_data_frame_of_the_same_numbers():
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame(dict(ONE.summary()))
    assert frame.loc["b[1]", "mean"] == 4.0
    assert list(frame.columns) == list(ONE.summary())


def test_quantiles_have_their_axis_first():
    assert ONE.quantile(0.5)["b"].tolist() == [3, 4]
    assert ONE.quantile(0.5)["a"].shape == ()
    assert ONE.quantile([0.0, 1.0])["b"].tolist() == [[0, 1], [6, 7]]
    assert MANY.quantile([0.5])["a"].tolist() == [[1, 4]]
    assert SITES.quantile(0.5)["mu"].item() == 1.5, "whole numbers have quantiles between them"


@pytest.mark.parametrize("q", [1.5, -0.1, [0.5, float("nan")], [], [[0.5]]])
def test_levels_beyond_nought_and_one_are_refused(q):
    with refused(QueryError, f"quantile({q!r}) has levels other than numbers from 0 to 1.\n  For example: samples"):
        ONE.quantile(q)


def test_intervals_of_equal_tails_are_quantiles():
    ends = ONE.interval(0.5)
    assert ends["b"].tolist() == [[1.5, 4.5], [2.5, 5.5]]
    assert MANY.interval(1.0)["a"].tolist() == [[0, 2], [3, 5]]


@given(st.lists(st.integers(-5, 5), min_size=1, max_size=12), st.sampled_from([0.1, 0.3, 0.5, 0.7, 0.9, 1.0]))
def test_the_shortest_interval_is_the_shortest_that_holds_the_level(draws, level):
    low, high = Samples({"a": torch.tensor(draws)}).interval(level, kind="hdi")["a"].tolist()
    tenths = round(10 * level)
    # Whole numbers, so that nothing depends on rounding: a share of level is 10 * held >= tenths * draws.
    held = sum(low <= draw <= high for draw in draws)
    assert 10 * held >= tenths * len(draws)
    widths = [b - a for a in draws for b in draws if 10 * sum(a <= draw <= b for draw in draws) >= tenths * len(draws)]
    assert high - low == min(width for width in widths if width >= 0)


def test_rounding_adds_no_draw_to_the_shortest_interval():
    assert 0.55 * 100 > 55
    # 55 neighbours among whole numbers span 54.
    assert Samples({"a": torch.arange(100)}).interval(0.55, kind="hdi")["a"].diff().item() == 54


def test_the_shortest_interval_is_found_element_by_element():
    draws = torch.tensor([[0.0, 9.0], [1.0, 8.0], [2.0, 7.0], [9.0, 0.0]])
    assert Samples({"a": draws}).interval(0.75, kind="hdi")["a"].tolist() == [[0, 2], [7, 9]]
    batch = Samples({"a": draws.T.reshape(2, 4)}, batched=True)
    assert batch.interval(0.75, kind="hdi")["a"].tolist() == [[0, 2], [7, 9]]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((0.0,), "level=0.0 is no number above 0 and up to 1.\n  For example: level=0.9"),
        ((90,), "level=90 is no number above 0 and up to 1."),
        ((True,), "level=True is no number above 0 and up to 1."),
        (("0.9",), "level='0.9' is no number above 0 and up to 1."),
        ((0.9, "hpd"), "kind='hpd' is no kind of interval.\n  Did you mean 'hdi'? Kinds: hdi, equal."),
    ],
)
def test_intervals_that_do_not_exist_are_refused(arguments, message):
    with refused(QueryError, message):
        ONE.interval(*arguments)
