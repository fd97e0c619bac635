"""What is added to targets has mean zero, and takes noise away."""

import math

import pytest
import torch

from simgraph.simformer.control import Control


def plain(identifiers=1):
    """Weights of one, as nearly as they come."""
    control = Control(identifiers)
    with torch.no_grad():
        control.shares.fill_(math.log(1 / 0.3))
    return control


@pytest.mark.parametrize("sigma", [0.01, 0.3, 2.0, 20.0])
@pytest.mark.parametrize("sd", [0.05, 1.0, 3.0])
def test_the_target_of_a_gaussian_law_is_the_mean(sigma, sd):
    generator = torch.Generator().manual_seed(0)
    x_0, noise = (torch.randn(50, 1, generator=generator).double() for _ in range(2))
    x_0 = 0.7 + sd * x_0
    scores = torch.stack([-(x_0 - 0.7) / sd**2, torch.full_like(x_0, sd**-2), torch.zeros_like(x_0)], -1)
    level = torch.full((50,), sigma, dtype=torch.float64)
    added = plain().double()(noise, level, scores, torch.zeros(1, dtype=torch.long))
    target = x_0 + added * sigma / math.sqrt(1 + sigma**2)
    mean = 0.7 + sd**2 / (sd**2 + sigma**2) * (x_0 + sigma * noise - 0.7)
    assert torch.allclose(target, mean, atol=1e-6)


@pytest.mark.parametrize("sigma", [0.1, 1.0, 5.0])
def test_of_a_skew_law_with_a_precision_that_varies_nothing_is_added_in_the_mean(sigma):
    """The law is that of log E for an exponential E: its score is 1 - e^z. The precision is e^z, its own derivative."""
    generator = torch.Generator().manual_seed(1)
    count = 200_000
    z = torch.rand(count, 1, generator=generator).double().log().neg().log()
    noise = torch.randn(count, 1, generator=generator).double()
    scores = torch.stack([1 - z.exp(), z.exp(), z.exp()], -1)
    level = torch.full((count,), sigma, dtype=torch.float64)
    added = plain().double()(noise, level, scores, torch.zeros(1, dtype=torch.long))
    seen = z + sigma * noise
    for test in (torch.ones_like(seen), seen, seen.square(), (seen > 0.5).double()):
        moment = added * test
        assert abs(moment.mean()) < 4.5 * moment.std() / count**0.5
    if sigma <= 1:
        aimed = z + added * sigma / math.sqrt(1 + sigma**2)
        centre = seen / (1 + sigma**2)
        assert (aimed - centre).square().mean() < 0.8 * (z - centre).square().mean()


def test_nothing_is_added_where_nothing_is_known():
    scores = torch.tensor([0.0, torch.inf, 0.0]).expand(4, 3, 3)
    added = Control(2)(torch.ones(4, 3), torch.linspace(0.01, 10, 4), scores, torch.tensor([0, 1, 1]))
    assert (added == 0).all()


def test_weights_depend_on_the_identifier_and_the_level():
    control = Control(2)
    with torch.no_grad():
        control.shares[1].zero_()
    scores = torch.tensor([0.5, 1.0, 0.0]).expand(3, 2, 3)
    sigma = torch.tensor([0.002, 0.5, 40.0])
    added = control(torch.ones(3, 2), sigma, scores, torch.tensor([0, 1]))
    share = 1 / (1 + sigma**2)
    expected = 0.65 * (1 + sigma**2).sqrt() * share * (1 + 0.5 * sigma)
    assert torch.allclose(added[:, 1], expected)
    ratio = added[:, 0] / added[:, 1]
    assert ratio[0] > 1.9
    assert ratio[2] < 0.1
    rows = control(torch.ones(3, 2), sigma, scores, torch.tensor([[1, 0], [0, 1], [1, 0]]))
    assert torch.allclose(rows[:, 0], added[[0, 1, 2], [1, 0, 1]])
    assert torch.allclose(rows[1], added[1])
