"""Laws of distribution nodes, read from their code."""

import contextlib
import time

import numpy as np
import pytest
import torch
from torch.distributions import (
    Bernoulli,
    Beta,
    Binomial,
    Categorical,
    Dirichlet,
    Distribution,
    Gamma,
    Gumbel,
    HalfCauchy,
    Independent,
    LogNormal,
    LowRankMultivariateNormal,
    MixtureSameFamily,
    Multinomial,
    MultivariateNormal,
    NegativeBinomial,
    Normal,
    Poisson,
    StudentT,
    TransformedDistribution,
    Uniform,
    VonMises,
    Weibull,
    constraints,
    transforms,
)

from simgraph import deterministic, node
from simgraph.compile.traced import traced_law
from simgraph.compile.tracer import Untraceable

T = torch.tensor([0.3, 0.5, 0.7, 0.2, 0.1])


def law(function, *values, others=()):
    """Families of a node's elements: tuples (members, earlier elements, parent elements by parameter)."""
    made = node(name="x")(function)
    parameters = [parameter for parameter, _ in made.signature.parents]
    examples = [dict(zip(parameters, example, strict=True)) for example in [values or (T,), *others]]
    found = traced_law(made, examples)
    assert set(found.origins.values()) == {"traced"}
    assert (found.members.reshape(len(found.members), -1).sum(0) == 1).all()

    def where(row):
        return tuple(np.flatnonzero(row.reshape(-1)).tolist())

    return [
        (where(members), where(own), *(where(source[number]) for source in found.sources.values()))
        for number, (members, own) in enumerate(zip(found.members, found.own, strict=True))
    ]


def slcp(scale):
    def x(t):
        first, second, angle = t[2] ** 2, t[3] ** 2, torch.tanh(t[4])
        if scale == "tril":
            rows = [
                torch.stack([first, torch.zeros(())]),
                torch.stack([angle * second, second * torch.sqrt(1 - angle**2)]),
            ]
            return MultivariateNormal(t[:2], scale_tril=torch.stack(rows))
        across = angle * first * second
        rows = [torch.stack([first**2, across]), torch.stack([across, second**2])]
        return MultivariateNormal(t[:2], torch.stack(rows) + 1e-6 * torch.eye(2))

    return x


PAIRS = {
    "normal": (lambda t: Normal(t[:2], t[2].exp()), [(0, 2), (1, 2)]),
    "log-normal": (lambda t: LogNormal(t[:2], 0.2), [(0,), (1,)]),
    "gamma": (lambda t: Gamma(t[:2], t[2]), [(0, 2), (1, 2)]),
    "beta": (lambda t: Beta(t[:2], t[3:]), [(0, 3), (1, 4)]),
    "uniform": (lambda t: Uniform(0, t[:2] + 1), [(0,), (1,)]),
    "bernoulli": (lambda t: Bernoulli(logits=t[:2]), [(0,), (1,)]),
    "binomial": (lambda t: Binomial(10, torch.sigmoid(t[:2])), [(0,), (1,)]),
    "poisson": (lambda t: Poisson(t[:2].exp()), [(0,), (1,)]),
    "negative binomial": (lambda t: NegativeBinomial(5.0, torch.sigmoid(t[:2])), [(0,), (1,)]),
    "student": (lambda t: StudentT(3.0, t[:2], t[2].exp()), [(0, 2), (1, 2)]),
    "half-cauchy": (lambda t: HalfCauchy(t[:2].exp()), [(0,), (1,)]),
    "gumbel": (lambda t: Gumbel(t[:2], 1.0), [(0,), (1,)]),
    "weibull": (lambda t: Weibull(t[:2].exp(), t[2].exp()), [(0, 2), (1, 2)]),
    "von mises": (lambda t: VonMises(t[:2], t[2].exp()), [(0, 2), (1, 2)]),
    "categories": (
        lambda t: Categorical(probs=torch.stack([t[:2], 1 + t[2:4]])),
        [(0, 1), (2, 3)],
    ),
    "transformed": (
        lambda t: TransformedDistribution(
            Normal(t[:2], 1.0), [transforms.AffineTransform(t[2], t[3]), transforms.SigmoidTransform()]
        ),
        [(0, 2, 3), (1, 2, 3)],
    ),
    "independent": (lambda t: Independent(Normal(t[:2], 1.0), 1), [(0,), (1,)]),
    "mixtures": (
        lambda t: MixtureSameFamily(
            Categorical(torch.ones(2, 2)), Normal(torch.stack([t[:2], t[1:3]], -1), torch.tensor([1.0, 0.1]))
        ),
        [(0, 1), (1, 2)],
    ),
    "nothing": (lambda t: Normal(torch.zeros(2), 1.0), [(), ()]),
}


@pytest.mark.parametrize("name", PAIRS)
def test_batch_elements_are_drawn_one_by_one(name):
    function, parents = PAIRS[name]
    assert law(function) == [((place,), (), reached) for place, reached in enumerate(parents)]


TOGETHER = {
    "dirichlet": (lambda t: Dirichlet(t.exp()), 5, range(5)),
    "multinomial": (lambda t: Multinomial(5, logits=t[:3]), 3, range(3)),
    "category": (lambda t: Categorical(logits=t), 1, range(5)),
    "low rank": (lambda t: LowRankMultivariateNormal(t[:3], torch.ones(3, 1), t[:3].exp()), 3, range(3)),
    "gaussian": (lambda t: MultivariateNormal(t[0] * torch.ones(3), torch.eye(3)), 3, range(1)),
    "mixture of vectors": (
        lambda t: MixtureSameFamily(
            Categorical(torch.ones(2)),
            Independent(Normal(torch.stack([t[:2], t[:2]]), torch.tensor([[1.0], [0.1]])), 1),
        ),
        2,
        range(2),
    ),
}


@pytest.mark.parametrize("name", TOGETHER)
def test_events_are_drawn_together(name):
    function, size, parents = TOGETHER[name]
    assert law(function) == [(tuple(range(size)), (), tuple(parents))]


def test_rows_of_events_are_drawn_one_by_one():
    found = law(lambda t: Dirichlet(torch.stack([t[:2], t[2:4]]).exp()))
    assert found == [((0, 1), (), (0, 1)), ((2, 3), (), (2, 3))]


@pytest.mark.parametrize("scale", ["tril", "covariance"])
def test_gaussian_events_are_taken_apart_by_the_chain_rule(scale):
    assert law(slcp(scale)) == [((0,), (), (0, 2)), ((1,), (0,), (0, 1, 2, 3, 4))]


def test_rows_of_gaussian_events_are_taken_apart():
    found = law(lambda t: MultivariateNormal(t[:2] * torch.ones(2, 1), scale_tril=torch.diag(t[2:4])))
    assert found == [
        ((0,), (), (0, 2)),
        ((1,), (0,), (0, 1, 2, 3)),
        ((2,), (), (0, 2)),
        ((3,), (2,), (0, 1, 2, 3)),
    ]


def test_an_index_that_is_a_parent():
    means, label = torch.randn(3), torch.tensor(1)

    def x(means, label):
        return Normal(means[label], 0.5)

    assert law(x, means, label) == [((0,), (), (0, 1, 2), (0,))]


def test_a_chain_in_time():
    found = law(lambda t: Normal(torch.cat([torch.zeros(1), t[:-1]]), 1.0))
    assert found == [((place,), (), (place - 1,) if place else ()) for place in range(5)]


def test_long_vectors_are_read_in_a_second():
    made = node(name="x")(lambda t: Normal(t, 0.5))
    long = torch.randn(1000)
    begin = time.perf_counter()
    found = traced_law(made, [{"t": long}, {"t": long.flip(0)}])
    assert time.perf_counter() - begin < 5  # about one on an idle machine
    assert np.array_equal(found.sources["t"], np.eye(1000, dtype=bool))


class Smoothed(Distribution):
    """Batch elements that are not independent, whatever the batch shape says."""

    arg_constraints: dict = {}  # noqa: RUF012
    support = constraints.real

    def __init__(self, loc):
        self.loc = loc
        super().__init__(loc.shape, validate_args=False)

    def sample(self, shape=()):
        return self.loc + torch.randn(())

    def log_prob(self, value):
        return -((value - value.mean() - self.loc) ** 2)


class Silent(Smoothed):
    def log_prob(self, value):
        raise NotImplementedError


def test_batch_elements_whose_densities_meet_are_drawn_together():
    assert law(lambda t: Smoothed(t[:3])) == [((0, 1, 2), (), (0, 1, 2))]


CALLS = []


def impure(t):
    CALLS.append(t)
    return Normal(t if len(CALLS) < 3 else t.flip(0), 1.0)


@pytest.mark.parametrize(
    ("function", "reason"),
    [
        (lambda t: Silent(t), "its distribution states no log density"),
        (lambda t: Normal(t if bool(t[0] > 0) else -t, 1.0), "its Python code branches on a value"),
        (lambda t: Normal(torch.as_tensor(np.sin(t.numpy())), 1.0), "it calls NumPy"),
        (impure, "a call at other values contradicts what its operations say"),
    ],
)
def test_functions_that_cannot_be_read_say_why(function, reason):
    with pytest.raises(Untraceable, match=reason.replace("(", r"\(")):
        law(function, others=[(T.flip(0) + 1,)])


def test_objects_cannot_be_read():
    with pytest.raises(Untraceable, match="it receives an object as 't'"):
        traced_law(node(name="x")(lambda t: Normal(t, 1.0)), [{"t": [1.0]}])


def test_tensors_of_deterministic_nodes_are_read_themselves():
    made = deterministic(name="x", shape=2, backend="torch")(lambda t: torch.stack([t[0] * t[1], t[4]]))
    found = traced_law(made, [{"t": T}, {"t": T + 1}])
    assert found.sources["t"].tolist() == [[True, True, False, False, False], [False, False, False, False, True]]
    assert found.members.tolist() == [[True, False], [False, True]]
    assert not found.own.any()
    short = deterministic(name="x", shape=3, backend="torch")(lambda t: t[:2])
    with pytest.raises(Untraceable, match=r"it returns shape \(2,\)"):
        traced_law(short, [{"t": T}])


SHAPES = []


def of_two_shapes(t):
    SHAPES.append(t)
    return Normal(t[:2] if len(SHAPES) < 4 else t[:1], 1.0)


def test_a_function_whose_result_changes_its_shape_is_refused():
    with pytest.raises(Untraceable, match="a call at other values"):
        law(of_two_shapes, others=[(T.flip(0) + 1,)])


def test_sums_of_groups_are_read_entry_by_entry():
    group = torch.tensor([0, 1, 0, 1, 1])
    found = law(lambda t: Normal(torch.zeros(2).index_add(0, group, t), 1.0))
    assert found == [((0,), (), (0, 2)), ((1,), (), (1, 3, 4))]


def test_a_parent_that_lies_transposed_in_memory():
    turned = torch.rand(2, 3).T
    found = law(lambda t: Normal(t.T.reshape(-1)[:2], 1.0), turned)
    assert found == [((0,), (), (0,)), ((1,), (), (2,))]


def test_more_elements_than_can_be_told_apart_are_refused():
    with pytest.raises(Untraceable, match="it has more than 8192 elements to tell apart"):
        traced_law(node(name="x")(lambda t: Normal(t[0], 1.0)), [{"t": torch.zeros(10_000)}])


def swallowing(t):
    scale = torch.ones(2)
    try:
        if t[0] > 3:
            scale = scale * t[1].exp()
    except Exception:
        pass
    return Normal(t[:2], scale)


def sharing(t):
    constants = torch.zeros(2)
    seen = constants.numpy()
    constants[0] = t[0]
    return Normal(torch.ones(2) * max(float(seen[0]) - 2.5, 0), 1.0)


def suppressing(t):
    with contextlib.suppress(Exception):
        return Normal(torch.ones(2) * float(t[0]), 1.0)
    return Normal(t[:2], 1.0)


@pytest.mark.parametrize("function", [swallowing, sharing, suppressing])
def test_a_refusal_that_the_function_catches_still_counts(function):
    with pytest.raises(Untraceable):
        law(function)


class Reversed(MultivariateNormal):
    """What a subclass does with its event is its own affair."""

    def log_prob(self, value):
        return super().log_prob(value.flip(-1))


def test_subclasses_of_gaussians_are_not_taken_apart():
    found = law(lambda t: Reversed(t[:2], torch.diag(t[2:4].exp())))
    assert found == [((0, 1), (), (0, 1, 2, 3))]


def test_a_reading_that_cannot_be_checked_is_refused():
    calls = []

    def fragile(t):
        calls.append(t)
        if len(calls) > 3:  # the draw, the reading and the first comparison
            raise ValueError
        return Normal(t, 1.0)

    with pytest.raises(Untraceable, match="it fails at all mixtures"):
        law(fragile, others=[(T + 1,)])
