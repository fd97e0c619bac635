"""What a node is evaluated on, what it produced, and how values pass between the two."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch.distributions import Distribution

from simgraph.dsl import Node, Plate
from simgraph.errors import NodeReturnError
from simgraph.text import a_kind
from simgraph.traces.seeds import BLOCK, numpy_stream, torch_stream

__all__ = ["Batch", "Inputs", "Raised", "Rows", "as_array", "as_input", "provided", "whole_blocks"]


@dataclass
class Inputs:
    """What a node is evaluated on.

    Attributes:
        values: Parent values by parameter, of shape (rows, *sizes of the parent's plates, *event_shape);
            arrays of objects for opaque parents.
        axes: The parent's plates by parameter.
        first: Number of the first trace.
        rows: Number of traces.
        usable: Boolean array (rows,): traces in which all parents are there.
        exists: Boolean array (rows, *sizes of the node's plates): which elements the traces have; None if all of them.
    """

    values: dict[str, np.ndarray]
    axes: dict[str, Sequence[Plate]]
    first: int
    rows: int
    usable: np.ndarray
    exists: np.ndarray | None = None


@dataclass
class Batch:
    """What a node produced.

    Attributes:
        values: Array (rows, *plate sizes, *event_shape); rows of failed traces hold arbitrary values.
        failures: The reason by row, for traces that failed in this node.
        errors: The exception by row, for those reasons that were exceptions.
    """

    values: np.ndarray
    failures: dict[int, str] = field(default_factory=dict)
    errors: dict[int, BaseException] = field(default_factory=dict)


@dataclass(frozen=True)
class Raised:
    """An exception that a node raised.

    Attributes:
        node: Name of the node.
        trace: Number of the trace.
        error: The exception.
    """

    node: str
    trace: int
    error: BaseException

    def __str__(self) -> str:
        said = str(self.error).strip().splitlines()
        return (
            f"In trace {self.trace}, {self.node!r} raised {type(self.error).__name__}{f': {said[0]}' if said else ''}"
        )


@dataclass(frozen=True)
class Rows:
    """The function of a constant node that holds one value for each trace.

    Attributes:
        values: Array (rows, *plate sizes, *event_shape).
        start: Number of the trace to which the first row belongs.
    """

    values: np.ndarray
    start: int

    def __call__(self, first: int, count: int) -> np.ndarray:
        """Returns the values of ``count`` traces from number ``first`` on; those before the first row repeat it."""
        return self.values[np.maximum(np.arange(first, first + count) - self.start, 0)]


def whole_blocks(usable: np.ndarray) -> np.ndarray:
    """Returns row numbers that fill whole blocks; unusable rows are replaced by their last usable one."""
    last = np.maximum.accumulate(np.where(usable, np.arange(len(usable)), -1))
    last = np.where(last < 0, np.argmax(usable), last)
    return np.concatenate([last, np.full(-len(usable) % BLOCK, last[-1])])


def as_array(value: Any, node: Node | None = None) -> np.ndarray:
    """Returns a value as float64 or int64; draws of distributions keep their float type."""
    if isinstance(value, torch.Tensor):
        value = value.detach().cpu().numpy()
    array = np.asarray(value)
    if array.dtype.kind in "iub":
        return array.astype(np.int64)
    if array.dtype.kind == "f":
        return array if node is None else array.astype(np.float64)
    assert node is not None
    kind = "a distribution" if isinstance(value, Distribution) else a_kind(value)
    if value is None:
        kind = "None (is a return statement missing?)"
    advice = (
        "A node with rng returns a value: draw it, or remove the parameter rng."
        if isinstance(value, Distribution)
        else "Return numbers of one fixed shape; for other objects use @deterministic without shape= and vectorized=."
    )
    raise NodeReturnError(f"node {node.name!r} returned {kind}.\n  declared at {node.where}\n  {advice}")


def as_input(value: Any, node: Node) -> Any:
    """Returns what a simulator sees of a parent that owns values: its own copy, in float64 or int64."""
    array = np.array(value, dtype=np.int64 if value.dtype.kind in "iub" else np.float64)
    if node.backend == "torch":
        return torch.from_numpy(array)
    return array[()] if array.ndim == 0 else array


def provided(node: Node, seed: int, *position: int) -> dict[str, Any]:
    """Returns the random generator of a node at a position (trace and element, or block), if it asks for one."""
    if not node.signature.takes_rng:
        return {}
    stream = torch_stream if node.backend == "torch" else numpy_stream
    return {"rng": stream(seed, node.name, *position)}
