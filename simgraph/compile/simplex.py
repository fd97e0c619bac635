"""One token for each vector of shares."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from simgraph.compile.tokenizer import Tokenizer

__all__ = ["Simplex"]


class Simplex(Tokenizer):
    """One token per probability vector: its unconstrained coordinates (stick breaking)."""

    kind = "simplex"

    @property
    def token_shape(self) -> tuple[int, ...]:
        return self.variable.event_shape[:-1]

    @property
    def width(self) -> int:
        return self.variable.event_shape[-1] - 1

    def fit(self, values: np.ndarray, present: np.ndarray) -> Simplex:
        free = self.variable.support.unconstrain(torch.as_tensor(values, dtype=torch.float64)).numpy()
        kept = free[present.all(-1)].reshape(-1, self.width)
        if not len(kept):
            return Simplex(self.variable, {"mean": np.zeros(self.width), "sd": np.ones(self.width)})
        sd = kept.std(0)
        return Simplex(self.variable, {"mean": kept.mean(0), "sd": np.where(sd > 0, sd, 1.0)})

    def tokenize(self, values: Tensor, generator: torch.Generator | None = None) -> Tensor:
        free = (self.variable.support.unconstrain(values) - self._tensor("mean")) / self._tensor("sd")
        return free.reshape(*self.lead(values), self.num_tokens, self.width).float()

    def log_scale(self, values: Tensor) -> Tensor:
        slope = self.variable.support.log_abs_det(values).reshape(*self.lead(values), self.num_tokens)
        return slope - self._tensor("sd").log().sum()

    def detokenize(self, tokens: Tensor) -> Tensor:
        free = tokens.double() * self._tensor("sd") + self._tensor("mean")
        return self.variable.support.constrain(free.reshape(*tokens.shape[:-2], *self.token_shape, self.width))

    def _tensor(self, name: str) -> Tensor:
        return torch.as_tensor(self.statistics[name], dtype=torch.float64)
