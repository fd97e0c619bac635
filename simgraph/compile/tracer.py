"""Which elements of its inputs each element of a tensor was computed from.

A function is run once, on tensors that carry beside each entry the number of a *set of input elements*.
Every operation is carried out twice: on the values, and on the sets (:mod:`simgraph.compile.carried`). The sets are
then valid for all values of the inputs, because a function whose course depends on a value (``if``, ``.item()``,
NumPy) is refused. One thing cannot be seen: a course that depends on whether an operation fails, at values where it
does not fail (``try: cholesky(...) except: ...``).

A constant zero annihilates: ``X @ theta`` does not depend on theta[j] where column j of the constant X is zero.
This holds for finite values.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor
from torch.utils._python_dispatch import _disable_current_modes
from torch.utils._pytree import tree_leaves, tree_map

__all__ = ["Sets", "Traced", "Untraceable", "fresh", "ids_of", "values_of"]

_MOST_ENTRIES = 2**21
"""Entries of sets that may be united before a function is given up on."""

_MOST_ELEMENTS = 2**13
"""Input elements that are told apart; a set of them is one bit each, and a law is a square array of them."""

_ESCAPES = {
    "apply_": "it calls a Python function on each number",
    "map_": "it calls a Python function on each number",
    "map2_": "it calls a Python function on each number",
    "numpy": "it calls NumPy",
    "__array__": "it calls NumPy",
    "__dlpack__": "it hands the memory of a tensor on",
    "__dlpack_device__": "it hands the memory of a tensor on",
    "storage": "it looks at the memory of a tensor",
    "untyped_storage": "it looks at the memory of a tensor",
    "data_ptr": "it looks at the memory of a tensor",
    "share_memory_": "it looks at the memory of a tensor",
    "__reduce_ex__": "it copies a tensor in Python",
    "__deepcopy__": "it copies a tensor in Python",
}
"""Methods that reach past the tensor operations for the numbers, where a traced tensor has none."""


class Untraceable(Exception):
    """A function cannot be read; the message tells why.

    Attributes:
        latest: The last refusal, so that one which the function itself catches still counts.
    """

    latest: ClassVar[Untraceable | None] = None

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        Untraceable.latest = self


class Sets:
    """Sets of input elements, numbered; number 0 is the empty set."""

    def __init__(self) -> None:
        self.bits: list[int] = [0]
        self._numbers: dict[int, int] = {0: 0}
        self._entries = 0

    def number(self, bits: int) -> int:
        """Returns the number of a set, given as the bits of an integer."""
        if bits not in self._numbers:
            self._numbers[bits] = len(self.bits)
            self.bits.append(bits)
        return self._numbers[bits]

    def singletons(self, first: int, shape: Iterable[int]) -> Tensor:
        """Returns the numbers of sets of one element each, counting from ``first``, in a shape."""
        shape = tuple(shape)
        count = int(np.prod(shape, dtype=int))
        if first + count > _MOST_ELEMENTS:
            raise Untraceable(f"it has more than {_MOST_ELEMENTS} elements to tell apart")
        return torch.tensor([self.number(1 << (first + n)) for n in range(count)]).reshape(shape)

    def united(self, ids: Tensor) -> Tensor:
        """Unites sets along the last axis: (..., count) to (...)."""
        if ids.shape[-1] == 1:
            return ids[..., 0]
        if not ids.any():
            return torch.zeros(ids.shape[:-1], dtype=torch.int64)
        self._entries += ids.numel()
        if self._entries > _MOST_ENTRIES:
            raise Untraceable("it works on too many numbers to follow each")
        flat = ids.reshape(-1, ids.shape[-1]).numpy()
        if flat.shape[1] == 2:
            keys, where = np.unique(flat[:, 0] * len(self.bits) + flat[:, 1], return_inverse=True)
            rows = np.stack([keys // len(self.bits), keys % len(self.bits)], 1)
        else:
            rows, where = np.unique(np.sort(flat, 1), axis=0, return_inverse=True)
        found = np.empty(len(rows), dtype=np.int64)
        for place, row in enumerate(rows):
            bits = 0
            for number in np.unique(row).tolist():
                bits |= self.bits[number]
            found[place] = self.number(bits)
        return torch.from_numpy(found[where.reshape(-1)]).reshape(ids.shape[:-1])

    def union(self, *ids: Tensor) -> Tensor:
        """Unites sets entry by entry, broadcast against one another."""
        return self.united(torch.stack(torch.broadcast_tensors(*ids), -1)) if len(ids) > 1 else ids[0]

    def everything(self, *ids: Tensor) -> Tensor:
        """Unites all entries of all tensors: ()."""
        return self.united(torch.cat([part.reshape(-1) for part in ids])) if ids else torch.tensor(0)


class Traced(Tensor):
    """A tensor that carries, for each entry, the number of a set of input elements.

    Attributes:
        value: The plain tensor.
        ids: Numbers of sets, int64, of the same shape; a view wherever ``value`` is one.
    """

    value: Tensor
    ids: Tensor

    @staticmethod
    def __new__(cls: type[Traced], value: Tensor, ids: Tensor) -> Traced:
        made: Traced = torch.Tensor._make_wrapper_subclass(
            cls, value.shape, strides=value.stride(), storage_offset=value.storage_offset(), dtype=value.dtype
        )
        torch._C._set_throw_on_mutable_data_ptr(made)  # compiled code that asks for memory fails, and reads nothing
        made.value, made.ids = value, ids
        return made

    @classmethod
    def __torch_function__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if getattr(func, "__name__", "") in _ESCAPES:  # Tensor.numpy(theta), say
            return getattr(args[0], func.__name__)(*args[1:], **(kwargs or {}))
        with torch._C.DisableTorchFunctionSubclass():
            if func is Tensor.__getitem__:
                return _getitem(*args)
            return func(*args, **(kwargs or {}))

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:  # type: ignore[override]
        # Outside of the function. A constant that it keeps for later calls goes on as the plain tensor that it is.
        if any(isinstance(leaf, Traced) and bool(leaf.ids.any()) for leaf in tree_leaves((args, kwargs))):
            raise Untraceable("it keeps a tensor for later")
        return func(*values_of(args), **values_of(kwargs or {}))

    def plain(self, use: str) -> Tensor:
        """Returns the plain tensor, if no entry depends on an input.

        Args:
            use: What it is wanted for, as part of the message.

        Raises:
            Untraceable: If an entry does.
        """
        with _disable_current_modes():
            if self.ids.any():
                raise Untraceable(use)
        return self.value

    def __bool__(self) -> bool:
        return bool(self.plain("its Python code branches on a value (if, assert, validate_args=True)"))

    def __float__(self) -> float:
        return float(self.plain("it takes a value out of a tensor (float)"))

    def __int__(self) -> int:
        return int(self.plain("it takes a value out of a tensor (int)"))

    def __index__(self) -> int:
        return int(self.plain("it uses a value as a Python index"))

    def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any, **options: Any) -> Any:
        raise Untraceable("it calls NumPy")

    def __repr__(self) -> str:  # type: ignore[override]
        return f"Traced({tuple(self.shape)}, {self.dtype})"  # no numbers, so that none can be read back

    @property
    def data(self) -> Tensor:
        """The tensor itself, without a gradient."""
        return self.detach()

    @data.setter
    def data(self, new: Tensor) -> None:
        raise Untraceable("it replaces the memory of a tensor")

    def item(self) -> Any:
        """Returns the value, if it depends on no input."""
        return self.plain("it takes a value out of a tensor (item)").item()

    def tolist(self) -> Any:
        """Returns the values, if they depend on no input."""
        return self.plain("it takes values out of a tensor (tolist)").tolist()


def _guarded(name: str) -> Any:
    def method(self: Traced, *args: Any, **kwargs: Any) -> Any:
        raise Untraceable(_ESCAPES[name])  # constants as well: what is written later would be seen there

    method.__name__ = name
    return method


for _name in _ESCAPES:
    setattr(Traced, _name, _guarded(_name))


def fresh(value: Tensor, ids: Tensor) -> Traced:
    """Returns a traced tensor with memory of its own, in which sets lie as the values do.

    Views of both are then views of the same entries, whatever strides they ask for.

    Args:
        value: The values, in memory that nobody else looks at.
        ids: Numbers of sets, of the same shape.
    """
    if value.layout is not torch.strided:
        raise Untraceable("it works on sparse tensors")
    if value.storage_offset() or not torch.ops.aten.is_non_overlapping_and_dense(value):
        value = value.clone(memory_format=torch.contiguous_format)
    laid = torch.empty_strided(value.shape, value.stride(), dtype=torch.int64)
    return Traced(value, laid.copy_(ids))


def _getitem(tensor: Tensor, index: Any) -> Any:
    """Indexes a tensor; a whole number that depends on an input stays a tensor, where torch would take its value."""
    parts = list(index) if isinstance(index, tuple) else [index]
    for place, part in enumerate(parts):
        if not isinstance(part, Traced) or part.dim() or part.is_floating_point() or part.dtype == torch.bool:
            continue
        if not part.ids.any():
            parts[place] = int(part.value)
            continue
        # Its axis shrinks to the entry picked, which then stands at 0.
        axis = sum(_axes(before, tensor, parts) for before in parts[:place])
        tensor = Tensor.__getitem__(tensor, (slice(None),) * axis + (part.unsqueeze(0),))
        parts[place] = 0
    return Tensor.__getitem__(tensor, tuple(parts) if isinstance(index, tuple) else parts[0])


def _axes(part: Any, tensor: Tensor, parts: list[Any]) -> int:
    """Returns the number of axes that a part of an index speaks of."""
    if part is Ellipsis:
        return tensor.dim() - sum(_axes(other, tensor, parts) for other in parts if other is not Ellipsis)
    if part is None or isinstance(part, bool):
        return 0
    if isinstance(part, (list, np.ndarray)):
        part = torch.as_tensor(part)
    return part.dim() if isinstance(part, Tensor) and part.dtype in (torch.bool, torch.uint8) else 1


def values_of(tree: Any) -> Any:
    """Returns the values of all traced tensors in a nest of arguments."""
    return tree_map(lambda leaf: leaf.value if isinstance(leaf, Traced) else leaf, tree)


def ids_of(leaf: Tensor) -> Tensor:
    """Returns the sets of a tensor; none for a plain one."""
    return leaf.ids if isinstance(leaf, Traced) else torch.zeros(leaf.shape, dtype=torch.int64)
