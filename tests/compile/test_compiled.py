"""What a compiled graph answers by name."""

import numpy as np
import pytest
import torch
from samples import mixed, pair, plated

from simgraph import Graph, compile
from simgraph.compile.masks import ABSENT, LATENT, OBSERVED
from simgraph.errors import DeclarationError, QueryError, ShapeError, UnknownNameError


@pytest.fixture(scope="module")
def schools():
    return compile(plated())


def test_everything_not_given_is_latent_unless_names_are_asked_for(schools):
    assert schools.states().tolist() == [LATENT] * 7
    assert schools.states(given=["mu"]).tolist() == [OBSERVED] + [LATENT] * 6
    assert schools.states(given=["score"], of=["mu"]).tolist() == [LATENT] + [ABSENT] * 3 + [OBSERVED] * 3


def test_given_may_be_a_mask_over_elements(schools):
    states = schools.states(given={"score": [True, False, True]}, of=["mu"])
    assert states.tolist() == [LATENT] + [ABSENT] * 3 + [OBSERVED, ABSENT, OBSERVED]
    states = schools.states(given={"score": np.array([True, False, True])}, of=["score"])
    assert states.tolist() == [ABSENT] * 4 + [OBSERVED, LATENT, OBSERVED]


def test_node_objects_work_wherever_names_do():
    graph = pair()
    compiled = compile(graph)
    by_node = compiled.states(given=[graph["x"]], of=[graph["theta"]])
    assert torch.equal(by_node, compiled.states(given=["x"], of=["theta"]))


def test_dependencies_of_a_plate_given_its_mean_stay_in_the_element(schools):
    depends = schools.dependencies(given=["mu"])
    for k in range(3):
        assert depends[1 + k].nonzero().flatten().tolist() == [0, 1 + k, 4 + k]
    assert not depends[0].any()


def test_elements_of_a_plate_hear_of_one_another_without_their_mean(schools):
    depends = schools.dependencies(given=["score"], of=["effect"])
    assert depends[1:4, 1:].all()
    assert not depends[:, 0].any()


def test_a_mask_for_a_shallow_network_is_wider(schools):
    deep, shallow = schools.edge_mask(depth=4), schools.edge_mask(depth=1)
    assert torch.equal(schools.edge_mask(), deep)
    assert not deep[4, 5]
    assert shallow.all()


def test_the_cached_form_cuts_latents_from_observed_rows():
    relay, cached = (compile(pair(), observed=form).edge_mask(given=["x"]) for form in ("relay", "cached"))
    assert relay.tolist() == [[True, True], [True, True]]
    assert cached.tolist() == [[True, True], [False, True]]


def test_fitting_returns_a_new_object_and_leaves_the_old_one_unfitted():
    graph = pair()
    traces = graph.simulate(50, seed=0, progress=False)
    compiled = compile(graph, traces)
    fitted = compiled.fit(traces)
    assert not compiled.layout.tokenizers["x"].statistics
    assert fitted.layout.tokenizers["x"].statistics
    assert fitted.tokens == compiled.tokens
    assert fitted.graph is graph


def test_compiling_is_deterministic():
    first, second = compile(mixed()), compile(mixed())
    assert first.tokens == second.tokens
    assert torch.equal(first.rule.families.parents, second.rule.families.parents)


def test_explain_names_every_variable_and_support():
    text = compile(mixed()).explain()
    for word in ("weights", "simplex", "{0..2}", "(0, inf)", "(1, 2)", "energy[1]", "independent", "traced", "latent"):
        assert word in text


def test_repr_counts_tokens(schools):
    assert repr(schools) == "<Compiled graph with 7 tokens (mu: 1, effect: 3, score: 3), observed='relay'>"


def test_names_that_do_not_exist_are_errors_with_a_suggestion(schools):
    for wrong in ({"given": ["scor"]}, {"of": ["scor"]}, {"given": {"scor": [True] * 3}}):
        with pytest.raises(UnknownNameError, match="'scor' is not a variable of this model") as caught:
            schools.states(**wrong)
        assert "Did you mean 'score'" in str(caught.value)
    with pytest.raises(UnknownNameError, match="strings or node objects, not 3"):
        schools.states(given=[3])


def test_giving_and_asking_for_one_name_is_an_error(schools):
    with pytest.raises(QueryError, match="'mu' is both given and asked for"):
        schools.states(given=["mu"], of=["mu"])


def test_a_mask_of_another_shape_is_an_error(schools):
    with pytest.raises(ShapeError, match=r"the mask of 'score' has shape \(2,\); its values have \(3,\)"):
        schools.states(given={"score": [True, False]})


def test_compile_refuses_what_is_no_graph():
    with pytest.raises(DeclarationError, match="takes a Graph"):
        compile("graph")
    with pytest.raises(DeclarationError, match="observed='none' is not known"):
        compile(pair(), observed="none")
    with pytest.raises(DeclarationError, match="no variables"):
        compile(Graph())


def test_a_part_of_a_token_cannot_be_given():
    with pytest.raises(QueryError, match="the mask gives a part of 'weights', whose elements are one token"):
        compile(mixed()).states(given={"weights": [True, False, False]})


@pytest.mark.parametrize("depth", [0, -1, True, 2.5, "4"])
def test_depth_is_a_whole_number(schools, depth):
    with pytest.raises(QueryError, match="is not a whole number of 1 or more"):
        schools.edge_mask(depth=depth)
    with pytest.raises(QueryError, match="is not a whole number of 1 or more"):
        schools.lint(depth=depth)


def test_a_name_that_a_mask_gives_wholly_cannot_be_asked_for(schools):
    with pytest.raises(QueryError, match="'score' is both given and asked for"):
        schools.states(given={"score": [True] * 3}, of=["score"])


@pytest.mark.parametrize("values", [[0.0, 1.0, 0.5], 0.7, [1, 0, 1]])
def test_values_are_not_taken_for_a_mask(schools, values):
    with pytest.raises(QueryError, match=r"tells by True and False which elements are observed, and takes no values"):
        schools.edge_mask(given={"score": values})
