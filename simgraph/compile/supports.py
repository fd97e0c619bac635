"""Where the values of a node live, as plain data, and the bijection from there to R^n.

A support is found from the node's distribution, or from its declared ``support=``. Bounds that depend on
parents (``Uniform(0, b)``) are replaced by the hull that holds for every parent value. Finite intervals are
mapped nearly by the identity, with a little of the logit that takes over at the very edges; half-lines by the
logarithm; the simplex by stick breaking.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
import torch
from torch import Tensor
from torch.distributions import biject_to, constraints
from torch.distributions.constraints import Constraint, MixtureSameFamilyConstraint

from simgraph.errors import FileFormatError, SupportError

__all__ = ["Support", "describe_constraint"]

Kind = Literal["interval", "integers", "simplex"]

_SOFTNESS = 0.0005
"""Share of the logit in the map of finite intervals."""

_SKIN = 10 * _SOFTNESS

_NEWTON_STEPS = 30

_MOST_LOG = 700.0
"""Logarithm of the largest value of a half-line; doubles end at 709."""

_MARGIN = 1e-12
"""Relative distance that values keep from finite bounds, so that the bijection stays finite."""

_LEAST_SHARE = 1e-9
"""Coordinates on the simplex are kept that far from 0, so that the bijection stays finite."""


@dataclass(frozen=True)
class Support:
    """Where the values of a node live.

    Attributes:
        kind: ``"interval"`` (reals, half-lines, intervals, element by element), ``"integers"`` (whole
            numbers between bounds) or ``"simplex"`` (the last axis sums to one).
        low: Lower bounds, an array of the event shape or a scalar; ``-inf`` where there is none.
        high: Upper bounds likewise, ``inf`` where there is none.
    """

    kind: Kind
    low: np.ndarray
    high: np.ndarray

    @property
    def event_dim(self) -> int:
        """Number of trailing axes that only make sense together."""
        return 1 if self.kind == "simplex" else 0

    @property
    def is_real(self) -> bool:
        """Whether every real number is allowed."""
        return self.kind == "interval" and bool(np.isneginf(self.low).all() and np.isposinf(self.high).all())

    def contains(self, values: np.ndarray) -> np.ndarray:
        """Tells which values lie in the support; reduces the trailing ``event_dim`` axes."""
        if self.kind in ("interval", "integers"):
            inside = np.isfinite(values) & (values >= self.low) & (values <= self.high)
            return inside & (values == np.round(values)) if self.kind == "integers" else inside
        return np.asarray((values >= 0).all(-1) & (np.abs(values.sum(-1) - 1) < 1e-5))

    def unconstrain(self, values: Tensor) -> Tensor:
        """Maps float64 values (..., *event_shape) to R^n, by element or by slice.

        Raises:
            SupportError: If the support is one of integers; those are coded, not mapped.
        """
        if self.kind == "interval":
            low, high, bounded, above, below = self._masks()
            tiny = torch.finfo(torch.float64).tiny
            out = values.clone()
            width = torch.where(bounded, high - low, 1.0)  # never 0, so that gradients are numbers
            unit = ((values - low) / width).clamp(_MARGIN, 1 - _MARGIN)
            out = torch.where(bounded, _soft_box(unit), out)
            out = torch.where(above, (values - low).clamp_min(tiny).log(), out)
            return torch.where(below, -(high - values).clamp_min(tiny).log(), out)
        if self.kind == "simplex":
            positive = values.clamp_min(_LEAST_SHARE)
            return biject_to(constraints.simplex).inv(positive / positive.sum(-1, keepdim=True))
        raise SupportError(f"a support of {self.kind} has no bijection.")

    def log_abs_det(self, values: Tensor) -> Tensor:
        """Returns log |det db / dv| of the bijection b = :meth:`unconstrain` at float64 values v, in closed form.

        On an interval it is taken element by element, (..., *event_shape). On the simplex it is that of the first
        K - 1 coordinates, (...), as densities of ``torch.distributions.Dirichlet`` are: with what is left of the stick
        r_i = 1 - v_1 - ... - v_i, the matrix is triangular with the diagonal r_(i-1) / (r_i v_i), and the product
        telescopes to 1 / (v_1 ... v_K).

        Raises:
            SupportError: If the support is one of integers.
        """
        if self.kind == "interval":
            low, high, bounded, above, below = self._masks()
            tiny = torch.finfo(torch.float64).tiny
            width = torch.where(bounded, high - low, 1.0)
            unit = ((values - low) / width).clamp(_MARGIN, 1 - _MARGIN)
            stretched = (_SOFTNESS / (unit * (1 - unit))).log1p() - width.log()
            out = torch.where(bounded, stretched, torch.zeros_like(values))
            out = torch.where(above, -(values - low).clamp_min(tiny).log(), out)
            return torch.where(below, -(high - values).clamp_min(tiny).log(), out)
        if self.kind == "simplex":
            positive = values.clamp_min(_LEAST_SHARE)
            return -(positive / positive.sum(-1, keepdim=True)).log().sum(-1)
        raise SupportError(f"a support of {self.kind} has no bijection.")

    def constrain(self, values: Tensor) -> Tensor:
        """Maps R^n back to float64 values in the support; the inverse of :meth:`unconstrain`."""
        if self.kind == "interval":
            low, high, bounded, above, below = self._masks()
            out = values
            if bounded.any():  # the inverse is found step by step, which takes its time
                out = torch.where(bounded, low + (high - low) * _soft_box_inverse(values), values)
            size = values.clamp(-_MOST_LOG, _MOST_LOG)
            out = torch.where(above, low + size.exp(), out)
            out = torch.where(below, high - (-size).exp(), out)
            return torch.maximum(torch.minimum(out, torch.as_tensor(self.high)), torch.as_tensor(self.low))
        return biject_to(constraints.simplex)(values)

    def beyond(self, values: Tensor) -> Tensor:
        """Tells which unconstrained values lie where the edge of a finite interval has no mass to speak of.

        The map of finite intervals gives each end a thin skin outside of [0, 1]; under a uniform law
        values leave the skin once in 20 000 draws. A density that is cut off at the edge is hard to learn
        sharply, and what leaks through is found there.
        """
        bounded = torch.as_tensor(np.isfinite(self.low) & np.isfinite(self.high))
        return bounded & ((values < -_SKIN) | (values > 1 + _SKIN))

    def rounded(self, values: Tensor) -> Tensor:
        """Returns float64 values in the type that users see: int64, or default floats strictly inside the bounds."""
        if self.kind == "integers":
            return values.round().long()
        largest = torch.finfo(torch.get_default_dtype()).max
        out = values.clamp(-largest, largest).to(torch.get_default_dtype())
        if self.kind == "simplex":
            return out
        low, high = (torch.as_tensor(bound).to(out.dtype) for bound in (self.low, self.high))
        ends = torch.nextafter(low, high), torch.nextafter(high, low)
        return torch.where(low.isfinite() | high.isfinite(), torch.maximum(torch.minimum(out, ends[1]), ends[0]), out)

    def _masks(self) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
        """Returns bounds with infinities replaced by 0 and 1, and which elements have which bounds."""
        low, high = torch.as_tensor(self.low), torch.as_tensor(self.high)
        has_low, has_high = low.isfinite(), high.isfinite()
        bounded = has_low & has_high
        low_safe = torch.where(has_low, low, torch.zeros_like(low))
        high_safe = torch.where(has_high, high, torch.ones_like(high))
        high_for_unit = torch.where(bounded, high_safe, low_safe + 1)
        return (
            low_safe,
            torch.where(has_low, high_for_unit, high_safe),
            bounded,
            has_low & ~has_high,
            has_high & ~has_low,
        )

    def to_json(self) -> dict[str, Any]:
        """Returns the support as JSON data."""
        return {"kind": self.kind, "low": self.low.tolist(), "high": self.high.tolist()}

    @staticmethod
    def from_json(data: dict[str, Any]) -> Support:
        """Reads a support back from :meth:`to_json`."""
        if data["kind"] not in get_args(Kind):
            raise FileFormatError(f"a support of kind {data['kind']!r} is not known.")
        return Support(data["kind"], np.array(data["low"], dtype=np.float64), np.array(data["high"], dtype=np.float64))

    def __str__(self) -> str:
        if self.kind == "simplex":
            return "simplex"
        if self.is_real:
            return "real"
        low = _one_or_range(self.low)
        high = _one_or_range(self.high)
        return f"{{{low}..{high}}}" if self.kind == "integers" else f"({low}, {high})"


def _soft_box(unit: Tensor) -> Tensor:
    """Maps (0, 1) to R: the identity plus a little of the logit, so that only the edges are stretched."""
    return unit + _SOFTNESS * torch.logit(unit)


def _soft_box_inverse(values: Tensor) -> Tensor:
    """Inverts :func:`_soft_box` by Newton's method in the logit, where the map is monotone and smooth."""
    # Outside of the box the logit dominates, inside the identity does.
    logit = torch.where(
        values < 0, values / _SOFTNESS, torch.where(values > 1, (values - 1) / _SOFTNESS, torch.logit(values, eps=1e-4))
    )
    with torch.no_grad():
        for _ in range(_NEWTON_STEPS):
            logit = _newton(logit, values)
    if values.requires_grad:  # each step doubles the order up to which derivatives are exact: third ones here
        logit = _newton(_newton(logit, values), values)
    return torch.sigmoid(logit)


def _newton(logit: Tensor, values: Tensor) -> Tensor:
    unit = torch.sigmoid(logit)
    return logit - (unit + _SOFTNESS * logit - values) / (unit * (1 - unit) + _SOFTNESS)


def describe_constraint(constraint: Constraint, name: str) -> Support:
    """Reads one constraint object, whose bounds may be tensors of the node's full (batched) shape.

    Args:
        constraint: A ``torch.distributions`` constraint.
        name: The node, for the error message.

    Raises:
        SupportError: If the constraint is of a kind that has no tokens yet.
    """
    while isinstance(constraint, constraints.independent):
        constraint = constraint.base_constraint
    if isinstance(constraint, MixtureSameFamilyConstraint):
        return _over_components(describe_constraint(constraint.base_constraint, name), constraint.event_dim)
    infinity = np.array(np.inf)
    if constraint is constraints.simplex:
        return Support("simplex", np.array(0.0), np.array(1.0))
    if constraint is constraints.boolean:
        return Support("integers", np.array(0.0), np.array(1.0))
    if constraint is constraints.real or constraint is constraints.real_vector:
        return Support("interval", -infinity, infinity)
    low = _bound(constraint, "lower_bound", -infinity)
    high = _bound(constraint, "upper_bound", infinity)
    integer_kinds = (
        type(constraints.integer_interval(0, 1)),
        type(constraints.nonnegative_integer),
        type(constraints.positive_integer),
    )
    if isinstance(constraint, integer_kinds):
        return Support("integers", low, high)
    interval_kinds = (
        type(constraints.interval(0, 1)),
        type(constraints.half_open_interval(0, 1)),
        type(constraints.greater_than(0)),
        type(constraints.greater_than_eq(0)),
        type(constraints.less_than(0)),
    )
    if isinstance(constraint, interval_kinds):
        return Support("interval", low, high)
    raise SupportError(
        f"node {name!r} has the support {constraint}, which has no tokenizer.\n"
        "  Known are reals, half-lines, intervals, integers, booleans and the simplex."
    )


def _over_components(support: Support, event_ndim: int) -> Support:
    """Returns the hull of the supports of a mixture's components, which lie along the axis before the event's."""
    axis = -1 - event_ndim
    low, high = (np.asarray(bound) for bound in (support.low, support.high))
    low = low.min(axis) if low.ndim > event_ndim else low
    high = high.max(axis) if high.ndim > event_ndim else high
    return Support(support.kind, np.asarray(low), np.asarray(high))


def _bound(constraint: Constraint, attribute: str, default: np.ndarray) -> np.ndarray:
    value = getattr(constraint, attribute, None)
    if value is None:
        return default
    if isinstance(value, Tensor):
        value = value.detach().cpu().numpy()
    return np.asarray(value, dtype=np.float64)


def _one_or_range(values: np.ndarray) -> str:
    low, high = float(values.min()), float(values.max())
    return f"{low:g}" if low == high else f"{low:g}..{high:g}"
