"""The density of the flow against laws whose denoisers are known: no network is needed."""

import math

import pytest
import torch
from torch.distributions import MultivariateNormal, Normal

from simgraph.errors import QueryError
from simgraph.query.flow import DEFAULT_FLOW, Flow, log_density, log_mass, top
from simgraph.query.jacobian import Probes


class Mixture:
    """A mixture of normal laws with its exact denoiser, E[x_0 | x] = x + sigma^2 grad log p_sigma(x)."""

    def __init__(self, weights, means, covariances):
        self.weights, self.means, self.covariances = (
            torch.tensor(part, dtype=torch.float64) for part in (weights, means, covariances)
        )
        self.features = self.means.shape[1]

    def log_prob(self, x, sigma=0.0):
        noised = self.covariances + sigma**2 * torch.eye(self.features, dtype=torch.float64)
        parts = MultivariateNormal(self.means, noised).log_prob(x[:, None])
        return (self.weights.log() + parts).logsumexp(-1)

    def denoise(self, x, sigma):
        noised = self.covariances + sigma**2 * torch.eye(self.features, dtype=torch.float64)
        parts = self.weights.log() + MultivariateNormal(self.means, noised).log_prob(x[:, None])
        pull = torch.linalg.solve(noised, (self.means - x[:, None]).unsqueeze(-1)).squeeze(-1)
        return x + sigma**2 * (parts.softmax(-1).unsqueeze(-1) * pull).sum(1)

    def sample(self, count):
        generator = torch.Generator().manual_seed(0)
        which = torch.multinomial(self.weights, count, replacement=True, generator=generator)
        noise = torch.randn(count, self.features, 1, dtype=torch.float64, generator=generator)
        return self.means[which] + (torch.linalg.cholesky(self.covariances)[which] @ noise).squeeze(-1)


LAWS = {
    "normal": Mixture([1.0], [[0.3]], [[[0.25]]]),
    "narrow": Mixture([1.0], [[0.3, -0.2]], [[[0.0025, 0.0], [0.0, 1.0]]]),
    "very narrow": Mixture([1.0], [[0.3, -0.2]], [[[0.0004, 0.0], [0.0, 0.01]]]),
    "correlated": Mixture([1.0], [[0.0, 0.0]], [[[1.0, 0.99], [0.99, 1.0]]]),
    "two modes": Mixture([0.3, 0.7], [[-1, -1], [1, 1]], [[[0.01, 0], [0, 0.04]], [[0.04, 0], [0, 0.01]]]),
    "three modes": Mixture([0.3, 0.4, 0.3], [[-1.0], [0.0], [1.2]], [[[0.0025]], [[0.0025]], [[0.01]]]),
}


def density(law, x, flow=DEFAULT_FLOW, linked=None):
    linked = torch.ones(law.features, law.features, dtype=torch.bool) if linked is None else linked
    probes = Probes.of(linked, flow.trace, flow.most_exact)
    return log_density(law.denoise, x, flow, probes, top(law.denoise, probes, len(x), flow.sigma_max))


@pytest.mark.parametrize("name", LAWS)
def test_the_default_number_of_steps_is_exact_within_a_hundredth(name):
    law = LAWS[name]
    x = law.sample(200)
    error = (density(law, x) - law.log_prob(x)).abs()
    assert error.mean() < 0.01


@pytest.mark.parametrize("name", ["normal", "correlated", "three modes"])
def test_more_steps_are_more_exact(name):
    law = LAWS[name]
    x = law.sample(100)
    limit = density(law, x, Flow(steps=200))
    errors = [float((density(law, x, Flow(steps=steps)) - limit).abs().mean()) for steps in (12, 24, 48)]
    # Fourth order leaves a sixteenth where steps are small; a quarter is asked for.
    assert errors[1] < errors[0] / 4
    assert errors[2] < errors[1] / 4


def test_the_last_noise_is_taken_away():
    # sd 0.02 under noise of 0.01: without the closed form at the bottom the density is that of sd 0.0224.
    law = Mixture([1.0], [[0.0]], [[[0.0004]]])
    x = torch.zeros(1, 1, dtype=torch.float64)
    found = float(density(law, x, Flow(sigma_min=0.01, steps=100)) - law.log_prob(x))
    # The next term of the series in (0.01 / 0.02)^2: half of its square over two.
    assert abs(found) < 0.25**2 / 2
    assert abs(float(law.log_prob(x, 0.01) - law.log_prob(x))) > 0.1


@pytest.mark.parametrize("name", ["normal", "three modes"])
def test_masses_of_cells_are_differences_of_the_distribution_function(name):
    law = LAWS[name]
    ends = torch.tensor([-torch.inf, -1.1, -0.5, -0.02, 0.0, 0.03, 0.4, 1.3, torch.inf], dtype=torch.float64)
    cells = torch.stack([ends[:-1], ends[1:]], -1)
    probes = Probes.of(torch.ones(1, 1, dtype=torch.bool), "auto", 16)
    masses = log_mass(law.denoise, cells, Flow(steps=60), top(law.denoise, probes, len(cells), 8.0)).exp()
    parts = Normal(law.means[:, 0], law.covariances[:, 0, 0].sqrt())
    below = torch.stack([(law.weights * parts.cdf(end)).sum() for end in ends])
    # The noise of 0.005 that is left moves mass over an end: at most 0.4 * 0.005 * (density 3.2 at a mode).
    assert torch.allclose(masses, below.diff(), atol=0.007)
    assert float(masses.sum()) == pytest.approx(1, abs=1e-12)


def test_masses_far_out_in_either_tail_keep_their_logarithm():
    law = LAWS["normal"]
    cells = torch.tensor([[4.8, 5.3], [-4.7, -4.2]], dtype=torch.float64)  # 9 to 10 standard deviations
    probes = Probes.of(torch.ones(1, 1, dtype=torch.bool), "auto", 16)
    found = log_mass(law.denoise, cells, Flow(steps=100), top(law.denoise, probes, 2, 8.0))
    expected = torch.special.log_ndtr(torch.tensor(-9.0, dtype=torch.float64))
    # The last noise widens 0.5 by 5e-5, relatively 1e-4 of 9^2 / 2; both cells are mirror images.
    assert torch.allclose(found, expected.expand(2), atol=0.01)
    assert torch.allclose(found[0], found[1], atol=1e-6)


def test_features_that_do_not_depend_on_one_another_share_a_product():
    linked = torch.block_diag(torch.ones(2, 2), torch.ones(1, 1), torch.ones(2, 2)).bool()
    probes = Probes.of(linked, "auto", 16)
    assert probes.units.tolist() == [[1, 0, 1, 1, 0], [0, 1, 0, 0, 1]]
    matrix = torch.randn(5, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(0)) * linked
    x = torch.zeros(3, 5, dtype=torch.float64)
    _, trace = probes.trace(lambda x, sigma: x @ matrix.T, x, 1.0)
    _, jacobian = probes.jacobian(lambda x, sigma: x @ matrix.T, x, 1.0)
    assert torch.allclose(trace, matrix.trace().expand(3))
    assert torch.allclose(jacobian, matrix.expand(3, -1, -1))


def test_an_estimated_trace_is_right_on_average():
    count = 40
    matrix = torch.randn(count, count, dtype=torch.float64, generator=torch.Generator().manual_seed(0)) / count
    everything = torch.ones(count, count, dtype=torch.bool)
    estimate = Probes.of(everything, "auto", 16)
    assert estimate.signs is not None
    assert Probes.of(everything, "exact", 16).signs is None
    x = torch.zeros(1, count, dtype=torch.float64)
    found = float(estimate.trace(lambda x, sigma: x @ matrix.T, x, 1.0)[1])
    # Variance of one estimate: sum over pairs of (a_ij + a_ji)^2.
    pairs = ((matrix + matrix.T).triu(1) ** 2).sum()
    assert abs(found - float(matrix.trace())) < 4 * math.sqrt(pairs / 16)
    assert found != pytest.approx(float(matrix.trace()))


def test_an_estimated_density_is_near_the_exact_one():
    # Equal correlations of 0.3 among 20 features.
    covariance = 0.3 + 0.7 * torch.eye(20)
    law = Mixture([1.0], [[0.0] * 20], [covariance.tolist()])
    x = law.sample(20)
    difference = density(law, x) - law.log_prob(x)
    # The integral of tr J over ln sigma has off-diagonal entries of 0.1 at most each: sd sqrt(2 * 380 * 0.01 / 16).
    assert difference.abs().max() < 4 * math.sqrt(2 * 380 * 0.01 / 16)
    # One set of signs serves all rows: differences of rows are exact for a normal law, whose J is the same everywhere.
    assert float(difference.std()) < 0.01


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"steps": 5}, "steps=5 is not a whole number of 6 or more."),
        ({"steps": True}, "steps=True is not a whole number of 6 or more."),
        ({"most_exact": 0}, "most_exact=0 is not a whole number of 1 or more."),
        ({"trace": "guess"}, "trace='guess' is not known; choose 'auto', 'exact' or 'hutchinson'."),
        ({"sigma_min": 1.0, "sigma_max": 0.5}, "must rise within the range"),
        ({"sigma_max": 1e6}, "must rise within the range"),
    ],
)
def test_wrong_choices_are_refused(options, message):
    with pytest.raises(QueryError) as caught:
        Flow(**options)
    assert message in str(caught.value)


def test_the_cost_is_what_it_says():
    calls, law = [], LAWS["normal"]
    probes = Probes.of(torch.ones(1, 1, dtype=torch.bool), "auto", 16)
    x = torch.zeros(1, 1, dtype=torch.float64)
    summit = top(law.denoise, probes, 1, 8.0)

    def counted(x, sigma):
        calls.append(sigma)
        return law.denoise(x, sigma)

    log_density(counted, x, Flow(steps=10), probes, summit)
    assert len(calls) == Flow(steps=10).evaluations == 41
