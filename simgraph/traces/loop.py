"""Functions that run one trace and one plate element at a time."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.distributions import Distribution

from simgraph.dsl import Node
from simgraph.errors import NodeReturnError, ShapeError, SupportError
from simgraph.traces.batch import Batch, Inputs, as_array, as_input, provided
from simgraph.traces.blocks import isolated
from simgraph.traces.distributions import as_torch, at_element, call
from simgraph.traces.seeds import integer_seed

__all__ = ["distribution_draw", "function_value", "run_loop"]


def distribution_draw(node: Node, seed: int) -> Callable[[dict[str, Any], int, int], Any]:
    """Returns how to draw a distribution node from parent values, for a trace and a plate element."""

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


def function_value(node: Node, seed: int) -> Callable[[dict[str, Any], int, int], Any]:
    """Returns how to run a simulator or deterministic node on parent values, for a trace and a plate element."""

    def value(values: dict[str, Any], trace: int, element: int) -> Any:
        arguments = {**values, **provided(node, seed, trace, element)}
        if not node.signature.takes_workdir:
            return node.signature.call(node.function, arguments)
        with tempfile.TemporaryDirectory(prefix="simgraph-") as workdir:
            return node.signature.call(node.function, {**arguments, "workdir": Path(workdir)})

    return value


def run_loop(
    node: Node,
    inputs: Inputs,
    function: Callable[[dict[str, Any], int, int], Any],
    tick: Callable[[], Any],
) -> Batch:
    """Runs a node trace by trace; exceptions of the function are failures of their traces.

    Args:
        node: The node.
        inputs: Its parents' values.
        function: Makes a value from parent values, trace and plate element.
        tick: Called after each trace.
    """
    elements = list(np.ndindex(*node.plate_shape))
    convert = as_torch if node.kind == "distribution" else lambda value: as_input(value, node)
    opaque = {parameter for parameter, value in inputs.values.items() if value.dtype == object}
    found: list[Any] = []
    failures: dict[int, str] = {}
    errors: dict[int, BaseException] = {}
    for row in range(inputs.rows):
        here: list[Any] = [None] * len(elements)
        if inputs.usable[row]:
            try:
                for number, element in enumerate(elements):
                    if inputs.exists is not None and not inputs.exists[row][element]:
                        here[number] = here[0]  # not run: the first one, which always exists, stands for it
                        continue
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
    value = as_array(result, node)
    if node.shape is not None and value.shape != node.shape:
        raise ShapeError(
            f"node {node.name!r} returned a value of shape {value.shape}; declared is shape={node.shape}.\n"
            f"  declared at {node.where}\n  Declare what it returns: shape={value.shape}"
        )
    return value
