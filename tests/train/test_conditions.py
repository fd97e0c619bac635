"""The questions that training asks."""

import pytest
import torch
from curves import smooth
from samples import mixed, pair, plated
from torch.distributions import MultivariateNormal, Normal

from simgraph import Graph, compile, node
from simgraph.compile import masks as rules
from simgraph.compile.edges import EdgeList
from simgraph.compile.masks import ABSENT, LATENT, OBSERVED
from simgraph.train.conditions import Conditions, Pool

COUNT = 6000


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def share(states, of):
    """How often a state of all tokens occurs."""
    return float((states == torch.tensor(of)).all(1).float().mean())


def chain():
    @node
    def a():
        return Normal(0.0, 1.0)

    @node
    def b(a):
        return Normal(a, 1.0)

    @node
    def c(b):
        return Normal(b, 1.0)

    return Graph(a, b, c)


@pytest.mark.parametrize("graph", [pair(), plated(), mixed(), chain()])
def test_every_state_has_a_latent_token(graph):
    states = Conditions(compile(graph)).draw(COUNT, generator())
    assert set(states.unique().tolist()) == {ABSENT, LATENT, OBSERVED}
    assert (states == LATENT).any(1).all()


def test_even_a_single_token_is_always_latent():
    @node
    def a():
        return Normal(0.0, 1.0)

    assert (Conditions(compile(Graph(a))).draw(500, generator()) == LATENT).all()


def test_kinds_of_questions_come_in_equal_parts():
    states = Conditions(compile(chain())).draw(COUNT, generator())
    # One part in six each; of a kind, 1 - 0.25 (1 - 0.7^3) are asked whole. Random subsets add to the joint,
    # the posterior and the likelihood: 2 of 6 parts times about (0.7^3 + 0.3^3) / 2 and (0.7^2 0.3 + 0.3^2 0.7) / 2.
    whole = 1 - 0.25 * (1 - 0.7**3)
    tolerance = 4 * (0.2 * 0.8 / COUNT) ** 0.5
    joint = whole * (1 / 6 + 2 / 6 * (0.7**3 + 0.3**3) / 2)
    single = whole * (1 / 6 + 2 / 6 * (0.7**2 * 0.3 + 0.3**2 * 0.7) / 2)
    assert share(states, [LATENT, LATENT, LATENT]) == pytest.approx(joint, abs=tolerance)
    assert share(states, [LATENT, LATENT, OBSERVED]) == pytest.approx(single, abs=tolerance)
    assert share(states, [OBSERVED, LATENT, LATENT]) == pytest.approx(single, abs=tolerance)
    # The mechanism of c; dropping c or b from the joint, posterior or likelihood does not give it often.
    mechanism = float(((states == torch.tensor([ABSENT, OBSERVED, LATENT])).all(1)).float().mean())
    assert 0.9 * whole / 18 < mechanism < 1.6 / 18


def test_half_of_the_posteriors_ask_for_more_points_of_the_functions_that_are_seen():
    compiled = compile(smooth)
    states = Conditions(compiled)._posterior(COUNT, generator())
    slots = compiled.layout.slots("seen")
    held = (states[:, slots] == LATENT).float().mean(1)
    others = torch.ones(states.shape[1], dtype=torch.bool)
    others[slots] = False
    assert (states[:, others] == LATENT).all()
    # Of 5 points none is asked for in half of the rows, and with probability int (1 - u)^5 du = 1/6 in the others.
    assert float((held == 0).float().mean()) == pytest.approx(0.5 + 0.5 / 6, abs=4 * (0.25 / COUNT) ** 0.5)
    assert float(held.mean()) == pytest.approx(0.25, abs=0.02)


def test_mechanisms_are_a_variable_given_its_parents_with_all_else_absent():
    compiled = compile(plated())
    states = Conditions(compiled)._mechanism(300, generator())
    expected = {
        tuple(compiled.states(of=["mu"]).tolist()),
        tuple(compiled.states(given=["mu"], of=["effect"]).tolist()),
        tuple(compiled.states(given=["effect"], of=["score"]).tolist()),
    }
    assert set(map(tuple, states.tolist())) == expected


def test_posterior_and_likelihood_follow_the_leaves_and_roots_of_the_graph():
    conditions, compiled = Conditions(compile(plated())), compile(plated())
    posterior, likelihood = conditions._posterior(1, generator()), conditions._likelihood(1, generator())
    assert torch.equal(posterior[0], compiled.states(given=["score"]))
    assert torch.equal(likelihood[0], compiled.states(given=["mu"]))


def test_variables_are_observed_or_dropped_whole_in_some_states_and_by_element_in_others():
    conditions = Conditions(compile(plated(4)))
    states = conditions.draw(COUNT, generator())
    effect = states[:, 1:5]
    assert (effect == OBSERVED).all(1).float().mean() > 0.1
    for state in (OBSERVED, ABSENT):
        some = (effect == state).any(1) & ~(effect == state).all(1)
        assert some.float().mean() > 0.05
    whole = conditions._variables(500, generator())
    assert (whole[:, 1:5] == whole[:, [1]]).all()


def test_own_queries_are_asked_as_they_are_in_half_of_the_cases():
    compiled = compile(plated())
    queries = [compiled.states(given={"score": [True, True, False]}, of=["mu"]), compiled.states(of=["effect"])]
    states = Conditions(compiled, queries).draw(COUNT, generator())
    tolerance = 4 * (0.25 * 0.75 / COUNT) ** 0.5
    for query in queries:
        assert share(states, query.tolist()) == pytest.approx(0.25, abs=tolerance)


def test_states_follow_the_generator():
    conditions = Conditions(compile(plated()))
    draws = [conditions.draw(50, generator(seed)) for seed in (0, 0, 1)]
    assert torch.equal(draws[0], draws[1])
    assert not torch.equal(draws[0], draws[2])


def test_a_pool_hands_out_states_with_their_own_masks():
    compiled = compile(plated())
    pool = Pool(Conditions(compiled), compiled, depth=2, generator=generator())
    for _ in range(3):
        states, masks = pool.draw(20)
        assert torch.equal(masks, compiled.rule.edge_mask(states, 2))


def test_a_pool_is_renewed_and_keeps_within_its_memory():
    compiled = compile(plated())
    pool = Pool(Conditions(compiled), compiled, depth=2, generator=generator(), most_bytes=100 * 49)
    assert pool.size == 100
    pool.draw(10)
    first = pool.states
    pool.draw(10)
    assert pool.states is first
    for _ in range(pool._USES * pool.size // 50 + 1):
        pool.draw(50)
    assert pool.states is not first
    assert not torch.equal(pool.states, first)


def test_a_trace_that_lacks_a_variable_sits_out_the_questions_that_use_it():
    from torch.distributions import Normal

    from simgraph import Graph, node

    @node
    def a():
        return Normal(0.0, 1.0)

    @node
    def b(a):
        return Normal(torch.stack([a, a]), 1.0)

    conditions = Conditions(compile(Graph(a, b)))
    states = torch.tensor([[LATENT, OBSERVED, OBSERVED], [LATENT, ABSENT, ABSENT], [LATENT, OBSERVED, LATENT]])
    failed = torch.tensor([True, False, False])
    fitted = conditions.fitting(states, failed.expand(3, -1))
    assert fitted.tolist() == [[ABSENT] * 3, [LATENT, ABSENT, ABSENT], [ABSENT] * 3]
    partly = torch.tensor([True, True, False])
    assert conditions.fitting(states, partly.expand(3, -1))[0].tolist() == [LATENT, OBSERVED, ABSENT]


def test_a_variable_whose_elements_follow_one_another_is_a_leaf_all_the_same():
    @node
    def theta():
        return Normal(torch.zeros(2), 1.0)

    @node
    def x(theta):
        return MultivariateNormal(theta, torch.diag(theta.exp()))

    compiled = compile(Graph(theta, x))
    assert compiled.families.parents[:, compiled.layout.slots("x")].any()
    conditions = Conditions(compiled)
    assert conditions.roots.tolist() == [True, True, False, False]
    assert conditions.leaves.tolist() == [False, False, True, True]
    assert conditions.parents.tolist() == [[False] * 4, [True, True, False, False]]


def test_a_pool_hands_out_lists_where_masks_are_sparse(monkeypatch):
    monkeypatch.setattr(rules, "SHORT", 0)
    monkeypatch.setattr(rules, "SPARSE", 1.0)
    compiled = compile(plated())
    pool = Pool(Conditions(compiled), compiled, depth=2, generator=generator())
    states, masks = pool.draw(20)
    assert isinstance(masks, EdgeList)
    assert torch.equal(masks.dense(), compiled.rule.edge_mask(states, 2))
