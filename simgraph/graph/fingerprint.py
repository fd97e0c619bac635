"""What identifies a graph when a model is loaded again: its structure, and the source of its functions."""

from __future__ import annotations

import hashlib
import inspect
import json
import textwrap
from typing import Any

from simgraph.dsl import Index, Plate
from simgraph.graph.graph import Graph
from simgraph.graph.surgery import Constant

__all__ = ["differences", "fingerprint"]


def fingerprint(graph: Graph) -> dict[str, dict[str, Any]]:
    """Describes the nodes of a graph as JSON data.

    Returns:
        By name: kind, parents, plates, declared shape, and a hash of the function's source, or of a
        constant's value (None where there is no source).
    """
    return {
        name: {
            "kind": node.kind,
            "parents": sorted(node.parents),
            "plates": [[plate.name, plate.size, *_range(plate)] for plate in node.plates],
            "shape": None if node.shape is None else list(node.shape),
            "source": _source(node.function),
            **({} if node.tokenizer is None else {"tokenizer": repr(node.tokenizer)}),
        }
        for name, node in sorted(graph.items())
    }


def _range(axis: Plate) -> list[Any]:
    """Returns where the points of an index lie, nothing for a plate."""
    return [axis.low, axis.high, axis.grid] if isinstance(axis, Index) else []


def differences(expected: dict[str, dict[str, Any]], graph: Graph) -> tuple[list[str], list[str]]:
    """Compares a graph with a stored fingerprint.

    Returns:
        Differences of structure as sentences, and names of nodes whose source alone has changed.
    """
    found = json.loads(json.dumps(fingerprint(graph)))
    structure: list[str] = []
    changed: list[str] = []
    for name in sorted(set(expected) | set(found)):
        if name not in found:
            structure.append(f"node {name!r} is missing")
        elif name not in expected:
            structure.append(f"node {name!r} is new")
        else:
            fields = ("kind", "parents", "plates", "shape")
            differing = [f for f in fields if expected[name].get(f) != found[name][f]]
            structure += [f"{f} of node {name!r} was {expected[name].get(f)}, is {found[name][f]}" for f in differing]
            if not differing and expected[name].get("source") != found[name]["source"]:
                changed.append(name)
    return structure, changed


def _source(function: Any) -> str | None:
    if isinstance(function, Constant):
        return hashlib.sha256(function.value.tobytes()).hexdigest()[:16]
    try:
        source = inspect.getsource(function)
    except (OSError, TypeError):
        return None
    return hashlib.sha256(textwrap.dedent(source).encode()).hexdigest()[:16]
