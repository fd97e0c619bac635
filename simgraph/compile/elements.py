r"""One token for each number.

With the bijection :math:`b` of the support, centre :math:`m` and scale :math:`s`, the token of a real element is
:math:`(b(v) - m) / s`; where the training values are heavy-tailed the standardised value passes through
:math:`\operatorname{asinh}` first. Statistics are fitted per event element and pooled over plates, whose elements are
exchangeable.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from simgraph.compile.counts import Cells
from simgraph.compile.standardise import standardise
from simgraph.compile.tokenizer import Tokenizer

__all__ = ["Elements"]


class Elements(Tokenizer):
    """One token per element: reals, half-lines, intervals, and counts (dequantised)."""

    kind = "elements"

    @property
    def token_shape(self) -> tuple[int, ...]:
        return self.variable.event_shape

    @property
    def width(self) -> int:
        return 1

    @property
    def counts(self) -> bool:
        """Whether the elements are counts."""
        return self.variable.support.kind == "integers"

    def fit(self, values: np.ndarray, present: np.ndarray) -> Elements:
        free = self._unconstrain(torch.as_tensor(values, dtype=torch.float64)).numpy()
        flat = free.reshape(-1, self.num_tokens)
        exists = present.reshape(-1, self.num_tokens)
        # Where training values lie at the very edge there is mass, and draws there are no leaks.
        edge = self._beyond(torch.from_numpy(free)).numpy().reshape(-1, self.num_tokens) & exists
        columns = [
            standardise(flat[exists[:, i], i]) | {"edge": float(edge[:, i].any())} for i in range(self.num_tokens)
        ]
        if self.counts:
            # As training sees them: spread over their cells, which matters where nearly all of them are equal.
            generator = torch.Generator().manual_seed(0)
            spread = self._unconstrain(torch.as_tensor(values, dtype=torch.float64), generator).numpy()
            for i, column in enumerate(columns):
                if not column["constant"]:
                    column |= standardise(spread.reshape(flat.shape)[exists[:, i], i])
        names = ("centre", "scale", "heavy", "mean", "sd", "constant", "edge")
        return Elements(self.variable, {n: np.array([c[n] for c in columns]) for n in names})

    def tokenize(self, values: Tensor, generator: torch.Generator | None = None) -> Tensor:
        free = self._unconstrain(values, generator)
        return self._standard(free.reshape(*self.lead(values), self.num_tokens)).float().unsqueeze(-1)

    def log_scale(self, values: Tensor) -> Tensor:
        s, lead = self._tensors(), self.lead(values)
        free = self._unconstrain(values).reshape(*lead, self.num_tokens)
        slope = self._cells().log_abs_det(values + 0.5) if self.counts else self.variable.support.log_abs_det(values)
        z = (free - s["centre"]) / s["scale"]
        bent = torch.where(s["heavy"] > 0, -0.5 * z.square().log1p(), 0.0)
        return slope.reshape(*lead, self.num_tokens) + bent - (s["scale"] * s["sd"]).log()

    def cells(self, counts: Tensor) -> Tensor:
        """Returns where the cells of counts (..., *event_shape) begin and end, as tokens (..., num_tokens, 2).

        The outermost cells reach to infinity, so that all cells together are everything.
        """
        lead, support = self.lead(counts), self.variable.support
        below, above = counts <= torch.as_tensor(support.low), counts >= torch.as_tensor(support.high)
        ends = []
        for end, open_end, infinity in ((counts, below, -torch.inf), (counts + 1, above, torch.inf)):
            free = self._cells().unconstrain(end).reshape(*lead, self.num_tokens)
            ends.append(torch.where(open_end.reshape(free.shape), infinity, self._standard(free)))
        return torch.stack(ends, -1)

    def detokenize(self, tokens: Tensor) -> Tensor:
        return self._constrain(self._free(tokens))

    def places(self, tokens: Tensor) -> Tensor:
        """Maps tokens (..., num_tokens, 1) of counts to float64 places in their cells: those of k lie in [k, k + 1]."""
        return self._cells().constrain(self._free(tokens))

    def leaked(self, tokens: Tensor) -> Tensor:
        beyond = self._beyond(self._free(tokens)).reshape(tokens.shape[:-1])
        return beyond & (self._tensors()["edge"] == 0)

    def _beyond(self, free: Tensor) -> Tensor:
        """Tells which unconstrained values lie beyond the skin of a finite interval; those of counts never do."""
        return torch.zeros_like(free, dtype=torch.bool) if self.counts else self.variable.support.beyond(free)

    def _standard(self, free: Tensor) -> Tensor:
        """Returns float64 tokens of unconstrained values, both (..., num_tokens)."""
        s = self._tensors()
        z = (free - s["centre"]) / s["scale"]
        return (torch.where(s["heavy"] > 0, torch.asinh(z), z) - s["mean"]) / s["sd"]

    def _free(self, tokens: Tensor) -> Tensor:
        """Returns unconstrained values (..., *event_shape) of tokens."""
        s = self._tensors()
        z = tokens.squeeze(-1).double() * s["sd"] + s["mean"]
        z = torch.where(s["heavy"] > 0, torch.sinh(z), z)
        free = torch.where(s["constant"] > 0, s["centre"], z * s["scale"] + s["centre"])
        return free.reshape(*tokens.shape[:-2], *self.variable.event_shape)

    def _unconstrain(self, values: Tensor, generator: torch.Generator | None = None) -> Tensor:
        if not self.counts:
            return self.variable.support.unconstrain(values)
        jitter = 0.5 if generator is None else torch.rand(values.shape, generator=generator, dtype=torch.float64)
        return self._cells().unconstrain(values + jitter)

    def _constrain(self, free: Tensor) -> Tensor:
        if not self.counts:
            return self.variable.support.constrain(free)
        support = self.variable.support
        counts = self._cells().constrain(free).floor()
        return torch.maximum(torch.minimum(counts, torch.as_tensor(support.high)), torch.as_tensor(support.low))

    def _cells(self) -> Cells:
        return Cells(self.variable.support.low, self.variable.support.high)

    def _tensors(self) -> dict[str, Tensor]:
        return {name: torch.as_tensor(array, dtype=torch.float64) for name, array in self.statistics.items()}
