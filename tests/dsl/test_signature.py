import functools

import pytest

from simgraph.dsl.signature import read_signature
from simgraph.errors import DeclarationError


def parents(function, names=None):
    return read_signature(function, names).parents


def test_required_parameters_are_parents_in_order():
    assert parents(lambda b, a, *, c: None) == (("b", "b"), ("a", "a"), ("c", "c"))


def test_defaults_are_constants():
    assert parents(lambda a, scale=2.0, *, size=3: None) == (("a", "a"),)


def test_rng_and_workdir_are_provided_even_with_a_default():
    found = read_signature(lambda a, rng=None, workdir=None: None)
    assert (found.parents, found.takes_rng, found.takes_workdir) == ((("a", "a"),), True, True)
    assert not read_signature(lambda a: None).takes_rng


def test_parameters_can_be_mapped_to_other_names():
    assert parents(lambda previous, rate: None, {"previous": "z2"}) == (("previous", "z2"), ("rate", "rate"))


def test_a_parameter_with_a_default_becomes_a_parent_when_named():
    assert parents(lambda a, scale=2.0: None, {"scale": "sigma"}) == (("a", "a"), ("scale", "sigma"))


def test_keywords_can_be_named():
    def f(a, **rest):
        return a, rest

    signature = read_signature(f, {"u": "z1", "v": "z2"})
    assert signature.parents == (("a", "a"), ("u", "z1"), ("v", "z2"))
    assert signature.call(f, {"a": 1, "u": 2, "v": 3}) == (1, {"u": 2, "v": 3})


def test_partials_classes_methods_and_objects_serve():
    class Model:
        def __init__(self, theta):
            self.theta = theta

        def method(self, mu):
            return mu

        def __call__(self, tau):
            return tau

    assert parents(Model) == (("theta", "theta"),)
    assert parents(Model(1).method) == (("mu", "mu"),)
    assert parents(Model(1)) == (("tau", "tau"),)
    assert parents(functools.partial(lambda a, b, c: None, 1, c=3)) == (("b", "b"),)


def test_positional_only_parameters_are_passed_by_position():
    def f(a, b, /, c):
        return a, b, c

    assert read_signature(f).call(f, {"c": 3, "b": 2, "a": 1}) == (1, 2, 3)


@pytest.mark.parametrize(("function", "star"), [(lambda *args: None, "*args"), (lambda a, **rest: None, "**rest")])
def test_unnamed_parents_are_refused(function, star):
    with pytest.raises(DeclarationError, match="its parents would be unknown") as caught:
        read_signature(function)
    assert f"the parameter '{star}'" in str(caught.value)
    assert "test_signature.py:" in str(caught.value)


def test_mapping_a_parameter_that_does_not_exist_is_refused():
    with pytest.raises(DeclarationError) as caught:
        read_signature(lambda a, b: None, {"c": "z", "d": "y"})
    lines = str(caught.value).splitlines()
    assert lines[0] == "parents= maps parameters that the function does not have: c, d."
    assert lines[2] == "  Parameters of the function: a, b."


class Unreadable:
    __signature__ = "nonsense"

    def __call__(self, **values):
        return values


def test_a_callable_without_a_signature_can_be_named():
    signature = read_signature(Unreadable(), {"a": "z"})
    assert signature.parents == (("a", "z"),)
    with pytest.raises(DeclarationError, match="cannot be read"):
        read_signature(Unreadable())
