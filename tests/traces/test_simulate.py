import re
import statistics
import time
import warnings

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.distributions import Distribution, Gamma, MultivariateNormal, Normal, Poisson, Uniform, VonMises

from simgraph import Graph, deterministic, node, plate
from simgraph.errors import DeclarationError, SamplingBiasWarning, SimulationError

p = plate("p", 2)


@node
def a():
    return Normal(0.0, 1.0)


def same(left, right):
    assert list(left) == list(right)
    for name in left:
        np.testing.assert_array_equal(left[name], right[name], err_msg=name)


def everything():
    """One node of each kind, each below another kind, rejection samplers in plates among them."""

    @node
    def rate():
        return Gamma(2.0, 1.0)

    @node
    def noisy(rate, rng):
        return rate * rng.gamma(1.0)

    @node(plates=p)
    def waiting(noisy):
        return Gamma(noisy + 0.1, 1.0)

    @node(plates=p)
    def counts(waiting):
        return Poisson(waiting)

    @node(plates=p)
    def branch(counts):
        return Gamma(2.0, 1.0) if counts > 1 else Gamma(0.5, 1.0)

    @node(plates=p, vectorized=True)
    def fast(branch, rng):
        return rng.gamma(branch + 0.1)

    @node(plates=p)
    def angle(fast):
        return Gamma(fast + 0.1, fast + 0.1)

    @deterministic
    def box(angle):
        return {"sum": angle.sum()}

    @node
    def last(box, rate):
        return Normal(torch.as_tensor(box["sum"], dtype=torch.float32), rate)

    return [rate, noisy, waiting, counts, branch, fast, angle, box, last]


@pytest.fixture(scope="module")
def long():
    return Graph(*everything()).simulate(1100, seed=3)


@pytest.mark.parametrize("count", [1, 2, 100, 1024, 1099])
def test_a_longer_run_begins_with_the_shorter_one(long, count):
    same(Graph(*everything()).simulate(count, seed=3), long[:count])


@pytest.mark.parametrize(("start", "count"), [(0, 1), (7, 1), (1023, 2), (1024, 5), (1099, 1)])
def test_start_reproduces_single_traces(long, start, count):
    same(Graph(*everything()).simulate(count, seed=3, start=start), long[start : start + count])


def test_the_order_of_nodes_does_not_matter(long):
    traces = Graph(*reversed(everything())).simulate(60, seed=3)
    for name in long:
        np.testing.assert_array_equal(traces[name], long[name][:60], err_msg=name)


def test_added_nodes_change_nothing(long):
    extra = node(name="extra", plates=p)(lambda waiting: Gamma(waiting, 1.0))
    another = node(name="another")(lambda extra, noisy, rng: rng.normal(noisy))
    traces = Graph(extra, another, *everything()).simulate(60, seed=3)
    for name in long:
        np.testing.assert_array_equal(traces[name], long[name][:60], err_msg=name)


def test_other_seeds_and_traces_are_other_draws(long):
    other = Graph(*everything()).simulate(60, seed=4)
    for name in ("rate", "noisy", "waiting", "branch", "fast", "angle", "last"):
        assert not (other[name] == long[name][:60]).any(), name
        assert len(np.unique(long[name])) > 0.99 * long[name].size, name


def test_rejection_samplers_that_look_at_their_draws_repeat_too():
    direction = node(name="direction", plates=p)(lambda a: VonMises(a, a.exp()))
    graph = Graph(a, direction)
    whole = graph.simulate(130)
    same(graph.simulate(40), whole[:40])
    same(graph.simulate(1, start=129), whole[129])


def test_failures_do_not_change_other_traces():
    """A failing trace is replaced by others in what is drawn together; nobody may notice."""

    @node
    def fragile(a, rng):
        if a > 1.0:
            raise ValueError("too large")
        return a

    below = node(name="below")(lambda fragile: Gamma(fragile.exp(), 1.0))
    graph = Graph(a, fragile, below)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", SamplingBiasWarning)
        whole = graph.simulate(200, on_failure="missing")
        part = graph.simulate(50, on_failure="missing")
        alone = graph.simulate(20, start=30, on_failure="missing")
    np.testing.assert_array_equal(part["below"], whole["below"][:50])
    np.testing.assert_array_equal(alone["below"], whole["below"][30:50])
    good = np.flatnonzero(whole.present("below"))[:3]
    for row in good.tolist():
        np.testing.assert_array_equal(graph.simulate(1, start=row)["below"], whole["below"][row : row + 1])


@settings(max_examples=8)
@given(st.integers(0, 2**63 - 1), st.integers(1, 30), st.integers(0, 3000))
def test_any_window_of_any_seed(seed, count, start):
    graph = Graph(a, node(name="x", shape=2)(lambda a, rng: rng.normal(a, size=2)))
    same(graph.simulate(count, seed=seed, start=start), graph.simulate(count + 5, seed=seed, start=start)[:count])
    same(graph.simulate(1, seed=seed, start=start + count - 1), graph.simulate(count, seed=seed, start=start)[-1])


def test_global_state_is_untouched():
    torch.manual_seed(5)
    np.random.seed(5)
    before = torch.random.get_rng_state(), np.random.get_state()[1].copy(), Distribution._validate_args
    Graph(*everything()).simulate(3)
    assert torch.equal(torch.random.get_rng_state(), before[0])
    np.testing.assert_array_equal(np.random.get_state()[1], before[1])
    assert Distribution._validate_args is before[2]


def test_global_state_does_not_change_traces():
    torch.manual_seed(1)
    first = Graph(*everything()).simulate(3)
    torch.manual_seed(2)
    same(Graph(*everything()).simulate(3), first)


def test_traces_follow_the_joint_law():
    x = node(name="x")(lambda a: Normal(2 * a, 1.0))
    traces = Graph(a, x).simulate(20_000)
    covariance = np.cov(traces["a"], traces["x"])
    # Standard errors of second moments of these normals are below 7 / sqrt(n); five of them are allowed.
    np.testing.assert_allclose(covariance, [[1.0, 2.0], [2.0, 5.0]], atol=5 * 7 / 20_000**0.5)


def test_traces_know_their_plates_and_source(long):
    assert long.sources == ((3, 0, 1100),)
    assert long.plates["counts"] == ("p",)
    assert long.plates["rate"] == ()
    assert long.num_simulations == 1100


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"num_simulations": 0}, "num_simulations=0 is not a whole number of 1 or more."),
        ({"num_simulations": 2.0}, "num_simulations=2.0 is not a whole number of 1 or more."),
        ({"num_simulations": True}, "num_simulations=True is not a whole number of 1 or more."),
        ({"start": -1}, "start=-1 is not a whole number of 0 or more."),
        ({"seed": -1}, "seed=-1 is no seed; use a whole number of 0 or more, below 2**63."),
        ({"on_failure": "skip"}, "on_failure='skip' is not known; choose 'raise', 'drop' or 'missing'."),
    ],
)
def test_bad_arguments_are_refused(options, text):
    with pytest.raises(DeclarationError) as caught:
        Graph(a).simulate(**{"num_simulations": 1, **options})
    assert str(caught.value) == text


def test_an_empty_graph_is_refused():
    with pytest.raises(DeclarationError, match="the graph has no nodes to simulate"):
        Graph().simulate(1)


# Failures. Node y fails in traces that follow from the number that u draws.


def failing(*, nan=True):
    @node
    def u(rng):
        return rng.uniform()

    @node
    def y(u, rng):
        if u < 0.2:
            raise RuntimeError("solver diverged")
        return np.nan if nan and u < 0.4 else u

    @node
    def below(y):
        return Normal(y, 1.0)

    @node
    def aside():
        return Normal(0.0, 1.0)

    return Graph(u, y, below, aside)


def counts(graph, number):
    u = graph.prune("u").simulate(number)["u"]
    return u, int((u < 0.2).sum()), int(((u >= 0.2) & (u < 0.4)).sum())


def test_the_default_raises_with_counts_and_how_to_go_on():
    graph = failing()
    u, raised, nan = counts(graph, 50)
    reasons = sorted([(raised, "RuntimeError"), (nan, "NaN")], reverse=True)
    first = int(np.argmax(u < 0.4))
    with pytest.raises(SimulationError) as caught:
        graph.simulate(50)
    listing, diverged = ", ".join(f"{number} x {reason}" for number, reason in reasons), int(np.argmax(u < 0.2))
    assert str(caught.value) == (
        f"{raised + nan} of 50 traces failed in node 'y' ({listing}); first: trace {first}, seed 0.\n"
        f"  In trace {diverged}, 'y' raised RuntimeError: solver diverged\n"
        "  Dropping them changes the prior to p(theta | success)."
        ' Choose simulate(..., on_failure="drop" | "missing"),\n'
        f"  or reproduce one with graph.simulate(1, seed=0, start={diverged})."
    )
    assert str(caught.value.__cause__) == "solver diverged"


def test_the_trace_that_is_told_is_the_one_whose_error_is():
    a = node(name="a")(lambda rng: rng.uniform())
    b = node(name="b")(lambda a, rng: np.nan if a < 0.3 else a)

    @node(name="c")
    def c(a, rng):
        if a >= 0.9:
            raise RuntimeError
        return a

    with pytest.raises(SimulationError) as caught:
        Graph(a, b, c).simulate(50)
    trace = int(np.argmax(Graph(a).simulate(50)["a"] >= 0.9))
    lines = str(caught.value).splitlines()
    assert lines[2] == f"  In trace {trace}, 'c' raised RuntimeError"
    assert lines[-1].endswith(f"start={trace}).")


def test_the_printed_line_reproduces_a_failure():
    graph = failing()
    u, _, _ = counts(graph, 50)
    first = int(np.argmax(u < 0.4))
    with pytest.raises(SimulationError, match=f"1 of 1 traces failed in node 'y'.*trace {first}, seed 0"):
        graph.simulate(1, seed=0, start=first)


def test_the_error_keeps_the_traces():
    graph = failing()
    u, _, _ = counts(graph, 50)
    with pytest.raises(SimulationError) as caught:
        graph.simulate(50)
    kept = caught.value.traces
    np.testing.assert_array_equal(kept["u"], u)
    np.testing.assert_array_equal(kept.present("y"), u >= 0.4)
    np.testing.assert_array_equal(kept.present("below"), u >= 0.4)
    assert kept.present("aside").all()
    np.testing.assert_array_equal(kept["y"][u >= 0.4], u[u >= 0.4])


def test_dropping_warns_and_leaves_complete_traces():
    graph = failing()
    u, raised, nan = counts(graph, 50)
    with pytest.warns(SamplingBiasWarning) as caught:
        traces = graph.simulate(50, on_failure="drop")
    assert str(caught[0].message).startswith(f"{raised + nan} of 50 traces failed in node 'y'")
    assert str(caught[0].message).endswith("\n  They were dropped: what is left follows the prior p(theta | success).")
    np.testing.assert_array_equal(traces["u"], u[u >= 0.4])
    assert all(traces.present(name).all() and np.isfinite(traces[name]).all() for name in traces)


def test_missing_keeps_what_is_above_and_aside():
    graph = failing()
    u, _, _ = counts(graph, 50)
    with pytest.warns(SamplingBiasWarning, match="Their values are missing"):
        traces = graph.simulate(50, on_failure="missing")
    assert traces.num_simulations == 50
    assert np.isnan(traces["y"][u < 0.4]).all()
    assert np.isnan(traces["below"][u < 0.4]).all()
    assert np.isfinite(traces["below"][u >= 0.4]).all()
    np.testing.assert_array_equal(traces["aside"], graph.prune("aside").simulate(50)["aside"])


def test_missing_whole_numbers_stay_whole():
    @node
    def y(u, rng):
        if u < 0.4:
            raise RuntimeError
        return 3

    graph = failing().replace(y, node(name="below")(lambda y: Normal(y.float(), 1.0)))
    with pytest.warns(SamplingBiasWarning):
        traces = graph.simulate(30, on_failure="missing")
    assert traces["y"].dtype == np.int64
    assert set(traces["y"][traces.present("y")]) == {3}
    assert not traces.present("y").all()


@pytest.mark.parametrize("policy", ["raise", "drop", "missing"])
def test_when_all_fail_there_is_nothing_to_keep(policy):
    y = node(name="y", shape=(2,))(lambda a, rng: [np.nan, 1.0])
    with pytest.raises(SimulationError) as caught:
        Graph(a, y, node(name="z")(lambda y: Normal(y, 1.0))).simulate(5, on_failure=policy)
    assert str(caught.value) == (
        "5 of 5 traces failed in node 'y' (5 x NaN); first: trace 0, seed 0.\n"
        "  No trace is left, so there is nothing to train on: mend the node first,\n"
        "  or reproduce one with graph.simulate(1, seed=0, start=0)."
    )
    assert caught.value.traces is None


def test_each_failing_node_has_its_line():
    y = node(name="y")(lambda u, rng: 1 / 0 if u < 0.3 else u)
    z = node(name="z")(lambda u, y, rng: np.inf if u > 0.7 else u)
    u = node(name="u")(lambda rng: rng.uniform())
    with pytest.raises(SimulationError) as caught:
        Graph(u, y, z).simulate(40)
    lines = str(caught.value).splitlines()
    assert re.fullmatch(r"\d+ of 40 traces failed in node 'y' \(\d+ x ZeroDivisionError\); first: .*", lines[0])
    assert re.fullmatch(r"\d+ of 40 traces failed in node 'z' \(\d+ x infinity\); first: .*", lines[1])


def test_one_element_fails_the_whole_trace():
    y = node(name="y", plates=p)(lambda rng: np.nan if rng.uniform() < 0.3 else 1.0)
    with pytest.warns(SamplingBiasWarning):
        traces = Graph(y).simulate(40, on_failure="missing")
    present = traces.present("y")
    assert (present.all(1) | ~present.any(1)).all()
    assert 0 < present.all(1).sum() < 40


PARAMETERS = {
    "negative scale": (lambda a: Normal(0.0, a), "scale of Normal violates"),
    "Uniform upside down": (lambda a: Uniform(0.0, a), "high of Uniform is not above low"),
    "negative rate": (lambda a: Poisson(a), "rate of Poisson violates"),
    "looped": (lambda a: Normal(0.0, a.item()), "ValueError"),
}


@pytest.mark.parametrize("law", PARAMETERS)
def test_invalid_parameters_are_failures_of_their_trace(law):
    function, reason = PARAMETERS[law]
    graph = Graph(a, node(name="x")(function))
    values = Graph(a).simulate(60)["a"]
    bad = int((values < 0).sum())
    with pytest.raises(SimulationError) as caught:
        graph.simulate(60)
    assert str(caught.value).startswith(f"{bad} of 60 traces failed in node 'x' ({bad} x {reason}")
    np.testing.assert_array_equal(caught.value.traces.present("x"), values > 0)


def test_what_only_some_traces_raise_is_a_failure_of_those():
    def function(a):
        return MultivariateNormal(torch.zeros(2), scale_tril=torch.linalg.cholesky(torch.eye(2) * a))

    values = Graph(a).simulate(60)["a"]
    with pytest.warns(SamplingBiasWarning, match="LinAlgError"):
        traces = Graph(a, node(name="x")(function)).simulate(60, on_failure="missing")
    np.testing.assert_array_equal(traces.present("x").all(1), values > 0)
    with pytest.warns(SamplingBiasWarning):
        part = Graph(a, node(name="x")(function)).simulate(20, on_failure="missing")
    np.testing.assert_array_equal(part["x"], traces["x"][:20])


def test_a_whole_block_that_fails_keeps_the_shapes_of_the_others():
    @deterministic
    def box(u):
        if u < 1024:
            raise RuntimeError
        return u

    number = iter(range(1030))
    u = node(name="u")(lambda rng: next(number))
    x = node(name="x")(lambda box: Normal(torch.ones(2) * float(box), 1.0))
    count = node(name="count", shape=(3,))(lambda box, rng: np.full(3, box))
    with pytest.warns(SamplingBiasWarning, match="1024 of 1030 traces failed in node 'box'"):
        traces = Graph(u, box, x, count).simulate(1030, on_failure="missing")
    assert (traces["x"].shape, traces["count"].shape) == ((1030, 2), (1030, 3))
    assert traces["count"].dtype == np.int64
    assert traces.present("x")[:, 0].sum() == 6


def test_interrupts_are_not_counted_as_failures():
    def stop(rng):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        Graph(node(name="x")(stop)).simulate(2)


@pytest.mark.slow
def test_mapped_nodes_cost_little_more_than_torch_by_hand():
    b = node(name="b")(lambda a: Normal(a, 1.0))
    c = node(name="c")(lambda b: Normal(b, 0.5))
    graph = Graph(a, b, c)

    def by_hand():
        first = Normal(0.0, 1.0).sample((100_000,))
        second = Normal(first, 1.0).sample()
        return Normal(second, 0.5).sample()

    def seconds(function):
        begin = time.perf_counter()
        function()
        return time.perf_counter() - begin

    def simulated():
        graph.simulate(100_000)

    for function in (by_hand, simulated, by_hand, simulated):
        function()
    ratios = [seconds(simulated) / seconds(by_hand) for _ in range(7)]
    assert statistics.median(ratios) < 4  # 2.9 to 3.4 on a quiet machine with two cores
