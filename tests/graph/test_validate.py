import pytest

from simgraph import Graph, deterministic, node, plate
from simgraph.errors import (
    CycleError,
    DeclarationError,
    DuplicateNameError,
    GraphError,
    InvalidGraphError,
    ReservedNameError,
    UnknownParentError,
)


def refused(source, error):
    """Runs source as if it stood in examples/model.py, and returns the message of its error."""
    code = compile(source, "examples/model.py", "exec")
    with pytest.raises(error) as caught:
        exec(code, {"node": node, "deterministic": deterministic, "plate": plate, "Graph": Graph})
    assert type(caught.value) is error
    return str(caught.value)


def chain(*edges):
    """Nodes a(b) for each pair "a<b"; a word alone is a root."""
    lines = [edge.partition("<") for edge in edges]
    body = "".join(f"@node\ndef {child}({parents}): pass\n" for child, _, parents in lines)
    return body + f"Graph({', '.join(child for child, _, _ in lines)})\n"


def test_unknown_parent():
    assert refused(chain("theta", "x<thetta"), UnknownParentError) == (
        "node 'x' asks for 'thetta', which is not in the graph.\n"
        "  declared at examples/model.py:3\n"
        "  Did you mean 'theta'? Known names: theta, rng, workdir, x.\n"
        "  A node of that name has to be handed over as well: Graph(..., thetta, x)."
    )


def test_a_function_that_does_not_name_its_index_is_told_how():
    body = "from simgraph import index\nt = index('t', 0, 1, num=3)\n@node\ndef f(t, rng): return t\nGraph(f)\n"
    assert refused(body, UnknownParentError).endswith(
        "Points are handed to functions of an index, as 't': @node(index=t)."
    )


def test_cycle_is_printed():
    assert refused(chain("c<b", "b<a", "a<c", "free"), CycleError) == (
        "nodes form a cycle: a -> b -> c -> a.\n"
        "  A simulator graph must be acyclic. For feedback in time, put the loop inside one node."
    )


def test_a_node_of_itself_is_a_cycle():
    assert refused(chain("x<x"), CycleError).startswith("nodes form a cycle: x -> x.\n")


def test_what_hangs_on_a_cycle_is_not_printed():
    message = refused(chain("root", "a<b,root", "b<a", "leaf<b"), CycleError)
    assert message.startswith("nodes form a cycle: a -> b -> a.\n")


def test_two_nodes_of_one_name():
    assert refused("@node\ndef x(): pass\ny = x\n@node\ndef x(): pass\nGraph(x, y)", DuplicateNameError) == (
        "two nodes are named 'x'.\n  declared at examples/model.py:4 and at examples/model.py:1\n"
        "  Names are unique in a graph; rename one, or use graph.replace(...)."
    )


def test_the_same_node_twice():
    assert refused("@node\ndef x(): pass\nGraph(x, x)", DuplicateNameError).startswith("two nodes are named 'x'.\n")


@pytest.mark.parametrize("name", ["rng", "workdir"])
def test_provided_names_are_reserved(name):
    assert refused(f"@node\ndef {name}(): pass\nGraph({name})", ReservedNameError) == (
        f"node '{name}' has a reserved name: it is a parameter that the library provides.\n"
        f"  declared at examples/model.py:1\n  Rename the function, for example to '{name}_'."
    )


@pytest.mark.parametrize("name", ["strict", "num_samples", "seed", "at", "exact", "sampler"])
def test_names_of_query_options_are_reserved(name):
    message = refused(f"@node\ndef {name}(): pass\nGraph({name})", ReservedNameError)
    assert message.startswith(f"node '{name}' has a reserved name: it is an option of queries.\n")


def test_a_plate_is_no_parent():
    source = "p = plate('p', 2)\n@node(plates=p)\ndef a(): pass\n@node(plates=p)\ndef b(a, p): pass\nGraph(a, b)"
    assert refused(source, ReservedNameError) == (
        "node 'b' asks for 'p', which is a plate.\n  declared at examples/model.py:4\n"
        "  Elements of a plate are exchangeable and have no number. For a constant of each element,"
        " declare a node in the plate with a prior, and give it in every query."
    )


def test_a_plate_has_one_size():
    source = "@node(plates=plate('p', 2))\ndef a(): pass\n@node(plates=plate('p', 3))\ndef b(a): pass\nGraph(a, b)"
    assert refused(source, DuplicateNameError) == (
        "plate 'p' has two sizes, 2 and 3.\n  declared at examples/model.py:3\n"
        "  Share one plate object between the nodes, or rename one plate."
    )


def test_a_node_is_not_named_like_a_plate():
    assert refused("@node(plates=plate('a', 2))\ndef a(): pass\nGraph(a)", DuplicateNameError) == (
        "node 'a' has the name of a plate.\n  declared at examples/model.py:1\n  Rename one of the two."
    )


def test_all_problems_are_reported_at_once():
    message = refused(chain("seed", "a<b,thetta", "b<a", "c<d", "d<c", "theta"), InvalidGraphError)
    assert [line for line in message.splitlines() if not line.startswith("  ")] == [
        "the graph has 4 problems.",
        "(1) ReservedNameError: node 'seed' has a reserved name: it is an option of queries.",
        "(2) UnknownParentError: node 'a' asks for 'thetta', which is not in the graph.",
        "(3) CycleError: nodes form a cycle: a -> b -> a.",
        "(4) CycleError: nodes form a cycle: c -> d -> c.",
    ]


def test_single_problems_can_be_caught_by_class():
    with pytest.raises(InvalidGraphError) as caught:
        exec(chain("x<u", "y<v"), {"node": node, "Graph": Graph})
    assert isinstance(caught.value, GraphError)
    assert [type(problem) for problem in caught.value.problems] == [UnknownParentError, UnknownParentError]


def test_a_plain_function_is_no_node():
    assert refused("def f(): pass\nf.__repr__\nGraph(3)", DeclarationError) == (
        "Graph(...) takes nodes, not 3.\n  Decorate the function with @node or @deterministic."
    )


def test_a_graph_is_no_node():
    @node
    def rate():
        raise AssertionError("never called")

    with pytest.raises(DeclarationError, match=r"not a Graph of rate.\n  To join graphs: one.include\(other\)"):
        Graph(Graph(rate))


def test_a_list_of_nodes_is_told_apart_from_a_plain_function():
    @node
    def rate():
        raise AssertionError("never called")

    with pytest.raises(DeclarationError, match=r"Hand the nodes over one by one: Graph\(rate\)"):
        Graph([rate])
