"""One token for each of few whole numbers."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from simgraph.compile.tokenizer import Tokenizer

__all__ = ["Categories"]


class Categories(Tokenizer):
    """One token per element of few whole numbers: a scaled one-hot code (analog bits).

    The code of class k of K is sqrt(K) (e_k - 1/K), which has mean square 1 - 1/K per feature under
    uniform classes.

    References:
        Chen, Zhang and Hinton, "Analog bits: generating discrete data using diffusion models with
        self-conditioning" (2023), section 3.
    """

    kind = "categories"

    @property
    def token_shape(self) -> tuple[int, ...]:
        return self.variable.event_shape

    @property
    def width(self) -> int:
        return self.classes

    @property
    def classes(self) -> int:
        return int(self.variable.support.high.max() - self.low) + 1

    @property
    def low(self) -> int:
        """The first class as a value."""
        return int(self.variable.support.low.min())

    def fit(self, values: np.ndarray, present: np.ndarray) -> Categories:
        return self

    def tokenize(self, values: Tensor, generator: torch.Generator | None = None) -> Tensor:
        codes = self.codes()
        number = (values.reshape(*self.lead(values), self.num_tokens) - self.low).long()
        return codes[number.clamp(0, self.classes - 1)]

    def log_scale(self, values: Tensor) -> Tensor:
        return torch.zeros(*self.lead(values), self.num_tokens, dtype=torch.float64)

    def detokenize(self, tokens: Tensor) -> Tensor:
        number = tokens[..., : self.classes].argmax(-1) + self.low
        return number.double().reshape(*tokens.shape[:-2], *self.variable.event_shape)

    def codes(self) -> Tensor:
        """Returns the code of each class, (classes, classes)."""
        return self.classes**0.5 * (torch.eye(self.classes) - 1 / self.classes)
