import json

from torch.distributions import Normal

from simgraph import Graph, node, plate
from simgraph.graph.fingerprint import differences, fingerprint


@node
def mu():
    return Normal(0.0, 1.0)


@node
def x(mu):
    return Normal(mu, 1.0)


def changed(**replaced):
    nodes = {"mu": mu, "x": x, **replaced}
    return differences(fingerprint(Graph(mu, x)), Graph(*(n for n in nodes.values() if n is not None)))


def test_a_fingerprint_survives_json_and_the_order_of_nodes():
    stored = json.loads(json.dumps(fingerprint(Graph(mu, x))))
    assert differences(stored, Graph(x, mu)) == ([], [])


def test_missing_and_new_nodes_are_named():
    assert changed(x=None) == (["node 'x' is missing"], [])
    assert changed(y=node(name="y")(lambda mu: Normal(mu, 1.0))) == (["node 'y' is new"], [])


def test_other_source_alone_is_told_apart():
    other = node(name="x")(lambda mu: Normal(mu, 2.0))
    assert changed(x=other) == ([], ["x"])


def test_structure_is_described():
    other = node(name="x", shape=(2,), plates=plate("p", 3))(lambda rng: rng.normal(size=2))
    assert changed(x=other)[0] == [
        "kind of node 'x' was distribution, is simulator",
        "parents of node 'x' was ['mu'], is []",
        "plates of node 'x' was [], is [['p', 3]]",
        "shape of node 'x' was None, is [2]",
    ]


def test_indentation_is_no_difference():
    def build():
        @node
        def mu():
            return Normal(0.0, 1.0)

        return mu

    assert changed(mu=build()) == ([], [])


def test_constants_differ_by_their_values():
    graph = Graph(mu, x)
    assert differences(fingerprint(graph.do(mu=1.0)), graph.do(mu=1.0)) == ([], [])
    assert differences(fingerprint(graph.do(mu=1.0)), graph.do(mu=2.0)) == ([], ["mu"])
