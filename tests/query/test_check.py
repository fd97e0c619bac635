"""Plain draws held against corrected ones: what differs is told, what chance does is not."""

import numpy as np
import pytest
import torch

import simgraph as sg
from simgraph import Graph, node
from simgraph.errors import QueryError


def drawn(*means, seed=0, count=2_000, batch=(), **options):
    rng = np.random.default_rng(seed)
    values = torch.from_numpy(rng.normal(size=(*batch, count, len(means))) + np.array(means))
    return sg.Samples({"theta": values}, batched=bool(batch), **options)


def test_a_shift_is_told_in_standard_deviations_and_named():
    check = sg.Check(drawn(0.0, 0.5), drawn(0.0, 0.0, seed=1))
    found = check.summary()
    assert found["shift"]["theta[0]"] == pytest.approx(0, abs=0.1)
    assert found["shift"]["theta[1]"] == pytest.approx(0.5, abs=0.1)
    assert found["distance"]["theta[1]"] == pytest.approx(0.1974, abs=0.04)  # of two normal laws half a sd apart
    assert check.differing == ("theta[1]",)
    assert not check
    text = repr(check)
    assert text.startswith("2000 plain draws held against corrected ones worth 2000\n")
    assert "the distance of theta[1]." in text
    assert "The corrected draws are in check.exact" in text


def test_a_width_is_a_ratio():
    wide = sg.Samples({"theta": 3 * drawn(0.0)["theta"]})
    check = sg.Check(wide, drawn(0.0, seed=1))
    assert check.summary()["width"]["theta[0]"] == pytest.approx(3, rel=0.1)
    assert not check


def test_chance_is_seldom_taken_for_a_difference():
    same = [0.0] * 5
    alarms = [
        not sg.Check(drawn(*same, seed=2 * n, count=300), drawn(*same, seed=2 * n + 1, count=300)) for n in range(500)
    ]
    assert np.mean(alarms) < 0.02


def test_draws_that_are_worth_less_leave_more_to_chance():
    plain, exact = drawn(0.25), drawn(0.0, seed=1)  # a distance of 0.1
    assert not sg.Check(plain, exact)
    few = sg.Check(plain, sg.Samples(dict(exact), ess=60.0, notes=["resampled"]))
    assert few
    assert few.limit == pytest.approx((np.log(2 / 0.01) / 2 * (1 / 2_000 + 1 / 60)) ** 0.5)
    lines = repr(few).splitlines()
    assert lines[0] == "2000 plain draws held against corrected ones worth 60"
    assert lines[-2:] == [f"No element differs by more than chance ({few.limit:.2g}).", "resampled"]


def test_too_few_draws_tell_nothing():
    check = sg.Check(drawn(0.0), drawn(0.0, seed=1, count=5))
    assert not check
    assert check.differing == ()
    assert "The draws are worth too few to tell" in repr(check)


def test_draws_that_are_no_numbers_differ():
    plain = drawn(0.0)
    plain["theta"][:10] = np.nan
    check = sg.Check(plain, drawn(0.0, seed=1))
    assert check.differing == ("theta[0]",)


def test_pieces_of_evidence_have_rows_of_their_own():
    plain, exact = drawn(0.0, batch=(3,)), drawn(0.0, seed=1, batch=(3,))
    plain["theta"][1] += 1
    check = sg.Check(plain, exact)
    assert check.differing == ("batch 1: theta[0]",)
    assert repr(check).startswith("2000 plain draws held against corrected ones worth 2000 or more, for each piece")


def test_of_categories_the_probabilities_are_compared():
    plain, exact = (
        sg.Samples({"kind": torch.arange(3).repeat_interleave(torch.tensor(counts)).unsqueeze(0)}, batched=True)
        for counts in ([900, 100, 1_000], [700, 400, 900])
    )
    check = sg.Check(plain, exact, ["kind"])
    assert check.summary()["distance"] == {"batch 0: kind": pytest.approx(0.15)}
    assert np.isnan(check.summary()["shift"]["batch 0: kind"])
    assert check.differing == ("batch 0: kind",)
    assert check.limit == pytest.approx((np.log(2 * 3 / 0.01) / 2 * 2 / 2_000) ** 0.5)


def test_what_never_varies_does_not_differ():
    same = sg.Samples({"k": torch.full((500,), 0.1)})
    check = sg.Check(same, same)
    assert check
    assert np.isnan(check.summary()["width"]["k"])
    assert np.isnan(check.summary()["shift"]["k"])
    # Nor does it count as one of the elements that may differ by chance.
    both = sg.Samples({"k": torch.full((2_000, 5), 0.1), **drawn(0.0)})
    assert sg.Check(both, both).limit == sg.Check(drawn(0.0), drawn(0.0)).limit


def test_draws_of_something_else_are_refused():
    with pytest.raises(QueryError, match="same variables"):
        sg.Check(drawn(0.0, 1.0), drawn(0.0))


@node(shape=())
def box(theta, rng):
    return float(theta.sum()) + rng.normal()


@pytest.fixture(scope="module")
def raw(tiny, gaussian_model):
    """A model that has learned next to nothing."""
    settings = sg.Settings(steps=3, architecture=tiny.architecture)
    return sg.fit(Graph(*gaussian_model.graph.values(), box), num_simulations=200, preset=settings, progress=False)


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


def test_restrictions_are_checked_with_independent_draws(raw):
    check = raw.given(sg.constraint(lambda theta: theta[0] - theta[1])).check("theta", num_samples=400, seed=0)
    assert any("rejection" in note for note in check.plain.notes)
    for samples in (check.plain, check.exact):
        assert (samples["theta"][:, 0] <= samples["theta"][:, 1] + 1e-3).all()
    assert "plain draws: " in repr(check)


def test_what_cannot_be_corrected_is_refused_before_anything_is_drawn(raw, monkeypatch):
    def draws(*_):
        raise AssertionError("drawn")

    monkeypatch.setattr("simgraph.query.draw.Pushforward", draws)
    with pytest.raises(QueryError, match=r"check\(...\) needs corrected draws, and .* the density of box"):
        raw.given(box=1.0).check("theta")
