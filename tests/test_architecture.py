"""Data flows one way: a module imports from rooms before its own, never from later ones."""

import ast
import subprocess
import sys
from pathlib import Path

import simgraph

ROOT = Path(simgraph.__file__).parent
ROOMS = [
    "version",
    "errors",
    "text",
    "files",
    "processor",
    "dsl",
    "graph",
    "traces",
    "compile",
    "testing",
    "simformer",
    "train",
    "query",
    "diagnostics",
    "plots",
    "benchmark",
    "cli",
]
# Convenience methods that reach a later room import it inside the method, and are named here one by one.
REACHES = {
    ("graph/graph.py", "traces"): {"simulate", "log_prob"},
    ("compile/compiled.py", "plots"): {"plot_mask"},
    ("query/samples.py", "plots"): {"plot"},
}
TYPES_ONLY = {("graph/graph.py", "traces")}


def room_of(path: Path) -> str:
    relative = path.relative_to(ROOT)
    return relative.parts[0].removesuffix(".py")


def imports(tree: ast.AST) -> list[tuple[str, str | None, bool]]:
    """Returns (room, enclosing function, for types only) of every import of simgraph."""
    found = []

    def visit(node: ast.AST, function: str | None, types: bool) -> None:
        for child in ast.iter_child_nodes(node):
            inside, checking = function, types
            if isinstance(child, ast.FunctionDef):
                inside = child.name
            if isinstance(child, ast.If) and getattr(child.test, "id", "") == "TYPE_CHECKING":
                checking = True
            modules = []
            if isinstance(child, ast.ImportFrom) and child.module:
                modules = [child.module]
                if child.module == "simgraph":
                    modules = [f"simgraph.{alias.name}" for alias in child.names]
            elif isinstance(child, ast.Import):
                modules = [alias.name for alias in child.names]
            for module in modules:
                if module.startswith("simgraph."):
                    found.append((module.split(".")[1], inside, checking))
            visit(child, inside, checking)

    visit(tree, None, False)
    return found


def modules():
    return [path for path in ROOT.rglob("*.py") if path.name != "__main__.py" and path != ROOT / "__init__.py"]


def test_every_module_belongs_to_a_room():
    assert {room_of(path) for path in modules()} == set(ROOMS)


def test_imports_go_one_way():
    wrong = []
    for path in modules():
        here = ROOMS.index(room_of(path))
        name = path.relative_to(ROOT).as_posix()
        for room, function, types in imports(ast.parse(path.read_text())):
            if ROOMS.index(room) <= here or (types and (name, room) in TYPES_ONLY):
                continue
            if function not in REACHES.get((name, room), ()):
                wrong.append(f"{name} imports {room} (in {function or 'the module'})")
    assert not wrong


def test_an_upward_import_would_be_found():
    source = "def f():\n    from simgraph.query import Model\nimport simgraph.cli\n"
    assert imports(ast.parse(source)) == [("query", "f", False), ("cli", None, False)]


def test_nothing_read_from_disk_is_executed():
    banned = {"eval", "exec", "__import__"}
    for path in modules():
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
                assert node.func.id not in banned, path
            if isinstance(node, ast.Import):
                assert not {alias.name for alias in node.names} & {"pickle", "marshal", "shelve", "dill"}, path
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
                assert (node.value.id, node.attr) != ("torch", "load"), path


def test_all_public_names_exist_and_are_documented():
    for name in simgraph.__all__:
        assert getattr(simgraph, name).__doc__ or name == "__version__", name


def test_the_core_and_the_tasks_need_no_extra():
    extras = ["scipy", "sklearn", "matplotlib", "pandas", "xarray", "typer", "rich", "arviz_base", "arviz_stats", "sbi"]
    blocked = f"import sys; sys.modules.update(dict.fromkeys({extras}))"
    done = subprocess.run(
        [sys.executable, "-c", f"{blocked}; import simgraph, simgraph.benchmark.tasks, simgraph.cli"],
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
