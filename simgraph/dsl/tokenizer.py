"""What ``tokenizer=`` of a node may be."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence

__all__ = ["Pieces", "TokenizerSpec"]


class TokenizerSpec(ABC):
    """How a value becomes tokens, where it is not one token for each element."""

    @abstractmethod
    def check(self, event_shape: Sequence[int], name: str) -> None:
        """Checks that values of a shape can become tokens in this way.

        Args:
            event_shape: Shape of one value.
            name: The node, for the message.

        Raises:
            DeclarationError: If they cannot.
        """


class Pieces(TokenizerSpec):
    """Equal rectangles, all channels together, of a value that is an image (channels, height, width).

    Attributes:
        size: Elements of a piece (along the height, along the width).
    """

    size: tuple[int, int]

    @property
    @abstractmethod
    def noun(self) -> str:
        """What pieces are called in messages."""

    @abstractmethod
    def image(self, event_shape: Sequence[int]) -> tuple[int, int, int] | None:
        """Returns a shape as (channels, height, width), or None if it is no such image."""

    @abstractmethod
    def grid(self, event_shape: Sequence[int]) -> tuple[int, ...]:
        """Returns the axes along which the pieces of a value are counted."""

    def fits(self, event_shape: Sequence[int]) -> bool:
        """Tells whether values of a shape can be cut evenly."""
        image = self.image(event_shape)
        return image is not None and all(side % own == 0 for side, own in zip(image[1:], self.size, strict=True))
