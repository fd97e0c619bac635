r"""The conditional density of one distribution node, log p(v | parents), for many rows.

Three things can stand in the way of computing all rows together in double precision: a function that ``torch.vmap``
refuses, a function that holds single-precision constants, and a single row in which the function fails. For the first
two another way is chosen once; of the third the rows are halved until those that fail are alone.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.distributions import Distribution

from simgraph.dsl import Node, Plate
from simgraph.errors import NodeReturnError, QueryError
from simgraph.traces.distributions import at_element, call, invalid_rows, mappable, mapped, unvalidated

__all__ = ["Way", "choose_way", "log_density"]

Axes = Mapping[str, Sequence[Plate]]


@dataclass(frozen=True)
class Way:
    """How to evaluate a node.

    Attributes:
        together: Whether all rows are evaluated at once; otherwise one by one.
        floats: The float type in which the function computes.
    """

    together: bool
    floats: torch.dtype


def choose_way(node: Node, own: Tensor, parents: Mapping[str, Any], axes: Axes) -> Way:
    """Finds out on a few rows how to evaluate a node; the arguments are those of :func:`log_density`.

    Raises:
        QueryError: If the log density cannot be computed in any way.
    """
    plain = torch.get_default_dtype()
    reason: Exception | None = None
    for way in (Way(True, torch.float64), Way(True, plain), Way(False, torch.float64), Way(False, plain)):
        try:
            with _floats(way.floats):
                if way.together and not mappable(node, _cast(parents, way.floats), axes, range(len(own))):
                    continue
            found = log_density(node, own, parents, axes, way)
        except NodeReturnError:
            raise
        except Exception as error:  # mixed float types, or no density: the next way may do
            reason = error
            continue
        # One at a time, a function that refuses doubles fails in every row. Draws of its own are possible.
        if way == Way(False, plain) or not found.isneginf().all():
            return way
    raise QueryError(
        f"the log density of {node.name!r} cannot be computed: {type(reason).__name__}: {reason}\n"
        f"  declared at {node.where}\n"
        "  Return a distribution that has log_prob, or leave the node out with graph.prune(...)."
    )


def log_density(node: Node, own: Tensor, parents: Mapping[str, Any], axes: Axes, way: Way) -> Tensor:
    """Returns log p(v | parents) of each row, summed over plates and elements: float64 (rows,).

    It is minus infinity outside of the support, and where the function raises, returns an invalid distribution, or
    the density is no number.

    Args:
        node: The distribution node.
        own: Its values (rows, *plate sizes, *event_shape). Supports are checked in the type they arrive in.
        parents: Values by parameter: tensors (rows, *sizes of the parent's plates, *event_shape), or arrays of objects.
        axes: The parent's plates by parameter.
        way: How to evaluate the node.
    """
    with _floats(way.floats):
        cast = _cast(parents, way.floats)
        found = _together(node, own, cast, axes) if way.together else _one_by_one(node, own, cast, axes)
    found = found.double()
    return torch.where(found.isnan(), -torch.inf, found)


def _together(node: Node, own: Tensor, parents: Mapping[str, Tensor], axes: Axes) -> Tensor:
    rows = len(own)
    try:
        law = mapped(node, parents, axes, rows)
    except NodeReturnError:
        raise
    except Exception:  # in some row the function fails: no Cholesky factor, say
        if rows == 1:
            return _impossible(1)
        half = rows // 2
        parts = [slice(half), slice(half, rows)]
        return torch.cat([_together(node, own[p], {k: v[p] for k, v in parents.items()}, axes) for p in parts])
    with unvalidated():
        distribution = law.distribution(rows)
        possible = _possible(distribution, own)
        if bool(possible.all()):
            return _summed(distribution, own)
        # Elsewhere a formula gives anything, and its gradient NaN; so it is not asked there.
        chosen = possible.nonzero().flatten()
        if not len(chosen):
            return _impossible(rows)
        inside = _summed(law.distribution(len(chosen), chosen), own[chosen])
    return _impossible(rows).to(inside.dtype).index_put((chosen,), inside)


def _one_by_one(node: Node, own: Tensor, parents: Mapping[str, Any], axes: Axes) -> Tensor:
    found: list[Tensor] = []
    for row in range(len(own)):
        total = torch.zeros(())
        try:
            for element in np.ndindex(*node.plate_shape):
                seen = {p: at_element(value[row], axes[p], node.plates, element) for p, value in parents.items()}
                distribution = call(node, {p: v.clone() if isinstance(v, Tensor) else v for p, v in seen.items()})
                value = own[row][element]
                with unvalidated():
                    inside = bool(_inside(distribution, value).all())
                    value = value.to(torch.get_default_dtype())
                    total = total + (distribution.log_prob(value).sum() if inside else -torch.inf)
        except (NodeReturnError, NotImplementedError):
            raise
        except Exception:  # the function's own failure at these values
            total = torch.tensor(-torch.inf)
        found.append(total.double())
    return torch.stack(found)


def _possible(distribution: Distribution, own: Tensor) -> Tensor:
    """Tells in which rows the distribution is valid and the value in its support."""
    with torch.no_grad():
        return ~invalid_rows(distribution)[0] & _inside(distribution, own).reshape(len(own), -1).all(1)


def _inside(distribution: Distribution, value: Tensor) -> Tensor:
    """Tells which values lie in the support, or that all do where the distribution states none."""
    try:
        support = distribution.support
    except NotImplementedError:
        support = None
    return torch.ones(len(value) if value.dim() else 1, dtype=torch.bool) if support is None else support.check(value)


def _summed(distribution: Distribution, own: Tensor) -> Tensor:
    """Returns log densities summed over all but the rows; values are floats, as draws of most distributions are."""
    return distribution.log_prob(own.to(torch.get_default_dtype())).reshape(len(own), -1).sum(1)


def _impossible(rows: int) -> Tensor:
    return torch.full((rows,), -torch.inf, dtype=torch.float64)


def _cast(parents: Mapping[str, Any], floats: torch.dtype) -> dict[str, Any]:
    """Returns parents with their floats in one type; whole numbers and objects stay what they are."""
    return {p: v.to(floats) if isinstance(v, Tensor) and v.dtype.is_floating_point else v for p, v in parents.items()}


@contextmanager
def _floats(dtype: torch.dtype) -> Iterator[None]:
    """Makes new tensors of a node function hold floats of one type."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(before)
