"""Graphs in Python files."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

from simgraph.errors import DeclarationError, did_you_mean
from simgraph.graph import Graph

__all__ = ["load_graph"]


def load_graph(target: str) -> Graph:
    """Runs a Python file and returns a graph from it.

    Args:
        target: ``FILE.py``, or ``FILE.py:NAME`` if the file holds several graphs.

    Raises:
        FileNotFoundError: If there is no such file.
        DeclarationError: If the file holds no graph of that name, or several and none is named.
    """
    path, _, name = target.partition(":")
    if not Path(path).is_file():
        raise FileNotFoundError(f"{path} is not a file.")
    spec = importlib.util.spec_from_file_location(Path(path).stem, path)
    if spec is None or spec.loader is None:
        raise DeclarationError(f"{path} is no Python file.")
    module = importlib.util.module_from_spec(spec)
    sys.path.insert(0, str(Path(path).resolve().parent))
    try:
        spec.loader.exec_module(module)
    finally:
        sys.path.pop(0)
    graphs = {key: value for key, value in vars(module).items() if isinstance(value, Graph)}
    if name and name not in graphs:
        raise DeclarationError(f"{path} has no graph named {name!r}.\n  {did_you_mean(name, graphs, 'Its graphs')}")
    if not name and len(graphs) != 1:
        raise DeclarationError(
            f"{path} holds {len(graphs)} graphs: {', '.join(graphs) or '(none)'}.\n"
            f"  Name one: {path}:{next(iter(graphs), 'graph')}"
        )
    return graphs[name] if name else next(iter(graphs.values()))
