"""Names of variables, as users hand them over."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from simgraph.compile.layout import Layout
from simgraph.dsl import Node
from simgraph.errors import QueryError, UnknownNameError

__all__ = ["Names", "as_names", "check_askable", "name_of", "why_not_askable"]

Names = Iterable[str | Node]


def name_of(key: str | Node) -> str:
    """Returns the name of a node, given the node or its name."""
    if isinstance(key, Node):
        return key.name
    if not isinstance(key, str):
        raise UnknownNameError(f"names of nodes are strings or node objects, not {key!r}.")
    return key


def as_names(names: Any, option: str) -> Any:
    """Refuses what is no list of names; of a single name, letters would be taken for names."""
    if isinstance(names, (str, Node)):
        raise QueryError(f"{option}={name_of(names)!r} is one name.\n  Write a list: {option}=[{name_of(names)!r}]")
    if not isinstance(names, Iterable):
        raise QueryError(f"{option}={names!r} is no list of names.")
    return names


def check_askable(layout: Layout, names: Iterable[str]) -> None:
    """Checks that names can be asked for.

    Raises:
        QueryError: If one has an embedding.
    """
    for name in names:
        if (why := why_not_askable(layout, name)) is not None:
            raise QueryError(why)


def why_not_askable(layout: Layout, name: str) -> str | None:
    """Tells why a variable can be given and not be asked for: it has an embedding; None if it can."""
    if name not in layout.embedded:
        return None
    return (
        f"{name!r} has the tokenizer {layout.tokenizers[name].variable.tokenizer}, from which values do not come back:"
        " it can be given, and not be asked for.\n  To draw it, simulate: graph.simulate(given=draws)"
    )
