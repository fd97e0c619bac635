"""One node for many traces.

Functions that run one trace at a time draw from the stream of (seed, name, trace, element). Distribution
nodes that can be mapped, and vectorised nodes, draw in blocks; their rows start at the beginning of a
block and are padded to whole blocks, so that a block is always drawn whole and then cut.
"""

from __future__ import annotations

import itertools
import tempfile
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch.distributions import Distribution

from simgraph.dsl import Node, Plate
from simgraph.errors import NodeReturnError, ShapeError, SupportError
from simgraph.traces.blocks import UnsplittableError, blockwise, isolated
from simgraph.traces.distributions import (
    agrees,
    as_torch,
    at_element,
    call,
    called_alone,
    first_alone,
    invalid_rows,
    mappable,
    mapped,
    unvalidated,
)
from simgraph.traces.seeds import BLOCK, integer_seed, numpy_stream, torch_stream

__all__ = ["Batch", "Inputs", "draws_in_blocks", "evaluate"]


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
    """

    values: dict[str, np.ndarray]
    axes: dict[str, Sequence[Plate]]
    first: int
    rows: int
    usable: np.ndarray


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


def draws_in_blocks(node: Node) -> bool:
    """Tells whether a node may draw many traces together, so that its rows must start with a block."""
    return node.kind == "distribution" or node.vectorized


def evaluate(node: Node, inputs: Inputs, seed: int, tick: Callable[[], Any] = lambda: None) -> Batch:
    """Evaluates a node for many traces.

    Args:
        node: The node.
        inputs: Its parents' values.
        seed: Seed of the simulation.
        tick: Called after each trace that is run by itself.

    Returns:
        The values, and the traces that failed.

    Raises:
        NodeReturnError: If the function returns the wrong kind of thing.
        ShapeError: If a value has another shape than declared.
    """
    if node.kind == "constant":
        value = np.asarray(node.function())
        return Batch(np.broadcast_to(value, (inputs.rows, *value.shape)))
    if node.kind == "distribution":
        try:
            return _mapped(node, inputs, seed)
        except UnsplittableError:
            pass
        return _checked(node, inputs, _loop(node, inputs, _distribution_draw(node, seed), seed, tick))
    if node.vectorized:
        return _checked(node, inputs, _vectorized(node, inputs, seed))
    return _checked(node, inputs, _loop(node, inputs, _function_value(node, seed), seed, tick))


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
        invalid, reason = invalid_rows(distribution)
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
            return _checked(node, inputs, Batch(_as_array(draws), failures, errors))
        failures.update(dict.fromkeys(bad, reason))
        usable[bad] = False
    return Batch(np.full((inputs.rows, *node.plate_shape), np.nan), failures, errors)


def _raised(
    node: Node, inputs: Inputs, tensors: Mapping[str, torch.Tensor], usable: np.ndarray
) -> dict[int, BaseException]:
    """Calls a distribution node trace by trace, and returns the exceptions by row."""
    found: dict[int, BaseException] = {}
    for row in np.flatnonzero(usable).tolist():
        try:
            called_alone(node, {parameter: tensor[row] for parameter, tensor in tensors.items()}, inputs.axes)
        except Exception as error:  # the function's own failure in this trace
            found[row] = error
    return found


def _as_tensor(value: np.ndarray) -> Any:
    """Returns :func:`as_torch` of a whole column, without a copy where it already is what it should be."""
    shareable = value.flags.writeable and value.dtype == np.float32 and torch.get_default_dtype() == torch.float32
    return torch.from_numpy(value) if shareable else as_torch(value)


def _filled(tensor: torch.Tensor, usable: np.ndarray) -> torch.Tensor:
    """Returns a copy whose rows fill whole blocks; see :func:`_whole_blocks`."""
    if usable.all():
        missing = -len(tensor) % BLOCK
        return torch.cat([tensor, tensor[-1:].expand(missing, *tensor.shape[1:])])
    return tensor[_whole_blocks(usable)]


def _whole_blocks(usable: np.ndarray) -> np.ndarray:
    """Returns row numbers that fill whole blocks; unusable rows are replaced by their last usable one."""
    last = np.maximum.accumulate(np.where(usable, np.arange(len(usable)), -1))
    last = np.where(last < 0, np.argmax(usable), last)
    return np.concatenate([last, np.full(-len(usable) % BLOCK, last[-1])])


def _vectorized(node: Node, inputs: Inputs, seed: int) -> Batch:
    lead = (inputs.rows, *node.plate_shape)
    _check_against_loop(node, inputs, seed)
    out = []
    for start in range(0, inputs.rows, BLOCK):
        # Whole blocks, so that what the function draws does not depend on where a run ends.
        usable = inputs.usable[start : start + BLOCK]
        rows = _whole_blocks(usable if usable.any() else np.ones_like(usable)) + start
        value = _call_vectorized(node, inputs, rows, seed, (inputs.first + start) // BLOCK)
        out.append(value[: min(BLOCK, inputs.rows - start)])
    values = np.concatenate(out)
    return Batch(values.reshape(*lead, *values.shape[1 + len(node.plates) :]))


def _call_vectorized(node: Node, inputs: Inputs, rows: np.ndarray, seed: int, block: int) -> np.ndarray:
    """Calls a vectorised function; inside plates its leading axis runs over (trace, element)."""
    count = len(rows) * int(np.prod(node.plate_shape))
    values: dict[str, Any] = {}
    for parameter, value in inputs.values.items():
        aligned = _aligned(value[rows], inputs.axes[parameter], node.plates)
        values[parameter] = _as_input(aligned.reshape(count, *aligned.shape[1 + len(node.plates) :]), node)
    values.update(_provided(node, seed, block))
    with tempfile.TemporaryDirectory(prefix="simgraph-") if node.signature.takes_workdir else nullcontext() as workdir:
        if workdir is not None:
            values["workdir"] = workdir
        result = _as_array(node.signature.call(node.function, values), node)
    expected = (count, *(node.shape or ()))
    if result.shape != expected:
        raise ShapeError(
            f"vectorized node {node.name!r} returned shape {result.shape}; {count} traces of event shape"
            f" {node.shape} are {expected}.\n  declared at {node.where}\n"
            "  Return a leading trace axis, or remove vectorized=True."
        )
    return result.reshape(len(rows), *node.plate_shape, *(node.shape or ()))


def _check_against_loop(node: Node, inputs: Inputs, seed: int) -> None:
    """Checks the promise of ``vectorized=True`` at two and three traces."""
    usable = np.flatnonzero(inputs.usable)
    for count in sorted({min(count, len(usable)) for count in (2, 3)} - {0}):
        together = _call_vectorized(node, inputs, usable[:count], seed, 0)
        for position in range(count):
            alone = _call_vectorized(node, inputs, usable[position : position + 1], seed, 0)[0]
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
            value = np.repeat(np.expand_dims(value, 1 + position), plate.size, axis=1 + position)
    return value


def _distribution_draw(node: Node, seed: int) -> Callable[[dict[str, Any], int, int], Any]:
    def draw(values: dict[str, Any], trace: int, element: int) -> Any:
        distribution: Distribution = call(node, values)
        with isolated(), torch.no_grad():
            torch.default_generator.manual_seed(integer_seed(seed, node.name, trace, element))
            value = distribution.sample()
        try:
            support = distribution.support
        except NotImplementedError:
            support = None
        if support is None:
            return value
        inside = support.check(value)
        if not bool(torch.as_tensor(inside).all()):
            raise SupportError("draw outside of its support")
        return value

    return draw


def _function_value(node: Node, seed: int) -> Callable[[dict[str, Any], int, int], Any]:
    def value(values: dict[str, Any], trace: int, element: int) -> Any:
        arguments = {**values, **_provided(node, seed, trace, element)}
        if not node.signature.takes_workdir:
            return node.signature.call(node.function, arguments)
        with tempfile.TemporaryDirectory(prefix="simgraph-") as workdir:
            return node.signature.call(node.function, {**arguments, "workdir": workdir})

    return value


def _loop(
    node: Node,
    inputs: Inputs,
    function: Callable[[dict[str, Any], int, int], Any],
    seed: int,
    tick: Callable[[], Any],
) -> Batch:
    elements = list(np.ndindex(*node.plate_shape))
    convert = as_torch if node.kind == "distribution" else lambda value: _as_input(value, node)
    opaque = {parameter for parameter, value in inputs.values.items() if value.dtype == object}
    found: list[Any] = []
    failures: dict[int, str] = {}
    errors: dict[int, BaseException] = {}
    for row in range(inputs.rows):
        here: list[Any] = [None] * len(elements)
        if inputs.usable[row]:
            try:
                for number, element in enumerate(elements):
                    values = {
                        p: at_element(value[row], inputs.axes[p], node.plates, element)
                        for p, value in inputs.values.items()
                    }
                    seen = {p: value if p in opaque else convert(value) for p, value in values.items()}
                    result = function(seen, inputs.first + row, number)
                    here[number] = result if node.is_opaque else _event(node, result)
            except (NodeReturnError, ShapeError):
                raise
            except Exception as error:  # the simulator's own failure: counted, and judged by the caller's policy
                failures[row], errors[row] = type(error).__name__, error
                here = [None] * len(elements)
            tick()
        found.extend(here)
    return Batch(_stacked(node, inputs.rows, found), failures, errors)


def _stacked(node: Node, rows: int, found: list[Any]) -> np.ndarray:
    lead = (rows, *node.plate_shape)
    if node.is_opaque:
        objects = np.empty(len(found), dtype=object)
        for number, item in enumerate(found):
            objects[number] = item
        return objects.reshape(lead)
    shapes = [item for item in found if item is not None]
    shape = shapes[0].shape if shapes else node.shape or ()
    if any(item.shape != shape for item in shapes):
        raise ShapeError(
            f"node {node.name!r} returned values of different shapes: {sorted({item.shape for item in shapes})}.\n"
            f"  declared at {node.where}\n  Every trace must return the same event shape."
        )
    dtype = np.result_type(*{item.dtype for item in shapes}) if shapes else np.dtype(np.float64)
    values = np.zeros((len(found), *shape), dtype=dtype)
    for number, item in enumerate(found):
        if item is not None:
            values[number] = item
    return values.reshape(*lead, *shape)


def _event(node: Node, result: Any) -> np.ndarray:
    value = _as_array(result, node)
    if node.shape is not None and value.shape != node.shape:
        raise ShapeError(
            f"node {node.name!r} returned a value of shape {value.shape}; declared is shape={node.shape}.\n"
            f"  declared at {node.where}\n  Declare what it returns: shape={value.shape}"
        )
    return value


def _as_array(value: Any, node: Node | None = None) -> np.ndarray:
    """Returns a value as float64 or int64; draws of distributions keep their float type."""
    if isinstance(value, torch.Tensor):
        value = value.detach().cpu().numpy()
    array = np.asarray(value)
    if array.dtype.kind in "iub":
        return array.astype(np.int64)
    if array.dtype.kind == "f":
        return array if node is None else array.astype(np.float64)
    assert node is not None
    kind = "a distribution" if isinstance(value, Distribution) else f"a {type(value).__name__}"
    if value is None:
        kind = "None (is a return statement missing?)"
    advice = (
        "A node with rng returns a value: draw it, or remove the parameter rng."
        if isinstance(value, Distribution)
        else "Return numbers of one fixed shape; for any other object use @deterministic without shape."
    )
    raise NodeReturnError(f"node {node.name!r} returned {kind}.\n  declared at {node.where}\n  {advice}")


def _as_input(value: Any, node: Node) -> Any:
    """Returns what a simulator sees of a parent that owns values: its own copy, in float64 or int64."""
    array = np.array(value, dtype=np.int64 if value.dtype.kind in "iub" else np.float64)
    if node.backend == "torch":
        return torch.from_numpy(array)
    return array[()] if array.ndim == 0 else array


def _provided(node: Node, seed: int, *position: int) -> dict[str, Any]:
    if not node.signature.takes_rng:
        return {}
    stream = torch_stream if node.backend == "torch" else numpy_stream
    return {"rng": stream(seed, node.name, *position)}


def _checked(node: Node, inputs: Inputs, batch: Batch) -> Batch:
    """Adds values that are no numbers, or lie outside of the declared support, to the failures."""
    if node.is_opaque or (batch.values.dtype.kind != "f" and node.support is None):
        return batch
    flat = batch.values.reshape(inputs.rows, -1)
    reasons: dict[str, np.ndarray] = {}
    with np.errstate(all="ignore"):
        total = flat.sum(dtype=np.float64)  # one look at all values, several times as fast as one at each
    if not np.isfinite(total):
        reasons = {"NaN": np.isnan(flat).any(1), "infinity": np.isinf(flat).any(1)}
    if node.support is not None:
        inside = node.support.check(torch.from_numpy(np.ascontiguousarray(batch.values)))
        reasons[f"outside {node.support}"] = ~inside.reshape(inputs.rows, -1).all(1).numpy()
    for reason, bad in reasons.items():
        for row in np.flatnonzero(bad & inputs.usable):
            batch.failures.setdefault(int(row), reason)
    return batch
