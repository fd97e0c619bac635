"""Families of tokens: which token is drawn from which."""

import torch
from torch.distributions import Independent, MultivariateNormal, Normal

from simgraph import Graph, compile, deterministic, node, plate


def drawn_from(graph):
    """Families by the labels of their tokens: a set of pairs (members, parents)."""
    compiled = compile(graph, graph.simulate(4, seed=0, progress=False))
    families, label = compiled.rule.families, compiled.layout.label

    def named(row):
        return frozenset(label(slot) for slot in row.nonzero().flatten().tolist())

    pairs = [(named(m), named(p)) for m, p in zip(families.members, families.parents, strict=True)]
    assert (families.members.sum(0) == 1).all(), "every token is a member of one family"
    assert len(set(pairs)) == len(pairs)
    return set(pairs)


def family(members, parents=""):
    return frozenset(members.split()), frozenset(parents.split())


@node
def mu():
    return Normal(0.0, 1.0)


def test_elements_of_a_shared_plate_are_aligned():
    school = plate("school", 2)

    @node(plates=school)
    def effect(mu):
        return Normal(mu, 1.0)

    @node(plates=school)
    def score(effect, mu):
        return Normal(effect + mu, 1.0)

    assert drawn_from(Graph(mu, effect, score)) == {
        family("mu"),
        family("effect[0]", "mu"),
        family("effect[1]", "mu"),
        family("score[0]", "mu effect[0]"),
        family("score[1]", "mu effect[1]"),
    }


def test_a_child_outside_of_a_plate_sees_all_of_it():
    @node(plates=plate("p", 2))
    def part():
        return Normal(0.0, 1.0)

    @node
    def total(part):
        return Normal(part.sum(), 1.0)

    assert drawn_from(Graph(part, total)) == {family("part[0]"), family("part[1]"), family("total", "part[0] part[1]")}


def test_crossed_plates_meet_in_their_own_row_and_column():
    row, column = plate("row", 2), plate("column", 2)

    @node(plates=row)
    def a():
        return Normal(0.0, 1.0)

    @node(plates=column)
    def b():
        return Normal(0.0, 1.0)

    @node(plates=(column, row))
    def x(a, b):
        return Normal(a + b, 1.0)

    @node(plates=row)
    def y(x):
        return Normal(x.sum(), 1.0)

    found = drawn_from(Graph(a, b, x, y))
    # The elements of x are (column, row).
    for i in range(2):
        for j in range(2):
            assert (frozenset({f"x[{j}, {i}]"}), frozenset({f"a[{i}]", f"b[{j}]"})) in found
        assert (frozenset({f"y[{i}]"}), frozenset({f"x[0, {i}]", f"x[1, {i}]"})) in found
    assert len(found) == 2 + 2 + 4 + 2


def test_an_opaque_node_hands_its_parents_on():
    @node
    def nu():
        return Normal(0.0, 1.0)

    @deterministic
    def first(mu):
        return [mu]

    @deterministic
    def second(first, nu):
        return {"first": first, "nu": nu}

    @node
    def x(second, rng):
        return rng.normal(second["nu"])

    assert drawn_from(Graph(mu, nu, first, second, x)) == {family("mu"), family("nu"), family("x", "mu nu")}


def test_an_opaque_node_inside_a_plate_keeps_elements_apart_and_one_outside_mixes_them():
    p = plate("p", 2)

    @node(plates=p)
    def z():
        return Normal(0.0, 1.0)

    @deterministic(plates=p)
    def inner(z):
        return [z]

    @deterministic
    def outer(z):
        return [z]

    @node(plates=p)
    def apart(inner, rng):
        return rng.normal(inner[0])

    @node(plates=p)
    def mixed(outer, rng):
        return rng.normal(outer[0].sum())

    @node(plates=p)
    def both(inner, outer, rng):
        return rng.normal(inner[0] + outer[0].sum())

    found = drawn_from(Graph(z, inner, outer, apart, mixed, both))
    for k in range(2):
        assert family(f"apart[{k}]", f"z[{k}]") in found
        assert family(f"mixed[{k}]", "z[0] z[1]") in found
        assert family(f"both[{k}]", "z[0] z[1]") in found


def test_a_deterministic_node_with_a_shape_is_a_token_of_its_own():
    @deterministic(shape=())
    def double(mu):
        return 2 * mu

    @node
    def x(double):
        return Normal(double, 1.0)

    assert drawn_from(Graph(mu, double, x)) == {family("mu"), family("double", "mu"), family("x", "double")}


def test_batch_axes_are_independent_and_event_axes_joint():
    @node
    def batch(mu):
        return Independent(Normal(mu * torch.ones(2), 1.0), 1)

    @node
    def event(mu):
        return MultivariateNormal(mu * torch.ones(2, 2), torch.eye(2))

    @node(shape=(2,))
    def black_box(mu, rng):
        return rng.normal(mu, size=2)

    assert drawn_from(Graph(mu, batch, event, black_box)) == {
        family("mu"),
        family("batch[0]", "mu"),
        family("batch[1]", "mu"),
        (frozenset({"event[0, 0]", "event[0, 1]"}), frozenset({"mu"})),
        (frozenset({"event[1, 0]", "event[1, 1]"}), frozenset({"mu"})),
        family("black_box[0] black_box[1]", "mu"),
    }


def slcp():
    pair = plate("pair", 4)

    @node
    def theta():
        return Normal(torch.zeros(5), 1.0)

    @node(plates=pair)
    def x(theta):
        scale = theta[2:4].square() + 0.1
        return MultivariateNormal(theta[:2], torch.diag(scale))

    return Graph(theta, x)


def test_pairs_of_points_are_joint_inside_and_independent_outside():
    compiled = compile(slcp())
    families = compiled.rule.families
    # The chain rule takes each pair apart: its first coordinate knows nothing of the second scale.
    assert families.members.shape == (5 + 8, 5 + 8)
    mask = compiled.edge_mask(given=["x"], of=["theta"])
    theta, x = slice(0, 4), compiled.layout.slots("x")
    assert mask[theta][:, theta].all()
    assert mask[theta][:, x].all()
    # Nothing uses the fifth parameter.
    assert mask[4].nonzero().flatten().tolist() == [4]
    # A pair reads its partner and the parameters, and no other pair.
    expected = torch.block_diag(*[torch.ones(2, 2)] * 4).bool()
    assert torch.equal(mask[x, x], expected)
    assert mask[x, theta].all()
    assert not compile(slcp(), observed="cached").edge_mask(given=["x"], of=["theta"])[x, theta].any()


def test_the_order_of_declaration_does_not_change_the_mask_by_name():
    @node
    def nu():
        return Normal(0.0, 1.0)

    @node(plates=plate("p", 2))
    def x(mu, nu):
        return Normal(mu + nu, 1.0)

    @node
    def y(x):
        return Normal(x.sum(), 1.0)

    def by_name(*nodes):
        compiled = compile(Graph(*nodes))
        mask = compiled.edge_mask(given=["x"], of=["mu", "nu", "y"])
        tokens = compiled.tokens
        return {(tokens[i], tokens[j]) for i, j in mask.nonzero().tolist()}

    assert by_name(mu, nu, x, y) == by_name(y, x, nu, mu) == by_name(x, nu, y, mu)
