"""Dependency sets against d-separation (MASKS.md, section 8)."""

import networkx as nx
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from strategies import Question, laws, questions, rows, single_families

from simgraph.compile.masks import ABSENT, LATENT, OBSERVED
from simgraph.graph.dependence import Families, closure, compose, dependencies, project


def depends(question):
    present, observed = question.states != ABSENT, question.states == OBSERVED
    adjacency = project(question.families, present[None])
    return dependencies(adjacency, observed[None], present[None])[1][0]


def adjacency(question):
    return project(question.families, (question.states != ABSENT)[None])[0]


def question_of(edges, states):
    dag = nx.DiGraph()
    dag.add_nodes_from(range(len(states)))
    dag.add_edges_from(edges)
    return Question(single_families(dag), dag, torch.tensor(states))


@given(st.integers(1, 9), st.integers(0, 2**32 - 1))
def test_closure_is_reachability(size, seed):
    relation = torch.rand(size, size, generator=torch.Generator().manual_seed(seed)) < 1.2 / size
    graph = nx.from_numpy_array(relation.numpy(), create_using=nx.DiGraph)
    expected = {i: nx.descendants(graph, i) | {i} for i in range(size)}
    assert rows(closure(relation), range(size)) == expected


def test_closure_of_a_long_chain_reaches_its_end():
    for size in (2, 3, 5, 6, 17, 33):
        chain = torch.diag(torch.ones(size - 1), 1).bool()
        assert torch.equal(closure(chain), torch.ones(size, size).triu().bool())


def test_compose_is_the_product_of_relations():
    generator = torch.Generator().manual_seed(0)
    first, second = torch.rand(4, 6, generator=generator) < 0.3, torch.rand(6, 5, generator=generator) < 0.3
    expected = [[any(first[i, j] and second[j, k] for j in range(6)) for k in range(5)] for i in range(4)]
    assert compose(first, second).tolist() == expected


@settings(max_examples=100)
@given(questions())
def test_dependency_sets_are_d_connection_in_the_noisy_graph(question):
    assert rows(depends(question), question.latent) == question.depends()


@settings(max_examples=100)
@given(questions())
def test_projected_graph_joins_what_all_other_present_tokens_leave_dependent(question):
    found = rows(adjacency(question), question.tokens)
    assert found == {i: question.blanket(i) if i in question.present else set() for i in question.tokens}


@given(questions(), st.randoms(use_true_random=False))
def test_projection_equals_eliminating_absent_tokens_in_any_order(question, random):
    ancestral = question.present.union(*(nx.ancestors(question.dag, i) for i in question.present))
    # Tokens of one family are drawn together, which joins no more than the family itself.
    moral = nx.moral_graph(question.dag.subgraph(ancestral))
    dropped = sorted(ancestral - question.present)
    random.shuffle(dropped)
    for token in dropped:
        around = list(moral.neighbors(token))
        moral.add_edges_from((a, b) for a in around for b in around if a != b)
        moral.remove_node(token)
    expected = {i: set(moral[i]) if i in moral else set() for i in question.tokens}
    assert rows(adjacency(question), question.tokens) == expected


@given(questions())
def test_latent_dependence_is_the_transitive_closure_of_d_connection_given_the_observed(question):
    latent = nx.Graph()
    latent.add_nodes_from(question.latent)
    latent.add_edges_from(
        (i, j)
        for i in question.latent
        for j in question.latent
        if i < j and not nx.is_d_separator(question.dag, {i}, {j}, question.observed)
    )
    found = rows(depends(question), question.latent)
    for component in nx.connected_components(latent):
        for i in component:
            assert found[i] & question.latent == component


@given(questions())
def test_observed_dependence_is_d_connection_of_the_component(question):
    for i, found in rows(depends(question), question.latent).items():
        for o in question.observed:
            apart = nx.is_d_separator(question.dag, found & question.latent, {o}, question.observed - {o})
            assert (o in found) == (not apart), i


@given(questions(joint=False), st.integers(0, 2**32 - 1))
def test_dependency_sets_are_the_support_of_a_linear_gaussian_score(question, seed):
    random = np.random.default_rng(seed)
    size = len(question.states)
    weights = np.zeros((size, size))
    for i, j in question.dag.edges:
        weights[j, i] = random.uniform(0.5, 1.5) * random.choice([-1, 1])
    root = np.linalg.inv(np.eye(size) - weights)
    covariance = root @ np.diag(random.uniform(0.5, 2.0, size)) @ root.T
    noisy = covariance + np.diag([0.7 * (i in question.latent) for i in range(size)])
    kept = sorted(question.present)
    precision = np.linalg.inv(noisy[np.ix_(kept, kept)])
    found = rows(depends(question), question.latent)
    for row, i in enumerate(kept):
        if i in question.latent:
            assert {kept[k] for k in np.flatnonzero(np.abs(precision[row]) > 1e-10)} == found[i]


@given(questions())
def test_without_observed_and_absent_tokens_dependence_is_connection(question):
    joint = Question(question.families, question.dag, torch.full_like(question.states, LATENT))
    components = nx.connected_components(question.dag.to_undirected())
    expected = {i: set(component) for component in components for i in component}
    assert rows(depends(joint), joint.tokens) == expected


@given(questions(), st.data())
def test_absent_sinks_change_nothing(question, data):
    size = len(question.states)
    above = data.draw(st.sets(st.sampled_from(range(size))))
    old = question.families
    members = torch.zeros(len(old.members) + 1, size + 1, dtype=torch.bool)
    parents = torch.zeros_like(members)
    members[:-1, :-1], parents[:-1, :-1] = old.members, old.parents
    members[-1, -1] = True
    parents[-1, sorted(above)] = True
    grown = Question(Families(members, parents), question.dag, torch.cat([question.states, torch.tensor([ABSENT])]))
    assert torch.equal(adjacency(grown)[:-1, :-1], adjacency(question))
    assert not adjacency(grown)[-1].any()


@given(questions(joint=False), st.data())
def test_another_edge_never_shrinks_a_dependency_set(question, data):
    order = list(nx.topological_sort(question.dag))
    pairs = [(a, b) for k, b in enumerate(order) for a in order[:k] if not question.dag.has_edge(a, b)]
    if not pairs:
        return
    dag = question.dag.copy()
    dag.add_edge(*data.draw(st.sampled_from(pairs)))
    grown = Question(single_families(dag), dag, question.states)
    assert not (depends(question) & ~depends(grown)).any()


@given(questions(), st.data())
def test_observing_or_dropping_a_latent_never_enlarges_a_dependency_set(question, data):
    if not question.latent:
        return
    token = data.draw(st.sampled_from(sorted(question.latent)))
    before = depends(question)
    for state in (OBSERVED, ABSENT):
        states = question.states.clone()
        states[token] = state
        after = depends(Question(question.families, question.dag, states))
        assert not (after & ~before).any()
        assert state == OBSERVED or not after[:, token].any()


@given(laws(6), st.lists(st.lists(st.integers(0, 2), min_size=6, max_size=6), min_size=1, max_size=5))
def test_a_batch_of_queries_equals_single_queries(law, states):
    families, dag = law
    batch = torch.tensor(states)[:, : len(dag)]
    present, observed = batch != ABSENT, batch == OBSERVED
    together = dependencies(project(families, present), observed, present)
    for row, single in enumerate(batch):
        question = Question(families, dag, single)
        assert torch.equal(together[1][row], depends(question))
        component = together[0][row]
        assert torch.equal(component, component.T)


@pytest.mark.parametrize("state", [OBSERVED, LATENT, ABSENT])
@pytest.mark.parametrize("below", [OBSERVED, LATENT, ABSENT])
def test_a_collider_joins_its_parents_iff_it_or_a_descendant_is_present(state, below):
    question = question_of([(0, 2), (1, 2), (2, 3)], [LATENT, LATENT, state, below])
    joined = state != ABSENT or below != ABSENT
    assert bool(depends(question)[0, 1]) == joined


def test_an_observed_link_of_a_chain_separates_its_ends():
    question = question_of([(0, 1), (1, 2)], [LATENT, OBSERVED, LATENT])
    assert rows(depends(question), [0, 2]) == {0: {0, 1}, 2: {1, 2}}


def test_an_absent_link_of_a_chain_joins_its_ends():
    question = question_of([(0, 1), (1, 2)], [LATENT, ABSENT, OBSERVED])
    assert rows(depends(question), [0]) == {0: {0, 2}}
