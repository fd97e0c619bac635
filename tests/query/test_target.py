"""The density of coordinates integrates to the evidence, for every kind of variable."""

import math

import numpy as np
import pytest
import torch
from scipy.stats import nbinom, norm
from torch.distributions import Categorical, Dirichlet, Gamma, Normal, Poisson, Uniform

from simgraph import Graph, node
from simgraph.compile import compile
from simgraph.query.evidence import Evidence
from simgraph.query.target import Target
from simgraph.traces.density import Density


def piece(value):
    array = np.asarray(value, dtype=np.float64)[None]
    return Evidence(np.nan_to_num(array), ~np.isnan(array), batched=False)


def layout_of(graph):
    traces = graph.simulate(500, seed=0, progress=False)
    return compile(graph, traces).fit(traces).layout


def target_of(graph, allowed=None, **given):
    return Target(
        Density(graph, list(given)), layout_of(graph), {name: piece(v) for name, v in given.items()}, 0, allowed
    )


def integral(target, low=-30.0, high=30.0, count=300_001):
    """Integrates a target of a single real, by the trapezoidal rule."""
    grid = torch.linspace(low, high, count, dtype=torch.float64).unsqueeze(1)
    log_density = target.log_density(grid, torch.zeros(count, 0).long())
    return float(log_density.exp().sum()) * (high - low) / (count - 1)


@node
def rate():
    return Gamma(3.0, 2.0)


@node
def hits(rate):
    return Poisson(rate)


@node
def place():
    return Uniform(-1.0, 2.0)


@node
def seen(place):
    return Normal(place, 0.3)


@node
def many():
    return Poisson(50.0)


@node
def weighed(many):
    return Normal(many, 3.0)


def test_a_half_line():
    # Poisson under Gamma is negative binomial: shape 3, chance 2 / 3.
    assert integral(target_of(Graph(rate, hits), hits=4)) == pytest.approx(nbinom.pmf(4, 3, 2 / 3), rel=1e-5)


def test_a_box():
    # Cut off at the end of the box; what is beyond the skin, 5e-5 of the width, is left out.
    expected = (norm.cdf((2 - 1.9) / 0.3) - norm.cdf((-1 - 1.9) / 0.3)) / 3
    assert integral(target_of(Graph(place, seen), seen=1.9)) == pytest.approx(expected, rel=1e-3)


def test_counts_are_spread_over_their_cells():
    k = np.arange(400)
    poisson = np.exp(k * math.log(50) - 50 - np.cumsum(np.log(np.maximum(k, 1))))
    expected = (poisson * norm.pdf(47.2, k, 3)).sum()
    assert integral(target_of(Graph(many, weighed), weighed=47.2)) == pytest.approx(expected, rel=1e-4)


def test_a_simplex_and_categories():
    @node
    def shares():
        return Dirichlet(torch.tensor([1.0, 2.0, 1.5]))

    @node
    def label(shares):
        return Categorical(shares)

    graph = Graph(shares, label)
    target = target_of(graph, label=1)
    assert (target.reals, target.classes) == (2, [])
    side = torch.linspace(-14, 14, 701, dtype=torch.float64)
    grid = torch.cartesian_prod(side, side)
    total = float(target.log_density(grid, torch.zeros(len(grid), 0).long()).exp().sum()) * (28 / 700) ** 2
    assert total == pytest.approx(2 / 4.5, rel=1e-4)
    hidden = target_of(graph, shares=[0.2, 0.3, 0.5])
    assert (hidden.reals, hidden.classes) == (0, [])


def test_categories_are_numbered_from_zero():
    @node
    def label():
        return Categorical(torch.tensor([0.1, 0.3, 0.6]))

    @node
    def x(label):
        return Normal(1.0 * label, 0.5)

    target = target_of(Graph(label, x), x=1.2)
    assert (target.reals, target.classes) == (0, [3])
    found = target.log_density(torch.zeros(3, 0).double(), torch.arange(3).unsqueeze(1)).exp()
    expected = np.array([0.1, 0.3, 0.6]) * norm.pdf(1.2, [0, 1, 2], 0.5)
    np.testing.assert_allclose(found.numpy(), expected, rtol=1e-6)


def test_given_elements_stay():
    @node
    def theta():
        return Normal(torch.zeros(3), 1.0)

    target = target_of(Graph(theta), theta=[0.5, math.nan, -0.25])
    assert target.reals == 1
    values = target.values(torch.tensor([[3.0], [4.0]]).double(), torch.zeros(2, 0).long())["theta"]
    assert (values[:, 0] == 0.5).all()
    assert (values[:, 2] == -0.25).all()
    assert values[0, 1] != values[1, 1]
    assert integral(target) == pytest.approx(norm.pdf(0.5) * norm.pdf(0.25), rel=1e-6)


def test_coordinates_and_values_are_inverse():
    graph = Graph(rate, hits, place, seen)
    layout = layout_of(graph)
    target = Target(Density(graph, ["hits", "seen"]), layout, {"hits": piece(2), "seen": piece(0.1)}, 0)
    tokens = torch.randn(7, len(layout), layout.width, generator=torch.Generator().manual_seed(0))
    values = target.values(*target.coordinates(tokens))
    for name in ("rate", "place"):
        torch.testing.assert_close(values[name], layout.detokenize(name, tokens[:, layout.slots(name)]))


def test_what_is_not_allowed_is_impossible():
    @node
    def theta():
        return Normal(0.0, 1.0)

    @node
    def x(theta):
        return Normal(theta, 1.0)

    def above(values):
        assert set(values) == {"theta", "x"}
        return values["theta"] > 0.4

    target = target_of(Graph(theta, x), above, x=0.8)
    # theta | x ~ N(0.4, 1/2), so that half of the evidence is left.
    assert integral(target) == pytest.approx(0.5 * norm.pdf(0.8, 0, 2**0.5), rel=1e-3)


def test_missing_rows_of_a_batch_are_told_apart():
    graph = Graph(rate, hits)
    layout = layout_of(graph)
    evidence = {"hits": Evidence(np.array([2.0, 4.0]), np.ones(2, dtype=bool), batched=True)}
    density = Density(graph, ["hits"])
    for row, hits_seen in enumerate((2, 4)):
        target = Target(density, layout, evidence, row)
        assert integral(target) == pytest.approx(nbinom.pmf(hits_seen, 3, 2 / 3), rel=1e-5)
