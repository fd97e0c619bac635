"""Images and series <-> tokens: one token for each patch of pixels or chunk of steps, all that it holds as features.

A pixel passes through the bijection of its support and is standardised by the mean and the standard deviation of all
pixels of its channel in the training split, so that brightness means the same everywhere in the image.
"""

from __future__ import annotations

import numpy as np
import torch
from einops import rearrange
from torch import Tensor

from simgraph.compile.tokenizer import Tokenizer
from simgraph.dsl import Pieces

__all__ = ["PieceTokens"]


class PieceTokens(Tokenizer):
    """One token for each piece of an image or a series, as its variable declares it."""

    kind = "pieces"

    @property
    def pieces(self) -> Pieces:
        """How the image is cut."""
        assert isinstance(self.variable.tokenizer, Pieces)
        return self.variable.tokenizer

    @property
    def image(self) -> tuple[int, int, int]:
        """(channels, height, width) of one value; a series has the height 1."""
        image = self.pieces.image(self.variable.event_shape)
        assert image is not None
        return image

    @property
    def token_shape(self) -> tuple[int, ...]:
        return self.pieces.grid(self.variable.event_shape)

    @property
    def width(self) -> int:
        return int(np.prod(self.variable.event_shape)) // self.num_tokens

    def fit(self, values: np.ndarray, present: np.ndarray) -> PieceTokens:
        free = self.variable.support.unconstrain(torch.as_tensor(values, dtype=torch.float64))
        edge = bool((self.variable.support.beyond(free).numpy() & present).any())
        channels, known = (array.reshape(-1, *self.image) for array in (free.numpy(), present))
        mean, sd = np.zeros(self.image[0]), np.ones(self.image[0])
        for number in range(self.image[0]):
            kept = channels[:, number][known[:, number]]
            if kept.size:
                mean[number], sd[number] = kept.mean(), kept.std() or 1.0
        return PieceTokens(self.variable, {"mean": mean, "sd": sd, "edge": np.array([float(edge)])})

    def tokenize(self, values: Tensor, generator: torch.Generator | None = None) -> Tensor:
        image = self._image(self.variable.support.unconstrain(values))
        return self._cut((image - self._of_channels("mean")) / self._of_channels("sd")).float()

    def detokenize(self, tokens: Tensor) -> Tensor:
        return self.variable.support.constrain(self._free(tokens))

    def log_scale(self, values: Tensor) -> Tensor:
        slope = self._image(self.variable.support.log_abs_det(values)) - self._of_channels("sd").log()
        return self._cut(slope).sum(-1)

    def leaked(self, tokens: Tensor) -> Tensor:
        if self.statistics["edge"][0]:
            return torch.zeros(tokens.shape[:-1], dtype=torch.bool)
        return self._cut(self._image(self.variable.support.beyond(self._free(tokens)))).any(-1)

    def present(self, present: Tensor) -> Tensor:
        return self._cut(self._image(present)).all(-1)

    def owners(self) -> np.ndarray:
        number = torch.arange(self.num_tokens).unsqueeze(-1).expand(-1, self.width)
        return self._whole(number).reshape(self.variable.event_shape).numpy()

    def _image(self, values: Tensor) -> Tensor:
        """Arranges values (..., *event_shape) as (..., channels, height, width)."""
        return values.reshape(*self.lead(values), *self.image)

    def _cut(self, image: Tensor) -> Tensor:
        """Arranges (..., channels, height, width) as (..., pieces, features)."""
        p, q = self.pieces.size
        return rearrange(image, "... c (h p) (w q) -> ... (h w) (c p q)", p=p, q=q)

    def _whole(self, features: Tensor) -> Tensor:
        """Arranges (..., pieces, features) as (..., channels, height, width)."""
        p, q = self.pieces.size
        return rearrange(features, "... (h w) (c p q) -> ... c (h p) (w q)", h=self.image[1] // p, p=p, q=q)

    def _free(self, tokens: Tensor) -> Tensor:
        """Returns unconstrained values (..., *event_shape) of tokens."""
        image = self._whole(tokens.double()) * self._of_channels("sd") + self._of_channels("mean")
        return image.reshape(*tokens.shape[:-2], *self.variable.event_shape)

    def _of_channels(self, name: str) -> Tensor:
        """Returns statistics of the channels, (channels, 1, 1)."""
        return torch.as_tensor(self.statistics[name], dtype=torch.float64).reshape(-1, 1, 1)
