"""Tables in plain text."""

from __future__ import annotations

from collections.abc import Sequence

__all__ = ["table"]


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
