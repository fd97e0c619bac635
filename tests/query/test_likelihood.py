"""Densities by name: normalisation, the chain rule, shapes and refusals; the flow itself is tested in test_flow.py.

A model trained for a second knows little of the law, but its density is a density: it integrates to 1 all the same.
"""

import math
import warnings

import numpy as np
import pytest
import torch
from torch.distributions import Beta, Categorical, Dirichlet, Exponential, Normal, Poisson

import simgraph as sg
from simgraph import Flow, Graph, deterministic, node, plate
from simgraph.errors import (
    MissingValueError,
    QueryError,
    ShapeError,
    SimgraphWarning,
    UnknownNameError,
)

QUICK = Flow(steps=12)


@node
def real():
    return Normal(3.0, 2.0)


@node
def rate(real):
    return Exponential(torch.exp(0.1 * real))


@node
def share(real):
    return Beta(2.0, 3.0)


@node
def parts(share):
    return Dirichlet(torch.tensor([2.0, 3.0, 4.0]))


@node
def kind(share):
    return Categorical(torch.stack([share, 1 - share, torch.tensor(0.5)]))


@node
def number(rate):
    return Poisson(4.0 + rate)


@pytest.fixture(scope="module")
def zoo(tiny):
    return sg.fit(Graph(real, rate, share, parts, kind, number), num_simulations=600, preset=tiny, progress=False)


# Where most of the mass of a variable lies, (low, high), and how fine a grid has to be.
GRIDS = {"real": (-13.0, 19.0, 400), "rate": (1e-4, 60.0, 4000), "share": (1e-6, 1 - 1e-6, 600)}


@pytest.mark.parametrize("name", GRIDS)
@pytest.mark.parametrize("given", [{}, {"kind": 1, "parts": [0.2, 0.3, 0.5]}])
def test_densities_of_one_variable_integrate_to_one(zoo, name, given):
    low, high, count = GRIDS[name]
    edges = torch.linspace(math.log(low), math.log(high), count + 1).exp() if name == "rate" else None
    edges = torch.linspace(low, high, count + 1) if edges is None else edges
    edges = edges.double()
    densities = zoo.given(**given).log_prob({name: (edges[1:] + edges[:-1]) / 2}, sampler=QUICK).exp()
    # 12 steps are exact within about 2 %; the skin of an interval holds one draw in 20 000 of a uniform law, and up to
    # 2 % of this model's.
    assert float((densities * edges.diff()).sum()) == pytest.approx(1, abs=0.04)


def test_the_density_of_a_simplex_integrates_to_one_over_two_coordinates(zoo):
    count = 40
    middles = (torch.arange(count) + 0.5).double() / count
    first, second = (part.flatten() for part in torch.meshgrid(middles, middles, indexing="ij"))
    inside = first + second < 1 - 1e-9
    values = torch.stack([first, second, 1 - first - second], -1)[inside]
    densities = zoo.given(real=2.5).log_prob(parts=values, sampler=QUICK).exp()
    # Cells on the diagonal edge stick out by half; the density vanishes there like the last coordinate, to the cube.
    assert float(densities.sum()) / count**2 == pytest.approx(1, abs=0.04)


def test_probabilities_of_categories_and_counts_sum_to_one(zoo):
    kinds = zoo.given(share=0.3).log_prob(kind=[0, 1, 2]).exp()
    assert float(kinds.sum()) == pytest.approx(1, abs=1e-5)  # single precision
    numbers = zoo.given(rate=0.5, kind=2).log_prob(number=np.arange(400)).exp()
    # Cells border one another, so that only what lies beyond 400 is lost.
    assert float(numbers.sum()) == pytest.approx(1, abs=1e-3)
    assert (numbers >= 0).all()


def test_the_probabilities_of_categories_and_counts_are_those_of_draws(zoo):
    draws = zoo.given(share=0.3).sample("kind", "number", num_samples=4000, seed=0)
    kinds = zoo.given(share=0.3).log_prob(kind=[0, 1, 2]).exp()
    numbers = zoo.given(share=0.3).log_prob(number=np.arange(12)).exp()
    # Binomial standard errors are at most 0.5 / sqrt(4000) = 0.008; the solver of draws adds about 0.02.
    for k, chance in enumerate(kinds):
        assert float((draws["kind"] == k).double().mean()) == pytest.approx(float(chance), abs=4 * 0.008 + 0.02)
    for k, chance in enumerate(numbers):
        assert float((draws["number"] == k).double().mean()) == pytest.approx(float(chance), abs=4 * 0.008 + 0.02)


def test_discrete_variables_come_first_and_the_chain_rule_holds(zoo):
    together = zoo.given(real=2.0).log_prob(kind=[0, 2], number=[4, 5], share=[0.2, 0.6], rate=[0.4, 1.5])
    first = zoo.given(real=2.0).log_prob(kind=[0, 2])
    then = zoo.given(real=[2.0, 2.0], kind=[0, 2]).log_prob(number=[4, 5])
    rest = zoo.given(real=[2.0, 2.0], kind=[0, 2], number=[4, 5]).log_prob(share=[0.2, 0.6], rate=[0.4, 1.5])
    assert torch.allclose(together, first + then + rest, atol=1e-5)


def test_a_mixed_density_integrates_to_one(zoo):
    edges = torch.linspace(1e-6, 1 - 1e-6, 201).double()
    middles = (edges[1:] + edges[:-1]) / 2
    total = sum(
        float((zoo.log_prob(share=middles, kind=[k] * 200, sampler=QUICK).exp() * edges.diff()).sum()) for k in range(3)
    )
    assert total == pytest.approx(1, abs=0.04)  # as for one variable


def test_the_order_of_names_does_not_matter(mixed_model):
    values = {name: value for name, value in mixed_model.graph.simulate(2, seed=3).items() if name != "width"}
    one = mixed_model.log_prob(values, sampler=QUICK)
    other = mixed_model.log_prob(dict(reversed(values.items())), sampler=QUICK)
    assert one.shape == (2,)
    assert torch.equal(one, other)
    assert one.isfinite().all()


def test_shapes_follow_values_and_evidence(gaussian_model):
    single, batch = gaussian_model.given(x=[0.1, 0.2]), gaussian_model.given(x=np.zeros((3, 2)))
    shape = lambda query, *lead: query.log_prob(theta=np.zeros((*lead, 2)), sampler=Flow(steps=6)).shape  # noqa: E731
    assert [shape(single), shape(single, 5)] == [(), (5,)]
    assert [shape(batch), shape(batch, 3), shape(batch, 3, 5)] == [(3,), (3,), (3, 5)]
    assert single.log_prob(theta=[0.0, 0.0]).dtype == torch.float64


def test_a_batch_is_its_rows_one_by_one(gaussian_model):
    x = torch.tensor([[0.3, 0.1], [-1.0, 1.0]])
    theta = torch.tensor([[[0.1, 0.0], [1.0, -1.0], [0.5, 0.5]], [[0.0, 0.2], [-0.9, 0.8], [0.4, 0.0]]])
    together = gaussian_model.given(x=x).log_prob(theta=theta, sampler=QUICK)
    for row in range(2):
        for number in range(3):
            alone = gaussian_model.given(x=x[row]).log_prob(theta=theta[row, number], sampler=QUICK)
            # Single precision in the network, summed over 12 steps.
            assert float(alone) == pytest.approx(float(together[row, number]), abs=1e-4)


def test_one_value_serves_all_rows(gaussian_model):
    query = gaussian_model.given({})
    theta = torch.tensor([[0.3, 0.1], [-1.0, 1.0]])
    shared = query.log_prob(theta=theta, x=[0.1, 0.2])
    spread = query.log_prob(theta=theta, x=[[0.1, 0.2], [0.1, 0.2]])
    assert torch.equal(shared, spread)


def test_nodes_work_wherever_names_do(gaussian_model):
    theta = gaussian_model.graph["theta"]
    assert torch.equal(gaussian_model.log_prob({theta: [0.0, 0.1]}), gaussian_model.log_prob(theta=[0.0, 0.1]))


def test_the_cached_form_has_the_same_density(cached_model, monkeypatch):
    query = cached_model.given(x=[[0.1, 0.2], [0.5, 0.1]])
    quick = query.log_prob(theta=[0.3, 0.1])
    monkeypatch.setattr(cached_model._trained.denoiser.network, "timeless", False)
    assert torch.allclose(query.log_prob(theta=[0.3, 0.1]), quick, atol=1e-3)


def test_values_outside_of_the_support_have_no_density(zoo):
    found = zoo.log_prob(rate=[-1.0, 0.5], share=[0.5, 0.5], sampler=QUICK)
    assert found[0] == -torch.inf
    assert found[1].isfinite()
    assert zoo.log_prob(share=1.5) == -torch.inf
    assert zoo.log_prob(kind=[3, 1]).isfinite().tolist() == [False, True]
    assert zoo.log_prob(number=[2.5, -1.0]).tolist() == [-torch.inf, -torch.inf]
    assert zoo.log_prob(parts=[0.5, 0.5, 0.5]) == -torch.inf


@pytest.mark.parametrize("value", [{"rate": 0.0}, {"share": 0.0}, {"share": 1.0}, {"parts": [0.0, 0.0, 1.0]}])
def test_densities_on_the_edge_of_a_support_are_no_nan(zoo, value):
    assert not zoo.log_prob(value, sampler=QUICK).isnan().any()


def test_missing_evidence_may_differ_by_row(gaussian_model):
    rows = sg.missing([[0.3, np.nan], [np.nan, 0.2], [0.1, 0.1]])
    together = gaussian_model.given(x=rows).log_prob(theta=[0.1, 0.2])
    alone = gaussian_model.given(x=sg.missing([np.nan, 0.2])).log_prob(theta=[0.1, 0.2])
    assert float(together[1]) == pytest.approx(float(alone), abs=1e-4)


WIDE = plate("place", 18)


@node(plates=WIDE)
def reading(real):
    return Normal(real, 1.0)


def test_many_features_are_estimated_and_the_warning_says_how_not_to(tiny):
    model = sg.fit(Graph(real, reading), num_simulations=200, preset=tiny, progress=False)
    values = np.linspace(0, 6, 18)
    with pytest.warns(SimgraphWarning, match="more than 16 features depend on one another") as caught:
        estimate = model.log_prob(reading=values, sampler=QUICK)
    assert "sampler=sg.Flow(trace='exact')" in str(caught[0].message)
    assert caught[0].filename == __file__
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        exact = model.log_prob(reading=values, sampler=Flow(steps=12, trace="exact"))
        again = model.log_prob(reading=values, sampler=Flow(steps=12, trace="hutchinson"))
        # Given the parent, readings do not depend on one another: a single product is exact.
        model.given(real=1.0).log_prob(reading=values, sampler=QUICK)
    assert again == estimate
    # 18 features whose off-diagonal entries of the integrated Jacobian are about 0.1: sd sqrt(2 * 306 * 0.01 / 16).
    assert abs(float(exact - estimate)) < 4 * math.sqrt(2 * 306 * 0.01 / 16)


@deterministic(shape=())
def twice(real):
    return 2 * real


@pytest.fixture(scope="module")
def fixed(tiny):
    graph = Graph(real, rate, twice).do(rate=0.5)
    return sg.fit(graph, num_simulations=100, preset=tiny, progress=False)


@pytest.mark.parametrize(
    ("ask", "error", "message"),
    [
        (lambda m: m.log_prob(), QueryError, "log_prob(...) has no values."),
        (lambda m: m.log_prob([0.0, 0.0]), QueryError, "log_prob(...) takes values by name, not list."),
        (lambda m: m.log_prob(thet=0.0), UnknownNameError, "Did you mean 'theta'? Known names: theta, x."),
        (lambda m: m.log_prob({"x": [0, 0]}, x=[0, 0]), QueryError, "log_prob(...) has 'x' twice."),
        (lambda m: m.given(x=[0, 0]).log_prob(x=[0, 0]), QueryError, "'x' is given, and log_prob(...) has values"),
        (
            lambda m: m.given(x=sg.missing([0, np.nan])).log_prob(x=[0, 0]),
            QueryError,
            "'x' is given in part, and log_prob(...) has values of it.",
        ),
        (lambda m: m.log_prob(x=sg.missing([0, np.nan])), QueryError, "log_prob(x=...) has missing entries"),
        (lambda m: m.log_prob(x=[0.0, np.nan]), MissingValueError, "log_prob(x=...) holds 1 NaN."),
        (lambda m: m.log_prob(x="a"), QueryError, "log_prob(x=...) holds text, not numbers."),
        (
            lambda m: m.log_prob(x=0.0),
            ShapeError,
            "log_prob(x=...) has shape (); 'x' has shape (2,).\n  Accepted: (2,) or (N, 2).",
        ),
        (lambda m: m.log_prob(x=np.zeros((2, 3, 2))), ShapeError, "has shape (2, 3, 2); 'x' has shape (2,)"),
        (lambda m: m.log_prob(x=np.zeros((0, 2))), ShapeError, "has shape (0, 2)"),
        (
            lambda m: m.given(x=np.zeros((3, 2))).log_prob(theta=np.zeros((5, 2))),
            ShapeError,
            "'theta' has shape (2,) with 3 pieces of evidence.\n  Accepted: (2,), (3, 2) or (3, N, 2).",
        ),
        (
            lambda m: m.log_prob(theta=np.zeros((3, 2)), x=np.zeros((4, 2))),
            ShapeError,
            "log_prob(...) has values of different numbers: {'theta': (3,), 'x': (4,)}.",
        ),
        (
            lambda m: m.log_prob(x=[0, 0], sampler=sg.Heun()),
            QueryError,
            "computes no densities.\n  For example: sampler=sg.Flow(steps=30)",
        ),
    ],
)
def test_wrong_densities_are_refused_by_name(gaussian_model, ask, error, message):
    with pytest.raises(error) as caught:
        ask(gaussian_model)
    assert message in str(caught.value)


def test_deterministic_and_constant_variables_have_no_density(fixed):
    with pytest.raises(QueryError) as caught:
        fixed.log_prob(twice=4.0)
    assert str(caught.value) == (
        "'twice' is deterministic: given its parents it has one value, and no density.\n"
        "  Leave it out, or ask for its parents: real."
    )
    with pytest.raises(QueryError) as caught:
        fixed.log_prob(rate=0.5)
    assert str(caught.value) == (
        "'rate' had one and the same value, 0.5, in all 90 training traces: it has no density.\n"
        "  Leave 'rate' out, or give it."
    )
    assert fixed.given(rate=0.5).log_prob(real=3.0).isfinite()


@node
def theta():
    return Normal(torch.zeros(2), 1.0)


@node
def x(theta):
    return Normal(theta, 0.5)


@pytest.mark.slow
def test_densities_of_a_linear_gaussian_graph_are_near_the_truth():
    model = sg.fit(Graph(theta, x), num_simulations=10_000, preset="fast", progress=False)
    generator = torch.Generator().manual_seed(3)
    t = torch.randn(300, 2, generator=generator).double()
    y = t + 0.5 * torch.randn(300, 2, generator=generator).double()
    prior, likelihood = Normal(0.0, 1.0).log_prob(t).sum(-1), Normal(t, 0.5).log_prob(y).sum(-1)
    posterior = Normal(y / 1.25, 0.2**0.5).log_prob(t).sum(-1)
    errors = [
        model.given(x=y).log_prob(theta=t) - posterior,
        model.given(theta=t).log_prob(x=y) - likelihood,
        model.log_prob(theta=t, x=y) - prior - likelihood,
    ]
    for error in errors:
        # The solver adds less than 0.01; the rest is a model trained for half a minute, in two to four dimensions.
        assert float(error.abs().mean()) < 0.25
        assert abs(float(error.mean())) < 0.1
    grid = torch.linspace(-2.3, 2.3, 41).double()
    cell = torch.stack(torch.meshgrid(grid, grid, indexing="ij"), -1).reshape(-1, 2)
    mass = model.given(x=[0.4, -0.7]).log_prob(theta=cell + torch.tensor([0.32, -0.56])).exp().sum()
    # Five standard deviations to each side; the sum over a smooth law is exact.
    assert float(mass) * float(grid[1] - grid[0]) ** 2 == pytest.approx(1, abs=0.02)
