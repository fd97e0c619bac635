"""Function-valued variables in layouts and masks: a hidden slot stands for the whole function."""

import numpy as np
import pytest
import torch
from curves import smooth, straight
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.distributions import LogNormal, MultivariateNormal, Uniform

import simgraph as sg
from simgraph import Graph, index, node, plate
from simgraph.compile.functions import with_points
from simgraph.compile.masks import ABSENT, LATENT
from simgraph.errors import TracesError
from simgraph.testing import check_mask
from simgraph.train.conditions import Conditions, Pool
from simgraph.train.thinning import Thinning

t, u = index("t", 0, 1, num=(1, 3)), index("u", 0, 1, num=2)
group = plate("group", 2)


@node
def root(rng):
    return rng.normal()


@node(index=t)
def wave(root, t, rng):
    return root * t


@node
def reader(wave, rng):
    return wave(0.5)


@node(index=u)
def echo(wave, u, rng):
    return wave(u)


@node
def aside(root, rng):
    return root


@node(plates=group, index=t)
def each(root, t, rng):
    return root * t


@node(plates=group)
def total(each, rng):
    return each(0.1)


GRAPHS = {
    "called": Graph(root, wave, reader),
    "by a function": Graph(root, wave, echo, aside),
    "in a plate": Graph(root, each, total),
    "through an object": smooth,
    "uncalled": straight,
}


@pytest.fixture(scope="module", params=list(GRAPHS))
def compiled(request):
    return sg.compile(GRAPHS[request.param], GRAPHS[request.param].simulate(40, progress=False))


def test_masks_are_sound_tight_and_the_same_in_any_order(compiled):
    check_mask(compiled, num_queries=60, seed=1)


def test_planted_faults_show(compiled):
    from dataclasses import replace

    from simgraph.graph.dependence import Families

    families = compiled.rule.families
    cut = families.parents.clone()
    cut[:, len(compiled.layout) :] = False  # nothing follows from functions any more
    wrong = replace(compiled, rule=replace(compiled.rule, families=Families(families.members, cut)), graph=None)
    right = compiled.rule.edge_mask(torch.full((1, len(compiled.layout)), LATENT), 4)
    assert (wrong.rule.edge_mask(torch.full((1, len(compiled.layout)), LATENT), 4) != right).any()


def test_values_of_a_function_are_joined_through_it():
    compiled = sg.compile(GRAPHS["called"])
    mask = compiled.edge_mask(given=["reader"], of=["wave"])
    waves = compiled.layout.slots("wave")
    assert mask[waves, waves].all()
    assert mask[waves, compiled.layout.slots("reader")].all()
    assert not mask[waves, compiled.layout.slots("root")].any()  # marginalised
    both = compiled.edge_mask(given=["root", "reader"], of=["wave"])
    assert both[waves, compiled.layout.slots("root")].all()


def test_observed_values_do_not_screen_the_function_off():
    compiled = sg.compile(GRAPHS["called"])
    depends = compiled.dependencies(given=["wave"], of=["root", "reader"])
    root_slot, reader_slot = compiled.layout.slots("root").start, compiled.layout.slots("reader").start
    assert depends[root_slot, reader_slot]
    assert depends[reader_slot, root_slot]


def test_other_numbers_of_points_are_compiled_from_the_same_families():
    compiled = sg.compile(GRAPHS["by a function"])
    for numbers in ({"t": 1}, {"t": 2, "u": 2}, {"t": 7, "u": 5}):
        sized = compiled.sized(numbers)
        assert all(sized.layout.tokenizers["wave"].variable.plate_shape == (numbers["t"],) for _ in [0])
        again = with_points(sized.rule.families, sized.layout, sized.layout)
        joint = torch.full((1, len(sized.layout)), LATENT)
        assert torch.equal(
            sized.rule.edge_mask(joint, 4), type(sized.rule)(again, "relay", sized.layout.order).edge_mask(joint, 4)
        )
        check_mask(sized, num_queries=10)


def test_a_plate_and_an_index_are_sized_together():
    ragged = plate("ragged", size=(1, 3))

    @node(plates=ragged, index=t)
    def many(root, t, rng):
        return root * t

    compiled = sg.compile(Graph(root, many))
    sized = compiled.sized({"ragged": 2, "t": 4})
    assert sized.layout.tokenizers["many"].variable.shape == (2, 4)
    assert sized.layout.hidden == 2
    check_mask(sized, num_queries=10)


def test_places_are_points_of_the_range_between_minus_one_and_one():
    traces = straight.simulate(5, progress=False)
    compiled = sg.compile(straight, traces).fit(traces)
    tokens = compiled.layout.tokenize_traces(traces)
    assert tokens.places.shape == (5, 6, 1)
    assert (tokens.places[:, 0] == 0).all()
    exists = np.isfinite(traces["s"])
    assert torch.allclose(tokens.places[:, 1:, 0][exists].double(), torch.from_numpy(traces["s"][exists] / 5 - 1))
    assert tokens[:2].places.shape == (2, 6, 1)


def test_explain_and_lint_speak_of_functions():
    compiled = sg.compile(smooth)
    text = compiled.explain()
    assert "t (1..6,)" in text
    assert "a function of an index" in text
    assert [finding.rule for finding in compiled.lint()] == []


def test_traces_without_points_are_refused():
    traces = straight.simulate(5, progress=False)
    bare = sg.Traces({n: traces[n] for n in ("slope", "line")}, plates={"line": ["s"]}, sizes=traces.sizes)
    with pytest.raises(TracesError, match="points of the index 's'"):
        sg.compile(straight, bare)


@pytest.mark.parametrize("name", ["by a function", "uncalled", "through an object"])
def test_thinned_masks_are_those_of_thinned_states(name):
    graph = GRAPHS[name]
    traces = graph.simulate(60, progress=False)
    compiled = sg.compile(graph, traces)
    exists = compiled.fit(traces).layout.tokenize_traces(traces).exists
    conditions, generator = Conditions(compiled), torch.Generator().manual_seed(0)
    pool, thinning = Pool(conditions, compiled, 4, generator), Thinning(conditions, compiled, 4)
    assert thinning.elements(exists) is None
    for _ in range(20):
        states, masks = thinning(*pool.draw(60), exists, generator)
        assert (states[~exists] == ABSENT).all()
        assert (states == LATENT).any(1).all()
        assert torch.equal(masks, compiled.rule.edge_mask(states, 4))


@settings(max_examples=60, deadline=None)
@given(st.randoms(use_true_random=False))
def test_random_graphs_with_functions_have_sound_masks(random):
    nodes = []
    for number in range(random.randint(2, 5)):
        above = [one for one in nodes if random.random() < 0.5]
        parents = {f"p{i}": one.name for i, one in enumerate(above)}
        axis = random.choice([None, t, u])
        names = {**parents} if axis is None else {**parents, axis.name: axis.name}
        body = _body(list(names))
        declare = node(name=f"n{number}", parents=parents, **({} if axis is None else {"index": axis}))
        nodes.append(declare(body))
    compiled = sg.compile(Graph(*nodes), Graph(*nodes).simulate(2, progress=False))
    check_mask(compiled, num_queries=5, seed=random.randint(0, 1000))


def _body(names):
    """Returns a function of these parameters and rng: a number, or one number for each point."""
    arguments = ", ".join([*names, "rng"])
    shape = next((name for name in names if name in ("t", "u")), None)
    scope = {}
    exec(f"def f({arguments}): return rng.normal({f'size=len({shape})' if shape else ''})", scope)
    return scope["f"]


def test_bounds_that_move_are_dropped_and_others_kept():
    @node
    def most():
        return LogNormal(0.0, 1.0)

    @node(index=t)
    def under(most, t):
        return Uniform(torch.zeros(len(t)), most * torch.ones(len(t)))

    @node(index=t)
    def beside(t):
        return Uniform(0.0, t + 1.0)

    compiled = sg.compile(Graph(most, under, beside))
    for name in ("under", "beside"):
        support = compiled.layout.tokenizers[name].variable.support
        assert (support.low == 0).all()
        assert (support.high == np.inf).all()


def test_a_covariance_without_jitter_is_not_asked_at_repeated_points():
    @node(index=t)
    def rough(t):
        return MultivariateNormal(torch.zeros(len(t)), torch.exp(-(t[:, None] - t).abs()))

    assert len(sg.compile(Graph(rough)).layout) == 3


def test_thinning_keeps_masks_of_wide_components_sound():
    @node(shape=(70,), depends={"chain": sg.lagged(1)})
    def chain(wave, rng):
        return rng.normal(size=70)

    graph = Graph(root, wave, chain)
    traces = graph.simulate(20, progress=False)
    compiled = sg.compile(graph, traces)
    exists = compiled.fit(traces).layout.tokenize_traces(traces).exists
    states = torch.full((20, len(compiled.layout)), LATENT)
    thinning = Thinning(Conditions(compiled), compiled, 4)
    fewer, masks = thinning(states, compiled.rule.edge_mask(states, 4), exists, torch.Generator())
    assert torch.equal(masks, compiled.rule.edge_mask(fewer, 4))


def test_networks_are_told_the_elements_that_points_do_not_tell():
    t, u = index("t", 0, 1, num=(1, 3)), index("u", 0, 1, num=(1, 3))
    person = plate("person", 2)

    def line(name, index, **options):
        parents = {index.name: index.name}
        return node(name=name, index=index, parents=parents, **options)(lambda rng, **at: at[index.name])

    def joining(*nodes):
        return sg.compile(Graph(*nodes)).layout.joining

    assert joining(line("f", t), line("g", u)) == ()
    assert joining(line("f", t), line("g", t)) == ("t",)
    assert joining(line("f", t, plates=person)) == ("person", "t")
    assert joining(line("f", t), line("g", u, plates=person)) == ("person", "u")
