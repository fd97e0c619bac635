"""Plain draws held against corrected ones: what differs is told, what chance does is not."""

import numpy as np
import pytest
import torch
from torch.distributions import Normal

import simgraph as sg
from simgraph import Graph, node
from simgraph.errors import QueryError

RNG = np.random.default_rng(0)


def drawn(*means, count=2_000, batch=(), **options):
    values = torch.from_numpy(RNG.normal(size=(*batch, count, len(means))) + np.array(means))
    return sg.Samples({"theta": values}, batched=bool(batch), **options)


def test_a_shift_is_told_in_standard_deviations_and_named():
    check = sg.Check(drawn(0.0, 0.5), drawn(0.0, 0.0))
    found = check.summary()
    assert found["shift"]["theta[0]"] == pytest.approx(0, abs=0.1)
    assert found["shift"]["theta[1]"] == pytest.approx(0.5, abs=0.1)
    assert found["distance"]["theta[1]"] == pytest.approx(0.1974, abs=0.04)  # of two normal laws half a sd apart
    assert check.differing == ("theta[1]",)
    assert not check
    text = repr(check)
    assert text.startswith("2000 plain draws held against corrected ones worth 2000\n")
    assert "the distance of theta[1]." in text
    assert "sample(..., exact=True) corrects the draws" in text


def test_a_width_is_a_ratio():
    wide = sg.Samples({"theta": 3 * drawn(0.0)["theta"]})
    check = sg.Check(wide, drawn(0.0))
    assert check.summary()["width"]["theta[0]"] == pytest.approx(3, rel=0.1)
    assert not check


def test_chance_is_seldom_taken_for_a_difference():
    found = [bool(sg.Check(drawn(*[0.0] * 5, count=300), drawn(*[0.0] * 5, count=300))) for _ in range(500)]
    assert 0 <= 1 - np.mean(found) < 0.02


def test_draws_that_are_worth_less_leave_more_to_chance():
    plain, exact = drawn(0.1), drawn(0.0)
    assert not sg.Check(plain, exact)
    few = sg.Check(plain, sg.Samples(dict(exact), ess=40.0, notes=["resampled"]))
    assert few
    assert few.limit == pytest.approx((np.log(2 / 0.01) / 2 * (1 / 2_000 + 1 / 40)) ** 0.5)
    lines = repr(few).splitlines()
    assert lines[0] == "2000 plain draws held against corrected ones worth 40"
    assert lines[-2:] == [f"No element differs by more than chance ({few.limit:.2g}).", "resampled"]


def test_pieces_of_evidence_have_rows_of_their_own():
    plain, exact = drawn(0.0, batch=(3,)), drawn(0.0, batch=(3,))
    plain["theta"][1] += 1
    assert sg.Check(plain, exact).differing == ("batch 1: theta[0]",)


def test_what_never_varies_does_not_differ():
    same = sg.Samples({"k": torch.ones(100, dtype=torch.int64)})
    check = sg.Check(same, same)
    assert check
    assert np.isnan(check.summary()["width"]["k"])


@node
def theta():
    return Normal(torch.zeros(2), 1.0)


@node
def x(theta):
    return Normal(theta, 0.5)


@node(shape=())
def box(theta, rng):
    return float(theta.sum()) + rng.normal()


@pytest.fixture(scope="module")
def raw(tiny):
    """A model that has learned next to nothing."""
    settings = sg.Settings(steps=3, architecture=tiny.architecture)
    return sg.fit(Graph(theta, x, box), num_simulations=200, preset=settings, progress=False)


def test_an_untrained_model_is_found_out(raw):
    check = raw.given(x=[1.0, -1.0]).check("theta", num_samples=500, seed=0)
    assert check.differing == ("theta[0]", "theta[1]")
    assert check.plain.num_samples == check.exact.num_samples == 500
    # theta given x is normal around 0.8 x with the standard deviation 0.2 ** 0.5.
    assert check.exact["theta"].mean(0).tolist() == pytest.approx([0.8, -0.8], abs=0.1)
    again = raw.given(x=[1.0, -1.0]).check(["theta"], num_samples=500, seed=0)
    assert torch.equal(again.plain["theta"], check.plain["theta"])
    assert torch.equal(again.exact["theta"], check.exact["theta"])


def test_with_nothing_given_the_graph_s_own_draws_are_held_against(raw):
    check = raw.check("x", num_samples=400, seed=0)
    assert list(check.exact) == ["x"]
    assert check.exact["x"].std(0).tolist() == pytest.approx([1.25**0.5] * 2, rel=0.15)


def test_what_cannot_be_corrected_is_refused_before_anything_is_drawn(raw, monkeypatch):
    def draws(*_):
        raise AssertionError("drawn")

    monkeypatch.setattr("simgraph.query.draw.Pushforward", draws)
    with pytest.raises(QueryError, match="box"):
        raw.given(box=1.0).check("theta")
