"""Questions about function-valued variables."""

import numpy as np
import pytest
import torch
from curves import covariance, field, line, slope, smooth, straight
from samples import TINY

import simgraph as sg
from simgraph import Architecture, Curve, Graph, Settings, index, node
from simgraph.errors import (
    DeclarationError,
    EvidenceError,
    MissingValueError,
    OutOfRangeWarning,
    QueryError,
    ShapeError,
    UnknownNameError,
)

SOME = Curve([2.0, 3.5], [0.2, 0.3])


@pytest.fixture(scope="module")
def model(tiny):
    return sg.fit(straight, num_simulations=200, preset=tiny, progress=False)


def test_a_curve_is_evidence_and_points_are_asked_for(model):
    query = model.given(line=SOME)
    assert repr(query) == "<Query given line; can be asked for slope, line>"
    assert query.sample("slope", num_samples=3).shape == (3,)
    assert query.sample("line", num_samples=3, at={"s": [9.0, 1.0, 4.0, 5.0]}).shape == (3, 4)
    both = query.sample("slope", "line", num_samples=3, at={line.index: [9.0, 1.0]})
    assert {name: tuple(draws.shape) for name, draws in both.items()} == {"slope": (3,), "line": (3, 2)}
    assert both.dims["line"] == ("s",)
    assert both.coords["s"].tolist() == [9.0, 1.0]
    assert list(both.columns()) == ["slope", "line[s=9]", "line[s=1]"]
    assert "line[s=9]" in repr(both[:2])
    labels = [axes.get_xlabel() for axes in both.plot("line", truth={"line": [0.0, 1.0]}).axes]
    assert labels == ["", "line[s=9]", "line[s=1]"]
    assert both.to_xarray()["line"].sel(s=1.0).values.tolist() == both["line"][:, 1].tolist()
    assert both.to_arviz()["posterior"]["line"].coords["s"].values.tolist() == [9.0, 1.0]
    assert set(query.sample(num_samples=3)) == {"slope"}
    assert model.sample("line", num_samples=2, at={"s": np.linspace(0, 10, 30)}).shape == (2, 30)
    assert query.map("slope", seed=0).shape == ()
    assert query.log_prob(slope=[0.0, 1.0]).shape == (2,)


def test_what_is_given_comes_back_where_it_is_asked_for(model):
    draws = model.given(line=SOME).sample("line", num_samples=4, at={"s": [3.5, 1.0, 2.0]})
    assert (draws[:, 0] == 0.3).all()
    assert (draws[:, 2] == 0.2).all()
    assert draws[:, 1].std() > 0


def test_points_are_answered_in_the_order_they_are_named(model):
    def asked(*points):
        return model.given(line=SOME).sample("line", num_samples=50, seed=0, at={"s": points})

    there, back = asked(1.0, 6.0, 9.0), asked(9.0, 1.0, 6.0)
    assert torch.equal(there, back[:, [1, 2, 0]])


def test_the_order_of_evidence_does_not_matter(model):
    one, other = Curve([2.0, 3.5, 8.0], [0.2, 0.3, 1.0]), Curve([8.0, 2.0, 3.5], [1.0, 0.2, 0.3])
    first, second = (model.given(line=curve).sample("slope", num_samples=5, seed=0) for curve in (one, other))
    assert torch.equal(first, second)


def test_a_list_of_curves_asks_one_question_each(model):
    queries = model.given(line=[SOME, Curve([1.0], [0.5])], slope=[0.1, 0.2])
    found = queries.sample("line", num_samples=3, at={"s": [5.0]})
    assert [tuple(draws.shape) for draws in found] == [(3, 1), (3, 1)]
    rows = model.given(slope=[0.1, 0.2, 0.3]).sample("line", num_samples=3, at={"s": [5.0, 6.0]})
    assert rows.shape == (3, 3, 2)


def test_functions_of_one_index_may_be_given_at_different_points(tiny):
    t = index("t", 0, 1, num=(1, 4))

    @node(index=t)
    def first(t, rng):
        return rng.normal(t)

    @node(index=t, shape=(2,))
    def second(t, rng):
        return rng.normal(np.stack([t, -t], 1))

    model = sg.fit(Graph(first, second), num_simulations=100, preset=tiny, progress=False)
    query = model.given(first=Curve([0.1, 0.5], [0.0, 1.0]), second=Curve([0.2], [[0.3, -0.3]]))
    found = query.sample("first", "second", num_samples=2, at={"t": [0.2, 0.5, 0.9]})
    assert found["first"].shape == (2, 3)
    assert found["second"].shape == (2, 3, 2)
    assert (found["first"][:, 1] == 1.0).all()
    assert torch.allclose(found["second"][:, 0], torch.tensor([0.3, -0.3]))


def test_more_points_than_traces_had_are_doubted(model):
    curve = Curve(np.linspace(0, 10, 6), np.zeros(6))
    with pytest.warns(OutOfRangeWarning, match=r"6 points; in training, traces had 2..5(.|\n)*num=\(2, 6\)"):
        model.given(line=curve)
    with pytest.raises(EvidenceError, match="6 points"):
        model.given(line=curve, strict=True)


def test_saved_models_answer_the_same(model, tmp_path):
    model.save(tmp_path / "model.sg")
    for loaded in (sg.load(tmp_path / "model.sg"), sg.load(tmp_path / "model.sg", graph=straight)):
        found = (m.given(line=SOME).sample("line", num_samples=5, seed=0, at={"s": [7.0]}) for m in (model, loaded))
        assert torch.equal(*found)


@pytest.mark.parametrize(
    ("ask", "error", "text"),
    [
        (lambda m: m.given(line=[0.1, 0.2]), QueryError, r"Hand over both: given\(line=sg.Curve\(points, values\)\)"),
        (lambda m: m.given(slope=SOME), QueryError, "'slope' is no function of an index"),
        (lambda m: m.given(line=Curve([12.0], [0.0])), DeclarationError, "outside of the range"),
        (lambda m: m.given(line=Curve([1.0], [[0.0]])), ShapeError, r"values of shape \(1, 1\)"),
        (lambda m: m.given(line=Curve([1.0], [np.nan])), MissingValueError, "holds 1 NaN"),
        (lambda m: m.given(line=Curve([1.0, 1.0], [0.0, 1.0])), EvidenceError, "names a point twice"),
        (lambda m: m.given(line=Curve([1.0], ["a"])), EvidenceError, "no numbers"),
        (lambda m: m.given(line=SOME).given(line=SOME), QueryError, "'line' is given twice"),
        (lambda m: m.given(line=sg.above(0.0)), QueryError, "is an interval, and 'line' a function of 's'"),
        (lambda m: m.given(sg.where(lambda line: line[0] > 0)), QueryError, "does not take functions"),
        (lambda m: m.sample("line"), QueryError, r"Say it: at=\{'s': points\}, from 0.0 to 10.0"),
        (lambda m: m.sample(), QueryError, "nothing tells at which points line is asked for"),
        (lambda m: m.sample("slope", at={"s": [1.0]}), QueryError, "no function of it is asked for"),
        (lambda m: m.sample("line", at={"s": 3}), ShapeError, "A single point is a list of one"),
        (lambda m: m.sample("line", at={"s": [11.0]}), DeclarationError, "outside of the range"),
        (lambda m: m.sample("line", at={"s": [1.0, 1.0]}), QueryError, "names a point twice"),
        (lambda m: m.sample("line", at={"s": [[1.0], [2.0]]}), QueryError, "names points for 2 rows"),
        (lambda m: m.sample("line", at={"s": [1.0], "z": 3}), UnknownNameError, "at= names 'z'"),
        (lambda m: m.sample("line", at={"ss": [1.0]}), UnknownNameError, "Plates and indices: s"),
        (lambda m: m.sample("line", at=[1.0]), QueryError, "is no mapping"),
        (lambda m: m.given(line=SOME).sample("line", at={"s": [2.0]}), QueryError, "is given at all the points"),
        (lambda m: m.given(line=SOME).sample("slope", exact=True), QueryError, "exact=True does not take functions"),
        (lambda m: m.given(line=SOME).predict("line"), QueryError, r"predict\(...\) does not take functions"),
        (lambda m: m.do(slope=1.0), QueryError, r"do\(...\) does not take functions"),
        (lambda m: m.log_prob(line=[0.0]), QueryError, r"log_prob\(...\) does not take functions"),
    ],
)
def test_refusals(model, ask, error, text):
    with pytest.raises(error, match=text):
        ask(model)


def test_values_far_outside_of_training_are_told_when_they_are_given(model):
    far = Curve([1.0], [1e4])
    with pytest.warns(OutOfRangeWarning, match="given\\(line=...\\) lie above all"):
        query = model.given(line=far)
    query.sample("slope", num_samples=2)  # once is enough
    with pytest.raises(EvidenceError, match="lie above all"):
        model.given(line=far, strict=True)


@pytest.fixture(scope="module")
def trained():
    settings = Settings(steps=1500, batch_size=128, architecture=Architecture(width=32, depth=4, heads=4, widening=2))
    return sg.fit(straight, num_simulations=8000, preset=settings, seed=0, progress=False)


def right(times, values):
    """Mean and standard deviation of the slope given values of the line."""
    precision = 1 + np.square(times).sum() / 0.25
    return np.dot(times, values) / 0.25 / precision, precision**-0.5


@pytest.mark.slow
def test_a_line_is_known_as_well_as_its_points_say(trained):
    for times in ([4.0], [1.0, 6.0], [1.0, 2.0, 5.0, 7.0, 9.0]):
        values = 0.7 * np.array(times) + 0.2
        draws = trained.given(line=Curve(times, values)).sample("slope", num_samples=4000, seed=0)
        mean, sd = right(np.array(times), values)
        # What a small network reaches; the standard error of 4 000 draws is 0.016 sd.
        assert abs(draws.mean().item() - mean) < 0.3 * sd + 0.02
        assert 0.7 < draws.std().item() / sd < 1.5


@pytest.mark.slow
def test_a_point_has_the_same_law_at_any_resolution(trained):
    query = trained.given(line=Curve([3.0], [3.0]))
    few = query.sample("line", num_samples=4000, seed=0, at={"s": [1.0, 8.0]})
    many = query.sample("line", num_samples=4000, seed=1, at={"s": [1.0, 4.0, 6.0, 8.0]})[:, [0, 3]]
    # Four standard errors of the draws are 0.09 standard deviations; the rest is what so short a training leaves.
    assert ((few.mean(0) - many.mean(0)).abs() < 0.3 * few.std(0)).all()
    assert ((few.std(0) / many.std(0) - 1).abs() < 0.25).all()


@pytest.mark.slow
def test_a_random_function_keeps_its_covariance():
    settings = Settings(steps=1500, batch_size=128, architecture=Architecture(width=32, depth=4, heads=4, widening=2))
    model = sg.fit(Graph(field), num_simulations=8000, preset=settings, seed=0, progress=False)
    points = [1.0, 2.5, 4.0, 9.0]
    draws = model.sample("field", num_samples=6000, seed=0, at={"t": points})
    # Four standard errors are 0.07; the rest is what so short a training leaves. Blind to points it would be 0.7.
    assert np.abs(np.cov(draws.numpy().T) - covariance(points, points)).max() < 0.35
    given = model.given(field=Curve([1.0, 4.0], [1.0, -1.0])).sample("field", num_samples=4000, at={"t": [2.5]})
    cross, own = covariance([2.5], [1.0, 4.0]), covariance([1.0, 4.0], [1.0, 4.0]) + 1e-3 * np.eye(2)
    mean, variance = cross @ np.linalg.solve(own, [1.0, -1.0]), 1 - cross @ np.linalg.solve(own, cross.T)
    assert abs(given.mean().item() - mean.item()) < 0.2  # of 1 and -1 beside it
    assert abs(given.std().item() / variance.item() ** 0.5 - 1) < 0.4


def test_smooth_and_straight_graphs_share_nothing():
    assert set(smooth) & set(straight) == set()
    assert slope.index is None


def test_restrictions_on_plain_variables_leave_functions_as_they_are_asked(model):
    query = model.given(slope=sg.above(0.0), line=SOME)
    found = query.sample("slope", "line", num_samples=20, seed=0, at={"s": [3.5, 6.0, 9.0]}, method="rejection")
    assert (found["slope"] > 0).all()
    assert found["line"].shape == (20, 3)
    assert (found["line"][:, 0] == 0.3).all()
    assert found["line"][:, 1].std() > 0


def test_traces_at_points_of_the_users_are_learned_from(tmp_path):
    traces = straight.simulate(60, at={"s": np.linspace(0, 10, 7)}, progress=False)  # more than the index declares
    model = sg.fit(straight, traces, preset=TINY, progress=False)
    assert model.compiled.layout.tokenizers["line"].variable.shape == (7,)
    draws = model.given(line=SOME).sample("slope", num_samples=3, seed=0)
    assert model.sample("line", at={"s": [0.0, 4.0]}, num_samples=2).shape == (2, 2)
    model.save(tmp_path / "model.sg")
    again = sg.load(tmp_path / "model.sg", straight)
    assert torch.equal(again.given(line=SOME).sample("slope", num_samples=3, seed=0), draws)
