import pytest
import torch
from torch.distributions import (
    Bernoulli,
    Beta,
    Binomial,
    Categorical,
    Cauchy,
    Dirichlet,
    Exponential,
    Gamma,
    Geometric,
    HalfNormal,
    LogNormal,
    Multinomial,
    MultivariateNormal,
    Normal,
    Poisson,
    StudentT,
    Uniform,
    VonMises,
)

from simgraph.traces.blocks import UnsplittableError, blockwise, isolated
from simgraph.traces.seeds import BLOCK

BUILD = {
    "Normal": lambda n: Normal(torch.linspace(-1, 1, 4096)[:n], 0.5),
    "Normal of event": lambda n: Normal(torch.zeros(n, 3), torch.ones(3)),
    "Uniform": lambda n: Uniform(torch.zeros(n), torch.linspace(1, 2, 4096)[:n]),
    "Gamma": lambda n: Gamma(torch.linspace(0.1, 3, 4096)[:n], torch.ones(n)),
    "Beta": lambda n: Beta(torch.linspace(0.1, 3, 4096)[:n], torch.ones(n)),
    "Exponential": lambda n: Exponential(torch.ones(n)),
    "Cauchy": lambda n: Cauchy(torch.zeros(n), 1.0),
    "StudentT": lambda n: StudentT(torch.full((n,), 3.0)),
    "HalfNormal": lambda n: HalfNormal(torch.ones(n)),
    "LogNormal": lambda n: LogNormal(torch.zeros(n, 2), 1.0),
    "Poisson": lambda n: Poisson(torch.linspace(0.1, 30, 4096)[:n]),
    "Bernoulli": lambda n: Bernoulli(torch.full((n,), 0.3)),
    "Binomial": lambda n: Binomial(7, torch.full((n,), 0.3)),
    "Geometric": lambda n: Geometric(torch.full((n,), 0.3)),
    "Categorical": lambda n: Categorical(torch.ones(n, 4)),
    "Categorical of plate": lambda n: Categorical(torch.ones(n, 5, 4)),
    "Multinomial": lambda n: Multinomial(6, torch.ones(n, 4)),
    "Dirichlet": lambda n: Dirichlet(torch.ones(n, 3)),
    "MultivariateNormal": lambda n: MultivariateNormal(torch.zeros(n, 2), torch.eye(2)),
}


def drawn(distribution, rows, first=0, name="x", seed=0):
    with blockwise(seed, name, first, rows):
        return distribution.sample()


@pytest.mark.parametrize("name", BUILD)
def test_a_longer_run_goes_on_where_a_shorter_one_ends(name):
    short, long = drawn(BUILD[name](BLOCK), BLOCK), drawn(BUILD[name](3 * BLOCK), 3 * BLOCK)
    assert torch.equal(long[:BLOCK], short)
    assert long.shape[0] == 3 * BLOCK
    assert not torch.equal(long[:BLOCK], long[BLOCK : 2 * BLOCK])


def test_a_run_can_start_at_any_block():
    whole = drawn(Gamma(torch.ones(3 * BLOCK), 1.0), 3 * BLOCK)
    assert torch.equal(drawn(Gamma(torch.ones(BLOCK), 1.0), BLOCK, first=2), whole[2 * BLOCK :])


def test_draws_are_those_of_the_law():
    rows = 16 * BLOCK
    draws = drawn(Normal(torch.linspace(-3, 3, rows), torch.linspace(0.5, 2, rows)), rows)
    standard = (draws - torch.linspace(-3, 3, rows)) / torch.linspace(0.5, 2, rows)
    tolerance = 5 / rows**0.5  # five standard errors of a mean of unit variance
    assert abs(standard.mean()) < tolerance
    assert abs(standard.square().mean() - 1) < 2 * tolerance


def test_names_and_seeds_and_operations_have_their_own_numbers():
    law = Normal(torch.zeros(BLOCK), 1.0)
    with blockwise(0, "x", 0, BLOCK):
        first, second = law.sample(), law.sample()
    others = [first, second, drawn(law, BLOCK, name="y"), drawn(law, BLOCK, seed=1)]
    assert len({float(other[0]) for other in others}) == 4
    assert all(abs(torch.corrcoef(torch.stack(others)) - torch.eye(4)).flatten() < 0.2)


def test_double_precision_stays_double():
    assert drawn(Normal(torch.zeros(BLOCK, dtype=torch.float64), 1.0), BLOCK).dtype == torch.float64


def test_samplers_that_look_at_their_draws_cannot_be_split():
    with pytest.raises(UnsplittableError):
        drawn(VonMises(torch.zeros(BLOCK), torch.ones(BLOCK)), BLOCK)


def test_random_numbers_without_a_trace_axis_cannot_be_split():
    with pytest.raises(UnsplittableError), blockwise(0, "x", 0, BLOCK):
        torch.randn(3)


def test_the_global_generator_is_left_as_it_was():
    state = torch.random.get_rng_state()
    drawn(Normal(torch.zeros(BLOCK), 1.0), BLOCK)
    with pytest.raises(RuntimeError), isolated():
        torch.rand(3).reshape(2)
    assert torch.equal(torch.random.get_rng_state(), state)
