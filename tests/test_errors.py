import functools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from simgraph import errors
from simgraph.errors import (
    InvalidGraphError,
    MissingExtraError,
    SimgraphError,
    SimgraphWarning,
    UnknownNameError,
    UnknownParentError,
    did_you_mean,
    listed,
    where,
)


def from_source(source, name="examples/model.py"):
    space = {}
    exec(compile(source, name, "exec"), space)
    return space


@pytest.mark.parametrize("name", [n for n in errors.__all__ if n.endswith("Error") and n != "SimgraphError"])
def test_every_error_can_be_caught_as_simgraph_error(name):
    assert issubclass(getattr(errors, name), SimgraphError)


@pytest.mark.parametrize("name", [n for n in errors.__all__ if n.endswith("Warning") and n != "SimgraphWarning"])
def test_every_warning_is_a_simgraph_warning(name):
    assert issubclass(getattr(errors, name), SimgraphWarning)


def test_closest_name_comes_first():
    assert did_you_mean("thetta", ["x", "rng", "theta"]) == "Did you mean 'theta'? Known names: theta, rng, x."


def test_nothing_close_is_not_guessed():
    assert did_you_mean("q", ["theta", "alpha"]) == "Known names: alpha, theta."


def test_no_names_at_all():
    assert did_you_mean("q", [], "Formats") == "Formats: (none)."


@given(st.text(max_size=8), st.sets(st.text(min_size=1, max_size=8), max_size=6))
def test_all_known_names_are_listed_once(name, known):
    message = did_you_mean(name, known, "Known")
    names = message.rpartition("Known: ")[2] if message.count("Known: ") == 1 else message
    assert all(candidate in names for candidate in known)


def test_listed():
    assert listed(["a", 2]) == "a, 2"
    assert listed([]) == "(none)"


def test_where_names_file_and_line():
    space = from_source("\n\ndef f():\n    pass\n")
    assert where(space["f"]) == "examples/model.py:3"


def test_where_looks_through_partials_and_wrappers():
    space = from_source("import functools\ndef f(a): pass\n@functools.wraps(f)\ndef g(*args): pass\n")
    assert where(functools.partial(functools.partial(space["f"], 1))) == "examples/model.py:2"
    assert where(space["g"]) == "examples/model.py:2"


def test_where_of_a_callable_object_is_its_call_method():
    space = from_source("class C:\n    def __call__(self):\n        pass\n")
    assert where(space["C"]()) == "examples/model.py:2"


def test_where_of_a_builtin_is_its_type():
    assert where(len) == "<builtin_function_or_method>"


def test_where_is_relative_to_the_working_directory(tmp_path, monkeypatch):
    space = from_source("def f(): pass\n", str(tmp_path / "models" / "m.py"))
    monkeypatch.chdir(tmp_path)
    assert where(space["f"]) == "models/m.py:1"
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert where(space["f"]) == f"{tmp_path}/models/m.py:1"


def test_several_problems_are_numbered():
    error = InvalidGraphError([UnknownParentError("one"), errors.CycleError("two")])
    assert str(error) == "the graph has 2 problems.\n(1) UnknownParentError: one\n(2) CycleError: two"
    assert [str(problem) for problem in error.problems] == ["one", "two"]


def test_missing_extra_prints_the_pip_line_and_is_an_import_error():
    error = MissingExtraError("matplotlib", "plot", "drawing a mask")
    assert isinstance(error, ImportError)
    assert str(error) == "drawing a mask needs 'matplotlib'.\n  Install it with: pip install 'simgraph[plot]'"


def test_unknown_name_is_a_key_error_with_a_plain_message():
    assert issubclass(UnknownNameError, KeyError)
    assert str(UnknownNameError("'x' is not here.\n  Known names: y.")) == "'x' is not here.\n  Known names: y."
