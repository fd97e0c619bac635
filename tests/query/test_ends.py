"""Where the flow begins and ends, against normal laws, of which it is known."""

import pytest
import torch

from simgraph.query.ends import Visited, begun, ended

MEAN = 0.7
PLAIN = torch.linspace(-2, 2, 5, dtype=torch.float64)


def visited(sd, sigma):
    """The flow of N(MEAN, sd^2) at a noise level."""
    away = (sd**2 + sigma**2) ** 0.5 * PLAIN
    return Visited(sigma, MEAN + away, MEAN + sd**2 / (sd**2 + sigma**2) * away)


@pytest.mark.parametrize("sd", [0.0, 1e-4, 0.01, 0.1, 1.0])
@pytest.mark.parametrize("ratio", [1.05, 2.0, 10.0])
def test_the_flow_of_a_normal_law_ends_at_its_quantiles(sd, ratio):
    draws = ended(visited(sd, 0.01 * ratio), visited(sd, 0.01))
    torch.testing.assert_close(draws, MEAN + sd * PLAIN, rtol=0, atol=1e-7)


@pytest.mark.parametrize("fall", [0.2, 50.0, -3.0, float("inf"), float("nan")])
def test_whatever_the_gaps_tell_the_end_lies_from_half_way_to_the_mean_up_to_it(fall):
    last = Visited(0.01, torch.tensor([0.3]), torch.tensor([0.2]))
    before = Visited(0.02, torch.tensor([0.3 + fall * 0.1]), torch.tensor([0.3]))
    assert 0.2 <= ended(before, last).item() <= 0.25


def test_what_is_denoised_to_itself_stays():
    still = torch.tensor([0.3])
    assert ended(Visited(0.02, still, still), Visited(0.01, still, still)) == still


@pytest.mark.parametrize("sd", [0.1, 0.5, 1.0])
def test_the_start_is_as_wide_as_the_law_up_to_the_fourth_power(sd):
    sigma = 8.0
    plain = MEAN + sigma * PLAIN
    denoised = MEAN + sd**2 / (sd**2 + sigma**2) * (plain - MEAN)
    missing = visited(sd, sigma).x - begun(plain, denoised, torch.full_like(plain, MEAN))
    assert (missing.abs() <= sd**4 / sigma**3 * PLAIN.abs() + 1e-12).all()
