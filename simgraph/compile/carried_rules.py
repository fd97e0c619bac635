"""What tensor operations do to sets of input elements.

An operation is of one of these kinds: a *move* of entries is done to the numbers of the sets as it is to
the values; a *pointwise* one unites the sets entry by entry; a *reduction*, a *scan* or an operation *along* an axis
unites along it; a *product* unites along the contracted axis; a solver of linear equations and its like unite each
matrix. Anything else unites everything.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves, tree_map

from simgraph.compile.carried_places import deposited, places_of
from simgraph.compile.tracer import Sets, ids_of, values_of

__all__ = ["arguments", "multiplied", "new_ids", "sets_of"]

_COPIES = {"clone", "contiguous", "_to_copy", "lift_fresh", "lift_fresh_copy", "resolve_conj", "resolve_neg"}
_MOVES = {
    "_unsafe_view", "cat", "stack", "flip", "roll", "repeat", "tril", "triu", "constant_pad_nd", "diag_embed",
    "diagonal_copy", "expand_copy", "permute_copy", "rot90", "block_diag", "unfold_copy", "slice_scatter",
    "select_scatter", "diagonal_scatter", "pixel_shuffle", "channel_shuffle", "_reshape_copy",
}  # fmt: skip
_PICKS = {"index", "gather", "index_select", "take", "embedding", "masked_select"}
_ALONG = {"_softmax", "_log_softmax", "sort", "topk", "argsort", "softmax", "log_softmax"}
_SCANS = {"cumsum", "cumprod", "logcumsumexp", "cummax", "cummin"}
_REDUCTIONS = {
    "sum", "mean", "prod", "amax", "amin", "max", "min", "logsumexp", "var", "std", "var_mean", "std_mean", "any",
    "all", "argmax", "argmin", "norm", "linalg_vector_norm", "median", "nanmedian", "nansum", "mode", "kthvalue",
    "count_nonzero", "aminmax",
}  # fmt: skip
_PRODUCTS = {"mm", "bmm", "mv", "dot", "vdot", "addmm", "baddbmm", "addmv"}
_MATRICES = {
    "linalg_cholesky_ex", "cholesky", "cholesky_inverse", "cholesky_solve", "linalg_solve_triangular",
    "triangular_solve", "_linalg_solve_ex", "linalg_inv_ex", "_linalg_det", "_linalg_slogdet", "linalg_lu_factor_ex",
    "linalg_qr", "_linalg_eigh", "_linalg_svd", "linalg_matrix_exp",
}  # fmt: skip
_SYSTEMS = {
    "linalg_solve_triangular": ("B", "self"),
    "triangular_solve": ("self", "A"),
    "cholesky_solve": ("self", "input2"),
}
"""Names of the right-hand side and of the matrix of systems of linear equations."""

_POINTWISE = {"binary_cross_entropy_with_logits", "log_sigmoid_forward", "mse_loss", "binary_cross_entropy"}
"""Pointwise, although torch does not say so; their results may be reduced, which shows in the shape."""

_MOST_TERMS = 2**18
"""Terms of a matrix product up to which constant zeros are looked at one by one."""


def sets_of(tree: Any) -> Any:
    """Returns the sets of all tensors in a nest of arguments."""
    return tree_map(lambda leaf: ids_of(leaf) if isinstance(leaf, Tensor) else leaf, tree)


def arguments(func: Any, args: Sequence[Any], kwargs: dict[str, Any]) -> dict[str, Any]:
    """Returns the arguments by name, defaults included."""
    found = {spec.name: spec.default_value for spec in func._schema.arguments if spec.has_default_value()}
    found |= {spec.name: value for spec, value in zip(func._schema.arguments, args, strict=False)}
    return found | kwargs


def new_ids(
    sets: Sets, func: Any, name: str, args: Sequence[Any], kwargs: dict[str, Any], inputs: list[Tensor], result: Any
) -> Any:
    """Returns the sets of an operation's results, in their structure."""
    bound = arguments(func, args, kwargs)
    own = ids_of(inputs[0])
    if name in _COPIES:
        return own.clone()
    if name in _MOVES:
        return func(*sets_of(args), **sets_of(kwargs)) if name != "constant_pad_nd" else func(own, args[1], 0)
    if name in _PICKS:
        return _picked(sets, func, name, bound, inputs, result)
    if func is torch.ops.aten.where.self and not ids_of(bound["condition"]).any():
        return torch.where(values_of(bound["condition"]), ids_of(bound["self"]), ids_of(bound["other"]))
    if name == "masked_fill" and not ids_of(bound["mask"]).any():
        filling = ids_of(bound["value"]) if isinstance(bound["value"], Tensor) else torch.tensor(0)
        return torch.where(values_of(bound["mask"]), filling, own)
    if name == "mul":
        return multiplied(sets, inputs)
    if torch.Tag.pointwise in func.tags or name in _POINTWISE:
        united = sets.union(*map(ids_of, inputs))
        return tree_map(lambda out: united.clone() if out.shape == united.shape else _all(sets, inputs, out), result)
    placed = places_of(name, bound)
    if placed is not None:
        return deposited(sets, own, *placed)
    if name in _PRODUCTS:
        return _product(sets, name, bound, inputs)
    alone = len(inputs) == 1
    if name in _SCANS and alone:
        return _each(result, _scanned(sets, own, bound["dim"]))
    if name in _ALONG and alone and "dim" in bound:
        return tree_map(lambda out: _reduced(sets, own, [bound["dim"]], True).expand(out.shape).clone(), result)
    if name in _REDUCTIONS and alone:
        return _reduction(sets, own, bound, result)
    if name in _MATRICES:
        return _matrices(sets, name, bound, inputs, result)
    return tree_map(lambda out: _all(sets, inputs, out) if isinstance(out, Tensor) else out, result)


def _all(sets: Sets, inputs: list[Tensor], out: Tensor) -> Tensor:
    """Returns, for a result that nothing is known of, everything that went in."""
    return sets.everything(*map(ids_of, inputs)).expand(out.shape).clone()


def _each(result: Any, ids: Tensor) -> Any:
    return tree_map(lambda out: ids.clone(), result)


def multiplied(sets: Sets, inputs: list[Tensor]) -> Tensor:
    """Unites the sets of two factors, but for constant zeros."""
    if len(inputs) < 2:
        return ids_of(inputs[0]).clone()
    zeros = [(values_of(leaf) == 0) & (ids_of(leaf) == 0) for leaf in inputs]
    return torch.where(zeros[0] | zeros[1], 0, sets.union(*map(ids_of, inputs)))


def _reduced(sets: Sets, ids: Tensor, dims: Sequence[int], keep: bool) -> Tensor:
    """Unites along axes."""
    dims = sorted({dim % max(ids.dim(), 1) for dim in dims})
    if not ids.dim():
        return ids
    rest = [dim for dim in range(ids.dim()) if dim not in dims]
    united = sets.united(ids.permute(*rest, *dims).reshape(*(ids.shape[dim] for dim in rest), -1))
    for dim in dims if keep else ():
        united = united.unsqueeze(dim)
    return united


def _reduction(sets: Sets, ids: Tensor, bound: dict[str, Any], result: Any) -> Any:
    dims = bound.get("dim")
    dims = [dims] if isinstance(dims, int) else list(dims or range(ids.dim()))
    united = _reduced(sets, ids, dims, bool(bound.get("keepdim", False)))
    return _each(result, united)


def _scanned(sets: Sets, ids: Tensor, dim: int) -> Tensor:
    if not ids.dim():
        return ids.clone()
    parts = list(ids.unbind(dim))
    for place in range(1, len(parts)):
        parts[place] = sets.union(parts[place - 1], parts[place])
    return torch.stack(parts, dim)


def _product(sets: Sets, name: str, bound: dict[str, Any], inputs: list[Tensor]) -> Tensor:
    """Unites along the contracted axis of two factors, and with what is added to their product."""
    first, second = inputs[-2:]
    a, b = ids_of(first), ids_of(second)
    x, y = values_of(first), values_of(second)
    if name in ("dot", "vdot"):
        a, x = a[None], x[None]
    if b.dim() < a.dim():
        b, y = b[..., None], y[..., None]
    # a: (..., rows, inner), b: (..., inner, columns)
    a, b = a[..., :, None, :], b.transpose(-1, -2)[..., None, :, :]
    if a.numel() * b.shape[-2] <= _MOST_TERMS:
        x, y = x[..., :, None, :], y.transpose(-1, -2)[..., None, :, :]
        zero = ((x == 0) & (a == 0)) | ((y == 0) & (b == 0))
        terms = [torch.where(zero, 0, part.expand(zero.shape)) for part in (a, b)]
        united = sets.united(torch.cat(terms, -1))
    else:
        united = sets.union(sets.united(a), sets.united(b))
    if second.dim() < first.dim() or name in ("dot", "vdot"):
        united = united[..., 0]
    if name in ("dot", "vdot"):
        united = united[0]
    return sets.union(ids_of(bound["self"]), united) if name.startswith(("add", "badd")) else united


def _matrices(sets: Sets, name: str, bound: dict[str, Any], inputs: list[Tensor], result: Any) -> Any:
    """Unites each matrix of a batch; a Cholesky factor's entries depend on the leading block alone."""
    if name in ("linalg_cholesky_ex", "cholesky") and not bound.get("upper"):
        factor = _leading(sets, ids_of(inputs[0]))
        if name == "cholesky":
            return factor
        return type(result)((factor, _reduced(sets, ids_of(inputs[0]), (-1, -2), False)))
    if name in _SYSTEMS and bound.get("left", True):
        # The columns on the right are solved for one by one.
        columns, matrix = (ids_of(bound[key]) for key in _SYSTEMS[name])
        united = sets.union(_reduced(sets, matrix, (-1, -2), True), _reduced(sets, columns, (-2,), True))
        return tree_map(lambda out: united.expand(out.shape).clone(), result)
    if any(leaf.dim() < 2 for leaf in inputs):
        return tree_map(lambda out: _all(sets, inputs, out), result)
    united = sets.union(*(_reduced(sets, ids_of(leaf), (-1, -2), False) for leaf in inputs))

    def spread(out: Tensor) -> Tensor:
        ids = united.reshape(united.shape + (1,) * (out.dim() - united.dim()))
        return ids.expand(out.shape).clone()

    return tree_map(spread, result)


def _leading(sets: Sets, ids: Tensor) -> Tensor:
    """Returns the sets of a Cholesky factor: entry (i, j) depends on what lies above and left of (i, j) or (j, i)."""
    size = ids.shape[-1]
    both = sets.union(ids, ids.transpose(-1, -2))
    reach = _scanned(sets, _scanned(sets, both, -1), -2)
    return torch.where(torch.ones(size, size, dtype=torch.bool).tril(), reach, 0)


def _picked(sets: Sets, func: Any, name: str, bound: dict[str, Any], inputs: list[Tensor], result: Tensor) -> Tensor:
    """Picks sets as an index picks entries; where the index depends on an input, all entries that it may pick."""
    picked = "weight" if name == "embedding" else "self"
    source = bound[picked]
    chosen = [leaf for key, value in bound.items() if key != picked for leaf in tree_leaves(value)]
    chosen = [leaf for leaf in chosen if isinstance(leaf, Tensor)]
    if not any(bool(ids_of(leaf).any()) for leaf in chosen):
        taken = {key: tree_map(values_of, value) for key, value in bound.items() if key != picked}
        return func(**{picked: ids_of(source)}, **taken)
    own = ids_of(source)
    if name == "index":
        places = [place for place, index in enumerate(bound["indices"]) if index is not None]
        first, last = places[0], places[-1] + 1
        integral = all(leaf.dtype != torch.bool for leaf in chosen)
        if integral and places == list(range(first, last)):
            index = sets.union(*map(ids_of, chosen))
            candidates = _reduced(sets, own, places, False)
            index = index.reshape((1,) * first + index.shape + (1,) * (own.dim() - last))
            shape = candidates.shape[:first] + (1,) * (result.dim() - candidates.dim()) + candidates.shape[first:]
            return sets.union(candidates.reshape(shape), index).expand(result.shape).clone()
    if name == "gather":
        dim = bound["dim"] % max(own.dim(), 1)
        candidates = _reduced(sets, own, [dim], True)
        for axis, size in enumerate(result.shape):
            if axis != dim:
                candidates = candidates.narrow(axis, 0, size)
        return sets.union(candidates, ids_of(bound["index"])).expand(result.shape).clone()
    return _all(sets, inputs, result)
