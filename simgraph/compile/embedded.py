"""Values -> one token of features that a network computes.

There is no way back: a variable with an embedding is given, or absent. In training the network is a part of what is
learned (:mod:`simgraph.train.embedding`); here it is as it is.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor, nn

from simgraph.compile.elements import Elements
from simgraph.compile.supports import Support
from simgraph.compile.tokenizer import Tokenizer
from simgraph.dsl import Embedding

__all__ = ["EmbeddedToken"]


@dataclass(frozen=True)
class EmbeddedToken(Tokenizer):
    """One token for a whole value.

    Attributes:
        network: Maps standardised values (rows, *event_shape) to features (rows, features).
        features: How many these are.
    """

    network: nn.Module
    features: int

    kind = "embedding"
    askable = False

    @property
    def token_shape(self) -> tuple[int, ...]:
        return ()

    @property
    def width(self) -> int:
        return self.features

    def fit(self, values: np.ndarray, present: np.ndarray) -> EmbeddedToken:
        moved, known = (self._arranged(torch.as_tensor(array)).numpy() for array in (values, present))
        return replace(self, statistics=self._inner().fit(moved, known).statistics)

    def standardised(self, values: Tensor) -> Tensor:
        """Maps float64 values (..., *event_shape) to what the network sees, float32 of the same shape."""
        moved = self._arranged(values)
        tokens = self._inner().tokenize(moved).reshape(moved.shape)
        return tokens.movedim(-1, self._channels(values)) if self._channelled else tokens

    @torch.no_grad()
    def tokenize(self, values: Tensor, generator: torch.Generator | None = None) -> Tensor:
        rows = self.standardised(values).reshape(-1, *self.variable.event_shape)
        return self.network(rows).reshape(*self.lead(values), 1, self.width)

    def detokenize(self, tokens: Tensor) -> Tensor:
        return torch.full((*tokens.shape[:-2], *self.variable.event_shape), torch.nan, dtype=torch.float64)

    def log_scale(self, values: Tensor) -> Tensor:
        return torch.zeros(*self.lead(values), 1, dtype=torch.float64)

    def owners(self) -> np.ndarray:
        return np.zeros(self.variable.event_shape, dtype=int)

    @property
    def _spec(self) -> Embedding:
        assert isinstance(self.variable.tokenizer, Embedding)
        return self.variable.tokenizer

    @property
    def _channelled(self) -> bool:
        """Whether statistics belong to channels."""
        return self._spec.structured and self._spec.channelled(self.variable.event_shape)

    def _channels(self, values: Tensor) -> int:
        """Returns the axis of the channels."""
        return values.dim() - len(self.variable.event_shape)

    def _arranged(self, values: Tensor) -> Tensor:
        """Returns values (..., *event_shape) with the axes of what has statistics of its own behind."""
        return values.movedim(self._channels(values), -1) if self._channelled else values

    def _inner(self) -> Elements:
        """Returns the tokenizer that standardises: of elements, of channels, or of all elements alike."""
        own, support = self.variable, self.variable.support
        if self._spec.structured:
            shape = own.event_shape[:1] if self._channelled else ()
            hull = Support(support.kind, np.array(support.low.min()), np.array(support.high.max()))
            own = replace(own, event_shape=shape, support=hull)
        return Elements(own, self.statistics)
