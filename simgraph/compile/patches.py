"""Images <-> tokens: one token for each patch of pixels, all of its pixels and channels as features.

A pixel passes through the bijection of its support and is standardised by the mean and the standard deviation of all
pixels of the training split, so that brightness means the same everywhere in the image.
"""

from __future__ import annotations

import numpy as np
import torch
from einops import rearrange
from torch import Tensor

from simgraph.compile.tokenizers import Tokenizer
from simgraph.dsl import Patches

__all__ = ["PatchTokens"]


class PatchTokens(Tokenizer):
    """One token for each patch of an image, as its variable declares it."""

    kind = "patches"

    @property
    def patches(self) -> Patches:
        """How the image is cut."""
        assert self.variable.patches is not None
        return self.variable.patches

    @property
    def token_shape(self) -> tuple[int, ...]:
        return self.patches.grid(self.variable.event_shape, self.variable.name)

    @property
    def width(self) -> int:
        return int(np.prod(self.variable.event_shape)) // self.num_tokens

    def fit(self, values: np.ndarray, present: np.ndarray) -> PatchTokens:
        free = self.variable.support.unconstrain(torch.as_tensor(values, dtype=torch.float64)).numpy()
        kept = free[present]
        mean, sd = (float(kept.mean()), float(kept.std())) if kept.size else (0.0, 1.0)
        edge = bool((self.variable.support.beyond(torch.from_numpy(free)).numpy() & present).any())
        statistics = {
            "mean": np.array([mean]),
            "sd": np.array([sd if sd > 0 else 1.0]),
            "edge": np.array([float(edge)]),
        }
        return PatchTokens(self.variable, statistics)

    def tokenize(self, values: Tensor, generator: torch.Generator | None = None) -> Tensor:
        free = (self.variable.support.unconstrain(values) - self._number("mean")) / self._number("sd")
        return self._cut(free).float()

    def detokenize(self, tokens: Tensor) -> Tensor:
        return self.variable.support.constrain(self._whole(self._free(tokens)))

    def log_scale(self, values: Tensor) -> Tensor:
        slope = self.variable.support.log_abs_det(values) - np.log(self._number("sd"))
        return self._cut(slope).sum(-1)

    def leaked(self, tokens: Tensor) -> Tensor:
        if self._number("edge"):
            return torch.zeros(tokens.shape[:-1], dtype=torch.bool)
        return self._cut(self.variable.support.beyond(self._whole(self._free(tokens)))).any(-1)

    def present(self, present: Tensor) -> Tensor:
        return self._cut(present).all(-1)

    def owners(self) -> np.ndarray:
        number = torch.arange(self.num_tokens).unsqueeze(-1).expand(-1, self.width)
        return self._whole(number).numpy()

    def _cut(self, pixels: Tensor) -> Tensor:
        """Arranges pixels (..., [c,] h, w) as (..., patches, features)."""
        if len(self.variable.event_shape) == 2:
            pixels = pixels.unsqueeze(-3)
        p, q = self.patches.size
        return rearrange(pixels, "... c (h p) (w q) -> ... (h w) (c p q)", p=p, q=q)

    def _whole(self, features: Tensor) -> Tensor:
        """Arranges (..., patches, features) as pixels (..., [c,] h, w)."""
        p, q = self.patches.size
        h, w = self.token_shape
        pixels = rearrange(features, "... (h w) (c p q) -> ... c (h p) (w q)", h=h, w=w, p=p, q=q)
        return pixels.squeeze(-3) if len(self.variable.event_shape) == 2 else pixels

    def _free(self, tokens: Tensor) -> Tensor:
        """Returns unconstrained pixels of tokens, (..., patches, features)."""
        return tokens.double() * self._number("sd") + self._number("mean")

    def _number(self, name: str) -> float:
        return float(self.statistics[name][0])
