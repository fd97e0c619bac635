"""Named axes along which a node is repeated.

A plate holds exchangeable repeats: the order of its elements carries no meaning, so a node function
inside a plate is written for one element and never learns which one it is. The number of elements is
fixed, or varies between two ends (a *ragged* plate): then each trace has a size of its own.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from simgraph.errors import DeclarationError

__all__ = ["Plate", "plate"]


@dataclass(frozen=True)
class Plate:
    """A named axis of exchangeable repeats.

    Attributes:
        name: Name of the axis; reserved in every graph that uses the plate.
        size: Number of elements; or the least and the largest one, of a plate whose size varies.
    """

    name: str
    size: int | tuple[int, int]

    def __post_init__(self) -> None:
        if not isinstance(self.name, str) or not self.name.isidentifier():
            raise DeclarationError(f"a plate needs a name that is a Python identifier, not {self.name!r}.")
        if isinstance(self.size, (tuple, list)):
            object.__setattr__(self, "size", self._ends(self.size))
        elif not _is_size(self.size):
            raise DeclarationError(
                f"plate {self.name!r} has size {self.size!r}; a plate's size is a whole number of 1 or more.\n"
                f"  For example: plate({self.name!r}, 8), or plate({self.name!r}, size=(4, 16)) for sizes that vary"
            )

    def _ends(self, size: Sequence[Any]) -> tuple[int, int]:
        """Returns the two ends of a range of sizes."""
        if len(size) != 2 or not all(_is_size(end) for end in size) or not size[0] < size[1]:
            raise DeclarationError(
                f"plate {self.name!r} has the sizes {tuple(size)!r}; a range of sizes has two ends, whole numbers of 1"
                f" or more, the smaller one first.\n  For example: plate({self.name!r}, size=(4, 16));"
                f" and plate({self.name!r}, 8) for one size"
            )
        return size[0], size[1]

    @property
    def is_ragged(self) -> bool:
        """Whether the size varies from trace to trace."""
        return isinstance(self.size, tuple)

    @property
    def least(self) -> int:
        """The least number of elements."""
        return self.size[0] if isinstance(self.size, tuple) else self.size

    @property
    def most(self) -> int:
        """The largest number of elements."""
        return self.size[1] if isinstance(self.size, tuple) else self.size

    @property
    def span(self) -> str:
        """The size as a person would write it: ``8``, or ``4..16``."""
        return f"{self.least}..{self.most}" if self.is_ragged else str(self.size)

    def __repr__(self) -> str:
        return f"plate({self.name!r}, size={self.size})"


def plate(name: str, size: int | tuple[int, int]) -> Plate:
    """Declares a plate: exchangeable repeats of every node that names it.

    Args:
        name: Name of the axis.
        size: Number of elements; or two ends ``(low, high)``, both included, between which it varies. Each trace then
            has a size of its own, drawn uniformly, and one model answers for every size in the range.

    Returns:
        The plate, to be handed to ``node(plates=...)``.

    Raises:
        DeclarationError: If the name is no identifier, or the size is neither a positive whole number nor a range.

    Example:
        >>> plate("school", 8), plate("school", size=(4, 16))
        (plate('school', size=8), plate('school', size=(4, 16)))
    """
    return Plate(name, size)


def _is_size(size: Any) -> bool:
    return isinstance(size, int) and not isinstance(size, bool) and size >= 1
