"""Scores of traces are the slopes of their log density, and are there where that density is known and smooth."""

from functools import cache

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from samples import TINY, mixed, pair, plated
from schools import counted, schools
from torch.distributions import (
    Bernoulli,
    Beta,
    Categorical,
    Exponential,
    ExpTransform,
    Gamma,
    HalfCauchy,
    Independent,
    Laplace,
    MultivariateNormal,
    Normal,
    Poisson,
    TransformedDistribution,
    Uniform,
    VonMises,
)

from simgraph import Graph, Settings, SimgraphWarning, compile, deterministic, fit, node, plate
from simgraph.simformer import Architecture
from simgraph.simformer.control import Control
from simgraph.train.scores import Scores


def prepared(graph, count=2000, seed=0):
    """Returns traces, their tokens, the compiled graph, and what computes scores."""
    traces = graph.simulate(count, seed=seed, progress=False)
    compiled = compile(graph, traces).fit(traces)
    tokens = compiled.layout.tokenize_traces(traces, torch.Generator().manual_seed(0))
    found = Scores.of(compiled, traces, tokens)
    return traces, tokens.values, compiled, None if found is None else found[0]


def known(graph, count=500):
    """Returns the names of variables that have scores."""
    traces, values, compiled, scores = prepared(graph, count)
    if scores is None:
        return set()
    there = scores(traces, values)[..., 1].isfinite().any(0)
    return {compiled.layout.tokens[slot][0] for slot in there.nonzero().flatten().tolist()}


@node
def a():
    return Normal(0.0, 1.0)


def narrow():
    """A position in a box, a positive scale, and readings whose law depends on both."""
    reading = plate("reading", 2)

    @node
    def place():
        return Uniform(-torch.ones(2), 2 * torch.ones(2))

    @node
    def scale():
        return Gamma(3.0, 5.0)

    @node(plates=reading)
    def value(place, scale):
        return MultivariateNormal(place.sin(), scale_tril=torch.diag(torch.stack([scale, 0.3 + 0 * scale])))

    @node
    def hit(place):
        return Bernoulli(logits=3 * place[0])

    return Graph(place, scale, value, hit)


def test_scores_are_slopes_of_the_log_density_of_tokens():
    traces, values, compiled, scores = prepared(narrow())
    found = scores(traces[:20], values[:20]).double()
    layout, step = compiled.layout, 1e-4

    def density(tokens):
        numbers = {name: layout.detokenize(name, tokens[:, layout.slots(name)]) for name in layout.names}
        shapes = {name: (len(tokens), *layout.tokenizers[name].variable.shape) for name in layout.names}
        numbers = {name: numbers[name].reshape(shapes[name]) for name in numbers}
        scale = sum(layout.log_scale(name, numbers[name]).sum(1) for name in ("place", "scale", "value"))
        numbers["hit"] = torch.from_numpy(traces["hit"][: len(tokens)])
        return narrow_graph.log_prob({name: value.numpy() for name, value in numbers.items()}) - scale

    narrow_graph, tokens = compiled.graph, values[:20].double()
    for slot in range(7):
        ends = tokens.clone(), tokens.clone()
        ends[0][:, slot, 0] -= step
        ends[1][:, slot, 0] += step
        low, middle, high = density(ends[0]), density(tokens), density(ends[1])
        inside = (found[:, slot, 1] < 1e3).numpy()  # away from where the density falls to its edge
        assert inside.sum() > 5
        slope, curve = (high - low) / (2 * step), (high - 2 * middle + low) / step**2
        assert np.allclose(found[inside, slot, 0], slope[inside], rtol=1e-3, atol=1e-3)
        assert (found[inside, slot, 1] >= 0.99 * curve[inside].abs()).all()
    assert found[:, 7, 1].isinf().all()
    assert (found[:, 7, [0, 2]] == 0).all()


def test_the_precision_changes_as_it_says():
    traces, values, _, scores = prepared(narrow())
    few, step = traces[:50], 1e-4
    part = next(iter(scores.parts.values()))
    z, others = part.coordinates(values[:50]), scores._values(few, np.arange(50), ())
    found = part.local(z, others)[0]
    for column in range(z.shape[1]):
        moved = step * torch.eye(z.shape[1], dtype=torch.float64)[column]
        low, high = (part.local(z + sign * moved, others)[0][:, column, 1] for sign in (-1, 1))
        calm = found[:, column, 1] < 100
        assert torch.allclose(found[calm, column, 2], ((high - low) / (2 * step))[calm], rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("sigma", [0.1, 0.5, 2.0])
def test_what_they_add_has_mean_zero_at_every_noised_value(sigma):
    """Integrated over the law of a token given the others, for a law that is neither normal nor of one hump."""

    @node
    def b(a):
        return Normal(a.square() + a.sin(), 0.5)

    traces, values, _, scores = prepared(Graph(a, b))
    part, z = scores.parts[()], torch.linspace(-4, 4, 4001, dtype=torch.float64)
    for row in range(5):
        others = {name: value.expand(len(z)) for name, value in scores._values(traces, np.array([row]), ()).items()}
        tokens = torch.stack([z, values[row, 1, 0].double().expand(len(z))], 1)
        local, density, _ = part.local(tokens, others)
        g, precision, slope = local[:, 0].unbind(-1)
        factor = 1 / (1 + sigma**2 * precision)
        for seen in (-1.5, 0.0, 1.0):
            weight = (density - (z - seen).square() / (2 * sigma**2)).softmax(0)
            term = -(sigma**4) * slope * factor.square() + factor * (seen - z + sigma**2 * g)
            assert abs((weight * term).sum()) < 1e-6
            assert (weight * term.square()).sum() > 1e-6


@settings(max_examples=20)
@given(sigma=st.floats(0.01, 10.0), seed=st.integers(0, 10))
def test_what_they_add_to_targets_has_mean_zero(sigma, seed):
    values, local = narrow_scores()
    noise = torch.randn(values.shape[:2], generator=torch.Generator().manual_seed(seed))
    added = Control(100)(noise, torch.full((len(values),), sigma), local, torch.zeros(8, dtype=torch.long)).detach()
    seen = values[..., 0] + sigma * noise
    for test in (torch.ones_like(seen), seen, seen.square().clamp_max(9), seen.roll(1, 1), seen * seen.roll(2, 1)):
        moment = (added * test / (1 + sigma**2))[:, :7].double()
        assert (moment.mean(0).abs() < 6 * moment.std(0) / len(moment) ** 0.5).all()


@cache
def narrow_scores():
    """Returns tokens and their scores, the same for all examples."""
    traces, values, _, scores = prepared(narrow(), 20_000)
    return values, scores(traces, values)


def test_every_smooth_family_has_scores():
    @node
    def rate():
        return Gamma(2.0, 1.0)

    @node
    def share():
        return Beta(2.0, 3.0)

    @node
    def wait(rate):
        return Exponential(rate)

    @node
    def count(rate, share):
        return Poisson(rate * share)

    @node
    def both(share):
        return Independent(Normal(share * torch.ones(2), 1.0), 1)

    assert known(Graph(rate, share, wait, count, both)) == {"rate", "share", "wait", "both"}


def test_plates_have_scores_in_groups_of_independent_elements():
    traces, values, compiled, scores = prepared(plated())
    assert len(scores.parts[()].groups) == 2
    found = scores(traces, values)
    mu, effect, score = (torch.from_numpy(traces[name]).float() for name in ("mu", "effect", "score"))
    scale = torch.exp(-compiled.layout.log_scale("mu", traces["mu"][:1])).float()
    assert torch.allclose(found[:, 0, 0], scale[0, 0] * (-mu + (effect - mu[:, None]).sum(1)), atol=1e-3)
    assert torch.allclose(found[:, 4:, 0] / found[:1, 4:, 0], (effect - score) / (effect - score)[:1], rtol=1e-3)


@pytest.mark.parametrize("graph", [schools, counted])
def test_of_plates_that_vary_each_size_has_its_own(graph):
    traces, values, compiled, scores = prepared(graph, 1000)
    assert set(scores.parts) == {(2,), (3,), (4,), (5,)}
    found, exists = scores(traces, values), compiled.layout.within({"school": traces.sizes["school"]})
    assert (found[..., 1].isfinite() == exists).all()
    rows = np.flatnonzero(traces.sizes["school"] == 3)
    mu, effect = traces["mu"][rows], traces["effect"][rows, :3]
    scale = np.exp(-float(compiled.layout.log_scale("mu", traces["mu"][:1])))
    assert np.allclose(found[rows, 0, 0], scale * (-mu + (effect - mu[:, None]).sum(1)), atol=1e-3)


def test_densities_that_jump_have_none():
    @node
    def low():
        return Normal(0.0, 1.0)

    @node
    def place(low):
        return Uniform(low, low + 1)

    @node
    def cut():
        return Normal(0.0, 1.0)

    @node
    def past(cut):
        return Normal(torch.where(cut > 0.3, 1.0, 0.8), 1.0)

    @node
    def rounded():
        return Normal(0.0, 1.0)

    @node
    def near(rounded):
        return Normal(rounded.floor(), 1.0)

    assert known(Graph(low, place, cut, past, rounded, near)) == {"past", "near"}


def test_corners_that_a_precision_sees_have_none():
    @node
    def mu():
        return Laplace(0.0, 1.0)

    @node
    def x(mu):
        return Normal(mu, 1.0)

    @node
    def b(a):
        return Normal(a.relu(), 0.5)

    assert known(Graph(mu, x, a, b)) == {"x", "b"}


def stepping(gate, a):
    """The law of a child of ``a`` that steps in it where a gate is open, and follows it elsewhere."""
    return Normal(torch.where(gate, 2.0 * (a > 0), a), 0.5)


@node
def flag():
    return Bernoulli(0.01)


@node
def site():
    return Categorical(torch.ones(20))


@node
def events():
    return Poisson(1.0)


@node(shape=())
def failure(rng):
    return float(rng.random() < 0.01)


@node(shape=())
def wind(rng):
    return rng.exponential()


@node
def far():
    return Normal(0.0, 1.0)


@node
def wide():
    return Normal(0.0, 1.0)


@pytest.mark.parametrize(
    ("law", "conditions"),
    [
        (lambda flag, a: stepping(flag > 0.5, a), [flag]),
        (lambda site, a: stepping(site == 7, a), [site]),
        (lambda events, a: stepping(events >= 4, a), [events]),
        (lambda failure, a: stepping(failure > 0.5, a), [failure]),
        (lambda wind, a: stepping(wind > 4, a), [wind]),
        (lambda far, a: stepping(far > 2.8, a), [far]),
        (lambda far, a: stepping((far > 0.5) & (far < 0.6), a), [far]),
        (lambda far, wide, a: stepping((far > 1.3) & (wide > 1.3), a), [far, wide]),
    ],
)
def test_jumps_that_few_traces_show_are_found(law, conditions):
    law.__name__ = "child"
    assert known(Graph(*conditions, a, node(law)), 5000).isdisjoint({"a"})


def test_jumps_of_one_element_of_a_plate_are_found():
    item = plate("item", 20)

    @node(plates=item)
    def mark():
        return Bernoulli(0.003)

    @node(plates=item)
    def a():
        return Normal(0.0, 1.0)

    @node(plates=item)
    def b(mark, a):
        return stepping(mark > 0.5, a)

    assert known(Graph(mark, a, b)) == {"b"}


def test_jumps_behind_a_steep_slope_are_found():
    @node
    def y(a):
        return Normal(a.exp(), 0.1)

    @node
    def x(a):
        return Normal(torch.where(a > 0, 1.0, 0.0), 1.0)

    assert known(Graph(a, y, x), 5000) == {"y", "x"}


def test_ends_that_the_density_does_not_state_are_found():
    @node
    def k():
        return TransformedDistribution(Uniform(-3.0, 3.0), [ExpTransform()])

    @node
    def y(k):
        return Normal(k.log(), 0.05)

    assert known(Graph(k, y), 2000) == {"y"}


def test_large_densities_and_single_precision_are_no_jumps():
    design = torch.randn(50, 2, generator=torch.Generator().manual_seed(0))

    @node
    def scale():
        return HalfCauchy(1.0)

    @node
    def y(scale):
        return Normal(0.0, scale)

    @node
    def slope():
        return Normal(torch.zeros(2), 1.0)

    @node
    def reading(slope):
        return Normal(design @ slope.float(), 0.1)

    assert known(Graph(scale, y, slope, reading)) == {"scale", "y", "slope", "reading"}


def test_a_density_without_second_derivatives_costs_others_nothing():
    class Once(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            return x.clone()

        @staticmethod
        @torch.autograd.function.once_differentiable
        def backward(ctx, grad):
            return grad

    class Stiff(Normal):
        def log_prob(self, value):
            return super().log_prob(Once.apply(value))

    @node
    def b(a):
        return Normal(a, 1.0)

    @node
    def other():
        return Stiff(0.0, 1.0)

    assert known(Graph(a, b, other)) == {"a", "b"}


def test_tokens_that_only_some_traces_link_are_in_other_groups():
    @node
    def kind():
        return Categorical(torch.tensor([0.99, 0.01]))

    @node
    def c():
        return Normal(0.0, 1.0)

    @node
    def b(kind, a, c):
        return Normal(torch.where(kind == 1, a * c, a + c), 0.5)

    part = prepared(Graph(kind, a, c, b))[3].parts[()]
    for group in part.groups:
        assert group.sum() == 1


def test_slopes_that_miss_a_small_part_are_wrong():
    @node
    def sharp(a):
        return Normal(30 * a, 0.5)

    @node
    def blunt(a):
        return Normal(a.detach(), 1.0)

    assert known(Graph(a, sharp, blunt)) == {"sharp", "blunt"}


@pytest.mark.parametrize("concentration", [0.5, 4.0])
def test_angles_have_none(concentration):
    @node
    def angle():
        return VonMises(0.0, concentration)

    @node
    def x(angle):
        return Normal(angle.sin(), 2.0)

    assert known(Graph(angle, x)) == {"x"}


def test_children_of_constants_have_scores():
    @node
    def z():
        return Normal(0.0, 1.0)

    @node
    def a(z):
        return Normal(z, 1.0)

    @node
    def b(a, z):
        return Normal(a * z, 1.0)

    traces, values, compiled, scores = prepared(Graph(z, a, b).do(z=1.5))
    slots = {name: compiled.layout.slots(name).start for name in compiled.layout.names}
    first, second = (torch.from_numpy(traces[name]).float() for name in ("a", "b"))
    scale = float(torch.exp(-torch.as_tensor(compiled.layout.log_scale("a", traces["a"][:1]))))
    expected = scale * (1.5 * (second - 1.5 * first) - (first - 1.5))
    assert torch.allclose(scores(traces, values)[:, slots["a"], 0], expected, atol=1e-3)


def test_scores_that_would_take_too_long_are_left_out(monkeypatch):
    traces = pair().simulate(200, seed=0, progress=False)
    compiled = compile(pair(), traces).fit(traces)
    tokens = compiled.layout.tokenize_traces(traces, torch.Generator().manual_seed(0))
    assert Scores.of(compiled, traces, tokens, seconds=0.5) is None
    assert Scores.of(compiled, traces, tokens, seconds=1.0) is not None
    monkeypatch.setattr("simgraph.train.scores._PACE", 1e5)
    assert Scores.of(compiled, traces, tokens, seconds=1.0) is None


def test_a_token_without_a_slope_in_one_trace_is_lost_in_all():
    @node
    def b(a):
        return Normal(torch.where(a > 5, torch.nan, 1.0) * a, 1.0)

    traces, values, _, scores = prepared(Graph(a, b))
    assert scores(traces, values)[..., 1].isfinite().all()
    values[7, 0, 0] = 6.0
    assert scores(traces, values)[..., 1].isinf().all()
    assert scores(traces[:5], values[:5])[..., 1].isinf().all()


def test_black_boxes_and_functions_have_none_and_give_none():
    @node
    def b(a):
        return Normal(a, 1.0)

    @node(shape=())
    def box(b, rng):
        return b + rng.normal()

    @deterministic(shape=())
    def twice(a):
        return 2 * a

    @node
    def below(box):
        return Normal(box, 1.0)

    assert known(Graph(a, b, box, below)) == {"a", "below"}
    assert known(Graph(a, twice)) == set()


class Silent(Normal):
    """Draws that nobody can compute the density of."""

    def log_prob(self, value):
        raise NotImplementedError


@pytest.mark.parametrize(
    "law",
    [
        lambda a: Silent(a, 1.0),
        lambda a: Normal(a.detach(), 1.0),
        lambda a: Normal(float(a), 1.0),
        lambda a: Normal(1.0, 1.0) if a > 0 else Normal(-1.0, 1.0),
    ],
)
def test_what_cannot_be_differentiated_has_none_and_trains_as_before(law):
    @node
    def b(a):
        return law(a)

    assert "a" not in known(Graph(a, b))
    fit(Graph(a, b), num_simulations=200, preset=TINY, progress=False)


def test_categories_and_simplices_have_none():
    assert known(mixed()) == {"width", "energy"}


def test_traces_of_another_law_are_noticed():
    @node
    def theta():
        return Normal(0.0, 1.5)

    other = pair().replace(theta).simulate(2000, seed=0, progress=False)
    compiled = compile(pair(), other).fit(other)
    tokens = compiled.layout.tokenize_traces(other, torch.Generator().manual_seed(0))
    with pytest.warns(SimgraphWarning, match="do not follow the density that the graph states for theta;"):
        assert Scores.of(compiled, other, tokens) is None


@pytest.mark.parametrize("seed", range(5))
def test_traces_of_the_graph_are_not_doubted(seed):
    assert prepared(narrow(), 3000, seed)[3] is not None


def trained_error(scores, seed):
    """Returns how far posterior means and spreads are from right ones after a short training on few traces."""
    network = Architecture(width=16, depth=2, heads=2)
    few = Settings(steps=400, batch_size=64, architecture=network, scores=scores, evaluations=5)
    model = fit(pair(), num_simulations=150, seed=seed, preset=few, progress=False)
    x = np.linspace(-1.5, 1.5, 9)
    draws = model.given(x=x).sample("theta", num_samples=500, seed=0)
    mean, sd = draws.mean(1), draws.std(1)
    return float((mean - 0.8 * torch.from_numpy(x)).square().mean() + (sd - 0.2**0.5).square().mean())


@pytest.mark.slow
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_few_traces_teach_more_with_scores(seed):
    assert trained_error(True, seed) < 0.6 * trained_error(False, seed)


def test_only_joint_draws_have_scores(monkeypatch):
    graph, asked = pair(), []
    monkeypatch.setattr(Scores, "of", lambda *_: asked.append(True))
    traces = graph.simulate(200, seed=0, progress=False)
    fit(graph, traces, preset=TINY, progress=False)
    assert asked == [True]
    given = graph.simulate(given={"theta": np.linspace(-1, 1, 200)}, seed=0, progress=False)
    fit(graph, given, preset=TINY, progress=False)
    fit(graph, traces[:150], preset=TINY, progress=False)
    assert asked == [True]
