"""What nodes are drawn from: declared, traced and assumed links in their families."""

import numpy as np
import pytest
import torch
from torch.distributions import Independent, MultivariateNormal, Normal, constraints

import simgraph as sg
from simgraph import Graph, compile, deterministic, node, plate
from simgraph.errors import DeclarationError


def drawn_from(graph, name):
    """Families of a node's tokens by label: members -> parents."""
    compiled = compile(graph)
    layout = compiled.layout

    def named(row):
        return " ".join(layout.label(slot) for slot in row.nonzero().flatten().tolist())

    mine = compiled.families.members[:, layout.slots(name)].any(1)
    pairs = zip(compiled.families.members[mine], compiled.families.parents[mine], strict=True)
    return {named(members): named(parents) for members, parents in pairs}


def origins(graph):
    return {(link.child, link.parent): (link.origin, link.note) for link in compile(graph).links}


@node
def theta():
    return Normal(torch.zeros(3), 1.0)


BLACK_BOX = "a black box: only depends= can say more"


def test_a_black_box_is_one_family_of_everything():
    @node(shape=2)
    def x(theta, rng):
        return rng.normal(theta[:2])

    assert drawn_from(Graph(theta, x), "x") == {"x[0] x[1]": "theta[0] theta[1] theta[2]"}
    assert origins(Graph(theta, x))["x", "theta"] == ("assumed", BLACK_BOX)
    assert origins(Graph(theta, x))["x", "x"] == ("assumed", BLACK_BOX)


def test_elements_of_a_black_box_that_are_declared_independent():
    @node(shape=3, depends={"theta": "elementwise", "x": "independent"})
    def x(theta, rng):
        return rng.normal(theta)

    assert drawn_from(Graph(theta, x), "x") == {f"x[{i}]": f"theta[{i}]" for i in range(3)}
    assert origins(Graph(theta, x))["x", "theta"] == ("declared", "")
    assert origins(Graph(theta, x))["x", "x"] == ("declared", "")


def test_elements_that_share_their_noise_tell_of_what_reaches_earlier_ones():
    @node(shape=3, depends={"theta": "elementwise"})
    def x(theta, rng):
        return theta + rng.normal()

    assert drawn_from(Graph(theta, x), "x") == {
        "x[0]": "theta[0]",
        "x[1]": "theta[0] theta[1] x[0]",
        "x[2]": "theta[0] theta[1] theta[2] x[0] x[1]",
    }
    assert origins(Graph(theta, x))["x", "x"] == ("assumed", BLACK_BOX)


def test_one_link_for_all_elements_keeps_them_together():
    @node(shape=2, depends={"theta": lambda i, j: j == (0,)})
    def x(theta, rng):
        return rng.normal(theta[0], size=2)

    assert drawn_from(Graph(theta, x), "x") == {"x[0] x[1]": "theta[0]"}


def test_a_chain_inside_of_a_node():
    @node(shape=4, depends={"theta": lambda i, j: True, "x": sg.lagged(1)})
    def x(theta, rng):
        return np.cumsum(rng.normal(size=4)) + theta[0]

    everything = "theta[0] theta[1] theta[2]"
    assert drawn_from(Graph(theta, x), "x") == {
        "x[0]": everything,
        **{f"x[{i}]": f"{everything} x[{i - 1}]" for i in (1, 2, 3)},
    }


def test_what_is_not_declared_stays_full():
    @node
    def scale():
        return Normal(torch.zeros(2), 1.0)

    @node(shape=3, depends={"theta": "elementwise", "x": "independent"})
    def x(theta, scale, rng):
        return rng.normal(theta)

    assert drawn_from(Graph(theta, scale, x), "x") == {f"x[{i}]": f"theta[{i}] scale[0] scale[1]" for i in range(3)}


def test_links_inside_of_plates_speak_of_one_element():
    pair = plate("pair", 2)

    @node(plates=pair)
    def z():
        return Normal(torch.zeros(2), 1.0)

    @node(shape=2, plates=pair, depends={"z": "elementwise", "y": "independent"})
    def y(z, rng):
        return rng.normal(z)

    assert drawn_from(Graph(z, y), "y") == {f"y[{k}, {i}]": f"z[{k}, {i}]" for k in range(2) for i in range(2)}


def test_a_parent_from_another_plate_arrives_as_a_stack():
    @node(plates=plate("pair", 2))
    def z():
        return Normal(0.0, 1.0)

    @node(shape=2, depends={"z": "elementwise", "y": "independent"})
    def y(z, rng):
        return rng.normal(z)

    assert drawn_from(Graph(z, y), "y") == {"y[0]": "z[0]", "y[1]": "z[1]"}


def test_elements_of_a_deterministic_node_are_independent_given_its_parents():
    @deterministic(shape=2)
    def total(theta):
        return theta[:2] + theta[2]

    assert drawn_from(Graph(theta, total), "total") == {f"total[{i}]": "theta[0] theta[1] theta[2]" for i in range(2)}


def test_elements_that_share_a_token_stay_together():
    @deterministic(shape=3, support=constraints.simplex, depends={"theta": "elementwise"})
    def weights(theta):
        return np.exp(theta) / np.exp(theta).sum()

    assert drawn_from(Graph(theta, weights), "weights") == {"weights": "theta[0] theta[1] theta[2]"}


def test_a_function_that_cannot_be_traced_is_full_and_says_why():
    @node
    def x(theta):
        return Normal(theta if bool(theta[0] > 0) else -theta, 1.0)

    @deterministic
    def orbit(theta):
        return [theta]

    @node
    def y(orbit):
        return Normal(torch.as_tensor(orbit[0]).float(), 1.0)

    graph = Graph(theta, x, orbit, y)
    assert drawn_from(graph, "x") == {f"x[{i}]": "theta[0] theta[1] theta[2]" for i in range(3)}
    assert drawn_from(graph, "y")
    origin, note = origins(graph)["x", "theta"]
    assert origin == "assumed"
    assert "branch" in note
    assert origins(graph)["y", "theta"] == ("assumed", "it receives the object 'orbit'")


@pytest.mark.parametrize("vectorized", [False, True])
def test_what_is_drawn_around_an_object_is_independent_along_its_batch_shape(vectorized):
    orbit = deterministic(name="orbit", vectorized=vectorized)(lambda theta: theta + 1.0)
    y = node(name="y")(lambda orbit: Normal(torch.as_tensor(orbit).float(), 1.0))
    z = node(name="z")(lambda orbit: MultivariateNormal(torch.as_tensor(orbit).float(), torch.eye(3)))
    graph = Graph(theta, orbit, y, z)
    everything = "theta[0] theta[1] theta[2]"
    assert drawn_from(graph, "y") == {f"y[{i}]": everything for i in range(3)}
    assert origins(graph)["y", "y"] == ("declared", "by the batch shape of its distribution")
    assert drawn_from(graph, "z") == {"z[0] z[1] z[2]": everything}
    assert origins(graph)["z", "z"][0] == "assumed"


def test_a_declaration_helps_where_a_trace_cannot():
    @node(depends={"theta": "elementwise"})
    def x(theta):
        return Normal(theta if bool(theta[0] > 0) else -theta, 1.0)

    assert drawn_from(Graph(theta, x), "x") == {f"x[{i}]": f"theta[{i}]" for i in range(3)}


def test_a_link_of_the_wrong_shape_is_named_with_its_node():
    @node(shape=2, depends={"theta": "elementwise"})
    def x(theta, rng):
        return rng.normal(size=2)

    with pytest.raises(DeclarationError) as caught:
        compile(Graph(theta, x))
    assert str(caught.value).startswith(
        "depends= of node 'x': an element-wise link of shape (3,) to shape (2,): the parent cannot be broadcast"
    )


def test_elements_cannot_be_drawn_from_later_ones():
    @node(shape=3, depends={"x": sg.lagged(-1)})
    def x(theta, rng):
        return rng.normal(size=3)

    with pytest.raises(DeclarationError, match="elements of 'x' would be drawn from later ones of the same event"):
        compile(Graph(theta, x))


def test_vectors_meet_element_by_element():
    @node
    def x(theta):
        return Normal(theta, 0.5)

    @node
    def y(theta):
        return Independent(Normal(theta.flip(0), 0.5), 1)

    assert drawn_from(Graph(theta, x, y), "x") == {f"x[{i}]": f"theta[{i}]" for i in range(3)}
    assert drawn_from(Graph(theta, x, y), "y") == {f"y[{i}]": f"theta[{2 - i}]" for i in range(3)}
    assert origins(Graph(theta, x, y))["x", "theta"] == ("traced", "")


def test_tensors_of_a_deterministic_node_are_traced():
    @deterministic(shape=2, backend="torch")
    def pair(theta):
        return torch.stack([theta[0] + theta[1], theta[2]])

    assert drawn_from(Graph(theta, pair), "pair") == {"pair[0]": "theta[0] theta[1]", "pair[1]": "theta[2]"}


def test_explain_tells_where_links_come_from():
    @node
    def x(theta):
        return Normal(theta, 0.5)

    @node(shape=3, depends={"x": "elementwise", "y": "independent"})
    def y(x, rng):
        return rng.normal(x)

    @node
    def z(y, rng):
        return rng.normal(y.sum())

    text = compile(Graph(theta, x, y, z)).explain()
    rows = {tuple(line.split()[:5]) for line in text.splitlines()}
    assert ("x", "theta", "1", "of", "3") in rows
    assert any(line.split()[:2] == ["y", "x"] and line.rstrip().endswith("declared") for line in text.splitlines())
    assert any(line.split()[:3] == ["z", "y", "all"] and BLACK_BOX in line for line in text.splitlines())


def test_a_chain_of_4096_tokens_compiles_and_its_mask_is_sparse():
    size = 4096

    @node(shape=size, depends={"x": sg.lagged(1)})
    def x(rng):
        return np.cumsum(rng.normal(size=size))

    graph = Graph(x)
    compiled = compile(graph, graph.simulate(2, seed=0, progress=False))
    mask = compiled.edge_mask()
    assert int(mask.sum()) < 5 * size
    assert int(mask.sum()) < 0.5 * size * np.log2(size)


def test_declared_links_of_a_gaussian_keep_its_shared_noise():
    factor = torch.linalg.cholesky(torch.tensor([[1.0, 0.9, 0.0], [0.9, 1.0, 0.0], [0.0, 0.0, 1.0]]))

    @node(depends={"theta": "elementwise"})
    def x(theta):
        return MultivariateNormal(theta, scale_tril=factor)

    assert drawn_from(Graph(theta, x), "x") == {
        "x[0]": "theta[0]",
        "x[1]": "theta[0] theta[1] x[0]",
        "x[2]": "theta[0] theta[1] theta[2] x[0] x[1]",
    }
    depends = compile(Graph(theta, x)).dependencies(given=["x"])
    assert depends[0, 1]
    assert depends[1, 0]


def test_full_under_the_own_name_draws_elements_together():
    @node(shape=2, depends={"theta": "full", "x": "full"})
    def x(theta, rng):
        return rng.normal(size=2)

    everything = "theta[0] theta[1] theta[2]"
    assert drawn_from(Graph(theta, x), "x") == {"x[0]": everything, "x[1]": f"{everything} x[0]"}


def test_what_a_batch_shape_says_is_no_trace():
    @node
    def x(theta):
        return Normal(theta if bool(theta[0] > 0) else -theta, 1.0)

    assert origins(Graph(theta, x))["x", "x"] == ("declared", "by the batch shape of its distribution")

    @deterministic(shape=2)
    def total(theta):
        return theta[:2]

    assert origins(Graph(theta, total))["total", "total"] == ("declared", "a function of its parents")


def test_nodes_of_one_function_are_read_once(monkeypatch):
    calls = []

    def step(previous):
        calls.append(previous)
        return Normal(previous, 1.0)

    def chain(length):
        first = node(name="z0")(lambda: Normal(torch.zeros(2), 1.0))
        rest = [node(name=f"z{i}", parents={"previous": f"z{i - 1}"})(step) for i in range(1, length)]
        graph = Graph(first, *rest)
        traces = graph.simulate(4, seed=0, progress=False)
        calls.clear()
        links = compile(graph, traces).links
        assert {link.origin for link in links} == {"traced"}
        return sum(type(value).__name__ == "Traced" for value in calls)

    assert chain(3) == chain(6) == 1


@pytest.mark.parametrize(
    ("depends", "message"),
    [
        ("elementwise", "depends= of node 'x' is 'elementwise'; it maps parameters to links."),
        (["theta"], "depends= of node 'x' is ['theta']; it maps parameters to links."),
        (
            {"theta": lambda i, j: i - j},
            "depends= of node 'x': a link by a function fails at the indices (0,) and (0,)",
        ),
        ({"theta": sg.window(5, 7)}, "depends= of node 'x': the link of 'theta', window(5, 7), reaches no element"),
        ({"x": sg.window(-1, 1)}, "depends= of node 'x': elements of 'x' would be drawn from later ones"),
    ],
)
def test_declarations_that_make_no_sense_are_named_with_their_node(depends, message):
    def declared():
        @node(shape=3, depends=depends)
        def x(theta, rng):
            return rng.normal(theta)

        return Graph(theta, x)

    with pytest.raises(DeclarationError) as caught:
        compile(declared())
    assert str(caught.value).startswith(message)


def test_a_node_shows_its_declared_links():
    @node(shape=3, depends={"theta": "elementwise", "x": sg.lagged(1)})
    def x(theta, rng):
        return rng.normal(theta)

    assert "depends={'theta': Elementwise(), 'x': lagged(1)}" in repr(x)


def test_a_link_that_was_widened_says_so():
    @node(shape=3, depends={"theta": "elementwise"})
    def x(theta, rng):
        return theta + rng.normal()

    origin, note = origins(Graph(theta, x))["x", "theta"]
    assert (origin, note) == ("declared", "widened, since elements may share their noise: declare 'x' as well")


def test_objects_have_no_elements_to_link():
    @deterministic
    def orbit(theta):
        return [theta]

    @node(shape=3, depends={"orbit": "elementwise", "x": "independent"})
    def x(orbit, rng):
        return rng.normal(orbit[0])

    with pytest.raises(DeclarationError, match="depends= of node 'x': 'orbit' is an object without elements"):
        compile(Graph(theta, orbit, x))
