"""How a time series becomes tokens: one for each chunk of steps."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from simgraph.dsl.tokenizer import Pieces
from simgraph.errors import DeclarationError

__all__ = ["Chunks"]


@dataclass(frozen=True)
class Chunks(Pieces):
    """One token for each run of steps, all channels together; for nodes of shape (steps,) or (channels, steps).

    Two hundred steps in chunks of ten are twenty tokens. In return, a chunk is given as a whole, or missing as a whole.

    Args:
        steps: Steps of a chunk.

    Raises:
        DeclarationError: If it is no whole number of 1 or more.

    Example:
        >>> Chunks(10)
        Chunks(10)
    """

    steps: int
    size: tuple[int, int] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        if isinstance(self.steps, bool) or not isinstance(self.steps, int) or self.steps < 1:
            raise DeclarationError(
                f"Chunks({self.steps!r}): the steps of a chunk are a whole number of 1 or more.\n"
                "  For example: @node(shape=(200,), tokenizer=Chunks(10))"
            )
        object.__setattr__(self, "size", (1, self.steps))  # a series is an image of height 1

    @property
    def noun(self) -> str:
        return f"chunks of {self.steps} steps"

    def check(self, event_shape: Sequence[int], name: str) -> None:
        if not self.fits(event_shape):
            raise DeclarationError(
                f"node {name!r} has event shape {tuple(event_shape)}, which {self} does not cut evenly.\n"
                "  Chunks are for shapes (steps,) or (channels, steps) whose number of steps is their multiple."
            )

    def image(self, event_shape: Sequence[int]) -> tuple[int, int, int] | None:
        if len(event_shape) not in (1, 2):
            return None
        channels, steps = [1, *event_shape][-2:]
        return channels, 1, steps

    def grid(self, event_shape: Sequence[int]) -> tuple[int, ...]:
        return (event_shape[-1] // self.steps,)

    def __repr__(self) -> str:
        return f"Chunks({self.steps})"
