"""Nodes that see how many elements a ragged plate has: they receive the stack of those that exist.

Traces of one size are evaluated together, as if all traces had that size, and of the result theirs are kept. So what a
node draws in a trace depends on that trace's own size and not on those of others.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from simgraph.dsl import Node
from simgraph.errors import ShapeError
from simgraph.traces.batch import Batch, Inputs
from simgraph.traces.evaluate import evaluate

__all__ = ["evaluate_by_size"]


def evaluate_by_size(
    node: Node,
    inputs: Inputs,
    sizes: Mapping[str, np.ndarray],
    seed: int,
    tick: Callable[[], Any] = lambda: None,
) -> Batch:
    """Evaluates a node for many traces, whatever the sizes of the stacks that it receives.

    Args:
        node: The node.
        inputs: Its parents' values, ragged plates at their largest size.
        sizes: Sizes (rows,) of the ragged plates that it receives as stacks, by name; none for any other node.
        seed: Seed of the simulation.
        tick: Called after each trace that is run by itself.

    Returns:
        The values, and the traces that failed.

    Raises:
        NodeReturnError: If the function returns the wrong kind of thing.
        ShapeError: If a value has another shape than declared, or one that follows the size of a stack.
    """
    if not sizes:
        return evaluate(node, inputs, seed, tick)
    kinds, which = np.unique(np.stack(list(sizes.values()), 1), axis=0, return_inverse=True)
    values: np.ndarray | None = None
    failures: dict[int, str] = {}
    errors: dict[int, BaseException] = {}
    seen: dict[tuple[int, ...], tuple[int, ...]] = {}
    for number, kind in enumerate(kinds.tolist()):
        here = inputs.usable & (which.reshape(-1) == number)
        if not here.any():
            continue
        batch = evaluate(node, _of_size(inputs, dict(zip(sizes, kind, strict=True)), here), seed, tick)
        mine = {row for row in np.flatnonzero(here).tolist() if row not in batch.failures}
        failures |= {row: reason for row, reason in batch.failures.items() if here[row]}
        errors |= {row: error for row, error in batch.errors.items() if here[row]}
        if not mine:
            continue  # where every trace failed, shape and type are not known
        seen[batch.values.shape[1:]] = tuple(kind)
        if len(seen) > 1:
            _refuse_shapes(node, sizes, seen)
        if values is None:
            values = np.zeros_like(batch.values)
        elif batch.values.dtype != values.dtype:
            values = values.astype(np.result_type(values, batch.values))
        values[here] = batch.values[here]
    if values is None:
        values = np.full((inputs.rows, *node.plate_shape, *(node.shape or ())), np.nan)
    return Batch(values, failures, errors)


def _of_size(inputs: Inputs, sizes: Mapping[str, int], usable: np.ndarray) -> Inputs:
    """Returns what a node receives where ragged plates have one size."""
    values = {
        parameter: value[(slice(None), *(slice(sizes.get(plate.name)) for plate in inputs.axes[parameter]))]
        for parameter, value in inputs.values.items()
    }
    return Inputs(values, inputs.axes, inputs.first, inputs.rows, usable, inputs.exists)


def _refuse_shapes(
    node: Node, sizes: Mapping[str, np.ndarray], seen: Mapping[tuple[int, ...], tuple[int, ...]]
) -> None:
    plates = len(node.plates)
    (one, first), (other, second) = ((shape[plates:], kind) for shape, kind in seen.items())
    names = ", ".join(map(repr, sizes))
    raise ShapeError(
        f"node {node.name!r} has values of shape {one} where plate {names} has {_plain(first)} elements, and {other}"
        f" where it has {_plain(second)}.\n  declared at {node.where}\n"
        f"  A node outside of a plate has one shape, whatever the plate's size: reduce the stack (its mean, its sum),"
        f" or put the node into the plate with plates=."
    )


def _plain(kind: tuple[int, ...]) -> str:
    return " and ".join(map(str, kind))
