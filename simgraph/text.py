"""Words and tables in plain text."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

__all__ = ["a_kind", "table"]


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Formats rows under a head, in columns aligned to the left.

    Example:
        >>> print(table(("name", "shape"), [("theta", "(2,)")]))
        name   shape
        theta  (2,)
    """
    lines = [head, *rows]
    widths = [max(len(line[column]) for line in lines) for column in range(len(head))]
    return "\n".join("  ".join(map(str.ljust, line, widths)).rstrip() for line in lines)


def a_kind(value: Any) -> str:
    """Names the type of a value with its article: ``"a list"``, ``"an int"``."""
    kind = type(value).__name__
    return f"{'an' if kind[:1].lower() in 'aeiou' else 'a'} {kind}"
