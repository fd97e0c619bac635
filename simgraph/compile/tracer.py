"""Which elements of its inputs each element of a tensor was computed from.

A function is run once, on tensors that carry beside each entry the number of a *set of input elements*.
Every operation is carried out twice: on the values, and on the sets (:mod:`simgraph.compile.carried`). The sets are
then valid for all values of the inputs, because a function whose course depends on a value (``if``, ``.item()``,
NumPy) is refused.

A constant zero annihilates: ``X @ theta`` does not depend on theta[j] where column j of the constant X is zero.
This holds for finite values.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils._python_dispatch import _disable_current_modes
from torch.utils._pytree import tree_map

__all__ = ["Sets", "Traced", "Untraceable", "ids_of", "values_of"]

_MOST_ENTRIES = 2**21
"""Entries of sets that may be united before a function is given up on."""


class Untraceable(Exception):
    """A function cannot be read; the message tells why."""


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
        if value.is_complex():
            raise Untraceable("it works on complex numbers")
        made: Traced = torch.Tensor._make_wrapper_subclass(
            cls, value.shape, strides=value.stride(), storage_offset=value.storage_offset(), dtype=value.dtype
        )
        made.value, made.ids = value, ids
        return made

    @classmethod
    def __torch_function__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        with torch._C.DisableTorchFunctionSubclass():
            if func is Tensor.__getitem__:
                return _getitem(*args)
            return func(*args, **(kwargs or {}))

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:  # type: ignore[override]
        raise Untraceable("it keeps a tensor for later")

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
        return bool(self.plain("its Python code branches on a value"))

    def __float__(self) -> float:
        return float(self.plain("it takes a value out of a tensor (float)"))

    def __int__(self) -> int:
        return int(self.plain("it takes a value out of a tensor (int)"))

    def __index__(self) -> int:
        return int(self.plain("it uses a value as a Python index"))

    def __array__(self, *args: Any, **kwargs: Any) -> np.ndarray:
        return np.asarray(self.plain("it calls NumPy"), *args, **kwargs)

    def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any, **options: Any) -> Any:
        plain = [one.plain("it calls NumPy").numpy() if isinstance(one, Traced) else one for one in inputs]
        return getattr(ufunc, method)(*plain, **options)

    def __repr__(self) -> str:  # type: ignore[override]
        return f"Traced({self.value})"

    def item(self) -> Any:
        """Returns the value, if it depends on no input."""
        return self.plain("it takes a value out of a tensor (item)").item()

    def tolist(self) -> Any:
        """Returns the values, if they depend on no input."""
        return self.plain("it takes values out of a tensor (tolist)").tolist()

    def numpy(self, **options: Any) -> Any:
        """Returns the values, if they depend on no input."""
        return self.plain("it calls NumPy").numpy(**options)


def _getitem(tensor: Tensor, index: Any) -> Any:
    """Indexes a tensor; a whole number that depends on an input stays a tensor, where torch would take its value."""
    parts = list(index) if isinstance(index, tuple) else [index]
    numbers = [place for place, part in enumerate(parts) if isinstance(part, Traced) and not part.dim()]
    numbers = [place for place in numbers if not parts[place].is_floating_point() and parts[place].dtype != torch.bool]
    if not numbers:
        return Tensor.__getitem__(tensor, index)
    for place in numbers:
        parts[place] = parts[place].unsqueeze(0)
    result = Tensor.__getitem__(tensor, tuple(parts))
    # The indices together made one axis of length one: where they stand, or in front if they stand apart.
    together = numbers == list(range(numbers[0], numbers[-1] + 1))
    before = parts[: numbers[0]] if together else []
    named = sum(not (part is None or part is Ellipsis) for part in parts)
    axis = sum(tensor.dim() - named if part is Ellipsis else not isinstance(part, int) for part in before)
    return result.squeeze(axis)


def values_of(tree: Any) -> Any:
    """Returns the values of all traced tensors in a nest of arguments."""
    return tree_map(lambda leaf: leaf.value if isinstance(leaf, Traced) else leaf, tree)


def ids_of(leaf: Tensor) -> Tensor:
    """Returns the sets of a tensor; none for a plain one."""
    return leaf.ids if isinstance(leaf, Traced) else torch.zeros(leaf.shape, dtype=torch.int64)
