"""Elements that share a place in the sequence."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.distributions import Categorical, MultivariateNormal, Normal

import simgraph as sg
from simgraph import Graph, compile, node, plate
from simgraph.compile.masks import ABSENT, LATENT, OBSERVED
from simgraph.testing import check_mask
from tests.samples import TINY

A, L, O = ABSENT, LATENT, OBSERVED  # noqa: E741

spot = plate("spot", 3)


@node
def centre():
    return Normal(torch.zeros(2), 1.0)


@node(plates=spot)
def point(centre):
    return MultivariateNormal(centre, torch.tensor([[1.0, 0.5], [0.5, 1.0]]))


@node(shape=(3,))
def after(point, rng):
    return np.cumsum(point.sum(0))[[0, 1, 1]] + rng.normal(size=3)


@node(shape=(5,))
def long(centre, rng):
    return centre.sum() + rng.normal(size=5)


@node
def labels(centre):
    return Categorical(logits=torch.stack([centre, -centre]))


graph = Graph(centre, point, after, long, labels)
compiled = compile(graph)


def test_small_joint_events_share_a_place():
    at = {
        name: compiled.groups.of[compiled.layout.slots(name)].tolist()
        for name in ("centre", "point", "after", "long", "labels")
    }
    first = {name: places[0] for name, places in at.items()}
    # Independent elements, long events and categories stay by themselves.
    assert [place - first["centre"] for place in at["centre"]] == [0, 1]
    assert [place - first["point"] for place in at["point"]] == [0, 0, 1, 1, 2, 2]
    assert [place - first["after"] for place in at["after"]] == [0, 0, 0]
    assert [place - first["long"] for place in at["long"]] == [0, 1, 2, 3, 4]
    assert [place - first["labels"] for place in at["labels"]] == [0, 1]
    assert len(compiled.groups) == len(compiled.layout) - 5
    assert f"{len(compiled.layout)} tokens in {len(compiled.groups)} places" in repr(compiled)
    kinds = compiled.groups.kinds(compiled.layout)
    assert len(kinds[compiled.groups.of[compiled.layout.slots("point")]].unique()) == 1  # the plate shares it
    assert len(kinds.unique()) == int(kinds.max()) + 1 == 11


def test_what_is_known_of_a_law_decides():
    @node
    def walk():
        # Each step is drawn from the one before, and the third not from the first.
        noise = torch.tensor([[1.0, 0.5, 0.0], [0.5, 1.0, 0.5], [0.0, 0.5, 1.0]])
        return MultivariateNormal(torch.zeros(3), precision_matrix=noise)

    @node
    def apart():
        return Normal(torch.zeros(3), torch.ones(3))

    # How a Gaussian vector factorises is not read from its numbers: all of its elements are linked.
    assert compile(Graph(walk)).groups.of.tolist() == [0, 0, 0]
    assert compile(Graph(apart)).groups.trivial


@pytest.mark.parametrize(
    ("elements", "place"), [((O, O), O), ((A, A), A), ((L, L), L), ((O, L), L), ((O, A), L), ((L, A), L)]
)
def test_a_place_is_observed_or_absent_as_a_whole(elements, place):
    states = torch.full((2, len(compiled.layout)), A)
    states[1, compiled.layout.slots("point")] = torch.tensor([O, O, *elements, A, A])
    merged = compiled.groups.merged(states)
    at = compiled.groups.of[compiled.layout.slots("point")][::2]
    assert merged[1, at].tolist() == [O, place, A]
    assert (merged[0] == A).all()


def test_a_graph_without_small_joint_events_is_as_it_was():
    plain = compile(Graph(centre, long, labels))
    states = torch.randint(3, (4, len(plain.layout)), generator=torch.Generator().manual_seed(0))
    assert plain.groups.trivial
    assert plain.groups.merged(states) is states
    assert plain.placed is plain.rule


@given(st.integers(0, 2**32 - 1), st.floats(0, 1))
def test_sharing_a_place_hides_no_dependence(seed, mixing):
    generator = torch.Generator().manual_seed(seed)
    whole = torch.randint(3, (1, len(compiled.groups)), generator=generator)[:, compiled.groups.of]
    single = torch.randint(3, whole.shape, generator=generator)
    states = torch.where(torch.rand(whole.shape, generator=generator) < mixing, single, whole)
    merged, at = compiled.groups.merged(states), compiled.groups.of
    alone = compiled.rule.dependencies(states)[0]
    together = compiled.placed.dependencies(merged)[0][at][:, at]
    assert not (alone & ~together).any()
    if torch.equal(merged[:, at], states):  # no place is mixed, so nothing is given away either
        assert torch.equal(alone, together)


@pytest.mark.parametrize("observed", ["relay", "cached"])
def test_masks_of_places_are_sound_and_tight(observed):
    check_mask(compile(graph, observed=observed), num_queries=20)


def test_public_masks_are_those_of_the_network():
    mask = compiled.edge_mask(given={"point": np.array([[True, False], [True, True], [False, False]])})
    states = compiled.states(given={"point": np.array([[True, False], [True, True], [False, False]])})
    at = compiled.groups.of
    assert torch.equal(mask, compiled.place_masks(states[None], 4)[0][at][:, at])


def test_queries_of_parts_of_a_place():
    model = sg.fit(graph, num_simulations=300, preset=TINY, progress=False)
    point = np.full((3, 2), np.nan)
    point[0, 1], point[1] = 0.7, [0.1, -0.2]
    query = model.given(point=sg.missing(point))
    draws = query.sample("point", "after", num_samples=20, seed=0)
    assert (draws["point"][:, 0, 1] == 0.7).all()
    assert (draws["point"][:, 1] == torch.tensor([0.1, -0.2])).all()
    assert len(draws["point"][:, 0, 0].unique()) == 20
    # Elements that nobody gave or asked for are absent, and their stand-in values are not read.
    before = query.sample("after", num_samples=20, seed=0)
    piece = query.evidence["point"]
    piece.values[..., 0, 0], piece.values[..., 2, :] = 9.0, 9.0
    assert torch.equal(query.sample("after", num_samples=20, seed=0), before)
