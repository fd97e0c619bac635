"""The batched evaluation of a node function against the function called for one trace and element at a time."""

import numpy as np
import pytest
import torch
from torch import distributions as d
from torch.distributions import transforms

from simgraph import Graph, node, plate
from simgraph.errors import NodeReturnError
from simgraph.traces.distributions import at_element, batched, invalid_rows, mappable, unvalidated

p, q = plate("p", 2), plate("q", 3)

# Functions of a scalar a and a positive scalar b, as a user writes them for one trace and one element.
LAWS = {
    "Normal": lambda a, b: d.Normal(a, b),
    "Normal of a vector": lambda a, b: d.Normal(torch.arange(4.0) * a, b),
    "Normal of a matrix": lambda a, b: d.Normal(a, b * torch.ones(2, 3)),
    "constant": lambda a, b: d.Normal(0.0, 1.0),
    "Uniform": lambda a, b: d.Uniform(a, a + b),
    "LogNormal": lambda a, b: d.LogNormal(a, b),
    "LogNormal of a vector": lambda a, b: d.LogNormal(torch.stack([a, a + 1, a - 1]), b),
    "HalfCauchy": lambda a, b: d.HalfCauchy(b),
    "Gamma": lambda a, b: d.Gamma(b, b),
    "Beta": lambda a, b: d.Beta(b, b + 1),
    "StudentT": lambda a, b: d.StudentT(b, a, b),
    "Poisson": lambda a, b: d.Poisson(b),
    "Bernoulli of logits": lambda a, b: d.Bernoulli(logits=a),
    "Binomial": lambda a, b: d.Binomial(5, logits=a),
    "Dirichlet": lambda a, b: d.Dirichlet(b * torch.ones(3)),
    "Dirichlet in a batch": lambda a, b: d.Dirichlet(b * torch.ones(2, 3)),
    "Categorical": lambda a, b: d.Categorical(torch.stack([b, b + 1, b + 2])),
    "Categorical of logits": lambda a, b: d.Categorical(logits=torch.stack([a, b])),
    "OneHotCategorical": lambda a, b: d.OneHotCategorical(torch.stack([b, b + 1])),
    "Multinomial": lambda a, b: d.Multinomial(4, torch.stack([b, b + 1])),
    "MultivariateNormal": lambda a, b: d.MultivariateNormal(torch.stack([a, b]), b * torch.eye(2)),
    "MultivariateNormal of a factor": lambda a, b: d.MultivariateNormal(torch.zeros(3), scale_tril=b * torch.eye(3)),
    "MultivariateNormal in a batch": lambda a, b: d.MultivariateNormal(torch.zeros(4, 2), b * torch.eye(2)),
    "LowRankMultivariateNormal": lambda a, b: d.LowRankMultivariateNormal(
        a * torch.ones(3), torch.ones(3, 1), b * torch.ones(3)
    ),
    "Independent": lambda a, b: d.Independent(d.Normal(a * torch.ones(3), b), 1),
    "MixtureSameFamily": lambda a, b: d.MixtureSameFamily(
        d.Categorical(torch.stack([b, b + 1])), d.Normal(torch.stack([a, a + 3]), b)
    ),
    "mixture of vectors": lambda a, b: d.MixtureSameFamily(
        d.Categorical(torch.ones(2)), d.Independent(d.Normal(a * torch.ones(2, 3), b), 1)
    ),
    "TransformedDistribution": lambda a, b: d.TransformedDistribution(
        d.Normal(a, 1.0), [transforms.AffineTransform(a, b), transforms.ExpTransform()]
    ),
    "transform of a vector": lambda a, b: d.TransformedDistribution(
        d.Normal(torch.zeros(3), 1.0), transforms.AffineTransform(a * torch.ones(3), b)
    ),
    "transform of vectors in a batch": lambda a, b: d.TransformedDistribution(
        d.Independent(d.Normal(torch.zeros(2, 3), 1.0), 1), transforms.AffineTransform(a * torch.ones(3), b)
    ),
    "stick breaking": lambda a, b: d.TransformedDistribution(
        d.Independent(d.Normal(a * torch.ones(2), b), 1), transforms.StickBreakingTransform()
    ),
    "Gumbel": lambda a, b: d.Gumbel(a, b),
    "Weibull": lambda a, b: d.Weibull(b, b),
    "Pareto": lambda a, b: d.Pareto(b, b),
}  # fmt: skip


@pytest.fixture
def values():
    generator = torch.Generator().manual_seed(0)
    rows = 3
    return {
        "a": torch.randn(rows, generator=generator),
        "b": torch.rand(rows, 2, generator=generator) + 0.5,  # in plate p
    }


@pytest.mark.parametrize("law", LAWS)
@pytest.mark.parametrize("plates", [(p,), (p, q), (q, p)], ids=["p", "pq", "qp"])
def test_log_densities_are_those_of_the_loop_in_crossed_plates(law, plates, values):
    x = node(name="x", plates=plates)(LAWS[law])
    axes = {"a": (), "b": (p,)}
    with unvalidated():
        together = batched(x, values, axes, 3)
    draws = together.sample()
    sizes = tuple(plate.size for plate in plates)
    found = together.log_prob(draws)
    for row in range(3):
        for element in np.ndindex(sizes):
            index = dict(zip((plate.name for plate in plates), element, strict=True))
            alone = LAWS[law](values["a"][row], values["b"][row, index["p"]])
            draw = draws[(row, *element)]
            assert draw.shape == alone.batch_shape + alone.event_shape
            torch.testing.assert_close(found[(row, *element)], alone.log_prob(draw), rtol=1e-4, atol=1e-4)
    assert mappable(x, values, axes, range(3))


@pytest.mark.parametrize(
    "function",
    [
        lambda a: d.Normal(a, 1.0) if a > 0 else d.Normal(a, 2.0),
        lambda a: d.Normal(a.item(), 1.0),
        lambda a: d.Normal(float(np.sin(a.numpy())), 1.0),
        lambda a: d.Normal(0.0, 1.0) if a > 0 else d.Gamma(1.0, 1.0),
    ],
)
def test_functions_that_look_at_values_are_not_mapped(function):
    assert not mappable(node(name="x")(function), {"a": torch.tensor([1.0, -1.0, 2.0])}, {"a": ()}, range(3))


def test_whether_a_node_is_mapped_does_not_depend_on_the_number_of_traces():
    class Wrong(d.Normal):
        def log_prob(self, value):  # adds up traces, which shows only where there are two
            return super().log_prob(value) + self.loc.sum()

    x = node(name="x")(lambda a: Wrong(a, 1.0))
    values = torch.tensor([1.0, 2.0, 3.0])
    assert [mappable(x, {"a": values[:count]}, {"a": ()}, range(count)) for count in (1, 2, 3)] == [False] * 3


def test_traces_that_fail_do_not_decide():
    x = node(name="x")(lambda a: d.Normal(0.0, a))
    values = {"a": torch.tensor([-1.0, -2.0, 1.0, 2.0])}
    assert mappable(x, values, {"a": ()}, range(4))
    assert not mappable(x, values, {"a": ()}, range(2))


def test_parents_are_never_changed_by_a_function():
    def function(a):
        a += 1.0
        return d.Normal(a, 1.0)

    values = {"a": torch.zeros(3)}
    mappable(node(name="x")(function), values, {"a": ()}, range(3))
    assert torch.equal(values["a"], torch.zeros(3))


@pytest.mark.parametrize(
    ("law", "reason"),
    [
        (lambda a: d.Normal(0.0, a), "scale of Normal violates GreaterThan(lower_bound=0.0)"),
        (lambda a: d.LogNormal(0.0, a), "scale of Normal violates GreaterThan(lower_bound=0.0)"),
        (
            lambda a: d.Independent(d.Normal(torch.zeros(2), a), 1),
            "scale of Normal violates GreaterThan(lower_bound=0.0)",
        ),
        (
            lambda a: d.MixtureSameFamily(d.Categorical(torch.ones(2)), d.Normal(torch.zeros(2), a)),
            "scale of Normal violates GreaterThan(lower_bound=0.0)",
        ),
        (lambda a: d.Uniform(0.0, a), "high of Uniform is not above low"),
        (lambda a: d.Bernoulli(a), "probs of Bernoulli violates Interval(lower_bound=0.0, upper_bound=1.0)"),
    ],
)
def test_invalid_parameters_are_found_by_row(law, reason):
    x = node(name="x", plates=p)(law)
    values = {"a": torch.tensor([[0.5, 0.5], [0.5, -1.0], [1.0, 0.1], [-1.0, -1.0]])}
    rows, text = invalid_rows(batched(x, values, {"a": (p,)}, 4))
    assert rows.tolist() == [False, True, False, True]
    assert text == reason


def test_an_element_sees_shared_plates_only_there_and_others_whole():
    value = torch.arange(24).reshape(2, 3, 4)  # plates p, q and an event of size 4
    assert torch.equal(at_element(value, (p, q), (q, p), (2, 1)), value[1, 2])
    assert torch.equal(at_element(value, (p, q), (q,), (2,)), value[:, 2])
    assert torch.equal(at_element(value, (p, q), (), ()), value)


@pytest.mark.parametrize(
    ("result", "described"),
    [
        (None, "None (is a return statement missing?)"),
        (3.0, "a float"),
        (np.zeros((2, 3)), "a ndarray of shape (2, 3)"),
        (torch.zeros(2), "a Tensor of shape (2,)"),
    ],
)
def test_what_is_no_distribution_is_refused(result, described):
    x = node(name="x")(lambda: result)
    with pytest.raises(NodeReturnError) as caught:
        Graph(x).simulate(2)
    first, second, third = str(caught.value).splitlines()
    assert first == f"node 'x' returned {described}; a node without rng returns a torch distribution."
    assert second == f"  declared at {x.where}"
    assert third == (
        "  Return a distribution, add the parameter rng to return a draw,"
        " or use @deterministic for a function of the parents."
    )


def test_the_validation_flag_is_restored():
    before = d.Distribution._validate_args
    with pytest.raises(ZeroDivisionError), unvalidated():
        assert 1 / int(d.Distribution._validate_args)
    assert d.Distribution._validate_args is before
