"""How an image becomes tokens: one for each patch of pixels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from simgraph.dsl.tokenizer import Pieces
from simgraph.errors import DeclarationError

__all__ = ["Patches"]


@dataclass(frozen=True)
class Patches(Pieces):
    """One token for each rectangle of pixels, all channels together; for nodes of shape (height, width) or (channels,
    height, width).

    A token with all pixels of a patch keeps the number of tokens small. In return, a patch is given as a whole, or
    missing as a whole.

    Args:
        size: Pixels along both sides of a patch, or (along the height, along the width).

    Attributes:
        size: (along the height, along the width).

    Raises:
        DeclarationError: If a size is no whole number of 1 or more.

    Example:
        >>> Patches(8), Patches((4, 2))
        (Patches(8), Patches((4, 2)))
    """

    size: tuple[int, int]

    def __init__(self, size: int | Sequence[int]) -> None:
        sides = (size, size) if isinstance(size, int) else tuple(size) if isinstance(size, Sequence) else (size,)
        if len(sides) != 2 or not all(isinstance(s, int) and not isinstance(s, bool) and s >= 1 for s in sides):
            raise DeclarationError(
                f"Patches({size!r}): the size of a patch is a whole number of 1 or more, or two of them.\n"
                "  For example: @node(shape=(1, 32, 32), tokenizer=Patches(8))"
            )
        object.__setattr__(self, "size", sides)

    @property
    def noun(self) -> str:
        return f"patches of {self.size[0]} x {self.size[1]} pixels"

    def check(self, event_shape: Sequence[int], name: str) -> None:
        if not self.fits(event_shape):
            raise DeclarationError(
                f"node {name!r} has event shape {tuple(event_shape)}, which {self} does not cut evenly.\n"
                "  Patches are for shapes (height, width) or (channels, height, width) whose sides are their multiples."
            )

    def image(self, event_shape: Sequence[int]) -> tuple[int, int, int] | None:
        if len(event_shape) not in (2, 3):
            return None
        channels, height, width = [1, *event_shape][-3:]
        return channels, height, width

    def grid(self, event_shape: Sequence[int]) -> tuple[int, ...]:
        return event_shape[-2] // self.size[0], event_shape[-1] // self.size[1]

    def __repr__(self) -> str:
        return f"Patches({self.size[0] if self.size[0] == self.size[1] else self.size})"
