import numpy as np
import pytest
from schools import counted, effect, mu, school, schools, score
from torch.distributions import Normal

from simgraph import Graph, node, plate
from simgraph.errors import DuplicateNameError
from simgraph.graph.ragged import largest, ragged_plates, sized, stacked

year = plate("year", 3)


def test_ragged_plates_are_found():
    assert ragged_plates(schools) == {"school": school}
    assert ragged_plates(Graph(mu)) == {}


def test_a_sized_graph_has_fixed_plates():
    three = sized(schools, {"school": 3})
    assert three.plates == {"school": plate("school", 3)}
    assert schools.plates == {"school": school}
    assert largest(schools).plates == {"school": plate("school", 5)}
    assert sized(schools, {}) is schools


def test_constants_lose_the_elements_beyond_the_size():
    fixed = sized(schools.do(effect=[1.0, 2.0, 3.0, 4.0, 5.0]), {"school": 2})
    np.testing.assert_array_equal(fixed["effect"].function(), [1.0, 2.0])
    np.testing.assert_array_equal(schools.do(effect=0.5)["effect"].function(), np.full(5, 0.5))


def test_what_receives_a_stack_is_told_by_its_plates():
    @node(plates=(school, year))
    def cell(effect, mu):
        return Normal(effect + mu, 1.0)

    @node(plates=year)
    def of_year(cell):
        return Normal(cell.mean(), 1.0)

    graph = Graph(mu, effect, score, cell, of_year)
    assert stacked(counted, "level") == ("school",)
    assert stacked(graph, "of_year") == ("school",)
    assert stacked(graph, "cell") == stacked(graph, "score") == stacked(graph, "mu") == ()


def test_drawings_show_the_range():
    assert "effect  distribution  mu       school=2..5 × (from the distribution)" in repr(schools)
    assert "subgraph school_2_to_5 [school_2_to_5]" in schools.draw()
    assert 'label="school_2_to_5"' in schools.draw("graphviz")


def test_one_plate_has_one_range():
    @node(plates=plate("school", 5))
    def other(mu):
        return Normal(mu, 1.0)

    with pytest.raises(DuplicateNameError, match=r"plate 'school' has two sizes, \(2, 5\) and 5\."):
        Graph(mu, effect, other)


def test_a_prefix_renames_a_ragged_plate():
    assert schools.include(schools, prefix="b_").plates["b_school"] == plate("b_school", size=(2, 5))
