"""Values with a probability among those with a density."""

import math

import numpy as np
import pytest
import torch
from torch.distributions import Normal, Uniform, constraints

import simgraph as sg
from simgraph import Graph, node
from simgraph.compile.atoms import frequent
from simgraph.compile.probe import Variable
from simgraph.compile.supports import Support
from simgraph.compile.tokenizers import tokenizer_for

rng = np.random.default_rng(0)
RAIN = np.where(rng.random(4000) < 0.4, rng.gamma(2.0, 3.0, 4000), 0.0)
CLIPPED = rng.normal(size=4000).clip(-0.7, 1.0)
SLAB = np.where(rng.random(4000) < 0.5, 0.25, rng.normal(size=4000))
"""A spike amid a slab, at a number that single precision keeps."""


def fitted(values, low=-np.inf, atomic=True):
    values = np.asarray(values, dtype=float)
    support = Support("interval", np.asarray(low), np.asarray(np.inf))
    plain = tokenizer_for(Variable("v", (), values.shape[1:], support, values.ndim - 1, None, atomic))
    return plain.fit(values, np.ones(values.shape, dtype=bool))


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (RAIN, [0.0]),
        (CLIPPED, [-0.7, 1.0]),
        (SLAB, [0.25]),
        (rng.normal(size=4000), []),
        (rng.normal(size=4000).round(1), []),
        (rng.integers(0, 3, 4000).astype(float), []),
        (np.full(4000, 2.0), []),
        (np.where(np.arange(4000) < 20, 0.0, rng.normal(size=4000)), []),
        (np.zeros(0), []),
    ],
)
def test_atoms_are_values_that_stand_out(values, expected):
    assert frequent(values) == expected


@pytest.mark.parametrize(("values", "low"), [(RAIN, 0.0), (CLIPPED, -np.inf), (SLAB, -np.inf)])
def test_values_with_atoms_come_back_and_have_unit_tokens(values, low):
    tokenizer = fitted(values, low)
    tokens = tokenizer.tokenize(torch.from_numpy(values), torch.Generator().manual_seed(0))
    assert float(tokens.mean()) == pytest.approx(0, abs=0.02)
    assert float(tokens.std()) == pytest.approx(1, abs=0.02)
    back = tokenizer.rounded(tokenizer.detokenize(tokens))
    single = torch.from_numpy(values).float()
    torch.testing.assert_close(back, single, rtol=1e-5, atol=1e-6)
    atoms = torch.from_numpy(np.isin(values, frequent(values)))
    assert torch.equal(back[atoms], single[atoms])
    # The zone is full, and does not touch the rest.
    zone, rest = tokens[atoms, 0].unique(), tokens[~atoms, 0]
    assert len(zone) > 0.9 * atoms.sum()
    gap = min(float((rest - end).abs().min()) for end in (zone.min(), zone.max()))
    assert gap >= 0.99 / float(tokenizer.statistics["sd"][0])


def test_noise_within_half_a_gap_changes_no_atom():
    tokenizer = fitted(RAIN, 0.0)
    tokens = tokenizer.tokenize(torch.zeros(500, dtype=torch.float64), torch.Generator().manual_seed(0))
    off = 0.49 / float(tokenizer.statistics["sd"][0])
    assert (tokenizer.detokenize(tokens + off) == 0).all()
    assert (tokenizer.detokenize(tokens - 10) == 0).all()


def test_values_beyond_the_training_values_stay_out_of_the_zones():
    tokenizer = fitted(CLIPPED)
    beyond = torch.tensor([-5.0, 5.0], dtype=torch.float64)
    back = tokenizer.detokenize(tokenizer.tokenize(beyond).double())
    assert back[0] < -0.7 - 0.1
    assert back[1] > 1.0 + 0.1


def test_the_cells_of_atoms_are_their_zones_and_other_values_have_none():
    tokenizer = fitted(CLIPPED)
    tokens = tokenizer.tokenize(torch.from_numpy(CLIPPED), torch.Generator().manual_seed(0)).double().flatten()
    below, inside, above = tokenizer.cells(torch.tensor([-0.7, 0.3, 1.0], dtype=torch.float64))[:, 0]
    assert (below[0], above[1]) == (-math.inf, math.inf)
    assert inside[0] == inside[1]
    for value, (low, high) in ((-0.7, below), (1.0, above)):
        assert torch.equal((tokens > low) & (tokens < high), torch.from_numpy(value == CLIPPED))


def test_elements_have_atoms_of_their_own():
    tokenizer = fitted(np.stack([RAIN, rng.normal(size=4000)], 1))
    assert tokenizer.statistics["has_below"].tolist() == [1.0, 0.0]
    both = torch.zeros(1, 2, dtype=torch.float64)
    torch.testing.assert_close(tokenizer.detokenize(tokenizer.tokenize(both)), both, atol=1e-6, rtol=0)


def test_distributions_have_no_atoms():
    @node
    def clamped():
        return Uniform(0.0, 1.0)

    @node(support=constraints.nonnegative)
    def rain(clamped, rng):
        return max(0.0, clamped - rng.random())

    @node(support=constraints.nonnegative_integer)
    def count(clamped, rng):
        return rng.poisson(clamped)

    graph = Graph(clamped, rain, count)
    compiled = sg.compile(graph, graph.simulate(200, seed=0, progress=False))
    atomic = {name: tokenizer.variable.atomic for name, tokenizer in compiled.layout.tokenizers.items()}
    assert atomic == {"clamped": False, "rain": True, "count": False}


@pytest.mark.slow
def test_a_model_learns_how_often_it_does_not_rain(tmp_path):
    @node
    def humidity():
        return Normal(0.0, 1.0)

    @node(support=constraints.nonnegative)
    def rain(humidity, rng):
        return rng.gamma(2.0, 3.0) if humidity + rng.normal() > 0 else 0.0

    graph = Graph(humidity, rain)
    settings = sg.Settings(steps=3000, batch_size=256, architecture=sg.Architecture(width=32, depth=2))
    model = sg.fit(graph, num_simulations=10_000, seed=0, preset=settings, progress=False)
    for value, dry in ((-1.0, 0.8413), (0.0, 0.5), (1.0, 0.1587)):
        drawn = model.given(humidity=value).sample("rain", num_samples=4000, seed=0)
        assert float((drawn == 0).float().mean()) == pytest.approx(dry, abs=0.06)
        found = model.given(humidity=value).log_prob(rain=torch.tensor([0.0])).exp()
        assert float(found[0]) == pytest.approx(dry, abs=0.06)
    wet = model.given(humidity=1.0).sample("rain", num_samples=4000, seed=0)
    assert float(wet[wet > 0].mean()) == pytest.approx(6, rel=0.15)
    # Where it does not rain, humidity has the mean -1 / sqrt(pi).
    answer = model.given(rain=0.0).sample("humidity", num_samples=4000, seed=0)
    assert float(answer.mean()) == pytest.approx(-(math.pi**-0.5), abs=0.08)
    model.save(tmp_path / "model.sg")
    again = sg.load(tmp_path / "model.sg")
    assert torch.equal(again.sample("rain", num_samples=50, seed=1), model.sample("rain", num_samples=50, seed=1))
