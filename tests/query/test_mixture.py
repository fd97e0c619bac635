"""Mixtures: densities that integrate to one, kernels that keep them, fits that find the components."""

import math

import pytest
import torch
from scipy.stats import kstest, t

from simgraph.query.mixture import Mixture, fit_mixture

NONE = torch.zeros(0, 0)


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def two_bumps():
    """Two components on a line, each with a law of three classes of its own."""
    return Mixture(
        torch.tensor([0.3, 0.7]).double(),
        torch.tensor([[-2.0], [1.0]]).double(),
        torch.tensor([[[0.5]], [[1.5]]]).double(),
        torch.tensor([[[0.2, 0.3, 0.5]], [[0.6, 0.3, 0.1]]]).double(),
    )


def exact_draws(mixture, count, generator):
    """Draws from the mixture itself, without the heavy tails."""
    component = torch.multinomial(mixture.weights, count, replacement=True, generator=generator)
    noise = torch.randn(count, mixture.means.shape[1], generator=generator, dtype=torch.float64)
    z = mixture.means[component] + (mixture.factors[component] @ noise.unsqueeze(-1)).squeeze(-1)
    return z, torch.multinomial(mixture.chances[component, 0], 1, generator=generator)


@pytest.mark.parametrize("density", ["log_density", "log_proposal"])
def test_densities_integrate_to_one(density):
    grid = torch.linspace(-400, 400, 400_001, dtype=torch.float64).unsqueeze(1)
    total = 0.0
    for number in range(3):
        classes = torch.full((len(grid), 1), number)
        total += float(getattr(two_bumps(), density)(grid, classes).exp().sum()) * 800 / 400_000
    # Beyond 400 a Student law with 3 degrees of freedom and scale 1.5, of which there is a tenth, has mass 1e-8.
    assert total == pytest.approx(1.0, abs=1e-6)


def test_proposals_follow_their_density():
    mixture = two_bumps()
    z, k = mixture.propose(20_000, seeded())
    # By importance weights: the mean of G / q over draws of q is 1, and weights lie below 1 / 0.9.
    weights = (mixture.log_density(z, k) - mixture.log_proposal(z, k)).exp()
    assert weights.max() <= 1 / 0.9 + 1e-9
    # Four standard errors, with weights that are spread over less than [0, 1.11].
    assert float(weights.mean()) == pytest.approx(1.0, abs=4 * float(weights.std()) / 20_000**0.5)
    assert float((weights * (z[:, 0] > 0) * (k[:, 0] == 0)).mean()) == pytest.approx(
        0.7 * 0.6 * 0.7475 + 0.3 * 0.2 * 3.2e-5, abs=4 * 0.5 / 20_000**0.5
    )


def test_one_component_has_students_tails():
    plain = Mixture(
        torch.ones(1).double(), torch.zeros(1, 1).double(), torch.ones(1, 1, 1).double(), NONE[None].double()
    )
    z = torch.tensor([[7.0]], dtype=torch.float64)
    expected = 0.1 * t.pdf(7.0, 3) + 0.9 * math.exp(-24.5) / math.sqrt(2 * math.pi)
    assert float(plain.log_proposal(z, torch.zeros(1, 0).long()).exp()) == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("size", [0.05, 0.6, 1.0])
def test_refreshing_keeps_the_mixture(size):
    mixture, generator = two_bumps(), seeded(1)
    z, k = exact_draws(mixture, 20_000, generator)
    before = z.clone()
    for _ in range(5):
        z, k = mixture.refresh(z, k, torch.full((len(z),), size, dtype=torch.float64), generator)
    assert not torch.equal(before, z)

    def cdf(value):
        normal = torch.distributions.Normal(mixture.means[:, 0], mixture.factors[:, 0, 0])
        return (mixture.weights * normal.cdf(torch.as_tensor(value)[:, None])).sum(1).numpy()

    assert kstest(z[:, 0].numpy(), cdf).pvalue > 1e-3
    # Four standard errors of a share.
    for number, share in enumerate([0.48, 0.3, 0.22]):
        assert float((k == number).double().mean()) == pytest.approx(share, abs=4 * (share / 20_000) ** 0.5)


def test_a_fit_finds_the_components():
    mixture = two_bumps()
    z, k = exact_draws(mixture, 8_000, seeded(2))
    found = fit_mixture(z, k, [3], seeded())
    # The expected log ratio is the divergence of the fit from the truth; k parameters cost about k / 2n = 1e-3.
    loss = float((mixture.log_density(z, k) - found.log_density(z, k)).mean())
    assert abs(loss) < 0.01


def test_one_gaussian_is_one_component():
    z = torch.randn(4_000, 6, generator=seeded(), dtype=torch.float64)
    assert len(fit_mixture(z, torch.zeros(4_000, 0).long(), [], seeded())) == 1


def test_draws_of_categories_alone_or_all_equal_can_be_fitted():
    k = torch.arange(1_000).remainder(4).unsqueeze(1)
    found = fit_mixture(torch.zeros(1_000, 0).double(), k, [4], seeded())
    for number in range(4):
        value = found.log_density(torch.zeros(1, 0).double(), torch.tensor([[number]]))
        assert float(value.exp()) == pytest.approx(0.25, abs=0.02)
    equal = fit_mixture(torch.ones(300, 2).double(), torch.zeros(300, 0).long(), [], seeded())
    assert equal.log_density(torch.ones(1, 2).double(), torch.zeros(1, 0).long()).isfinite().all()
    z, k = found.propose(50, seeded())
    assert z.shape == (50, 0)
    assert set(k.flatten().tolist()) == {0, 1, 2, 3}
