import pytest
from torch.distributions import Normal

from simgraph import Graph, deterministic, node, plate
from simgraph.errors import UnknownNameError


def normal(name, *parents):
    return node(name=name, parents={p: p for p in parents})(lambda **values: Normal(sum(values.values()) + 0.0, 1.0))


@pytest.fixture
def diamond():
    return Graph(normal("d", "b", "c"), normal("c", "a"), normal("b", "a"), normal("a"))


def test_a_graph_maps_names_to_nodes_as_declared(diamond):
    a = normal("a")
    assert Graph(a)["a"] is a
    assert list(diamond) == ["d", "c", "b", "a"]
    assert len(diamond) == 4
    assert "a" in diamond
    assert "z" not in diamond
    assert diamond.get("z") is None


def test_order_is_topological_with_ties_as_declared(diamond):
    assert diamond.order == ("a", "c", "b", "d")


def test_roots_leaves_children_ancestors(diamond):
    assert (diamond.roots, diamond.leaves) == (("a",), ("d",))
    assert diamond.children("a") == ("c", "b")
    assert diamond.children("d") == ()
    assert diamond.ancestors("d") == {"a", "b", "c"}
    assert diamond.ancestors("b", "c") == {"a"}
    assert diamond.ancestors("d", "b") == {"a", "b", "c"}
    assert diamond.ancestors() == set()


def test_variables_leave_out_opaque_nodes():
    orbit = deterministic(name="orbit")(lambda a: object())
    total = deterministic(name="total", shape=())(lambda a: a)
    assert Graph(normal("a"), orbit, total).variables == ("a", "total")


def test_plates_are_known_by_name():
    p, q = plate("p", 2), plate("q", 3)
    graph = Graph(node(name="a", plates=p)(lambda: 0), node(name="b", plates=[p, q])(lambda a: 0))
    assert graph.plates == {"p": p, "q": q}


@pytest.mark.parametrize(
    "ask", [lambda g: g["thetta"], lambda g: g.children("thetta"), lambda g: g.ancestors("thetta")]
)
def test_unknown_names_are_refused_with_a_suggestion(ask):
    with pytest.raises(UnknownNameError) as caught:
        ask(Graph(normal("theta"), normal("x", "theta")))
    assert str(caught.value) == (
        "'thetta' is not a node of this graph.\n  Did you mean 'theta'? Known names: theta, x."
    )


def test_nodes_are_reusable_and_graphs_do_not_touch_each_other():
    a, b = normal("a"), normal("b", "a")
    first, second = Graph(a, b), Graph(a)
    assert first["a"] is second["a"]
    assert first != second
    assert Graph(a) != Graph(a)
    assert len({first, second}) == 2


def test_a_graph_cannot_be_written_to(diamond):
    with pytest.raises(TypeError):
        diamond["e"] = normal("e")
