"""Traces of plates whose size varies."""

import numpy as np
import pytest
import torch
from schools import counted, effect, mu, school, schools, score
from torch.distributions import Gamma, MultivariateNormal, Normal

from simgraph import Graph, Traces, deterministic, node, plate
from simgraph.errors import (
    DeclarationError,
    FileFormatError,
    QueryError,
    SamplingBiasWarning,
    ShapeError,
    SimulationError,
    TracesError,
    UnknownNameError,
)
from simgraph.traces import Column


@pytest.fixture(scope="module")
def traces():
    return counted.simulate(3000, seed=0)


def test_sizes_are_uniform_with_both_ends(traces):
    counts = np.bincount(traces.sizes["school"], minlength=6)
    # Each of four sizes has 750 +- 24 traces; five standard deviations.
    assert counts[:2].sum() == 0
    assert np.abs(counts[2:] - 750).max() < 120


def test_sizes_differ_between_plates_and_seeds():
    other = counted.simulate(100, seed=1).sizes["school"]
    assert (other != counted.simulate(100, seed=0).sizes["school"]).any()
    both = schools.include(schools, prefix="b_").simulate(100, seed=0).sizes
    assert (both["school"] != both["b_school"]).any()


def test_in_half_of_the_traces_all_plates_are_as_large_as_each_other():
    few, many = plate("few", (1, 4)), plate("many", (1, 40))
    graph = Graph(*(node(plates=own, name=f"x_{own.name}")(lambda: Normal(0.0, 1.0)) for own in (few, many)))
    sizes = graph.simulate(2000, seed=0, progress=False).sizes
    quarter = (sizes["many"] - 1) // 10 + 1
    # Of independent ones a quarter is alike by chance. Five standard deviations here and below.
    alike = 0.5 + 0.5 / 4
    assert abs((sizes["few"] == quarter).mean() - alike) < 5 * (alike * (1 - alike) / 2000) ** 0.5
    for counts in (np.bincount(sizes["few"])[1:], np.bincount(quarter)[1:]):
        assert np.abs(counts - 500).max() < 5 * (500 * 0.75) ** 0.5


def test_what_does_not_exist_is_no_number(traces):
    exists = traces.exists("effect")
    np.testing.assert_array_equal(exists.sum(1), traces.sizes["school"])
    np.testing.assert_array_equal(exists, np.arange(5) < traces.sizes["school"][:, None])
    np.testing.assert_array_equal(np.isnan(traces["effect"]), ~exists)
    assert traces.exists("mu").all()
    assert not traces.missing("effect").any()


@pytest.mark.parametrize("size", [2, 4, 5])
def test_a_trace_keeps_its_first_elements_whatever_its_size(traces, size):
    @node(plates=school)
    def spread(effect):
        return Gamma(effect.abs() + 0.1, 1.0)  # its draws consume random numbers by rejection

    @node(plates=school)
    def box(effect, rng):
        return rng.normal(effect)

    graph = Graph(mu, effect, score, spread, box)
    free, fixed = graph.simulate(300, seed=0), graph.simulate(300, seed=0, sizes={"school": size})
    for name in ("mu", "effect", "score", "spread", "box"):
        both = free.exists(name) & fixed.exists(name)
        np.testing.assert_array_equal(free[name][both], fixed[name][both])
    np.testing.assert_array_equal(free["effect"], traces["effect"][:300])


def test_a_child_outside_receives_the_elements_that_exist(traces):
    mean = np.nanmean(traces["effect"], axis=1)
    # The level is the mean with noise of 0.1: of 3000 draws none is six standard deviations off.
    assert np.abs(traces["level"] - mean).max() < 0.6
    assert np.abs(np.corrcoef(traces["level"], mean)[0, 1]) > 0.98
    for size in (2, 5):
        own = traces.sizes["school"] == size
        same = counted.simulate(3000, seed=0, sizes={"school": size})
        np.testing.assert_array_equal(same["level"][own], traces["level"][own])


def test_black_boxes_and_objects_receive_the_elements_that_exist():
    calls = []

    @node(plates=school)
    def box(effect, rng):
        calls.append(effect)
        return rng.normal(effect)

    @deterministic
    def table(box):
        return list(box)

    @node(shape=(2,))
    def report(table, effect, rng):
        return np.array([len(table), len(effect)], dtype=float)

    @node(vectorized=True)
    def many(effect, rng):
        assert effect.ndim == 2
        return np.full(len(effect), float(effect.shape[1]))

    found = Graph(mu, effect, box, table, report, many).simulate(50, seed=0)
    sizes = found.sizes["school"]
    np.testing.assert_array_equal(found["report"], np.stack([sizes, sizes], 1))
    np.testing.assert_array_equal(found["many"], sizes)
    assert len(calls) == sizes.sum()  # what does not exist is not run


def test_traces_do_not_depend_on_where_a_run_starts(traces):
    part = counted.simulate(40, seed=0, start=1010)  # across the border of two blocks
    for name in part:
        np.testing.assert_array_equal(part[name], traces[name][1010:1050])
    np.testing.assert_array_equal(part.sizes["school"], traces.sizes["school"][1010:1050])
    sizes = traces.sizes["school"]
    handed = counted.simulate(40, seed=0, start=1010, sizes={"school": sizes[1010:1050]})
    np.testing.assert_array_equal(handed["level"], part["level"])


def test_nested_and_crossed_plates_have_sizes_of_their_own():
    pupil = plate("pupil", size=(1, 3))

    @node(plates=(school, pupil))
    def mark(effect):
        return Normal(effect, 1.0)

    @node(plates=pupil)
    def of_pupil(mark):
        return Normal(mark.mean(), 0.01)

    found = Graph(mu, effect, mark, of_pupil).simulate(200, seed=0)
    count = found.sizes["school"] * found.sizes["pupil"]
    np.testing.assert_array_equal(found.exists("mark").sum((1, 2)), count)
    np.testing.assert_array_equal(found.exists("of_pupil").sum(1), found.sizes["pupil"])
    mean = np.nansum(found["mark"], axis=1) / found.sizes["school"][:, None]
    assert np.nanmax(np.abs(mean - found["of_pupil"])) < 0.06  # noise of 0.01, at most 600 draws


def test_sizes_tell_the_number_of_traces():
    found = schools.simulate(sizes={school: [2, 5, 3]})
    np.testing.assert_array_equal(found.exists("score").sum(1), [2, 5, 3])
    with pytest.raises(ShapeError) as caught:
        schools.simulate(4, sizes={"school": [2, 5, 3]})
    assert str(caught.value) == (
        "sizes={'school': ...} has shape (3,).\n  Give one number, or one for each of the 4 traces."
    )


def test_sizes_that_do_not_fit_are_refused():
    with pytest.raises(DeclarationError, match="holds 6; plate 'school' has 2 to 5 elements"):
        schools.simulate(2, sizes={"school": [2, 6]})
    with pytest.raises(DeclarationError, match=r"holds 2.5, no whole number; plate 'school' has 2 to 5 elements"):
        schools.simulate(2, sizes={"school": 2.5})
    with pytest.raises(DeclarationError, match="holds float64 values, no whole numbers"):
        schools.simulate(2, sizes={"school": [2.0, 3.0]})
    with pytest.raises(UnknownNameError) as caught:
        schools.simulate(2, sizes={"schol": 2})
    assert str(caught.value) == (
        "sizes= names 'schol', which is no plate of this graph.\n  Did you mean 'school'? Plates: school."
    )

    @node(plates=plate("fixed", 3))
    def z():
        return Normal(0.0, 1.0)

    with pytest.raises(DeclarationError) as refused:
        Graph(z).simulate(2, sizes={"fixed": 2})
    assert str(refused.value) == (
        "sizes= names plate 'fixed', which always has 3 elements.\n"
        "  For sizes that vary declare it as plate('fixed', size=(low, high))."
    )


def test_a_shape_that_follows_the_stack_is_refused():
    @node
    def copy(effect):
        return Normal(effect, 1.0)

    with pytest.raises(ShapeError) as caught:
        Graph(mu, effect, copy).simulate(50, seed=0)
    lines = str(caught.value).splitlines()
    assert lines[0] == (
        "node 'copy' has values of shape (2,) where plate 'school' has 2 elements, and (3,) where it has 3."
    )
    assert lines[2] == (
        "  A node outside of a plate has one shape, whatever the plate's size: reduce the stack (its mean, its sum),"
        " or put the node into the plate with plates=."
    )


def test_what_does_not_exist_cannot_fail():
    # At most one in a hundred effects is as low; with all five elements of each trace, more traces would fail.
    @node(plates=school)
    def root(effect):
        return Normal(effect, (effect + 2.5).sign())

    @node(plates=school)
    def box(effect, rng):
        if effect < -2.5:
            raise ValueError
        return 0.0

    @node(plates=school)
    def cube(effect):
        return MultivariateNormal(torch.zeros(2), (effect + 2.5) * torch.eye(2))

    for last in (root, box, cube):
        graph = Graph(mu, effect, last)
        with pytest.warns(SamplingBiasWarning):
            found = graph.simulate(500, seed=0, on_failure="missing")
        low = (np.nan_to_num(found["effect"]) < -2.5).any(1)
        whole = graph.prune("effect").simulate(500, seed=0, sizes={"school": 5})["effect"] < -2.5
        assert 0 < low.sum() < whole.any(1).sum()
        failed = found.missing(last.name).reshape(500, -1)
        np.testing.assert_array_equal(failed.any(1), low)
        assert not (failed & ~found.exists(last.name).reshape(500, -1)).any()


def test_dropped_traces_take_their_sizes_along():
    @node
    def picky(effect, rng):
        if len(effect) == 3:
            raise RuntimeError("no")
        return 0.0

    with pytest.warns(SamplingBiasWarning):
        found = Graph(mu, effect, picky).simulate(50, seed=0, on_failure="drop")
    assert set(found.sizes["school"].tolist()) == {2, 4, 5}
    np.testing.assert_array_equal(found.exists("effect").sum(1), found.sizes["school"])
    assert not np.isnan(found["effect"][found.exists("effect")]).any()


def test_failures_below_a_stack_are_counted_once():
    @node
    def broken(effect, rng):
        raise RuntimeError("no")

    with pytest.raises(SimulationError, match="20 of 20 traces failed in node 'broken'"):
        Graph(mu, effect, broken).simulate(20, seed=0)


def test_given_rows_tell_the_size():
    found = counted.simulate(given={"effect": np.arange(6.0).reshape(2, 3), "mu": np.zeros(2)}, seed=0)
    np.testing.assert_array_equal(found.sizes["school"], [3, 3])
    assert np.abs(found["level"] - [1.0, 4.0]).max() < 0.6
    with pytest.raises(ShapeError) as caught:
        counted.simulate(given={"effect": np.zeros((2, 3)), "score": np.zeros((2, 4)), "mu": np.zeros(2)})
    assert str(caught.value) == (
        "simulate(given=...) has 3 elements of 'effect' and 4 of 'score'.\n"
        "  Both are in plate 'school', which has one size."
    )
    with pytest.raises(ShapeError, match=r"simulate\(given=...\) has 3 elements of plate 'school', and sizes= says"):
        counted.simulate(given={"effect": np.zeros((2, 3)), "mu": np.zeros(2)}, sizes={"school": 4})
    with pytest.raises(ShapeError, match="has 6 elements of 'effect'; plate 'school' has 2 to 5"):
        counted.simulate(given={"effect": np.zeros((2, 6)), "mu": np.zeros(2)})
    with pytest.raises(ShapeError, match=r"which has shape \(2..5,\).\n  Accepted: \(rows, 2..5\), one row"):
        counted.simulate(given={"effect": np.zeros(6), "mu": np.zeros(6)})


def test_given_traces_keep_their_sizes(traces):
    again = counted.simulate(given=traces[:20], seed=3)
    np.testing.assert_array_equal(again.sizes["school"], traces.sizes["school"][:20])
    np.testing.assert_array_equal(again["effect"], traces["effect"][:20])


def test_a_slice_a_sum_and_a_file_keep_sizes(traces, tmp_path):
    joined = Traces.concatenate(traces[:10], traces[10:15])
    np.testing.assert_array_equal(joined.sizes["school"], traces.sizes["school"][:15])
    joined.save(tmp_path / "traces.sg")
    loaded = Traces.load(tmp_path / "traces.sg")
    np.testing.assert_array_equal(loaded.sizes["school"], joined.sizes["school"])
    np.testing.assert_array_equal(loaded["score"], joined["score"])
    assert not loaded.missing("score").any()
    with pytest.raises(TracesError, match=r"parts have sizes of different plates: \['school'\] and \[\]"):
        Traces.concatenate(traces[:2], traces[:2].filled())


def test_a_file_whose_sizes_do_not_fit_is_refused(tmp_path):
    traces = schools.simulate(3, seed=0)
    traces.sizes["school"] = np.array([9, 9, 9])
    traces.save(tmp_path / "traces.sg")
    with pytest.raises(FileFormatError, match="sizes of 'school' go from 9 to 9; 'effect' has room for 1 to 5"):
        Traces.load(tmp_path / "traces.sg")


def test_one_trace_is_as_long_as_its_plates(traces):
    one = traces.trace(7)
    size = traces.sizes["school"][7]
    assert {name: value.shape for name, value in one.items()} == {
        "mu": (),
        "effect": (size,),
        "score": (size,),
        "level": (),
    }
    np.testing.assert_array_equal(one["effect"], traces["effect"][7, :size])


def test_filled_traces_repeat_the_first_element(traces):
    filled = traces.filled()
    assert filled.sizes == {}
    exists = traces.exists("effect")
    np.testing.assert_array_equal(filled["effect"][exists], traces["effect"][exists])
    first = np.broadcast_to(traces["effect"][:, :1], exists.shape)
    np.testing.assert_array_equal(filled["effect"][~exists], first[~exists])


def test_missing_is_not_the_same_as_not_existing():
    values = np.array([[1.0, np.nan, 3.0], [4.0, 5.0, np.nan]])
    traces = Traces({"x": values}, plates={"x": ("p",)}, sizes={"p": [3, 2]})
    np.testing.assert_array_equal(traces.missing("x"), [[False, True, False], [False, False, False]])
    np.testing.assert_array_equal(traces.present("x"), [[True, False, True], [True, True, False]])
    assert "20.0%" in repr(traces)  # one of the five that exist
    assert repr(traces).endswith("plate 'p' has 2 to 3 elements")
    assert traces[1:].column("x").present is None or not traces[1:].missing("x").any()
    with_none = Traces({"x": Column(values[1:])}, plates={"x": ("p",)}, sizes={"p": [2]})
    assert not with_none.missing("x").any()


@pytest.mark.parametrize(
    ("sizes", "message"),
    [
        ({"q": [1, 1]}, "sizes= names 'q', which is a plate of no variable: plates={'x': ('p',)}."),
        ({"p": [1]}, "sizes of 'p' are int64 of shape (1,); they are whole numbers, one for each of 2 traces."),
        (
            {"p": [1.0, 2.0]},
            "sizes of 'p' are float64 of shape (2,); they are whole numbers, one for each of 2 traces.",
        ),
        ({"p": [0, 4]}, "sizes of 'p' go from 0 to 4; 'x' has room for 1 to 3."),
    ],
)
def test_sizes_fit_the_arrays(sizes, message):
    with pytest.raises(TracesError) as caught:
        Traces({"x": np.zeros((2, 3))}, plates={"x": ("p",)}, sizes=sizes)
    assert str(caught.value) == message


def test_the_density_counts_what_exists(traces):
    some = traces[:12]
    found = counted.log_prob(some)
    alone = torch.stack([counted.log_prob(some.trace(number)) for number in range(12)])
    torch.testing.assert_close(found, alone)
    one = some.trace(3)
    by_hand = Normal(0.0, 1.0).log_prob(torch.tensor(float(one["mu"])))
    for below, above in (("effect", one["mu"]), ("score", one["effect"])):
        by_hand = by_hand + Normal(torch.tensor(above).double(), 1.0).log_prob(torch.tensor(one[below]).double()).sum()
    by_hand = by_hand + Normal(float(one["effect"].mean()), 0.1).log_prob(torch.tensor(float(one["level"])))
    assert float(found[3]) == pytest.approx(float(by_hand), rel=1e-4)  # traces hold single precision


def test_the_density_needs_one_size():
    with pytest.raises(ShapeError, match=r"log_prob\(...\) has 3 elements of 'effect' and 4 of 'score'"):
        schools.log_prob({"mu": 0.0, "effect": np.zeros(3), "score": np.zeros(4)})
    with pytest.raises(ShapeError) as caught:
        schools.log_prob({"mu": 0.0, "effect": np.zeros(6), "score": np.zeros(6)})
    assert str(caught.value) == (
        "log_prob(...) has 6 elements of 'effect'; plate 'school' has 2 to 5.\n"
        "  For other sizes declare plate('school', size=(low, high)) with a wider range."
    )
    with pytest.raises(QueryError) as unknown:
        schools.log_prob({"mu": 0.0})
    assert str(unknown.value) == (
        "log_prob(...) does not tell the size of plate school.\n"
        "  Hand over a value of a variable in it; its length is the size."
    )
