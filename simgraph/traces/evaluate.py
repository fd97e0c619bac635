"""One node for many traces.

Functions that run one trace at a time draw from the stream of (seed, name, trace, element). Distribution
nodes that can be mapped, and vectorised nodes, draw in blocks; their rows start at the beginning of a
block and are padded to whole blocks, so that a block is always drawn whole and then cut.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch

from simgraph.dsl import Node
from simgraph.traces.batch import Batch, Inputs, Rows, as_array, whole_blocks
from simgraph.traces.blocks import UnsplittableError, blockwise
from simgraph.traces.distributions import (
    agrees,
    as_torch,
    called_alone,
    first_alone,
    invalid_rows,
    mappable,
    mapped,
    unvalidated,
)
from simgraph.traces.loop import distribution_draw, function_value, run_loop
from simgraph.traces.seeds import BLOCK
from simgraph.traces.sizes import stand_in
from simgraph.traces.vectorized import run_vectorized

__all__ = ["draws_in_blocks", "evaluate"]


def draws_in_blocks(node: Node) -> bool:
    """Tells whether a node may draw many traces together, so that its rows must start with a block."""
    return node.kind == "distribution" or node.vectorized


def evaluate(
    node: Node, inputs: Inputs, seed: int, tick: Callable[[], Any] = lambda: None, *, trusted: bool = False
) -> Batch:
    """Evaluates a node for many traces.

    Args:
        node: The node.
        inputs: Its parents' values.
        seed: Seed of the simulation.
        tick: Called after each trace that is run by itself.
        trusted: Whether a vectorised node is known to keep its promise, so that it is not checked again.

    Returns:
        The values, and the traces that failed.

    Raises:
        NodeReturnError: If the function returns the wrong kind of thing.
        ShapeError: If a value has another shape than declared.
    """
    if isinstance(node.function, Rows):
        return Batch(node.function(inputs.first, inputs.rows))
    if node.kind == "constant":
        value = np.asarray(node.function())
        return Batch(np.broadcast_to(value, (inputs.rows, *value.shape)))
    if node.kind == "distribution":
        try:
            return _mapped(node, inputs, seed)
        except UnsplittableError:
            pass
        return _checked(node, inputs, run_loop(node, inputs, distribution_draw(node, seed), tick))
    if node.vectorized:
        return _checked(node, inputs, run_vectorized(node, inputs, seed, trusted=trusted))
    return _checked(node, inputs, run_loop(node, inputs, function_value(node, seed), tick))


def _mapped(node: Node, inputs: Inputs, seed: int) -> Batch:
    """Draws a distribution node in whole blocks.

    Traces in which the function raises, or whose distribution is invalid, are set aside before the draw.

    Raises:
        UnsplittableError: If the node has to be run one trace at a time.
    """
    if any(value.dtype == object for value in inputs.values.values()):
        raise UnsplittableError("an opaque object among the parents")
    tensors = {parameter: _as_tensor(value) for parameter, value in inputs.values.items()}
    failures: dict[int, str] = {}
    errors: dict[int, BaseException] = {}
    usable = inputs.usable.copy()
    rows = inputs.rows + -inputs.rows % BLOCK
    while usable.any():
        filled = {parameter: _filled(tensor, usable) for parameter, tensor in tensors.items()}
        try:
            together = mapped(node, filled, inputs.axes, rows)
            distribution = together.distribution(rows)
        except Exception as error:  # a trace of its own (no Cholesky factor), or something that vmap refuses
            refused = not mappable(node, tensors, inputs.axes, np.flatnonzero(usable))
            found = {} if refused else _raised(node, inputs, tensors, usable)
            if not found:
                raise UnsplittableError(str(error)) from error
            errors.update(found)
            failures.update({row: type(one).__name__ for row, one in found.items()})
            usable[list(found)] = False
            continue
        invalid, reason = invalid_rows(distribution, _whole(inputs.exists, rows))
        bad = np.flatnonzero(invalid[: inputs.rows].numpy() & usable).tolist() if reason else []
        if not bad:
            try:
                with torch.no_grad(), unvalidated(), blockwise(seed, node.name, inputs.first // BLOCK, rows):
                    draws = distribution.sample()
            except Exception as error:  # not to be drawn in blocks, or put together wrongly
                raise UnsplittableError(str(error)) from error
            draws = draws[: inputs.rows]
            with unvalidated():  # which rows are valid is known by now
                alone = first_alone(node, tensors, inputs.axes, itertools.compress(itertools.count(), usable))
            if not agrees(together, draws, list(alone.values()), list(alone)):
                raise UnsplittableError("mapped and called alone, it is not the same distribution")
            return _checked(node, inputs, Batch(as_array(draws), failures, errors))
        failures.update(dict.fromkeys(bad, reason))
        usable[bad] = False
    return Batch(np.full((inputs.rows, *node.plate_shape), np.nan), failures, errors)


def _raised(
    node: Node, inputs: Inputs, tensors: Mapping[str, torch.Tensor], usable: np.ndarray
) -> dict[int, BaseException]:
    """Calls a distribution node trace by trace, and returns the exceptions by row."""
    found: dict[int, BaseException] = {}
    for row in np.flatnonzero(usable).tolist():
        exists = None if inputs.exists is None else inputs.exists[row]
        try:
            called_alone(node, {parameter: tensor[row] for parameter, tensor in tensors.items()}, inputs.axes, exists)
        except Exception as error:  # the function's own failure in this trace
            found[row] = error
    return found


def _as_tensor(value: np.ndarray) -> Any:
    """Returns :func:`as_torch` of a whole column, without a copy where it already is what it should be."""
    shareable = value.flags.writeable and value.dtype == np.float32 and torch.get_default_dtype() == torch.float32
    return torch.from_numpy(value) if shareable else as_torch(value)


def _filled(tensor: torch.Tensor, usable: np.ndarray) -> torch.Tensor:
    """Returns a copy whose rows fill whole blocks; see :func:`whole_blocks`."""
    if usable.all():
        missing = -len(tensor) % BLOCK
        return torch.cat([tensor, tensor[-1:].expand(missing, *tensor.shape[1:])])
    return tensor[whole_blocks(usable)]


def _whole(exists: np.ndarray | None, rows: int) -> torch.Tensor | None:
    """Returns which elements exist, with rows added that fill whole blocks."""
    if exists is None:
        return None
    added = np.zeros((rows - len(exists), *exists.shape[1:]), dtype=bool)
    return torch.from_numpy(np.concatenate([exists, added]))


def _checked(node: Node, inputs: Inputs, batch: Batch) -> Batch:
    """Adds values that are no numbers, or lie outside of the declared support, to the failures."""
    if node.is_opaque or (batch.values.dtype.kind != "f" and node.support is None):
        return batch
    values = stand_in(batch.values, inputs.exists)  # what does not exist cannot fail
    flat = values.reshape(inputs.rows, -1)
    reasons: dict[str, np.ndarray] = {}
    with np.errstate(all="ignore"):
        total = flat.sum(dtype=np.float64)  # one look at all values, several times as fast as one at each
    if not np.isfinite(total):
        reasons = {"NaN": np.isnan(flat).any(1), "infinity": np.isinf(flat).any(1)}
    if node.support is not None:
        inside = node.support.check(torch.from_numpy(np.ascontiguousarray(values)))
        reasons[f"outside {node.support}"] = ~inside.reshape(inputs.rows, -1).all(1).numpy()
    for reason, bad in reasons.items():
        for row in np.flatnonzero(bad & inputs.usable):
            batch.failures.setdefault(int(row), reason)
    return batch
