"""Draws of many traces at once whose randomness comes in fixed blocks of traces.

``torch.distributions`` draw through the global generator, one call for all rows. Inside ``blockwise``
every random operation whose leading axis is the trace axis is carried out block by block, each block
seeded by (seed, node name, block, number of the operation): row r of a long run equals row r of a
short one, at the price of one small call per block.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode

from simgraph.traces.seeds import BLOCK, block_seeds

__all__ = ["UnsplittableError", "blockwise", "isolated"]


class UnsplittableError(Exception):
    """Traces cannot be drawn together; the node is then run one trace at a time.

    Either a random operation has no axis that runs over traces, or Python looks at a value between two of
    them (a rejection sampler that goes on until all rows are done), so that a row would depend on others.
    """


@contextmanager
def isolated() -> Iterator[None]:
    """Restores the state of torch's global generator on exit."""
    state = torch.random.get_rng_state()
    try:
        yield
    finally:
        torch.random.set_rng_state(state)


@contextmanager
def blockwise(seed: int, name: str, first_block: int, rows: int) -> Iterator[None]:
    """Makes random operations over ``rows`` traces draw in blocks, from ``first_block`` on.

    Args:
        seed: Seed of the simulation.
        name: Name of the node that draws.
        first_block: Number of the block to which the first row belongs.
        rows: Number of rows, a multiple of the block size.
    """
    with isolated(), _Blockwise(seed, name, first_block, rows):
        yield


class _Blockwise(TorchDispatchMode):
    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        """Spares the guard against ``torch.compile``, which imports the compiler: a second or two, for nothing."""
        return False

    def __init__(self, seed: int, name: str, first_block: int, rows: int) -> None:
        super().__init__()
        self.seed, self.name, self.first_block = seed, name, first_block
        self.rows, self.blocks = rows, rows // BLOCK
        self.operations = 0

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if func is torch.ops.aten._local_scalar_dense.default:
            raise UnsplittableError(str(func))
        if torch.Tag.nondeterministic_seeded not in func.tags:
            return func(*args, **kwargs)
        operation, self.operations = self.operations, self.operations + 1
        axis = next((axis for axis in map(self._trace_axis, args) if axis is not None), None)
        if axis is None:
            raise UnsplittableError(str(func))
        if func is torch.ops.aten.normal.Tensor_Tensor and axis == 0:
            return self._normal(args[0], args[1], operation)
        parts = [self._parts(arg) for arg in args]
        reseed, seeds = torch.default_generator.manual_seed, self._seeds(operation)

        def draw(block: int) -> Any:
            reseed(seeds[block])
            return func(*(part(block) for part in parts), **kwargs)

        if func._schema.name.endswith("_"):  # fills its first argument in place
            for block in range(self.blocks):
                draw(block)
            return args[0]
        return torch.cat([draw(block) for block in range(self.blocks)], dim=axis)

    def _seeds(self, operation: int) -> list[int]:
        return block_seeds(self.seed, self.name, operation, self.first_block, self.blocks)

    def _normal(self, mean: torch.Tensor, std: torch.Tensor, operation: int) -> torch.Tensor:
        """Draws normal variables; only the standard ones are drawn block by block."""
        mean, std = torch.broadcast_tensors(mean, std)
        out = torch.empty(mean.shape, dtype=torch.result_type(mean, std))
        reseed = torch.default_generator.manual_seed
        for seed, part in zip(self._seeds(operation), out.view(self.blocks, -1).unbind(), strict=True):
            reseed(seed)
            part.normal_()
        return out.mul_(std).add_(mean)

    def _trace_axis(self, arg: Any) -> int | None:
        """Returns the first axis of a tensor, or of a shape, that runs over traces."""
        shape = arg.shape if isinstance(arg, torch.Tensor) else arg if isinstance(arg, (list, tuple)) else ()
        sizes = (isinstance(size, int) and size > 0 and size % self.rows == 0 for size in shape)
        return next((axis for axis, traces in enumerate(sizes) if traces), None)

    def _parts(self, arg: Any) -> Callable[[int], Any]:
        """Returns how one argument of an operation looks in each block."""
        axis = self._trace_axis(arg)
        if axis is None:
            return lambda block: arg
        if isinstance(arg, torch.Tensor):
            return arg.split(arg.shape[axis] // self.blocks, dim=axis).__getitem__
        size = [*arg[:axis], arg[axis] // self.blocks, *arg[axis + 1 :]]
        return lambda block: size
