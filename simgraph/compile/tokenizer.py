"""What every tokenizer does: values of a variable <-> tokens of a transformer."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from simgraph.compile.probe import Variable

__all__ = ["Tokenizer"]


@dataclass(frozen=True)
class Tokenizer(ABC):
    """Maps values (..., *event_shape) of a variable to tokens (..., num_tokens, width) and back.

    Attributes:
        variable: What is tokenized.
        statistics: Fitted arrays by name; empty before :meth:`fit`.
    """

    variable: Variable
    statistics: dict[str, np.ndarray]
    kind: ClassVar[str]
    askable: ClassVar[bool] = True
    """Whether tokens have values again, so that they can be asked for."""

    @property
    @abstractmethod
    def token_shape(self) -> tuple[int, ...]:
        """Event axes that index tokens; their product is the number of tokens."""

    @property
    @abstractmethod
    def width(self) -> int:
        """Number of features of one token."""

    @property
    def classes(self) -> int:
        """Number of categories of one token; 0 for continuous tokens."""
        return 0

    @property
    def num_tokens(self) -> int:
        """Number of tokens of one event."""
        return int(np.prod(self.token_shape))

    def lead(self, values: Tensor) -> torch.Size:
        """Returns the axes in front of the event of values (..., *event_shape)."""
        return values.shape[: values.dim() - len(self.variable.event_shape)]

    @abstractmethod
    def fit(self, values: np.ndarray, present: np.ndarray) -> Tokenizer:
        """Returns the tokenizer with statistics of ``values``, of which only the ``present`` ones count."""

    def along(self, values: np.ndarray, present: np.ndarray, points: np.ndarray) -> Tokenizer:
        """Returns the fitted tokenizer of a function with what is common along its index, where that matters.

        Args:
            values: Values (traces, *plate sizes, points, *event_shape).
            present: Which of them count, of the same shape.
            points: Where the function was looked at, from -1 to 1, broadcastable to the axes in front of an event.
        """
        return self

    def at(self, points: np.ndarray | None) -> Tokenizer:
        """Returns the tokenizer of a function where it is looked at.

        Args:
            points: Points from -1 to 1, (..., points), broadcastable to the axes in front of an event; None where they
                are not known.
        """
        return self

    @abstractmethod
    def tokenize(self, values: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Maps float64 values (..., *event_shape) to float32 tokens (..., num_tokens, width).

        Args:
            values: Values in the support, without NaN.
            generator: Dequantises counts at random; without it they go to the middle of their cell.
        """

    @abstractmethod
    def detokenize(self, tokens: Tensor) -> Tensor:
        """Maps tokens back to float64 values in the support."""

    def rounded(self, values: Tensor) -> Tensor:
        """Returns float64 values (..., *event_shape) in the type that users see; see :meth:`Support.rounded`."""
        return self.variable.support.rounded(values)

    @abstractmethod
    def log_scale(self, values: Tensor) -> Tensor:
        """Returns log |det d token / d value| of each token, float64 (..., num_tokens).

        Densities of tokens times its exponential are densities of values: of a vector on a simplex with respect to
        all of its coordinates but the last. It is 0 for categories, which have probabilities.

        Args:
            values: Float64 values (..., *event_shape) in the support; counts stand for the middle of their cell.
        """

    def leaked(self, tokens: Tensor) -> Tensor:
        """Tells which tokens (..., num_tokens, width) leaked through an edge of the support: (..., num_tokens)."""
        return torch.zeros(tokens.shape[:-1], dtype=torch.bool)

    def owners(self) -> np.ndarray:
        """Returns the number of the token that holds each element, (*event_shape)."""
        shape = self.variable.event_shape
        grid = np.arange(self.num_tokens).reshape(self.token_shape)
        return np.broadcast_to(grid.reshape(grid.shape + (1,) * (len(shape) - grid.ndim)), shape)

    def present(self, present: Tensor) -> Tensor:
        """Maps which entries (..., *event_shape) exist to which tokens (..., num_tokens) exist: whole ones."""
        return present.reshape(*self.lead(present), self.num_tokens, -1).all(-1)
