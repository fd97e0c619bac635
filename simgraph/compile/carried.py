"""How tensor operations are followed: on the values, and on the sets of input elements that they carry.

Views of values are views of their sets, so that writing in place reaches all who look at the same memory; sets are
laid out in memory as values are, so that this holds for strided views as well. What an operation does to sets
otherwise is said in :mod:`simgraph.compile.carried_rules` and :mod:`simgraph.compile.carried_places`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils._mode_utils import no_dispatch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map

from simgraph.compile.carried_places import deposited, places_of
from simgraph.compile.carried_rules import arguments, multiplied, new_ids, sets_of
from simgraph.compile.tracer import Sets, Traced, Untraceable, fresh, ids_of, values_of

__all__ = ["Tracing"]

_SHAPES = {
    "full_like", "zeros_like", "ones_like", "empty_like", "new_zeros", "new_ones", "new_full", "new_empty",
    "new_empty_strided",
}  # fmt: skip
"""Operations that look at the shape of a tensor alone."""


_MIXING = {
    "scatter_", "scatter_add_", "scatter_reduce_", "index_fill_", "index_add_", "index_reduce_", "index_copy_",
    "masked_scatter_", "addmm_", "baddbmm_", "addmv_", "addr_", "put_", "cumsum_", "cumprod_", "index_put_",
    "_index_put_impl_",
}  # fmt: skip
"""Operations in place after which any entry may depend on any entry of what went in."""


class Tracing(TorchDispatchMode):
    """Follows all tensor operations while it is active.

    Args:
        sets: Numbers the sets.
    """

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        """Spares the guard against ``torch.compile``, which imports the compiler: a second or two, for nothing."""
        return False

    def __init__(self, sets: Sets) -> None:
        super().__init__()
        self.sets = sets

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return _carried(self.sets, func, args, kwargs or {})


def _carried(sets: Sets, func: Any, args: Sequence[Any], kwargs: dict[str, Any]) -> Any:
    """Carries an operation out on values and on sets.

    Args:
        sets: Numbers the sets.
        func: The overload of a torch operation.
        args: Its arguments, some of them traced tensors.
        kwargs: The same by keyword.

    Returns:
        What the operation returns, traced; views of plain tensors stay plain.

    Raises:
        Untraceable: If the operation cannot be followed.
    """
    name = func._schema.name.split("::")[1]
    inputs = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)]
    depends = any(isinstance(leaf, Traced) and bool(leaf.ids.any()) for leaf in inputs)
    if torch.Tag.nondeterministic_seeded in func.tags:
        raise Untraceable("it draws random numbers")
    if name == "_local_scalar_dense":
        kept = inputs[0]
        return kept.plain("it takes a value out of a tensor").item() if isinstance(kept, Traced) else func(*args)
    if func._schema.is_mutable:
        return _in_place(sets, func, name, args, kwargs, inputs, depends)
    if name == "lift_fresh":  # what torch.tensor(...) made just now; torch.as_tensor(array) looks at the array's memory
        ours = not isinstance(args[0], Traced) and args[0].untyped_storage().resizable()
        return Traced(args[0], ids_of(args[0])) if ours else args[0]
    aliased = any(found.alias_info is not None for found in func._schema.returns)
    if aliased and not any(isinstance(leaf, Traced) for leaf in inputs):
        return func(*args, **kwargs)
    result = func(*values_of(args), **values_of(kwargs))
    if aliased:
        return _wrapped(result, _seen(func, name, args, kwargs), Traced)
    if not depends or name in _SHAPES:
        return tree_map(lambda out: fresh(out, ids_of(out)) if isinstance(out, Tensor) else out, result)
    if any(not isinstance(leaf, Tensor) for leaf in tree_leaves(result) if leaf is not None):
        raise Untraceable(f"it takes a value out of a tensor ({name})")
    shapeless = {torch.Tag.dynamic_output_shape, torch.Tag.data_dependent_output} & set(func.tags)
    # A mask of booleans that depends on no input picks the same entries whatever the inputs are.
    picking = [leaf for leaf in inputs[1:] if leaf.dtype in (torch.bool, torch.uint8) and bool(ids_of(leaf).any())]
    if shapeless and (name not in ("index", "masked_select") or picking):
        raise Untraceable(f"the shape of a result depends on a value ({name})")
    ids = new_ids(sets, func, name, args, kwargs, inputs, result)
    return _wrapped(result, ids, fresh)


def _seen(func: Any, name: str, args: Sequence[Any], kwargs: dict[str, Any]) -> Any:
    """Returns the view of sets that a view of values corresponds to."""
    source, ids = args[0], ids_of(args[0])
    if name in ("_conj", "_neg_view"):
        return torch.ops.aten.alias(ids)
    laid_alike = source.stride() == ids.stride() and source.storage_offset() == ids.storage_offset()
    if (
        name in ("view_as_real", "view_as_complex")
        or str(func) == "aten.view.dtype"
        or (name == "as_strided" and not laid_alike)
    ):
        raise Untraceable(f"it looks at the memory of a tensor in another way ({name})")
    return func(*sets_of(args), **sets_of(kwargs))


def _wrapped(result: Any, ids: Any, made: Callable[[Tensor, Tensor], Traced]) -> Any:
    """Puts values and sets together, in the structure of the result."""
    if isinstance(result, (list, tuple)):
        return type(result)(_wrapped(out, own, made) for out, own in zip(result, ids, strict=True))
    if not isinstance(result, Tensor):
        return result
    if result.shape != ids.shape:
        raise Untraceable("an operation moves numbers in a way that cannot be followed")
    return made(result, ids)


def _in_place(
    sets: Sets, func: Any, name: str, args: Sequence[Any], kwargs: dict[str, Any], inputs: list[Tensor], depends: bool
) -> Any:
    """Carries out an operation that writes into its first argument."""
    target = args[0] if args else None
    written = [spec.name for spec in func._schema.arguments if spec.alias_info is not None and spec.alias_info.is_write]
    if not isinstance(target, Traced):
        if depends:
            raise Untraceable("it writes into a tensor from outside of the function")
        return func(*values_of(args), **values_of(kwargs))
    if written != [func._schema.arguments[0].name]:
        raise Untraceable(f"it writes into several tensors ({name})")
    if torch.Tag.inplace_view in func.tags and name != "set_":
        for tensor in (target.value, target.ids):
            func(tensor, *values_of(args[1:]), **values_of(kwargs))
        with no_dispatch():  # the wrapper has a shape of its own
            func(target, *values_of(args[1:]), **values_of(kwargs))
        return target
    new = _written(sets, func, name, args, kwargs, inputs)
    func(*values_of(args), **values_of(kwargs))
    if new.dim() > target.ids.dim() or target.value.shape != target.ids.shape:
        raise Untraceable(f"it changes the shape of a tensor in place ({name})")
    target.ids.copy_(new.expand(target.ids.shape))
    return target


def _written(
    sets: Sets, func: Any, name: str, args: Sequence[Any], kwargs: dict[str, Any], inputs: list[Tensor]
) -> Tensor:
    """Returns the sets of the tensor that an operation has written into."""
    bound, own = arguments(func, args, kwargs), ids_of(inputs[0])
    plain: dict[str, Callable[[], Tensor]] = {
        "zero_": lambda: torch.tensor(0),
        "copy_": lambda: ids_of(bound["src"]),
        "fill_": lambda: ids_of(bound["value"]) if isinstance(bound["value"], Tensor) else torch.tensor(0),
    }
    if name in plain:
        return plain[name]()
    placed = places_of(name.rstrip("_"), bound)
    if placed is not None:
        return deposited(sets, own, *placed)
    if name in ("index_put_", "_index_put_impl_"):
        where = [ids_of(index) for index in bound["indices"] if index is not None]
        if len(where) == 1 and where[0].shape == own.shape and not ids_of(bound["values"]).dim():
            picks = next(index for index in bound["indices"] if index is not None)
            if picks.dtype == torch.bool:
                return sets.union(own, where[0], ids_of(bound["values"]))
    if name == "masked_fill_" and not ids_of(bound["mask"]).any():
        filling = ids_of(bound["value"]) if isinstance(bound["value"], Tensor) else torch.tensor(0)
        return torch.where(values_of(bound["mask"]), filling, own)
    if name == "mul_":
        return multiplied(sets, inputs)
    if torch.Tag.pointwise in func.tags:
        return sets.union(*map(ids_of, inputs))
    if name in _MIXING:
        return sets.everything(*map(ids_of, inputs))
    raise Untraceable(f"it changes a tensor in place in a way that cannot be followed ({name})")
