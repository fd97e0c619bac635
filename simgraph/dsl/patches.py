"""How an image becomes tokens: one for each patch of pixels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from simgraph.errors import DeclarationError

__all__ = ["Patches"]


@dataclass(frozen=True)
class Patches:
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

    def grid(self, event_shape: Sequence[int], name: str) -> tuple[int, int]:
        """Returns how many patches an image has along its height and its width.

        Args:
            event_shape: (height, width) or (channels, height, width).
            name: The node, for the message.

        Raises:
            DeclarationError: If it is no image, or its sides are no multiples of the patch's.
        """
        fits = len(event_shape) in (2, 3) and all(
            side % patch == 0 for side, patch in zip(event_shape[-2:], self.size, strict=True)
        )
        if not fits:
            raise DeclarationError(
                f"node {name!r} has event shape {tuple(event_shape)}, which {self} does not cut evenly.\n"
                "  Patches are for shapes (height, width) or (channels, height, width) whose sides are their multiples."
            )
        return event_shape[-2] // self.size[0], event_shape[-1] // self.size[1]

    def __repr__(self) -> str:
        return f"Patches({self.size[0] if self.size[0] == self.size[1] else self.size})"
