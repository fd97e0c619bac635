"""Tempering brings draws of any proposal to the target, with its integral."""

import math

import pytest
import torch
from scipy.stats import kstest

from simgraph.query.mixture import Mixture, fit_mixture
from simgraph.query.tempering import effective, pool, resampled, temper


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


class Target:
    """A target from a function of reals and classes."""

    def __init__(self, function, classes=()):
        self.function, self.classes = function, list(classes)

    def log_density(self, z, k):
        return self.function(z, k)


def gaussian(mean, scale, reals=1):
    return Mixture(
        torch.ones(1).double(),
        torch.full((1, reals), mean).double(),
        scale * torch.eye(reals).double()[None],
        torch.zeros(1, 0, 0).double(),
    )


def bumps(z, k):
    """7 times a density: modes at -3 and 3 with the shares 0.5 and 0.5, of scales 0.1 and 0.3."""
    parts = [torch.distributions.Normal(*law).log_prob(z[:, 0].double()) for law in ((-3.0, 0.1), (3.0, 0.3))]
    return torch.stack(parts).logsumexp(0) + math.log(3.5)


def test_effective_numbers():
    assert effective(torch.zeros(5)) == pytest.approx(5)
    assert effective(torch.tensor([1000.0, -1000.0])) == pytest.approx(1)
    assert effective(torch.full((3,), -torch.inf)) == 0


def test_resampling_keeps_shares():
    rows = resampled(torch.tensor([0.1, 0.2, 0.7, 0.0]).double().log(), 1_000, seeded())
    # Systematic resampling is off by less than one in each.
    assert [abs(int((rows == i).sum()) - count) <= 1 for i, count in enumerate([100, 200, 700, 0])] == [True] * 4
    assert rows.tolist() != sorted(rows.tolist())


def test_one_step_where_the_proposal_is_good():
    target, proposal = Target(lambda z, k: -0.5 * z[:, 0] ** 2), gaussian(0.2, 1.2)
    found = temper(target, pool(target, proposal, 8_192, seeded()), proposal, 2_000, seeded(1))
    assert found.steps == 1
    assert found.log_evidence == pytest.approx(0.5 * math.log(2 * math.pi), abs=4 * found.error)
    assert 0 < found.error < 0.02
    assert kstest(found.particles.z[:, 0].numpy(), "norm").pvalue > 1e-3
    assert len(torch.unique(found.particles.z)) > 1_950  # copies have moved apart


def test_many_steps_where_it_is_bad():
    target = Target(lambda z, k: -0.5 * ((z - 4) / 0.05).square().sum(1))
    proposal = gaussian(0.0, 1.0, reals=4)
    found = temper(target, pool(target, proposal, 8_192, seeded()), proposal, 2_000, seeded(1))
    assert found.steps > 3
    expected = 4 * (0.5 * math.log(2 * math.pi) + math.log(0.05))
    # Four standard errors, which are estimates themselves; a step left out would be off by more than 1.
    assert found.log_evidence == pytest.approx(expected, abs=4 * found.error)
    assert found.error < 0.25
    assert 1 <= found.ess < 2_000
    for column in found.particles.z.T:
        assert kstest(((column - 4) / 0.05).numpy(), "norm").pvalue > 1e-4


def test_wrong_shares_of_modes_are_mended():
    # 95 of 100 draws to start with lie at the right mode, which has half of the mass.
    generator = seeded(3)
    right = torch.rand(2_000, generator=generator) < 0.95
    noise = torch.randn(2_000, generator=generator).double()
    z = torch.where(right, 3 + 0.3 * noise, -3 + 0.2 * noise).unsqueeze(1)
    none = torch.zeros(2_000, 0).long()
    proposal, target = fit_mixture(z, none, [], generator), Target(bumps)
    found = temper(target, pool(target, proposal, 16_384, generator), proposal, 4_000, generator)
    # The proposal's effective number in the left mode is some hundreds: 5 % of 16 384, of uneven weights.
    assert float((found.particles.z > 0).double().mean()) == pytest.approx(0.5, abs=4 * 0.5 / 400**0.5)
    assert found.log_evidence == pytest.approx(math.log(7), abs=max(4 * found.error, 1e-3))


def test_categories_find_their_chances():
    # Both categories depend on the real: the joint law is not a product.
    chances = torch.tensor([[0.5, 0.2, 0.1], [0.05, 0.05, 0.1]]).double()

    def log_density(z, k):
        first, second = k.T
        return chances[first, second].log() - 0.5 * (z[:, 0] - first - 2 * second).square()

    target = Target(log_density, [2, 3])
    proposal = Mixture(
        torch.ones(1).double(),
        torch.tensor([[1.0]]).double(),
        torch.tensor([[[3.0]]]).double(),
        torch.tensor([[[0.5, 0.5, 0.0], [1 / 3, 1 / 3, 1 / 3]]]).double(),
    )
    found = temper(target, pool(target, proposal, 16_384, seeded()), proposal, 4_000, seeded(1))
    k = found.particles.k
    for first in range(2):
        for second in range(3):
            share = float(((k[:, 0] == first) & (k[:, 1] == second)).double().mean())
            expected = float(chances[first, second])
            # Four standard errors of a share among 2 000 independent draws.
            assert share == pytest.approx(expected, abs=4 * (expected / 2_000) ** 0.5)
    assert found.log_evidence == pytest.approx(0.5 * math.log(2 * math.pi), abs=4 * found.error)
