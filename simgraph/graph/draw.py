"""A graph as text, as Mermaid and as Graphviz source."""

from __future__ import annotations

import html
from collections.abc import Callable, Iterable
from typing import Literal

from simgraph.dsl import Node, Plate
from simgraph.errors import DeclarationError, did_you_mean
from simgraph.graph.graph import Graph
from simgraph.text import table

__all__ = ["as_html", "draw"]

_Roles = dict[str, str]
"""What nodes are in a query, "observed" or "absent", by name; the others are asked for."""

_HEAD = ("node", "kind", "parents", "shape")


def draw(
    graph: Graph,
    format: Literal["mermaid", "graphviz", "text"],
    given: Iterable[str | Node] = (),
    of: Iterable[str | Node] | None = None,
) -> str:
    """Draws a graph; see :meth:`Graph.draw`."""
    formats: dict[str, Callable[[Graph, _Roles], str]] = {"mermaid": _mermaid, "graphviz": _graphviz, "text": _text}
    if format not in formats:
        raise DeclarationError(
            f"draw(format={format!r}) is not known.\n  {did_you_mean(str(format), formats, 'Formats')}"
        )
    return formats[format](graph, _roles(graph, given, of))


def as_html(graph: Graph) -> str:
    """Draws a graph as an HTML table, with its Mermaid source behind a fold."""
    head = "".join(f"<th style='text-align:left'>{title}</th>" for title in _HEAD)
    rows = "".join(
        "<tr>" + "".join(f"<td style='text-align:left'>{html.escape(cell)}</td>" for cell in _row(node)) + "</tr>"
        for node in _ordered(graph)
    )
    source = html.escape(_mermaid(graph, {}))
    return (
        f"<table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>"
        f"<details><summary>Mermaid</summary><pre class='mermaid'>{source}</pre></details>"
    )


def _roles(graph: Graph, given: Iterable[str | Node], of: Iterable[str | Node] | None) -> _Roles:
    """Returns the nodes that are observed or absent in a query; objects without values are neither."""
    for option, names in (("given", given), ("of", of)):
        if isinstance(names, (str, Node)):
            raise DeclarationError(f"draw({option}={_name(names)!r}) is one name.\n  Write a list: [{_name(names)!r}]")
    observed = {graph[_name(key)].name for key in given}
    if of is None:
        return dict.fromkeys(observed, "observed")
    asked = {graph[_name(key)].name for key in of}
    absent = set(graph.variables) - observed - asked
    return {**dict.fromkeys(observed, "observed"), **dict.fromkeys(absent, "absent")}


def _name(key: str | Node) -> str:
    return key.name if isinstance(key, Node) else key


def _ordered(graph: Graph) -> list[Node]:
    return [graph[name] for name in graph.order]


def _row(node: Node) -> tuple[str, str, str, str]:
    plates = "".join(f"{plate.name}={plate.span} × " for plate in node.plates)
    if node.is_opaque:
        shape = "(any object)"
    elif node.shape is None:
        shape = "(from the distribution)"
    else:
        shape = str(node.shape)
    return node.name, node.kind, ", ".join(node.parents) or "-", plates + shape


def _text(graph: Graph, roles: _Roles) -> str:
    head: tuple[str, ...] = _HEAD
    rows: list[tuple[str, ...]] = [_row(node) for node in _ordered(graph)]
    if roles:
        head, rows = (*head, "in the query"), [(*row, roles.get(row[0], "-")) for row in rows]
    edges = sum(len(node.parents) for node in graph.values())
    return f"Graph with {len(graph)} nodes and {edges} edges\n" + table(head, rows)


def _mermaid(graph: Graph, roles: _Roles) -> str:
    shapes = {"distribution": "([{}])", "simulator": "[[{}]]", "deterministic": "[{}]", "constant": "{{{{{}}}}}"}
    # "end" closes a subgraph, whatever it is meant to be.
    key = {name: f"{name}_" if name.lower() == "end" else name for name in graph}
    statement = {name: f"{key[name]}{shapes[node.kind].format(name)}" for name, node in graph.items()}
    lines = ["flowchart TD"]
    for plates, members in _by_plates(graph).items():
        lines += ["  " * (depth + 1) + f"subgraph {label} [{label}]" for depth, label in enumerate(plates)]
        lines += ["  " * (len(plates) + 1) + statement[name] for name in members]
        lines += ["  " * depth + "end" for depth in range(len(plates), 0, -1)]
    lines += [f"  {key[parent]} --> {key[node.name]}" for node in _ordered(graph) for parent in node.parents]
    styles = {"observed": "fill:#c9c9c9,stroke:#333", "absent": "fill:none,stroke-dasharray:4 3"}
    for role, style in styles.items():
        marked = [key[name] for name in graph.order if roles.get(name) == role]
        if marked:
            lines += [f"  classDef {role} {style}", f"  class {','.join(marked)} {role}"]
    return "\n".join(lines)


def _graphviz(graph: Graph, roles: _Roles) -> str:
    styles = {"observed": ' style=filled fillcolor="#c9c9c9"', "absent": " style=dashed", "": ""}
    shapes = {"distribution": "ellipse", "simulator": "box", "deterministic": "diamond", "constant": "plaintext"}
    lines = ["digraph {", "  rankdir=TB;"]
    for number, (plates, members) in enumerate(_by_plates(graph).items()):
        if plates:
            lines.append(f'  subgraph cluster_{number} {{ label="{" × ".join(plates)}";')
        lines += [f'  "{name}" [shape={shapes[graph[name].kind]}{styles[roles.get(name, "")]}];' for name in members]
        if plates:
            lines.append("  }")
    lines += [f'  "{parent}" -> "{node.name}";' for node in _ordered(graph) for parent in node.parents]
    return "\n".join([*lines, "}"])


def _label(plate: Plate) -> str:
    """Returns what a frame around the elements of a plate is called; drawings take no dots in a name."""
    return f"{plate.name}_{plate.span.replace('..', '_to_')}"


def _by_plates(graph: Graph) -> dict[tuple[str, ...], list[str]]:
    """Groups names by the labels of their plates, those outside of every plate first."""
    groups: dict[tuple[str, ...], list[str]] = {(): []}
    for node in _ordered(graph):
        groups.setdefault(tuple(_label(plate) for plate in node.plates if plate != node.index), []).append(node.name)
    return groups
