import functools

import numpy as np
import pytest
import torch
from torch.distributions import Normal, constraints

from simgraph import deterministic, node, plate
from simgraph.dsl import Node
from simgraph.errors import DeclarationError


def declared(source):
    """Runs source as if it stood in examples/model.py, and returns the message of the error it raises."""
    code = compile(source, "examples/model.py", "exec")
    with pytest.raises(DeclarationError) as caught:
        exec(code, {"node": node, "deterministic": deterministic, "plate": plate, "constraints": constraints})
    return str(caught.value)


def test_the_name_is_the_variable_and_the_parameters_are_its_parents():
    @node
    def x(theta, tau=2.0):
        return Normal(theta, tau)

    assert (x.name, x.parents, x.kind, x.shape) == ("x", ("theta",), "distribution", None)


def test_rng_makes_a_simulator_of_scalar_shape():
    @node
    def x(theta, rng):
        return rng.normal(theta)

    assert (x.kind, x.shape, x.parents, x.is_opaque) == ("simulator", (), ("theta",), False)


def test_deterministic_is_opaque_only_without_a_shape():
    assert deterministic(name="b")(lambda a: a).is_opaque
    assert not deterministic(name="b", shape=())(lambda a: a).is_opaque


@pytest.mark.parametrize(
    ("given", "shape"), [(3, (3,)), ((2, 3), (2, 3)), ([2], (2,)), (torch.Size([4]), (4,)), ((), ())]
)
def test_shapes_are_written_in_several_ways(given, shape):
    assert node(name="x", shape=given)(lambda rng: 0).shape == shape


def test_nodes_stay_callable():
    @node(shape=(2,))
    def x(theta, rng):
        return theta + rng

    assert x(1, 2) == 3
    assert x(theta=1, rng=5) == 6


def test_loops_name_nodes_and_map_parents():
    step = lambda previous: Normal(previous, 1.0)  # noqa: E731
    chain = [node(name=f"z{i}", parents={"previous": f"z{i - 1}"})(step) for i in (1, 2)]
    assert [(z.name, z.parents) for z in chain] == [("z1", ("z0",)), ("z2", ("z1",))]


def test_partials_need_a_name_and_work_with_one():
    function = functools.partial(lambda a, k: Normal(a, k), k=2.0)
    assert node(name="b")(function).parents == ("a",)
    with pytest.raises(DeclarationError, match="a node needs a name that is a Python identifier"):
        node(function)


def test_one_parent_in_two_parameters_is_one_parent():
    assert node(name="x", parents={"a": "z", "b": "z"})(lambda a, b: None).parents == ("z",)


def test_renaming_leaves_the_original_alone():
    x = node(name="x")(lambda theta: Normal(theta, 1.0))
    renamed = x.renamed({"x": "y", "theta": "mu"})
    assert (renamed.name, renamed.parents, x.name, x.parents) == ("y", ("mu",), "x", ("theta",))


def test_repr_tells_what_matters():
    x = node(name="x", shape=2, plates=plate("p", 3))(lambda theta, rng: 0)
    assert repr(x) == "<node x(theta) simulator shape=(2,) plates=p>"


def test_where_is_file_and_line():
    space = {"node": node}
    exec(compile("\n@node\ndef x(rng):\n    return 0\n", "examples/model.py", "exec"), space)
    assert space["x"].where == "examples/model.py:2"


@pytest.mark.parametrize(
    ("option", "value"),
    [("shape", "(2,)"), ("support", "constraints.positive"), ("vectorized", "True"), ("backend", "'torch'")],
)
def test_options_of_simulators_are_refused_on_distributions(option, value):
    assert declared(f"@node({option}={value})\ndef x(theta):\n    pass\n") == (
        f"node 'x' has no rng parameter, so it returns a distribution, and {option}= follows from that.\n"
        "  declared at examples/model.py:1\n"
        f"  Remove {option}=, or add the parameter rng if the function draws its value itself."
    )


def test_deterministic_refuses_rng():
    assert declared("@deterministic\ndef x(rng):\n    pass\n") == (
        "deterministic node 'x' takes rng.\n  declared at examples/model.py:1\n"
        "  Use @node for a function that draws random numbers."
    )


@pytest.mark.parametrize("option", ["support=constraints.positive", "depends={'a': 'full'}"])
def test_deterministic_options_need_a_shape(option):
    assert declared(f"@deterministic({option})\ndef x(a):\n    pass\n") == (
        "deterministic node 'x' needs shape= when support=, index=, tokenizer= or depends= is set.\n"
        "  declared at examples/model.py:1"
    )


@pytest.mark.parametrize("shape", ["0", "-1", "(2, 0)", "True", "(1.5,)", "2.0", "'ab'"])
def test_bad_shapes_are_refused(shape):
    assert declared(f"@node(shape={shape})\ndef x(rng):\n    pass\n") == (
        f"shape={shape} is no event shape; each size is a whole number of 1 or more.\n"
        "  declared at examples/model.py:1\n  Use shape=() for a scalar, shape=(3,) for a vector."
    )


@pytest.mark.parametrize(("plates", "shown"), [("3", "3"), ("'school'", "'school'"), ("[plate('a', 2), 7]", "7")])
def test_bad_plates_are_refused(plates, shown):
    assert declared(f"@node(plates={plates})\ndef x(a):\n    pass\n") == (
        f"plates= of node 'x' holds {shown}, which is no plate.\n  declared at examples/model.py:1\n"
        "  Declare one: school = plate('school', 8)"
    )


def test_a_plate_twice_is_refused():
    message = declared("p = plate('p', 2)\n@node(plates=[p, p])\ndef x(a):\n    pass\n")
    assert message == "node 'x' names a plate twice.\n  declared at examples/model.py:2"


def test_a_support_is_a_constraint():
    assert declared("@node(support=(0, 1))\ndef x(rng):\n    pass\n").startswith(
        "support= of node 'x' is (0, 1), which is no torch.distributions.constraints object."
    )


def test_unknown_backends_are_refused():
    with pytest.raises(DeclarationError, match="backend= of node 'x' is 'jax'; it is 'numpy' or 'torch'"):
        node(name="x", backend="jax")(lambda rng: 0)


@pytest.mark.parametrize("name", ["", "two words", "2x", 5])
def test_names_are_identifiers(name):
    with pytest.raises(DeclarationError, match="a node needs a name that is a Python identifier"):
        node(name=name)(lambda rng: np.float64(0))


def test_a_lambda_alone_has_no_name():
    message = declared("node(lambda rng: 0)\n")
    assert message == (
        "a node needs a name that is a Python identifier, not '<lambda>'.\n  declared at examples/model.py:1\n"
        "  Name it: node(name='z1')(function)"
    )


def test_nodes_are_compared_by_identity():
    f = lambda rng: 0  # noqa: E731
    assert node(name="x")(f) != node(name="x")(f)
    assert isinstance(node(name="x")(f), Node)
