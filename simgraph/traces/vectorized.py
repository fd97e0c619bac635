"""Vectorised functions: many traces in one call, whole blocks at a time, their promise checked."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np

from simgraph.dsl import Node, Plate
from simgraph.errors import NodeReturnError, ShapeError
from simgraph.traces.batch import Batch, Inputs, as_array, as_input, provided, whole_blocks
from simgraph.traces.seeds import BLOCK

__all__ = ["run_vectorized"]


def run_vectorized(node: Node, inputs: Inputs, seed: int, *, trusted: bool = False) -> Batch:
    """Runs a vectorised node for all traces; its promise is checked first, unless it is trusted to keep it."""
    lead = (inputs.rows, *node.plate_shape)
    if not trusted:
        _check_against_loop(node, inputs, seed)
    out = []
    for start in range(0, inputs.rows, BLOCK):
        # Whole blocks, so that what the function draws does not depend on where a run ends.
        usable = inputs.usable[start : start + BLOCK]
        rows = whole_blocks(usable if usable.any() else np.ones_like(usable)) + start
        value = _call(node, inputs, rows, seed, (inputs.first + start) // BLOCK)
        out.append(value[: min(BLOCK, inputs.rows - start)])
    values = np.concatenate(out)
    return Batch(values.reshape(*lead, *values.shape[1 + len(node.plates) :]))


def _call(node: Node, inputs: Inputs, rows: np.ndarray, seed: int, block: int) -> np.ndarray:
    """Calls a vectorised function; inside plates its leading axis runs over (trace, element)."""
    count = len(rows) * int(np.prod(node.plate_shape))
    values: dict[str, Any] = {}
    for parameter, value in inputs.values.items():
        aligned = _aligned(value[rows], inputs.axes[parameter], node.plates)
        values[parameter] = as_input(aligned.reshape(count, *aligned.shape[1 + len(node.plates) :]), node)
    values.update(provided(node, seed, block))
    with tempfile.TemporaryDirectory(prefix="simgraph-") if node.signature.takes_workdir else nullcontext() as workdir:
        if workdir is not None:
            values["workdir"] = Path(workdir)
        result = as_array(node.signature.call(node.function, values), node)
    shape = result.shape[1:] if node.shape is None else node.shape
    if result.shape != (count, *shape):
        event = "" if node.shape is None else f" of event shape {node.shape}"
        raise ShapeError(
            f"vectorized node {node.name!r} returned shape {result.shape} for {count} traces{event}.\n"
            f"  declared at {node.where}\n  Return a leading trace axis, or remove vectorized=True."
        )
    return result.reshape(len(rows), *node.plate_shape, *shape)


def _check_against_loop(node: Node, inputs: Inputs, seed: int) -> None:
    """Checks the promise of ``vectorized=True`` at two and three traces."""
    usable = np.flatnonzero(inputs.usable)
    for count in sorted({min(count, len(usable)) for count in (2, 3)} - {0}):
        together = _call(node, inputs, usable[:count], seed, 0)
        for position in range(count):
            alone = _call(node, inputs, usable[position : position + 1], seed, 0)[0]
            same_kind = alone.shape == together[position].shape and alone.dtype == together.dtype
            same_value = node.signature.takes_rng or np.allclose(alone, together[position], equal_nan=True)
            if not (same_kind and same_value):
                raise NodeReturnError(
                    f"vectorized node {node.name!r} gives other values for {count} traces together than for one.\n"
                    f"  declared at {node.where}\n  Every operation must treat the leading axis as traces;"
                    " or remove vectorized=True."
                )


def _aligned(value: np.ndarray, axes: Sequence[Plate], plates: Sequence[Plate]) -> np.ndarray:
    """Moves shared plates of a parent to the front, in the node's order, and repeats it over the others."""
    names = [axis.name for axis in axes]
    shared = [plate.name for plate in plates if plate.name in names]
    order = [names.index(name) for name in shared] + [i for i, name in enumerate(names) if name not in shared]
    value = value.transpose(0, *(1 + i for i in order), *range(1 + len(names), value.ndim))
    for position, plate in enumerate(plates):
        if plate.name not in names:
            value = np.repeat(np.expand_dims(value, 1 + position), plate.most, axis=1 + position)
    return value
