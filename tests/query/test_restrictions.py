import math

import numpy as np
import pytest
import torch

import simgraph as sg
from simgraph.errors import EvidenceError, QueryError, RestrictionError, ShapeError, SupportError
from simgraph.query.budget import Budget
from simgraph.query.splitting import StuckError, split, worth


@pytest.mark.parametrize("method", ["auto", "rejection", sg.Splitting(particles=100, sweeps=2)])
def test_all_draws_satisfy_an_interval(gaussian_model, method):
    query = gaussian_model.given(x=sg.between([0.0, -np.inf], [1.0, np.inf]))
    draws = query.sample(["theta", "x"], num_samples=50, seed=0, method=method)
    assert ((draws["x"][:, 0] > 0) & (draws["x"][:, 0] < 1)).all()
    assert draws["theta"].shape == (50, 2)
    assert "100.0% of the draws satisfy" in draws.notes[0]


def test_constraints_and_predicates_hold_together_with_evidence(gaussian_model):
    query = gaussian_model.given(
        sg.constraint(lambda theta: theta[0] - theta[1]),
        sg.where(lambda theta: theta.sum() > 0),
        x=[[0.0, 0.0], [1.0, 1.0]],
    )
    theta = query.sample("theta", num_samples=30, seed=0)
    assert theta.shape == (2, 30, 2)
    assert (theta[..., 0] <= theta[..., 1]).all()
    assert (theta.sum(-1) > 0).all()


def test_functions_that_look_at_values_are_called_one_draw_at_a_time(gaussian_model):
    draws = gaussian_model.given(sg.where(lambda theta: float(theta[0]) > 0)).sample("theta", num_samples=20, seed=0)
    assert (draws[:, 0] > 0).all()


def test_guided_draws_tell_how_many_satisfy(gaussian_model):
    query = gaussian_model.given(theta=sg.above(0.5))
    with pytest.warns(sg.SimgraphWarning, match=r"only .* of the draws satisfy theta in \(0.5, inf\)"):
        draws = query.sample(["theta"], num_samples=100, seed=0, method=sg.Guided(steps=4, recurrence=1, strength=0.01))
    held = (draws["theta"] > 0.5).all(1).double().mean()
    assert f"{held:.1%}" in draws.notes[0]


def test_guidance_raises_the_share_that_satisfies(gaussian_model):
    query = gaussian_model.given(theta=sg.above(0.5))
    free = (gaussian_model.sample("theta", num_samples=200, seed=0) > 0.5).all(1).double().mean()
    with pytest.warns(sg.SimgraphWarning) if free < 0 else _maybe_warns():
        draws = query.sample("theta", num_samples=200, seed=0, method="guided")
    assert (draws > 0.5).all(1).double().mean() > free + 0.3


def _maybe_warns():
    import warnings

    context = warnings.catch_warnings()
    warnings.simplefilter("ignore", sg.SimgraphWarning)
    return context


def test_the_ladder_reaches_a_rare_event_of_the_normal_law():
    # Beyond 4 the mean of a standard normal is 4 + 0.226 and its probability 3.2e-5.
    generator = torch.Generator().manual_seed(0)
    climbed = split(lambda z: (4 - z[:, 0, 0]).clamp_min(0), (2, 1), 2000, 500, 4, generator, Budget(60))
    noise = climbed.noise
    assert (noise[:, 0, 0] >= 4).all()
    # 2 000 draws from at least 125 independent ancestors: standard error of the mean below 0.22 / sqrt(125) = 0.02.
    assert abs(float(noise[:, 0, 0].mean()) - 4.226) < 0.06
    assert abs(float(noise[:, 1, 0].mean())) < 4 / math.sqrt(125)
    # Eight rungs of relative error sqrt(3 / 500) each, and some correlation: a factor of two is far out.
    assert 1.6e-5 < climbed.probability < 6.4e-5


def test_the_effective_number_foretells_how_much_the_mean_of_a_ladder_varies():
    means, told = [], []
    for seed in range(40):
        generator = torch.Generator().manual_seed(seed)
        found = split(lambda z: (3 - z[:, 0]).clamp_min(0), (3,), 1000, 200, 3, generator, Budget(60))
        means.append(found.noise[:, 1:].mean(0))
        told.append(1 / worth(found.noise[:, 1:], found.families))
        first = worth(found.noise[:, :1], found.families)
        assert 1 < 1 / told[-1] < first <= 1000  # what the demand is about is moved by every rung
    variance = float(torch.stack(means).var(0).mean())  # the variance of these elements is 1; 80 numbers: +- 16 %
    assert 0.5 < variance / (sum(told) / len(told)) < 1.5
    assert variance > 4 / 1000  # a thousand draws are worth far fewer: a test that can fail


def test_families_are_worth_one_draw_each_and_elements_that_never_vary_do_not_count():
    families = torch.arange(1000) % 50
    alike = torch.randn(50, 1, generator=torch.Generator().manual_seed(0))[families]
    assert worth(alike, families) == pytest.approx(50)
    free = torch.randn(1000, 1, generator=torch.Generator().manual_seed(1))
    assert 400 < worth(free, families) <= 1000
    assert worth(torch.cat([alike, free, torch.ones(1000, 1)], 1), families) == pytest.approx(50)
    assert worth(free[:1], families[:1]) == worth(free, torch.zeros(1000, dtype=torch.long)) == 1


def test_draws_of_the_ladder_say_what_they_are_worth(gaussian_model):
    query = gaussian_model.given(theta=sg.above(0.5))
    climbed = query.sample(["theta"], num_samples=200, seed=0, method=sg.Splitting(particles=100, sweeps=2))
    assert 1 < climbed.ess < 190
    assert query.sample(["theta"], num_samples=200, seed=0, method="rejection").ess == 200
    often_and_seldom = gaussian_model.given(sg.constraint(lambda theta, x: x[0] - theta[0]), x=[[0.0, 0.0], [2.5, 0.0]])
    draws = often_and_seldom.sample(["theta"], num_samples=200, seed=0)
    assert "rejection kept" in draws.notes[0]
    assert "sequential Monte Carlo for 1 of 2 pieces" in draws.notes[0]
    assert 1 < draws.ess < 200  # of the worse one


def test_what_follows_from_draws_of_the_ladder_is_worth_no_more(gaussian_model):
    query = gaussian_model.given(theta=sg.above(1.5))
    assert "sequential Monte Carlo" in query.sample(["theta"], num_samples=100, seed=0).notes[0]
    replicates = query.predict(["x"], num_samples=100, seed=0)
    changed = gaussian_model.do(x=[0.0, 0.0]).given(theta=sg.above(1.5)).sample(["theta", "x"], num_samples=100, seed=0)
    for found in (replicates, changed):
        assert 1 < found.ess < 95
        assert "sequential Monte Carlo" in found.notes[0]


def test_the_ladder_passes_ties_and_says_where_it_ends():
    generator = torch.Generator().manual_seed(0)
    found = split(lambda z: (2 - z[:, 0, 0]).clamp_min(0).ceil(), (1, 1), 100, 200, 3, generator, Budget(60))
    assert (found.noise >= 2).all()
    with pytest.raises(StuckError) as caught:
        split(lambda z: torch.ones(len(z)), (1, 1), 100, 200, 3, generator, Budget(60))
    assert caught.value.closest == 1.0


def test_impossible_demands_end_with_an_error(gaussian_model):
    with pytest.raises(RestrictionError, match="the closest misses by"):
        gaussian_model.given(sg.constraint(lambda theta: theta.square().sum() + 1)).sample(
            "theta", num_samples=5, seed=0, method=sg.Splitting(particles=50, sweeps=1)
        )
    with pytest.raises(RestrictionError, match="0 of 3000 draws satisfy where"):
        gaussian_model.given(sg.where(lambda theta: theta[0] > 1e6)).sample(
            "theta", num_samples=5, seed=0, method=sg.Rejection(tries=3000)
        )
    with pytest.raises(RestrictionError, match="were found in"):
        gaussian_model.given(sg.where(lambda theta: theta[0] > 1e6)).sample(
            "theta", num_samples=5, seed=0, method=sg.Rejection(time_limit=0.01)
        )


@pytest.mark.parametrize(
    ("ask", "error", "message"),
    [
        (lambda m: m.given(sg.where(lambda thetta: True)), QueryError, "asks for 'thetta', which is not a variable"),
        (lambda m: m.given(sg.where(lambda: True)), QueryError, "reads no variable"),
        (lambda m: m.given(sg.where(lambda *theta: True)), QueryError, "are no names of variables"),
        (lambda m: sg.where(3), QueryError, "takes a function of variables, not 3"),
        (lambda m: m.given(sg.where(lambda x: True), x=[0.0, 0.0]), QueryError, "already decided"),
        (lambda m: m.given(x=sg.between([0, 0, 0], 1)), ShapeError, "has ends of shape"),
        (lambda m: m.given(x=sg.above(0.0)).given(x=[0.0, 0.0]), QueryError, "'x' is given twice"),
        (lambda m: m.given(x=sg.above(1e9), strict=True), EvidenceError, "outside of all 360 training"),
        (lambda m: m.given(3), QueryError, "takes mappings from names to values, or conditions"),
        (lambda m: m.given(x=sg.above(0.0)).sample("theta", method="magic"), QueryError, "method='magic' is not known"),
        (lambda m: m.given(x=sg.above(0.0)).log_prob(theta=[0.0, 0.0]), QueryError, "not under x in"),
        (lambda m: m.given(x=sg.above(0.0)).map("theta"), QueryError, "not under x in"),
        (lambda m: sg.Splitting(sweeps=0), QueryError, r"Splitting\(sweeps=0\) is not a whole number"),
        (lambda m: sg.Guided(strength=-1), QueryError, "is not a positive number"),
        (
            lambda m: m.given(sg.where(lambda theta: theta[0])).sample("theta"),
            QueryError,
            "returned a number",
        ),
        (
            lambda m: m.given(sg.constraint(lambda theta: theta[0] > 0)).sample("theta"),
            QueryError,
            "returned a truth value",
        ),
        (lambda m: m.given(sg.where(lambda theta: None)).sample("theta"), QueryError, "returned None"),
        (lambda m: m.given(sg.where(lambda theta: 1 / 0)).sample("theta"), QueryError, "raised ZeroDivisionError"),
        (
            lambda m: m.given(sg.constraint(lambda theta: theta[0] * float("nan"))).sample("theta"),
            QueryError,
            "is NaN for a draw",
        ),
        (
            lambda m: m.given(sg.where(lambda theta: theta[0] > 0)).sample("theta", method="smc"),
            QueryError,
            "does not say how far",
        ),
        (
            lambda m: m.given(sg.where(lambda theta: theta[0] > 0)).sample("theta", method="guided"),
            QueryError,
            "follows gradients",
        ),
    ],
)
def test_wrong_demands_are_refused(gaussian_model, ask, error, message):
    with pytest.raises(error, match=message):
        ask(gaussian_model)


def test_an_interval_has_to_meet_the_support(mixed_model):
    with pytest.raises(SupportError, match="of 'width' holds no value of its support"):
        mixed_model.given(width=sg.above(3.0))
    with pytest.raises(SupportError, match="of 'label' holds no value"):
        mixed_model.given(label=sg.between(0.2, 0.8))


def test_categories_and_partly_given_plates(mixed_model):
    draws = mixed_model.given(label=sg.above(0.5)).sample(["label", "level"], num_samples=20, seed=0)
    assert (draws["label"] >= 1).all()
    assert draws["level"].shape == (20, 3)
