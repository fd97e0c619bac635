"""Named axes along which a node is repeated.

A plate holds exchangeable repeats: the order of its elements carries no meaning, so a node function
inside a plate is written for one element and never learns which one it is.
"""

from __future__ import annotations

from dataclasses import dataclass

from simgraph.errors import DeclarationError

__all__ = ["Plate", "plate"]


@dataclass(frozen=True)
class Plate:
    """A named axis of exchangeable repeats.

    Attributes:
        name: Name of the axis; reserved in every graph that uses the plate.
        size: Number of elements.
    """

    name: str
    size: int

    def __post_init__(self) -> None:
        if not isinstance(self.name, str) or not self.name.isidentifier():
            raise DeclarationError(f"a plate needs a name that is a Python identifier, not {self.name!r}.")
        if isinstance(self.size, bool) or not isinstance(self.size, int) or self.size < 1:
            raise DeclarationError(
                f"plate {self.name!r} has size {self.size!r}; a plate's size is a whole number of 1 or more.\n"
                f"  For example: plate({self.name!r}, 8)"
            )

    def __repr__(self) -> str:
        return f"plate({self.name!r}, size={self.size})"


def plate(name: str, size: int) -> Plate:
    """Declares a plate: ``size`` exchangeable repeats of every node that names it.

    Args:
        name: Name of the axis.
        size: Number of elements.

    Returns:
        The plate, to be handed to ``node(plates=...)``.

    Raises:
        DeclarationError: If the name is no identifier or the size is no positive whole number.

    Example:
        >>> plate("school", 8)
        plate('school', size=8)
    """
    return Plate(name, size)
