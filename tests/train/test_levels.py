"""Noise levels follow the error of the denoiser."""

import pytest
import torch

from simgraph.simformer.schedule import SIGMA_MAX, SIGMA_MIN, NoiseLevels
from simgraph.train.levels import Levels

BASE = NoiseLevels()


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def followed(widths, rows=4096, features=8):
    """Levels that followed the errors of an exact denoiser of normal laws of these widths."""
    sigma = BASE.sample(rows, generator())
    width = torch.tensor(widths)[torch.randint(len(widths), (rows,), generator=generator(1))]
    # The posterior variance is width^2 sigma^2 / (width^2 + sigma^2); errors scatter like theirs.
    error = (
        width.square()
        / (width.square() + sigma.square())
        * torch.randn(rows, features, generator=generator(2)).square().mean(1)
    )
    levels = Levels(BASE)
    levels.follow(sigma, error)
    return levels


def share(levels, low, high, count=4000):
    drawn = levels.sample(count, generator())
    return float(((drawn > low) & (drawn < high)).float().mean())


def test_narrow_laws_get_levels_around_their_width():
    # 1 - e = 1 / (1 + (width / sigma)^2) has all but 1 / 122 of its mass below the base's median, 0.22, and there
    # 35 / 37 of it within a factor of 6.
    of_base = share(Levels(BASE), 0.02 / 6, 6 * 0.02)
    assert share(followed([0.02]), 0.02 / 6, 6 * 0.02) == pytest.approx(0.5 * of_base + 0.5 * 35 / 37, abs=0.03)


@pytest.mark.parametrize(("rows", "features"), [(4096, 8), (512, 1)])
def test_wide_laws_leave_the_levels_as_they_are(rows, features):
    levels = followed([3.0], rows, features)
    for low, high in ((0.002, 0.05), (0.05, 0.5), (0.5, 40.0)):
        assert share(levels, low, high) == pytest.approx(share(Levels(BASE), low, high), abs=0.03)


def test_a_single_row_that_errs_far_is_no_narrow_law():
    sigma = BASE.sample(4096, generator())
    error = 9 / (9 + sigma.square())
    error[(sigma - 0.05).abs().argmin()] = 400.0
    levels = Levels(BASE)
    levels.follow(sigma, error)
    assert share(levels, 0.04, 0.08) == pytest.approx(share(Levels(BASE), 0.04, 0.08), abs=0.03)


@pytest.mark.parametrize("broken", [float("nan"), float("inf")])
def test_an_error_that_is_no_number_is_passed_over(broken):
    sigma = BASE.sample(4096, generator())
    error = 1 / (1 + sigma.square())
    error[7] = broken
    levels = Levels(BASE)
    levels.follow(sigma, error)
    assert torch.equal(levels.sample(64, generator()), BASE.sample(64, generator()))


def test_some_narrow_laws_among_wide_ones_get_their_part():
    before, after = (share(levels, 0.003, 0.03) for levels in (Levels(BASE), followed([0.01, 3.0])))
    # Half of the laws are narrow; half of their widths are levels, of which 8 / 10 lie within a factor of 3.
    assert after == pytest.approx(0.75 * before + 0.25 * 0.8, abs=0.03)


def test_levels_stay_in_range_and_come_from_the_generator():
    levels = followed([0.1])
    drawn = [levels.sample(501, generator(seed)) for seed in (0, 0, 1)]
    assert torch.equal(drawn[0], drawn[1])
    assert not torch.equal(drawn[0], drawn[2])
    assert drawn[0].shape == (501,)
    assert drawn[0].dtype == torch.float32
    assert ((drawn[0] >= SIGMA_MIN) & (drawn[0] <= SIGMA_MAX)).all()
    # No order among the rows: both halves have levels of both kinds.
    assert abs(float(drawn[0][:250].log().mean() - drawn[0][250:].log().mean())) < 0.5


@pytest.mark.parametrize(("rows", "error"), [(100, None), (4096, 1.0)])
def test_without_an_error_that_falls_the_levels_are_the_same_for_all_graphs(rows, error):
    sigma = BASE.sample(rows, generator())
    levels = Levels(BASE)
    levels.follow(sigma, 1 / (1 + sigma.square()) if error is None else torch.full_like(sigma, error))
    assert torch.equal(levels.sample(64, generator()), BASE.sample(64, generator()))
