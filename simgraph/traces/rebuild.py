"""Distributions taken apart into their tensors, and put together again around batched ones."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.distributions import Distribution
from torch.distributions.transforms import Transform, _InverseTransform

__all__ = ["Build", "take_apart"]

Build = Callable[[Sequence[Tensor], torch.Size], Any]


def take_apart(value: Any, leaves: list[Tensor], ndim: int) -> Build:
    """Collects the tensors inside a distribution, and returns how to build it from batched ones.

    Args:
        value: A tensor, a distribution, a transform, a sequence of them, or anything else (kept).
        leaves: Receives the tensors.
        ndim: Number of axes that a tensor would have if it were not broadcast.
    """
    if isinstance(value, Tensor):
        number, shape = len(leaves), value.shape
        leaves.append(value)
        missing = (1,) * max(ndim - len(shape), 0)
        return lambda new, lead: new[number].reshape(lead + missing + shape)
    if isinstance(value, (list, tuple)) and type(value) in (list, tuple):
        items, kind = [take_apart(item, leaves, ndim) for item in value], type(value)
        return lambda new, lead: kind(item(new, lead) for item in items)
    if not isinstance(value, (Distribution, Transform)):
        return lambda new, lead: value

    # Transforms inside a distribution act on its full shape, parameters on batch shape + their own event.
    distribution = value if isinstance(value, Distribution) else None
    fields: dict[str, Build] = {}
    for name, field in vars(value).items():
        if isinstance(field, torch.Size) or name == "_cached_x_y":
            continue
        if name == "_inv" and not isinstance(value, _InverseTransform):
            fields[name] = lambda new, lead: None  # only remembered, and it points back here
            continue
        depth = ndim
        if distribution is not None:
            depth = len(distribution.batch_shape)
            if isinstance(field, Tensor):
                constraint = distribution.arg_constraints.get(name.removeprefix("_unbroadcasted_"))
                depth += 0 if constraint is None else constraint.event_dim
            else:
                depth += len(distribution.event_shape)
        fields[name] = take_apart(field, leaves, depth)
    shell = copy.copy(value)
    shell.__dict__ = {name: field for name, field in vars(value).items() if name not in fields}
    batch = () if distribution is None else tuple(distribution.batch_shape)

    def build(new: Sequence[Tensor], lead: torch.Size) -> Any:
        built = copy.copy(shell)
        built.__dict__ = dict(shell.__dict__)
        built.__dict__.update({name: field(new, lead) for name, field in fields.items()})
        if distribution is not None:
            built._batch_shape = torch.Size(lead + batch)  # type: ignore[union-attr]
        return built

    return build
