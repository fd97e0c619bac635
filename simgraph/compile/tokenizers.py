r"""Values of a variable <-> tokens of a transformer.

A tokenizer maps the values of one variable to standardised tokens: element by element for reals, whole
for vectors that live on a simplex, and coded for categories. With the bijection
:math:`b` of the support, centre :math:`m` and scale :math:`s`, the token of a real element is
:math:`(b(v) - m) / s`; where the training values are heavy-tailed the standardised value passes through
:math:`\operatorname{asinh}` first. Statistics are fitted per event element and pooled over plates, whose
elements are exchangeable.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from simgraph.compile.probe import Variable
from simgraph.compile.standardise import standardise
from simgraph.compile.supports import Support
from simgraph.dsl import Patches
from simgraph.errors import DeclarationError

__all__ = ["MAX_CLASSES", "Categories", "Elements", "Simplex", "Tokenizer", "tokenizer_for"]

MAX_CLASSES = 32
"""Up to so many whole numbers are categories with a token of one number each; more are counted."""


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

    @abstractmethod
    def fit(self, values: np.ndarray, present: np.ndarray) -> Tokenizer:
        """Returns the tokenizer with statistics of ``values``, of which only the ``present`` ones count."""

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
        lead = present.shape[: present.dim() - len(self.variable.event_shape)]
        return present.reshape(*lead, self.num_tokens, -1).all(-1)


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
        return self._standard(free.reshape(*_lead(values, self), self.num_tokens)).float().unsqueeze(-1)

    def log_scale(self, values: Tensor) -> Tensor:
        s, lead = self._tensors(), _lead(values, self)
        free = self._unconstrain(values).reshape(*lead, self.num_tokens)
        slope = self._cells().log_abs_det(values + 0.5) if self.counts else self.variable.support.log_abs_det(values)
        z = (free - s["centre"]) / s["scale"]
        bent = torch.where(s["heavy"] > 0, -0.5 * z.square().log1p(), 0.0)
        return slope.reshape(*lead, self.num_tokens) + bent - (s["scale"] * s["sd"]).log()

    def cells(self, counts: Tensor) -> Tensor:
        """Returns where the cells of counts (..., *event_shape) begin and end, as tokens (..., num_tokens, 2).

        The outermost cells reach to infinity, so that all cells together are everything.
        """
        lead, support = _lead(counts, self), self.variable.support
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
        """Tells which unconstrained values lie beyond the skin of a finite interval."""
        return (self._cells() if self.counts else self.variable.support).beyond(free)

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
        # A count k is a cell [k, k + 1) of the half-line or interval that holds all cells.
        jitter = 0.5 if generator is None else torch.rand(values.shape, generator=generator, dtype=torch.float64)
        return self._cells().unconstrain(values + jitter)

    def _constrain(self, free: Tensor) -> Tensor:
        if not self.counts:
            return self.variable.support.constrain(free)
        support = self.variable.support
        counts = self._cells().constrain(free).floor()
        return torch.maximum(torch.minimum(counts, torch.as_tensor(support.high)), torch.as_tensor(support.low))

    def _cells(self) -> Support:
        support = self.variable.support
        return Support("interval", support.low, support.high + 1)

    def _tensors(self) -> dict[str, Tensor]:
        return {name: torch.as_tensor(array, dtype=torch.float64) for name, array in self.statistics.items()}


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
        number = (values.reshape(*_lead(values, self), self.num_tokens) - self.low).long()
        return codes[number.clamp(0, self.classes - 1)]

    def log_scale(self, values: Tensor) -> Tensor:
        return torch.zeros(*_lead(values, self), self.num_tokens, dtype=torch.float64)

    def detokenize(self, tokens: Tensor) -> Tensor:
        number = tokens[..., : self.classes].argmax(-1) + self.low
        return number.double().reshape(*tokens.shape[:-2], *self.variable.event_shape)

    def codes(self) -> Tensor:
        """Returns the code of each class, (classes, classes)."""
        return self.classes**0.5 * (torch.eye(self.classes) - 1 / self.classes)


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
        return free.reshape(*_lead(values, self), self.num_tokens, self.width).float()

    def log_scale(self, values: Tensor) -> Tensor:
        slope = self.variable.support.log_abs_det(values).reshape(*_lead(values, self), self.num_tokens)
        return slope - self._tensor("sd").log().sum()

    def detokenize(self, tokens: Tensor) -> Tensor:
        free = tokens.double() * self._tensor("sd") + self._tensor("mean")
        return self.variable.support.constrain(free.reshape(*tokens.shape[:-2], *self.token_shape, self.width))

    def _tensor(self, name: str) -> Tensor:
        return torch.as_tensor(self.statistics[name], dtype=torch.float64)


def tokenizer_for(variable: Variable) -> Tokenizer:
    """Chooses the tokenizer of a variable: the declared one, or by its support; not fitted yet.

    Raises:
        DeclarationError: If an image cannot be cut as declared.
    """
    support = variable.support
    if variable.patches is not None:
        return _patched(variable, variable.patches)
    if support.kind == "simplex":
        return Simplex(variable, {})
    if support.kind == "integers":
        classes = support.high.max() - support.low.min() + 1
        if classes <= MAX_CLASSES:
            return Categories(variable, {})
    return Elements(variable, {})


def _patched(variable: Variable, patches: Patches) -> Tokenizer:
    from simgraph.compile.patches import PatchTokens

    if variable.support.kind != "interval":
        raise DeclarationError(
            f"node {variable.name!r} has the support {variable.support}, and tokenizer={patches}.\n"
            "  Patches hold real numbers: leave tokenizer= out."
        )
    patches.grid(variable.event_shape, variable.name)
    return PatchTokens(variable, {})


def _lead(values: Tensor, tokenizer: Tokenizer) -> torch.Size:
    return values.shape[: values.dim() - len(tokenizer.variable.event_shape)]
