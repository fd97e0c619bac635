"""Likely mistakes are found, with their mend, and nothing else is."""

import torch
from torch.distributions import Normal

import simgraph as sg
from simgraph import Graph, compile, deterministic, node, plate


@node
def theta():
    return Normal(torch.zeros(2), 1.0)


@node
def x(theta):
    return Normal(theta, 1.0)


def findings(*nodes, **options):
    return {(f.rule, f.message.splitlines()[0]) for f in compile(Graph(*nodes)).lint(**options)}


def test_a_plain_graph_has_no_findings():
    assert compile(Graph(theta, x)).lint() == []


def test_an_object_that_nothing_uses():
    @deterministic
    def orbit(theta):
        return object()

    found = compile(Graph(theta, x, orbit)).lint()
    assert [f.rule for f in found] == ["unused-node"]
    message = str(found[0])
    assert message.startswith(
        "[unused-node] nothing uses 'orbit', and as an object without shape= no query can name it."
    )
    assert "declared at " in message
    assert message.endswith("Let a node ask for it, give it shape=..., or leave it out.")


def test_a_variable_that_no_evidence_reaches():
    @node
    def alone():
        return Normal(0.0, 1.0)

    assert findings(theta, x, alone) == {
        ("unreachable", "'alone' is connected with no other variable, so no evidence ever tells anything about it.")
    }
    assert findings(alone) == set()


def test_a_parent_that_a_distribution_does_not_use():
    @node
    def y(theta, x):
        return Normal(theta, 1.0)

    assert findings(theta, x, y) == {
        ("unused-parent", "'y' asks for 'x', but none of its operations leads from it to the distribution.")
    }


def test_a_parent_that_a_simulator_does_not_use():
    @node(shape=2)
    def y(theta, x, rng):
        return rng.normal(x)

    message = "'y' did not move when 'theta' got other values, with the same random numbers, in 32 traces."
    assert findings(theta, x, y) == {("unused-parent", message)}


def test_a_parent_is_used_where_it_moves_some_traces_only():
    @node
    def y(theta, rng):
        return rng.normal() if theta[0] > 0 else 5.0 + theta[1]

    assert findings(theta, y) == set()


def test_constants_and_objects_are_no_unused_parents():
    @deterministic
    def orbit(theta):
        return theta

    @node
    def y(orbit, rng):
        return rng.normal(orbit[0])

    assert findings(theta, orbit, y) == set()
    assert compile(Graph(theta, x).do(theta=0.0)).lint() == []


def test_more_tokens_than_the_budget():
    @node(plates=plate("p", 300))
    def many(theta):
        return Normal(theta.sum() * torch.ones(2), 1.0)

    found = compile(Graph(theta, many)).lint()
    assert [f.rule for f in found] == ["token-budget"]
    assert found[0].message.startswith("602 tokens, of which many: 600, theta: 2; up to 512 are cheap")


def chain(length):
    nodes = [node(name="z0")(lambda: Normal(0.0, 1.0))]
    for step in range(1, length):
        nodes.append(
            node(name=f"z{step}", parents={"previous": f"z{step - 1}"})(lambda previous: Normal(previous, 1.0))
        )
    return Graph(*nodes)


def test_tokens_farther_apart_than_the_network_is_deep():
    found = compile(chain(8)).lint()
    assert {f.rule for f in found} == {"depth"}
    assert found[0].message.startswith("in the joint, tokens lie up to 7 hops apart, and the network has 6 layers:")
    assert found[0].message.endswith("Without shortcuts: Architecture(depth=7).")
    assert compile(chain(8)).lint(depth=7) == []


def test_a_loaded_model_is_linted_without_its_code(tmp_path):
    traces = chain(8).simulate(40, seed=0)
    model = sg.fit(
        chain(8), traces, preset=sg.Settings(steps=2, architecture=sg.Architecture(width=8, depth=2)), progress=False
    )
    model.save(tmp_path / "m.sg")
    assert {f.rule for f in sg.load(tmp_path / "m.sg").compiled.lint()} == {"depth"}


def test_a_long_chain_is_not_told_to_become_as_deep():
    found = compile(chain(40)).lint()
    assert [f.rule for f in found] == ["depth"]
    assert found[0].message.endswith("Nothing is wrong with that.")


def test_a_declared_link_that_leaves_out_what_moves_the_node():
    @node(shape=2, depends={"theta": "elementwise", "y": "independent"})
    def y(theta, rng):
        return rng.normal(theta.sum(), size=2)

    @node(depends={"theta": "elementwise"})
    def z(theta):
        return Normal(theta.sum() * torch.ones(2), 1.0)

    @node(shape=2, depends={"theta": "elementwise", "right": "independent"})
    def right(theta, rng):
        return rng.normal(theta)

    found = compile(Graph(theta, y, z, right)).lint()
    assert [f.rule for f in found] == ["contradicted-link"] * 2
    assert found[0].message.startswith("'y' declares that elements do not depend on theta[0], but they moved")
    assert "depends={'theta': ...}" in found[0].message
