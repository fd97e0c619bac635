"""Solvers against the flow of a Gaussian, whose denoiser is known."""

import itertools

import pytest
import torch

from simgraph.errors import QueryError
from simgraph.query.solvers import DEFAULT_SAMPLER, Heun, Multistep

MEAN, SD = 0.7, 0.3


def denoise(x, sigma):
    """The exact denoiser of N(MEAN, SD^2)."""
    gain = SD**2 / (SD**2 + sigma**2)
    return MEAN + gain * (x - MEAN)


@pytest.mark.parametrize("solver", [Heun, Multistep])
def test_the_flow_of_a_gaussian_is_followed(solver):
    noise = torch.linspace(-2, 2, 11, dtype=torch.float64)
    # Quantiles are kept, but for the mean: what zeros are denoised to lies a share of SD^2 / 64 away from it.
    draws = solver(evaluations=100).solve(denoise, noise)
    assert torch.allclose(draws, MEAN + SD * noise, atol=5e-3)


def denoise_two(x, sigma):
    """The exact denoiser of an uneven mixture of N(-1, SD^2) and N(1.2, SD^2)."""
    means = torch.tensor([[-1.0], [1.2]], dtype=torch.float64)
    total = SD**2 + sigma**2
    weights = (torch.tensor([[0.3], [0.7]]).log() - (x - means).square() / (2 * total)).softmax(0)
    return (weights * (means + SD**2 / total * (x - means))).sum(0)


@pytest.mark.parametrize(
    ("solver", "options", "order"), [(Heun, {}, 2), *((Multistep, {"order": k}, k) for k in (1, 2, 3))]
)
def test_the_order_is_at_least_what_it_says(solver, options, order, monkeypatch):
    # What is looked at is the flow from sigma_max down to sigma_min.
    monkeypatch.setattr("simgraph.query.solvers.begun", lambda x, denoised, centre: x)
    monkeypatch.setattr("simgraph.query.solvers.ended", lambda before, last: last.x)
    noise = torch.tensor([-1.3, -0.5, -0.1, 0.4, 1.0, 2.0], dtype=torch.float64)
    few, many, most = (
        solver(evaluations=n, sigma_min=0.05, sigma_max=10.0, rho=7.0, **options).solve(denoise_two, noise)
        for n in (402, 1602, 6402)
    )
    assert (few - most).norm() / (many - most).norm() > 0.8 * 2 ** (2 * order)


@pytest.mark.parametrize("solver", [Heun, Multistep])
@pytest.mark.parametrize("evaluations", [2, 5, 20])
def test_the_cost_is_what_was_paid_for(solver, evaluations):
    calls = []
    solver(evaluations=evaluations).solve(lambda x, sigma: calls.append(sigma) or denoise(x, sigma), torch.zeros(1))
    assert evaluations - 1 <= len(calls) <= evaluations


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"evaluations": 1}, "evaluations=1 is not a whole number of 2 or more."),
        ({"evaluations": 10.0}, "evaluations=10.0 is not a whole number"),
        ({"sigma_min": 1.0, "sigma_max": 0.5}, "must rise within the range"),
        ({"sigma_max": 1e6}, "must rise within the range"),
        ({"rho": 0.0}, "rho=0.0 is not a number between 0.5 and a million"),
        ({"rho": 1e16}, "rho=1e+16 is not a number between 0.5 and a million"),
        ({"rho": "flat"}, "rho='flat' is not a number between 0.5 and a million"),
        ({"chunk_tokens": 0}, "chunk_tokens=0 is not a whole number of 1 or more."),
    ],
)
def test_wrong_choices_are_refused(options, message):
    with pytest.raises(QueryError) as caught:
        Heun(**options)
    assert message in str(caught.value)


@pytest.mark.parametrize("sd", [1.0, 0.5, 0.1, 0.03, 0.01, 1e-3, 1e-6])
def test_the_default_keeps_the_width_of_a_gaussian(sd):
    noise = torch.randn(20_000, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    noise = (noise - noise.mean()) / noise.std()
    draws = DEFAULT_SAMPLER.solve(lambda x, sigma: sd**2 / (sd**2 + sigma**2) * x, noise)
    assert draws.std().item() == pytest.approx(sd, rel=0.008)


@pytest.mark.parametrize("rho", [-1e6, -10.0, -0.5, 0.5, 7.0, 1e6])
@pytest.mark.parametrize("evaluations", [2, 13, 100])
def test_levels_fall_from_end_to_end_whatever_bends_them(rho, evaluations):
    sampler = Multistep(evaluations=evaluations, rho=rho)
    grid = sampler.grid()
    assert len(grid) == sampler.levels
    assert grid[0] == pytest.approx(sampler.sigma_max)
    assert len(grid) == 1 or grid[-1] == pytest.approx(sampler.sigma_min)
    assert all(high > low > 0 for high, low in itertools.pairwise(grid))


@pytest.mark.parametrize("sds", [(0.03, 0.006), (0.012, 0.004), (1.0, 0.001)])
def test_oblique_normal_laws_are_off_by_thousandths_at_most(sds):
    turn = torch.tensor([[0.8, -0.6], [0.6, 0.8]], dtype=torch.float64)
    variances = torch.tensor(sds, dtype=torch.float64).square()
    noise = torch.randn(20_000, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    noise = (noise - noise.mean(0)) / noise.std(0)
    draws = DEFAULT_SAMPLER.solve(lambda x, sigma: x @ turn * (variances / (variances + sigma**2)) @ turn.T, noise)
    found = (draws @ turn).std(0)
    assert ((found - variances.sqrt()).abs() < 0.01 * variances.sqrt() + 1e-3).all()


def test_what_has_no_width_gets_none():
    draws = DEFAULT_SAMPLER.solve(lambda x, sigma: torch.full_like(x, MEAN), torch.randn(100))
    assert torch.allclose(draws, torch.full((100,), MEAN), atol=1e-4)
