"""Log densities of traces against sums written by hand, and what may stand in their way."""

import math

import numpy as np
import pytest
import torch
from torch.distributions import (
    Bernoulli,
    Categorical,
    Dirichlet,
    Distribution,
    Gamma,
    LKJCholesky,
    LogNormal,
    MixtureSameFamily,
    MultivariateNormal,
    Normal,
    Poisson,
    Uniform,
)

from simgraph import Graph, Traces, deterministic, node, plate
from simgraph.errors import EvidenceError, MissingValueError, QueryError, ShapeError, UnknownNameError
from simgraph.traces.density import Density

p, q = plate("p", 2), plate("q", 3)


@node
def a():
    return Normal(0.0, 1.0)


@node(plates=p)
def b(a):
    return Normal(torch.stack([a, -a, a]), 0.5)


@node(plates=(q, p))
def c(b):
    return Poisson(b.sum().exp())


plated = Graph(a, b, c)


def normal(value, mean, sd):
    return -0.5 * ((value - mean) / sd) ** 2 - np.log(sd) - 0.5 * math.log(2 * math.pi)


def test_all_plates_and_elements_are_summed_in_double_precision():
    traces = plated.simulate(50, seed=1)
    values = {name: np.asarray(traces[name], dtype=np.float64) for name in traces}
    found = plated.log_prob(traces)
    means = values["a"][:, None, None] * np.array([1.0, -1.0, 1.0])
    rate = np.exp(values["b"].sum(-1))[:, None, :]
    counts = values["c"] * np.log(rate) - rate - torch.lgamma(torch.from_numpy(values["c"] + 1)).numpy()
    expected = normal(values["a"], 0, 1) + normal(values["b"], means, 0.5).sum((1, 2)) + counts.sum((1, 2))
    assert found.dtype == torch.float64
    # Doubles throughout; single precision would differ by 1e-7 of sums of size 10 to 100.
    np.testing.assert_allclose(found, expected, rtol=1e-12)


def test_one_trace_gives_one_number_and_is_shared_over_rows_of_others():
    pair = Graph(a, node(name="x")(lambda a: Normal(a, 0.5)))
    one = pair.log_prob({"a": 0.3, "x": float(torch.tensor(0.1))})
    assert one.shape == ()
    both = pair.log_prob({pair["a"]: 0.3, "x": torch.tensor([0.1, 0.2]).double()})
    assert both.shape == (2,)
    assert both[0] == one
    assert both[1].item() == pytest.approx(normal(0.3, 0, 1) + normal(float(torch.tensor(0.2)), 0.3, 0.5), rel=1e-12)


LAWS = {
    "LogNormal": lambda a, b: LogNormal(torch.stack([a, -a]), b),
    "Gamma": lambda a, b: Gamma(b, b + a**2),
    "Bernoulli": lambda a, b: Bernoulli(logits=a),
    "Categorical": lambda a, b: Categorical(torch.stack([b, b + 1])),
    "Dirichlet": lambda a, b: Dirichlet(b * torch.ones(2, 3)),
    "MultivariateNormal": lambda a, b: MultivariateNormal(torch.stack([a, b]), b * torch.eye(2)),
    "mixture": lambda a, b: MixtureSameFamily(Categorical(torch.stack([b, b + 1])), Normal(torch.stack([a, a + 3]), b)),
    "branching": lambda a, b: Normal(a, b) if a > 0 else Normal(b, torch.ones(())),
}


@pytest.mark.parametrize("law", LAWS)
def test_every_kind_of_law_has_the_density_of_its_function_called_alone(law):
    @node(plates=p)
    def b():
        return Uniform(0.5, 1.5)

    graph = Graph(a, b, node(name="x", plates=(q, p))(LAWS[law]))
    traces = graph.simulate(6, seed=5)
    terms = Density(graph, ["x"]).terms({name: torch.from_numpy(traces[name]) for name in traces})
    double = {name: torch.from_numpy(traces[name]).double() for name in traces}
    for row in range(6):
        laws = [LAWS[law](double["a"][row], double["b"][row, j]) for _ in range(3) for j in range(2)]
        draws = double["x"][row].flatten(0, 1)
        expected = sum(one.log_prob(draw).sum() for one, draw in zip(laws, draws, strict=True))
        # Called here, a function makes constants of its own in single precision: roundings of 6e-8 in sums of size 100.
        torch.testing.assert_close(terms["x"][row], expected, rtol=1e-5, atol=1e-5, check_dtype=False)


def test_functions_that_cannot_be_mapped_agree_with_those_that_can():
    def branch(a):
        return Normal(a, 1.0) if a > 0 else Normal(a, torch.ones(()))

    quick, slow = (Graph(a, node(name="x")(f)) for f in (lambda a: Normal(a, 1.0), branch))
    values = {"a": np.linspace(-1, 1, 7), "x": np.linspace(0, 2, 7)}
    torch.testing.assert_close(quick.log_prob(values), slow.log_prob(values), rtol=1e-14, atol=0)
    assert [Density(graph, ["x"])._ways["x"].together for graph in (quick, slow)] == [True, False]


def test_single_precision_constants_of_a_function_are_no_obstacle():
    matrix = torch.tensor([[1.0, 0.5], [0.0, 1.0]])  # made outside of the function, so it stays in single precision

    @node
    def z():
        return Normal(torch.zeros(2), 1.0)

    @node
    def x(z):
        return Normal(matrix @ z, 1.0)

    graph = Graph(z, x)
    found = graph.log_prob({"z": [0.1, 0.2], "x": [0.3, 0.4]})
    assert found.dtype == torch.float64
    expected = normal(np.array([0.1, 0.2, 0.3, 0.4]), np.array([0, 0, 0.2, 0.2]), 1).sum()
    assert found.item() == pytest.approx(expected, rel=1e-6)  # a few roundings of 6e-8
    assert torch.get_default_dtype() == torch.float32


def test_deterministic_nodes_are_computed_and_have_to_agree():
    @deterministic
    def box(a):
        return {"mean": 2 * a}

    @deterministic(shape=(2,))
    def pair(a):
        return np.array([a, 1e-9 + a**2])

    @node
    def x(box, pair):
        return Normal(torch.as_tensor(box["mean"]) + pair[1], 1.0)

    graph = Graph(a, box, pair, x)
    values = {"a": [0.5, -1.0], "x": [1.0, 0.0]}
    expected = normal(np.array([0.5, -1]), 0, 1) + normal(np.array([1.0, 0.0]), np.array([1.25, -1.0]), 1)
    np.testing.assert_allclose(graph.log_prob(values), expected, rtol=1e-8)
    agreeing = np.array([[0.5, 0.25], [-1.0, 1.0 + 1e-7]])
    np.testing.assert_allclose(graph.log_prob({**values, "pair": agreeing}), expected, rtol=1e-8)
    agreeing[1, 1] += 1e-5
    assert graph.log_prob({**values, "pair": agreeing})[1] == -math.inf
    assert Density(graph, ["x"]).cut == ("box", "pair")


def test_traces_that_are_run_by_themselves_are_counted():
    @deterministic(shape=())
    def level(rate):
        return math.sqrt(abs(float(rate)))

    @node
    def rate():
        return Normal(0.0, 1.0)

    @node
    def x(level):
        return Normal(level, 1.0)

    ticks = []
    density = Density(Graph(rate, level, x), ["x"], lambda: ticks.append(1))
    ticks.clear()
    density({"rate": torch.zeros(30), "x": torch.zeros(30)})
    assert len(ticks) == 30


def test_constants_add_nothing_or_make_a_trace_impossible():
    graph = Graph(a, node(name="x")(lambda a: Normal(a, 0.5))).do(a=1.0)
    assert graph.log_prob({"x": 1.0}) == graph.log_prob({"x": 1.0, "a": 1.0}) == normal(1.0, 1.0, 0.5)
    assert graph.log_prob({"x": [1.0, 1.0], "a": [1.0, 2.0]}).tolist() == [normal(1.0, 1.0, 0.5), -math.inf]


@pytest.mark.parametrize("law", ["mapped", "loop"])
def test_impossible_rows_are_minus_infinity_and_others_untouched(law):
    def bounded(a):
        low = 0.0 if law == "mapped" else min(0.0, float(a) - 100)
        return Uniform(low * 0.0, a)

    @node
    def x(bound):
        return Normal(bound, 1.0)

    graph = Graph(node(name="a")(lambda: Normal(2.0, 0.1)), node(name="bound")(bounded), x)
    found = graph.log_prob({"a": [2.0, 2.0, -1.0, 2.0], "bound": [1.0, 3.0, 0.5, -1.0], "x": 0.0})
    possible = normal(2.0, 2.0, 0.1) - math.log(2.0) + normal(0.0, 1.0, 1.0)
    assert found.tolist() == [pytest.approx(possible, rel=1e-6), -math.inf, -math.inf, -math.inf]


def test_rows_in_which_a_function_raises_are_impossible():
    @node
    def z():
        return Uniform(-0.9, 2.0)

    @node
    def x(z):  # no Cholesky factor where z is 1 or more
        return MultivariateNormal(torch.zeros(2), torch.eye(2) + z * (1 - torch.eye(2)))

    graph = Graph(z, x)
    found = graph.log_prob({"z": [0.0, 1.5, 0.0, 1.9, 0.0], "x": np.zeros((5, 2))})
    possible = -math.log(2.9) - math.log(2 * math.pi)
    assert found.tolist() == pytest.approx([possible, -math.inf, possible, -math.inf, possible], rel=1e-6)


def test_a_deterministic_function_that_fails_makes_its_row_impossible():
    @deterministic(shape=())
    def root(a):
        if a < 0:
            raise ValueError
        return a**0.5

    graph = Graph(a, root, node(name="x")(lambda root: Normal(root, 1.0)))
    found = graph.log_prob({"a": [4.0, -1.0, 1.0], "x": [2.0, 0.0, 1.0]})
    expected = [normal(4.0, 0, 1) + normal(0, 0, 1), -math.inf, normal(1.0, 0, 1) + normal(0, 0, 1)]
    assert found.tolist() == pytest.approx(expected)


def test_discrete_parents_arrive_as_in_simulation_whatever_the_values_hold():
    means = torch.tensor([-1.0, 0.0, 5.0])

    @node
    def shares():
        return Dirichlet(torch.ones(3))

    @node
    def label(shares):
        return Categorical(shares)

    @node
    def flag(label):
        return Bernoulli(torch.tensor([0.1, 0.2, 0.3])[label])

    @node
    def x(label, flag):
        return Normal(means[label] + flag, 1.0)

    graph = Graph(shares, label, flag, x)
    values = {"shares": [0.2, 0.3, 0.5], "label": 2, "flag": 1, "x": 6.0}
    expected = math.log(2.0) + math.log(0.5) + math.log(0.3) + normal(6.0, 6.0, 1.0)
    assert graph.log_prob(values).item() == pytest.approx(expected, rel=1e-6)
    assert graph.log_prob({**values, "label": 2.0, "flag": True}) == graph.log_prob(values)
    assert graph.log_prob({**values, "label": 1.5}) == -math.inf
    assert graph.log_prob({**values, "label": 3}) == -math.inf


def test_draws_in_single_precision_stay_in_their_support():
    # A Cholesky factor of a correlation matrix has rows of length 1 up to rounding, of single precision here.
    graph = Graph(node(name="factor")(lambda: LKJCholesky(3)))
    assert graph.log_prob(graph.simulate(100)).isfinite().all()


def test_density_covers_names_and_all_above_them():
    @node(shape=())
    def box(a, rng):
        return rng.normal(a)

    graph = Graph(*plated.values(), box)
    density = Density(graph, ["b"])
    assert density.names == ("a", "b")
    values = {name: torch.from_numpy(array) for name, array in plated.simulate(5).items()}
    terms = density.terms(values)
    assert list(terms) == ["a", "b"]
    assert torch.equal(density(values), terms["a"] + terms["b"])
    torch.testing.assert_close(terms["a"], Normal(0.0, 1.0).log_prob(values["a"].double()))


def test_gradients_are_those_of_the_density():
    density = Density(plated, ["c"])
    traces = plated.simulate(4, seed=2)
    values = {name: torch.from_numpy(traces[name]).double() for name in traces}
    values = {name: value.requires_grad_(name != "c") for name, value in values.items()}
    call = lambda a, b: density({"a": a, "b": b, "c": values["c"]})  # noqa: E731
    assert torch.autograd.gradcheck(call, (values["a"], values["b"]))


def test_gradients_of_impossible_rows_are_zero_not_nan():
    @node
    def size():
        return Uniform(0.0, 1.0)

    @node
    def x(size):
        return Normal(size.log(), size.sqrt())

    density = Density(Graph(size, x), ["x"])
    size_values = torch.tensor([0.5, -0.5], dtype=torch.float64, requires_grad=True)
    found = density({"size": size_values, "x": torch.zeros(2, dtype=torch.float64)})
    assert found.isneginf().tolist() == [False, True]
    found[0].backward(retain_graph=True)
    found.nan_to_num(neginf=0.0).sum().backward()
    assert size_values.grad.isfinite().all()
    assert size_values.grad[1] == 0


def test_a_row_that_is_impossible_further_down_has_no_gradient():
    density = Density(Graph(a, node(name="x")(lambda a: Uniform(a, a + 1))), ["x"])
    values = torch.tensor([0.5, 0.5], dtype=torch.float64, requires_grad=True)
    found = density({"a": values, "x": torch.tensor([1.0, 2.0], dtype=torch.float64)})
    assert found.isneginf().tolist() == [False, True]
    found.sum().backward()
    assert values.grad.tolist() == [-0.5, 0.0]  # of log N(a; 0, 1)


def test_an_invalid_distribution_is_impossible_even_where_its_formula_gives_a_number():
    assert Gamma(-0.5, 1.0, validate_args=False).log_prob(torch.tensor(1.0)).isfinite()
    graph = Graph(a, node(name="x")(lambda a: Gamma(a, torch.ones(()))))  # half of its traces fail
    assert graph.log_prob({"a": [0.5, -0.5], "x": 1.0}).isneginf().tolist() == [False, True]


def test_a_batch_of_rows_is_the_rows_one_by_one():
    traces = plated.simulate(20, seed=4)
    alone = torch.stack([plated.log_prob({name: traces[name][row] for name in traces}) for row in range(20)])
    torch.testing.assert_close(plated.log_prob(traces), alone, rtol=1e-12, atol=0)


class Silent(Distribution):
    """A law that can be drawn from, and does not say its density."""

    arg_constraints = {}  # noqa: RUF012

    def __init__(self):
        super().__init__(validate_args=False)

    def sample(self, sample_shape=()):
        return torch.randn(tuple(sample_shape))


@node(shape=(2,))
def box(a, rng):
    return rng.normal(a, size=2)


@deterministic
def thing(a):
    return object()


below = Graph(a, node(name="x")(lambda a: Normal(a, 1.0)))


@pytest.mark.parametrize(
    ("graph", "values", "error", "text"),
    [
        (
            Graph(a, box),
            {"a": 0.0, "box": [0.0, 0.0]},
            QueryError,
            "the density of box is not known: a node with rng returns draws, not their law.\n"
            f"  declared at {box.where}\n"
            "  Write a node without rng that returns its torch distribution, leave it out with graph.prune(...),"
            " or ask a trained model.",
        ),
        (
            below,
            {"x": 0.0},
            QueryError,
            "log_prob(...) lacks values of a.\n"
            "  Hand over all of them; what is unknown is asked of a trained model.",
        ),
        (
            below,
            {"a": 0.0},
            QueryError,
            "log_prob(...) lacks values of x.\n"
            "  For the density of those that are there: graph.prune('a').log_prob(...)",
        ),
        (
            below,
            {"a": 0.0, "x": [[0.0, 1.0]]},
            ShapeError,
            "log_prob(...) has values of shape (1, 2) for 'x', which has shape ().\n"
            "  Accepted: () for one trace, (rows,) for many.",
        ),
        (
            plated,
            {"a": 0.0, "b": np.zeros((3, 2)), "c": np.zeros((3, 2))},
            ShapeError,
            "log_prob(...) has values of shape (3, 2) for 'b', which has shape (2, 3).\n"
            "  Accepted: (2, 3) for one trace, (rows, 2, 3) for many.",
        ),
        (
            below,
            {"a": [0.0, 1.0], "x": [0.0, 1.0, 2.0]},
            ShapeError,
            "log_prob(...) has different numbers of rows: {'a': 2, 'x': 3}.\n"
            "  Each row is one trace, in every variable.",
        ),
        (
            below,
            {"a": [0.0, math.nan], "x": [0.0, 1.0]},
            MissingValueError,
            "log_prob(...) holds 1 NaN or missing values of 'a'.\n"
            '  Leave such rows out; simulate(..., on_failure="drop") leaves out traces that failed.',
        ),
        (
            below,
            Traces({"a": np.array([0.0, math.nan]), "x": np.zeros(2)}),
            MissingValueError,
            "log_prob(...) holds 1 NaN or missing values of 'a'.\n"
            '  Leave such rows out; simulate(..., on_failure="drop") leaves out traces that failed.',
        ),
        (
            below,
            {"a": 0.0, "y": 0.0},
            UnknownNameError,
            "'y' is not a node of this graph.\n  Known names: a, x.",
        ),
        (
            Graph(a, thing),
            {"a": 0.0, "thing": 0.0},
            UnknownNameError,
            "'thing' is an object without a shape, so log_prob(...) takes no values for it.\n"
            f"  declared at {thing.where}\n  It is computed from its parents; hand these over.",
        ),
        (below, [0.0, 1.0], QueryError, "log_prob(...) takes a mapping from names to values, not list."),
        (
            below,
            {"a": 0.0, below["a"]: 0.0, "x": 0.0},
            QueryError,
            "log_prob(...) names 'a' twice.\n  Give it by node or by name, not both.",
        ),
        (below, {"a": "0", "x": 0.0}, EvidenceError, "log_prob(...) takes numbers for 'a', not text."),
        (
            below,
            {"a": [object()], "x": 0.0},
            EvidenceError,
            "log_prob(...) takes numbers for 'a', not values of type object.",
        ),
    ],
)  # fmt: skip
def test_what_cannot_be_answered_is_refused_by_name(graph, values, error, text):
    with pytest.raises(error) as caught:
        graph.log_prob(values)
    assert str(caught.value) == text


def test_ragged_values_are_no_array():
    with pytest.raises(EvidenceError, match=r"^log_prob\(\.\.\.\) takes an array for 'a': "):
        below.log_prob({"a": [[0.0], [0.0, 1.0]], "x": 0.0})


def test_a_law_without_a_density_is_refused():
    silent = node(name="silent")(lambda: Silent())
    with pytest.raises(QueryError) as caught:
        Graph(silent).log_prob({"silent": 0.0})
    first, second, third = str(caught.value).splitlines()
    assert first.startswith("the log density of 'silent' cannot be computed: NotImplementedError")
    assert second == f"  declared at {silent.where}"
    assert third == "  Return a distribution that has log_prob, or leave the node out with graph.prune(...)."


def test_an_empty_graph_has_no_density():
    with pytest.raises(Exception, match="the graph has no nodes, so there is no density"):
        Graph().log_prob({})
