import numpy as np
import pytest
import torch
from torch.distributions import Normal

from simgraph import Graph, deterministic, node, plate
from simgraph.errors import DeclarationError, DuplicateNameError, ShapeError, UnknownNameError, UnknownParentError

school = plate("school", 3)


@node
def mu():
    return Normal(0.0, 1.0)


@node(plates=school)
def effect(mu):
    return Normal(mu, 0.1)


@node(plates=school, shape=(2,))
def score(effect, rng):
    return effect + rng.normal(size=2)


@pytest.fixture
def graph():
    return Graph(mu, effect, score)


def test_do_cuts_the_edges_into_a_node_and_leaves_the_graph_alone(graph):
    changed = graph.do(effect=0.0)
    assert changed["effect"].parents == ()
    assert changed["score"].parents == ("effect",)
    assert graph["effect"].parents == ("mu",)
    assert list(changed) == list(graph)


def test_do_sets_values_in_every_trace(graph):
    traces = graph.do(effect=[1.0, 2.0, 3.0]).simulate(4)
    np.testing.assert_array_equal(traces["effect"], [[1.0, 2.0, 3.0]] * 4)
    assert abs(traces["score"].mean() - 2.0) < 6 / np.sqrt(24)
    traces["effect"][0] = 7.0  # a column of its own, not a view of one value
    assert traces["effect"][1, 0] == 1.0


def test_do_does_not_change_what_is_not_below(graph):
    np.testing.assert_array_equal(graph.simulate(5)["mu"], graph.do(effect=0.0).simulate(5)["mu"])


def test_do_keeps_the_random_numbers_of_what_is_below(graph):
    zero, one = graph.do(effect=0.0).simulate(5)["score"], graph.do(effect=1.0).simulate(5)["score"]
    np.testing.assert_allclose(one - zero, 1.0)


def test_do_broadcasts_to_plates_and_declared_shapes(graph):
    assert graph.do(score=1.0).simulate(2)["score"].shape == (2, 3, 2)
    assert graph.do(effect=1.0).simulate(2)["effect"].shape == (2, 3)
    np.testing.assert_array_equal(graph.do(score=[1.0, 2.0]).simulate(1)["score"][0], [[1.0, 2.0]] * 3)


def test_do_keeps_whole_numbers_whole():
    label = node(name="label")(lambda: torch.distributions.Categorical(torch.ones(3)))
    pick = node(name="pick")(lambda label: Normal(torch.tensor([0.0, 10.0, 20.0])[label], 0.1))
    traces = Graph(label, pick).do(label=2).simulate(5)
    assert traces["label"].dtype == np.int64
    np.testing.assert_allclose(traces["pick"], 20.0, atol=1.0)


def test_do_takes_a_copy_of_its_value(graph):
    value = np.zeros(3)
    changed = graph.do(effect=value)
    value += 1.0
    np.testing.assert_array_equal(changed.simulate(1)["effect"], np.zeros((1, 3)))


@pytest.mark.parametrize("value", [np.zeros(3), np.zeros((4, 2)), np.zeros((2, 3, 2))])
def test_do_refuses_wrong_shapes(graph, value):
    with pytest.raises(ShapeError) as caught:
        graph.do(score=value)
    assert str(caught.value) == f"do(score=...) has shape {value.shape}; node 'score' has (3, 2)."


def test_do_refuses_a_shape_that_misses_the_plate(graph):
    with pytest.raises(ShapeError, match=r"do\(effect=\.\.\.\) has shape \(2,\); node 'effect' has \(3,\)"):
        graph.do(effect=[1.0, 2.0])


@pytest.mark.parametrize("value", [np.nan, [0.0, np.inf, 0.0]])
def test_do_refuses_what_is_no_number(graph, value):
    with pytest.raises(DeclarationError, match=r"do\(effect=\.\.\.\) holds NaN or infinity"):
        graph.do(effect=value)
    with pytest.raises(DeclarationError, match=r"do\(effect=\.\.\.\) takes numbers, not 'high'"):
        graph.do(effect="high")


def test_do_refuses_unknown_names(graph):
    with pytest.raises(UnknownNameError, match="'efect' is not a node of this graph"):
        graph.do(efect=0.0)


def test_replace_swaps_a_node(graph):
    shifted = node(name="mu")(lambda: Normal(100.0, 1.0))
    changed = graph.replace(shifted)
    assert changed["mu"] is shifted
    assert graph["mu"] is mu
    assert list(changed) == list(graph)
    assert changed.simulate(5)["effect"].min() > 90


def test_replace_may_change_the_edges(graph):
    assert graph.replace(node(name="effect", plates=school)(lambda: Normal(0.0, 1.0))).roots == ("mu", "effect")
    with pytest.raises(UnknownParentError):
        graph.replace(node(name="effect", plates=school)(lambda nothing: Normal(nothing, 1.0)))


def test_replace_refuses_new_names_and_other_things(graph):
    with pytest.raises(UnknownNameError, match="Did you mean 'mu'"):
        graph.replace(node(name="muu")(lambda: Normal(0.0, 1.0)))
    with pytest.raises(DeclarationError, match=r"graph.replace\(...\) takes nodes, not 3"):
        graph.replace(3)


def test_include_adds_a_graph_under_a_prefix(graph):
    both = graph.include(graph, prefix="b_")
    assert list(both) == ["mu", "effect", "score", "b_mu", "b_effect", "b_score"]
    assert both["b_score"].parents == ("b_effect",)
    assert set(both.plates) == {"school", "b_school"}
    np.testing.assert_array_equal(both.simulate(3)["score"], graph.simulate(3)["score"])
    assert not np.array_equal(both.simulate(3)["b_mu"], both.simulate(3)["mu"])


def test_include_shares_nodes(graph):
    both = graph.include(graph, prefix="b_", share=("mu",))
    assert list(both) == ["mu", "effect", "score", "b_effect", "b_score"]
    assert both["b_effect"].parents == ("mu",)


def test_children_of_a_shared_plate_node_still_see_one_element(graph):
    both = graph.include(graph, prefix="b_", share=("mu", "effect"))
    traces = both.simulate(3)
    assert traces["b_score"].shape == (3, 3, 2)
    assert both["b_score"].plates == (school,)


def test_include_refuses_taken_and_unknown_names(graph):
    with pytest.raises(DuplicateNameError, match="two nodes are named 'mu'"):
        Graph(mu).include(Graph(mu))
    with pytest.raises(UnknownNameError, match="'nu' is not a node"):
        graph.include(graph, prefix="b_", share=("nu",))


def test_prune_keeps_ancestors_only(graph):
    assert list(graph.prune("effect")) == ["mu", "effect"]
    assert list(graph.prune("mu")) == ["mu"]
    np.testing.assert_array_equal(graph.prune("effect").simulate(3)["effect"], graph.simulate(3)["effect"])
    with pytest.raises(UnknownNameError):
        graph.prune("nu")


def test_an_opaque_node_can_be_cut_by_do():
    orbit = deterministic(name="orbit")(lambda mu: {"value": mu})
    seen = node(name="seen")(lambda mu, rng: mu)
    assert Graph(mu, orbit, seen).do(mu=1.5).simulate(2)["seen"].tolist() == [1.5, 1.5]
