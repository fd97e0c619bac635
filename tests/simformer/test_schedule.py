"""Noise levels and preconditioning."""

import math

import pytest
import torch

from simgraph.simformer.schedule import SIGMA_MAX, SIGMA_MIN, NoiseLevels, karras_grid, preconditioning

SIGMAS = torch.logspace(-3, 2, 30, dtype=torch.float64)


def test_the_network_sees_unit_variance_at_every_noise_level():
    _, _, c_in, _ = preconditioning(SIGMAS)
    assert torch.allclose(c_in.square() * (1 + SIGMAS.square()), torch.ones_like(SIGMAS))


def test_the_network_is_asked_for_unit_variance_at_every_noise_level():
    c_skip, c_out, _, _ = preconditioning(SIGMAS)
    # Variance of x_0 - c_skip (x_0 + sigma eps) for independent standard normal x_0 and eps.
    variance = (1 - c_skip).square() + c_skip.square() * SIGMAS.square()
    assert torch.allclose(variance / c_out.square(), torch.ones_like(SIGMAS))


def test_the_input_is_kept_without_noise_and_forgotten_under_much():
    c_skip, c_out, _, c_noise = preconditioning(torch.tensor([1e-6, 1e6], dtype=torch.float64))
    assert c_skip.tolist() == pytest.approx([1, 0], abs=1e-9)
    assert c_out.tolist() == pytest.approx([0, 1], abs=1e-5)
    assert c_noise.tolist() == pytest.approx([math.log(1e-6) / 4, math.log(1e6) / 4])


def test_noise_levels_have_the_stated_median_and_spread_and_stay_in_range():
    levels = NoiseLevels(mean=-1.0, sd=1.2).sample(4000, torch.Generator().manual_seed(0))
    assert levels.shape == (4000,)
    assert levels.dtype == torch.float32
    assert ((levels >= SIGMA_MIN) & (levels <= SIGMA_MAX)).all()
    # Stratified: quantiles are off by one part in the count.
    assert float(levels.log().median()) == pytest.approx(-1.0, abs=0.01)
    assert float(levels.log().quantile(0.8413)) == pytest.approx(0.2, abs=0.02)


def test_noise_levels_cover_all_strata_in_random_order():
    noise = NoiseLevels()
    levels = noise.sample(64, torch.Generator().manual_seed(1))
    unit = torch.special.ndtr((levels.double().log() - noise.mean) / noise.sd)
    inside = (levels > SIGMA_MIN) & (levels < SIGMA_MAX)
    strata = (unit * 64).floor().long()[inside]
    assert len(strata.unique()) == len(strata)
    assert (strata.diff() < 0).any()


def test_noise_levels_follow_the_generator():
    draws = [NoiseLevels().sample(10, torch.Generator().manual_seed(seed)) for seed in (0, 0, 1)]
    assert torch.equal(draws[0], draws[1])
    assert not torch.equal(draws[0], draws[2])


@pytest.mark.parametrize("rho", [1.0, 3.0, 7.0])
def test_the_grid_falls_from_one_end_to_the_other_and_then_to_zero(rho):
    grid = karras_grid(9, 20.0, 0.01, rho)
    assert grid.shape == (10,)
    assert (grid.diff() < 0).all()
    assert grid[[0, -2, -1]].tolist() == pytest.approx([20.0, 0.01, 0.0])


def test_a_larger_exponent_bends_the_grid_to_small_levels():
    assert karras_grid(9, 20.0, 0.01, 7.0)[4] < karras_grid(9, 20.0, 0.01, 1.0)[4]


def test_an_exponent_of_one_is_linear():
    assert karras_grid(5, 4.0, 0.0, 1.0)[:5].tolist() == pytest.approx([4.0, 3.0, 2.0, 1.0, 0.0])
