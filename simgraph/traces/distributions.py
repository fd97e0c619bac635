"""Distribution nodes for all traces at once.

A node function is written for one trace (and one plate element). ``torch.vmap`` maps it over the trace
axis and the plates; the distribution that it returns is taken apart inside the map into its tensors,
and put together again outside with the mapped axes in front. Whether that agrees with calling the
function trace by trace is checked, not assumed: at a few traces, by the log densities of draws.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.distributions import Distribution, Uniform, constraints

from simgraph.dsl import Node, Plate
from simgraph.errors import NodeReturnError
from simgraph.text import a_kind
from simgraph.traces.blocks import isolated
from simgraph.traces.rebuild import Build, take_apart

__all__ = [
    "Mapped",
    "agrees",
    "as_torch",
    "at_element",
    "batched",
    "call",
    "called_alone",
    "first_alone",
    "invalid_rows",
    "mappable",
    "mapped",
    "unvalidated",
]


def as_torch(value: Any) -> Any:
    """Returns a stored value as a node function of distributions sees it: default floats, or int64."""
    if isinstance(value, np.ndarray) and value.dtype == object:
        return value
    array = np.asarray(value)
    return torch.tensor(array, dtype=torch.get_default_dtype() if array.dtype.kind == "f" else torch.int64)


@contextmanager
def unvalidated() -> Iterator[None]:
    """Switches the argument validation of ``torch.distributions`` off; it reads values inside the map."""
    before = Distribution._validate_args
    Distribution.set_default_validate_args(False)
    try:
        yield
    finally:
        Distribution.set_default_validate_args(before)


def call(node: Node, values: Mapping[str, Any]) -> Distribution:
    """Calls the function of a distribution node and checks that it returns a distribution.

    Args:
        node: The node.
        values: Parent values by parameter.

    Raises:
        NodeReturnError: If it returns anything else.
    """
    result = node.signature.call(node.function, values)
    if not isinstance(result, Distribution):
        raise NodeReturnError(
            f"node {node.name!r} returned {_described(result)}; a node without rng returns a torch distribution.\n"
            f"  declared at {node.where}\n  Return a distribution, add the parameter rng to return a draw,"
            " or use @deterministic for a function of the parents."
        )
    return result


@dataclass(frozen=True)
class Mapped:
    """A node function mapped over traces and plates.

    Attributes:
        tensors: The tensors inside the distribution that it returned, of shape (rows, *plate sizes, ...).
        build: How to put the distribution together again.
        plate_shape: Sizes of the node's plates.
    """

    tensors: list[Tensor]
    build: Build
    plate_shape: tuple[int, ...]

    def distribution(self, rows: int, chosen: Tensor | None = None) -> Distribution:
        """Returns the distribution of all ``rows`` traces, or of the ``chosen`` ones, ``rows`` in number."""
        tensors = self.tensors if chosen is None else [tensor[chosen] for tensor in self.tensors]
        with unvalidated():
            built = self.build(tensors, torch.Size((rows, *self.plate_shape)))
        assert isinstance(built, Distribution)
        return built


def mapped(node: Node, values: Mapping[str, Any], axes: Mapping[str, Sequence[Plate]], rows: int) -> Mapped:
    """Maps a distribution node over many traces.

    Args:
        node: The node.
        values: Tensors by parameter, of shape (rows, *sizes of the parent's plates, *event_shape).
        axes: The parent's plates by parameter.
        rows: Number of traces.

    Raises:
        Exception: Whatever the function raises under ``torch.vmap``; callers then fall back to the loop.
    """
    parameters = tuple(values)
    build: list[Build] = []

    def leaves(*arguments: Tensor) -> tuple[Tensor, ...]:
        distribution = call(node, dict(zip(parameters, arguments[1:], strict=True)))
        found: list[Tensor] = []
        build[:] = [take_apart(distribution, found, ndim=len(distribution.batch_shape))]
        return tuple(found)

    lead = (rows, *node.plate_shape)
    if not parameters:
        with unvalidated():
            return Mapped([tensor.expand(*lead, *tensor.shape) for tensor in leaves()], build[0], node.plate_shape)
    # One map per plate from the innermost out, then the map over traces. The first argument only counts,
    # so that a plate in which no parent is gets mapped as well.
    function: Callable[..., tuple[Tensor, ...]] = leaves
    remaining = {parameter: list(axes[parameter]) for parameter in parameters}
    in_dims: list[tuple[int | None, ...]] = [(0,) * (len(parameters) + 1)]
    for plate in node.plates:
        position = {p: remaining[p].index(plate) if plate in remaining[p] else None for p in parameters}
        in_dims.append((0, *(position[p] for p in parameters)))
        for p in parameters:
            if position[p] is not None:
                remaining[p].remove(plate)
    for dims in reversed(in_dims):
        function = torch.vmap(function, in_dims=dims)
    with unvalidated():
        tensors = function(torch.zeros(1).expand(lead), *(values[p] for p in parameters))
    return Mapped(list(tensors), build[0], node.plate_shape)


def batched(node: Node, values: Mapping[str, Any], axes: Mapping[str, Sequence[Plate]], rows: int) -> Distribution:
    """Evaluates a distribution node for many traces at once; the arguments are those of :func:`mapped`.

    Returns:
        A distribution of batch shape (rows, *sizes of the node's plates, *own batch shape).
    """
    return mapped(node, values, axes, rows).distribution(rows)


def mappable(node: Node, values: Mapping[str, Any], axes: Mapping[str, Sequence[Plate]], usable: Iterable[int]) -> bool:
    """Tells whether the batched evaluation of a node agrees with calling it trace by trace.

    Args:
        node: The node.
        values: Values by parameter, with a leading trace axis.
        axes: The parent's plates by parameter.
        usable: Numbers of the rows in which all parents are there.
    """
    if any(not isinstance(value, Tensor) for value in values.values()):
        return False  # an opaque object among the parents
    alone = first_alone(node, values, axes, usable)
    few = {parameter: value[list(alone)] for parameter, value in values.items()}
    try:
        together = mapped(node, few, axes, len(alone))
        with isolated(), unvalidated():
            draws = together.distribution(len(alone)).sample()
    except Exception:  # vmap refuses (if, .item(), NumPy) in many ways, and each of them means: loop
        return False
    return agrees(together, draws, list(alone.values()), range(len(alone)))


def first_alone(
    node: Node, values: Mapping[str, Tensor], axes: Mapping[str, Sequence[Plate]], usable: Iterable[int]
) -> dict[int, list[Distribution]]:
    """Calls a distribution node for the first two traces in which it does not fail.

    Returns:
        The distributions of all plate elements, by row.
    """
    alone: dict[int, list[Distribution]] = {}
    for row in usable:
        try:
            alone[int(row)] = called_alone(node, {p: value[row] for p, value in values.items()}, axes)
        except NodeReturnError:
            raise
        except Exception:  # a failure of this trace: counted when it is drawn
            continue
        if len(alone) == 2 or not values:
            break
    return alone


def agrees(together: Mapped, draws: Tensor, alone: Sequence[Sequence[Distribution]], rows: Sequence[int]) -> bool:
    """Tells whether the draws of mapped traces have the same log densities as in the traces called alone.

    Args:
        together: The mapped node.
        draws: Draws of all its traces.
        alone: Distributions of all plate elements, for some traces.
        rows: The rows of these traces in ``together``.
    """
    if not alone:
        return False
    # A number of traces that is no other size as well, so that an axis taken for another one shows. Traces
    # are repeated to reach it, so that the answer does not depend on how many there are.
    taken = {*together.plate_shape, *(size for tensor in together.tensors for size in tensor.shape[1:])}
    count = next(size for size in itertools.count(2) if size not in taken)
    chosen = [number % len(alone) for number in range(count)]
    single = [one for number in chosen for one in alone[number]]
    few = torch.tensor([rows[number] for number in chosen])
    lead = (count, *together.plate_shape)
    try:
        with unvalidated():
            values = draws[few]
            if any(values.shape != lead + one.batch_shape + one.event_shape for one in single):
                return False
            densities = together.distribution(count, few).log_prob(values)
            flat = values.flatten(0, len(lead) - 1)
            expected = torch.stack([one.log_prob(value) for one, value in zip(single, flat, strict=True)])
    except Exception:  # put together wrongly, or without a density to compare
        return False
    return torch.allclose(densities.reshape(expected.shape), expected, rtol=1e-4, atol=1e-4, equal_nan=True)


def called_alone(
    node: Node,
    values: Mapping[str, Tensor],
    axes: Mapping[str, Sequence[Plate]],
    exists: np.ndarray | None = None,
) -> list[Distribution]:
    """Calls a distribution node for one trace.

    Args:
        node: The node.
        values: Values of that trace by parameter.
        axes: The parent's plates by parameter.
        exists: Which plate elements there are, (*plate sizes); None for all.

    Returns:
        The distribution of each plate element.
    """
    return [
        call(node, {p: at_element(value, axes[p], node.plates, element).clone() for p, value in values.items()})
        for element in np.ndindex(*node.plate_shape)
        if exists is None or exists[element]
    ]


def invalid_rows(distribution: Distribution, exists: Tensor | None = None) -> tuple[Tensor, str]:
    """Finds traces whose distribution has parameters outside of their constraints.

    Args:
        distribution: A batched distribution; its first axis is the trace.
        exists: Which plate elements there are, (rows, *plate sizes), the next axes of the distribution; None for all.

    Returns:
        A boolean tensor (rows,), and a description of the first violated constraint.
    """
    rows = torch.zeros(distribution.batch_shape[0], dtype=torch.bool)
    reason = ""
    for text, valid in _validity(distribution):
        if exists is not None:
            valid = valid | ~exists.reshape(*exists.shape, *[1] * (valid.dim() - exists.dim()))
        if not valid.all():
            reason = reason or text
            rows |= ~valid.reshape(len(valid), -1).all(1)  # of length one where all rows share a parameter
    return rows, reason


def _validity(distribution: Distribution) -> Iterator[tuple[str, Tensor]]:
    """Yields what is demanded of each parameter, and where it holds, also for the distributions inside."""
    if isinstance(distribution, Uniform):  # its constraints are on one parameter given the other
        yield "high of Uniform is not above low", torch.lt(distribution.low, distribution.high)
        return
    for name, constraint in distribution.arg_constraints.items():
        if not constraints.is_dependent(constraint) and name in vars(distribution):
            text = f"{name} of {type(distribution).__name__} violates {constraint}"
            value = getattr(distribution, name)
            yield text, constraint.check(value[:1] if value.stride(0) == 0 else value)
    for field in vars(distribution).values():
        if isinstance(field, Distribution):
            yield from _validity(field)


def at_element(value: Any, axes: Sequence[Plate], plates: Sequence[Plate], element: Sequence[int]) -> Any:
    """Returns what a node inside ``plates`` sees of a parent inside ``axes`` at one plate element.

    Shared plates are indexed at the element; plates of the parent alone arrive as a stack.
    """
    if not axes:
        return value
    at = dict(zip((plate.name for plate in plates), element, strict=True))
    return value[tuple(at.get(axis.name, slice(None)) for axis in axes)]


def _described(value: Any) -> str:
    shape = getattr(value, "shape", None)
    kind = "None (is a return statement missing?)" if value is None else a_kind(value)
    return kind if shape is None or not math.prod(shape) else f"{kind} of shape {tuple(shape)}"
