"""Masked attention over a modest number of tokens.

``scaled_dot_product_attention`` is made for long sequences and for devices with many cores. On a CPU, with ten or
twenty tokens, most of its time goes into tiny matrix products, copies, and a softmax over rows that are shorter than a
vector register. Two forms take its place there, and all agree:

- *few* (up to ``FEW`` keys): the products are sums of element-wise products with the batch as innermost axis, which
  vectorise whatever the number of tokens; keys that a whole batch shares lie beside them, and are multiplied at once;
- *short* (up to ``SHORT`` keys, and any number where a bias is learned): masks and biases are added in place, and the
  softmax of rows that are shorter than a vector register is written as powers and a sum, which vectorise over the
  whole batch.

The powers are powers of two: torch hands exponentials to MKL, which takes thirty times longer where arguments are minus
infinity, as those of masked pairs are, and six hundred times where results are next to zero. Powers of two are torch's
own; minus infinity costs them nothing.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, cast

import torch
from torch import Tensor
from torch.nn.functional import linear, scaled_dot_product_attention

__all__ = ["FEW", "SHORT", "attend", "attend_shared", "barrier", "project"]

FEW = 8
"""Up to so many keys the element-wise form is the fastest one on a CPU."""

SHARED = 64
"""Up to so many keys that a batch shares, beside few of each row, the element-wise form is the fastest one on a CPU."""

SHORT = 48
"""Up to so many keys torch's own attention is the slower one on a CPU."""

_REGISTER = 16
"""Rows of logits that are shorter than a vector register torch's own softmax takes number by number."""

_LOG2_E = math.log2(math.e)

# All tensors are (tokens, batch, width), the width made of heads * features. What is innermost in memory differs:
# the batch for few tokens, the width for more.


def project(weight: Tensor, x: Tensor, keys: int, shared: int = 0) -> Sequence[Tensor]:
    """Returns queries, keys and values in the memory layout that attention is fast in.

    Args:
        weight: Their three matrices on top of each other, (3 * width, width).
        x: Tokens (tokens, batch, width).
        keys: Number of keys that will be attended to.
        shared: Number of others, which the whole batch shares (:func:`attend_shared`).

    Returns:
        Three tensors (tokens, batch, width).
    """
    if _is_few(x, keys, shared):
        products = (weight @ x.flatten(0, 1).T).view(3, -1, *x.shape[:2])
        return products.permute(0, 2, 3, 1).unbind(0)
    return [linear(x, part) for part in weight.chunk(3)]


def barrier(mask: Tensor, dtype: torch.dtype, keys: int, shared: int = 0) -> Tensor:
    """Returns what keeps queries from keys when it is added to logits, in the memory layout that attention is fast in.

    Args:
        mask: True where attention is allowed, (batch or 1, queries, keys). Every query has a key that it may attend to.
        dtype: Type of the logits.
        keys: Number of keys that will be attended to.
        shared: Number of others, which the whole batch shares, in front of these.

    Returns:
        0 where attention is allowed, minus infinity elsewhere, of the mask's shape.
    """
    if _is_few(mask, keys, shared):
        mask = mask.permute(1, 2, 0).contiguous().permute(2, 0, 1)
    return torch.zeros_like(mask, dtype=dtype).masked_fill_(~mask, float("-inf"))


def attend(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    heads: int,
    bias: Tensor | None = None,
    barred: Tensor | None = None,
    factors: tuple[Tensor, Tensor] | None = None,
) -> Tensor:
    """Attention of queries over keys.

    Args:
        query: (queries, batch, width).
        key: (keys, batch, width).
        value: (keys, batch, width).
        heads: Number of heads; divides the width.
        bias: Added to the logits, ([batch,] heads, queries, keys).
        barred: The :func:`barrier` of a mask, (batch or 1, queries, keys). None: all allowed.
        factors: Two more tensors whose product is added to the logits, (batch, heads, queries, terms) and (batch, keys,
            terms); of many keys they take less time than their product would.

    Returns:
        (queries, batch, width).
    """
    if _is_few(query, len(key)):
        return _few(query, key, value, heads, _summed(bias, factors), barred)
    # Where a bias is learned, torch has no kernel, and its plain form takes longer.
    learned = factors is not None or (bias is not None and bias.requires_grad)
    if query.device.type == "cpu" and (len(key) <= SHORT or learned):
        return _short(query, key, value, heads, bias, barred, factors)
    return _long(query, key, value, heads, _summed(bias, factors), barred)


def attend_shared(
    query: Tensor,
    own: tuple[Tensor, Tensor],
    shared: tuple[Tensor, Tensor],
    heads: int,
    bias: Tensor | None = None,
    barred: Tensor | None = None,
) -> Tensor:
    """Attention over keys that are the same for the whole batch, and over others that are not.

    The shared keys are never copied: all queries of the batch are multiplied with them at once.

    Args:
        query: (queries, batch, width).
        own: Keys and values, each (keys, batch, width).
        shared: Keys and values, each (shared keys, 1, width).
        heads: Number of heads; divides the width.
        bias: Added to the logits, (heads, queries, shared keys + keys).
        barred: The :func:`barrier` of a mask, (batch or 1, queries, shared keys + keys). None: all allowed.

    Returns:
        (queries, batch, width).
    """
    if _is_few(query, len(own[0]), len(shared[0])):
        return _few_shared(query, own, shared, heads, bias, barred)
    count, batch = query.shape[:2]
    q, k, v = (part.unflatten(2, (heads, -1)).permute(2, 0, 1, 3) for part in (query, *own))  # h tokens b d
    known, news = (part.squeeze(1).unflatten(1, (heads, -1)).transpose(0, 1) for part in shared)  # h tokens d
    q = _LOG2_E * q.shape[-1] ** -0.5 * q
    among_known = (q.flatten(1, 2) @ known.mT).unflatten(1, (count, batch))
    among_own = (q.transpose(1, 2) @ k.permute(0, 2, 3, 1)).transpose(1, 2)
    parts, sizes = (among_known, among_own), (len(shared[0]), len(k[0]))  # each h queries b keys
    if bias is not None:
        for part, own_bias in zip(parts, (_LOG2_E * bias).unsqueeze(2).split(sizes, -1), strict=True):
            part.add_(own_bias)
    if barred is not None:
        for part, own_barred in zip(parts, barred.transpose(0, 1).split(sizes, -1), strict=True):
            part.add_(own_barred)
    # A softmax over both, in their own memory: the logits of many shared keys are what takes time here.
    top = torch.maximum(*(part.detach().amax(-1, keepdim=True) for part in parts))
    of_known, of_own = (_powers(part, top) for part in parts)
    read = (of_known.flatten(1, 2) @ news).unflatten(1, (count, batch))
    read = read + (of_own.transpose(1, 2) @ v.transpose(1, 2)).transpose(1, 2)
    read = read / (of_known.sum(-1, keepdim=True) + of_own.sum(-1, keepdim=True))
    return read.permute(1, 2, 0, 3).flatten(2)


def _is_few(x: Tensor, keys: int, shared: int = 0) -> bool:
    return x.device.type == "cpu" and keys <= FEW and shared <= SHARED


def _powers(logits: Tensor, top: Tensor) -> Tensor:
    """Returns what logits in units of ln 2 stand for, ``top`` standing for 1; in their own memory."""
    return logits.sub_(top).exp2_()


class _Softmax(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, logits: Tensor, axis: int) -> Tensor:
        weights = (logits - logits.amax(axis, keepdim=True)).mul_(_LOG2_E).exp2_()
        weights.div_(weights.sum(axis, keepdim=True))
        ctx.axis = axis
        ctx.save_for_backward(weights)
        return weights

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        (weights,) = ctx.saved_tensors
        pull = weights * grads[0]
        return pull.addcmul_(weights, pull.sum(ctx.axis, keepdim=True), value=-1), None


def _few(query: Tensor, key: Tensor, value: Tensor, heads: int, bias: Tensor | None, barred: Tensor | None) -> Tensor:
    q, k, v = (part.permute(2, 0, 1).unflatten(0, (heads, -1)) for part in (query, key, value))  # h d tokens b
    logits = q.shape[1] ** -0.5 * _contracted(q.unsqueeze(3), k.unsqueeze(2), 1)  # h q k b
    if bias is not None:
        logits = logits.add_(bias.unsqueeze(-1) if bias.dim() == 3 else bias.permute(1, 2, 3, 0))
    if barred is not None:
        logits = logits.add_(barred.permute(1, 2, 0))
    weights = cast(Tensor, _Softmax.apply(logits, 2))
    attended = _contracted(weights.unsqueeze(1), v.unsqueeze(2), 3)
    return attended.flatten(0, 1).permute(1, 2, 0)  # h d q b -> q b (h d)


def _few_shared(
    query: Tensor,
    own: tuple[Tensor, Tensor],
    shared: tuple[Tensor, Tensor],
    heads: int,
    bias: Tensor | None,
    barred: Tensor | None,
) -> Tensor:
    q, k, v = (part.permute(2, 0, 1).unflatten(0, (heads, -1)) for part in (query, *own))  # h d tokens b
    known, news = (part.squeeze(1).unflatten(1, (heads, -1)) for part in shared)  # tokens h d
    q = _LOG2_E * q.shape[1] ** -0.5 * q
    tokens = q.shape[2:]
    among_known = (known.transpose(0, 1) @ q.flatten(2)).unflatten(2, tokens)
    logits = torch.cat([among_known, _contracted(q.unsqueeze(2), k.unsqueeze(3), 1)], 1)  # h k q b
    if bias is not None:
        logits.add_(_LOG2_E * bias.mT.unsqueeze(-1))
    if barred is not None:
        logits.add_(barred.permute(2, 1, 0))
    weights = _powers(logits, logits.detach().amax(1, keepdim=True))
    of_known, of_own = weights.split([len(known), k.shape[2]], 1)
    read = (news.permute(1, 2, 0) @ of_known.flatten(2)).unflatten(2, tokens)  # h d q b
    read = read + _contracted(of_own.unsqueeze(1), v.unsqueeze(3), 2)
    return (read / weights.sum(1).unsqueeze(1)).flatten(0, 1).permute(1, 2, 0)


def _contracted(left: Tensor, right: Tensor, axis: int) -> Tensor:
    """Returns (left * right).sum(axis)."""
    if torch.is_grad_enabled():
        return (left * right).sum(axis)
    # Where no product has to be kept for the gradient, a running sum stays in the processor's cache.
    (first, *others), (factor, *factors) = left.unbind(axis), right.unbind(axis)
    total = first * factor
    for part, other in zip(others, factors, strict=True):
        total.addcmul_(part, other)
    return total


def _short(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    heads: int,
    bias: Tensor | None,
    barred: Tensor | None,
    factors: tuple[Tensor, Tensor] | None,
) -> Tensor:
    q, k, v = (part.unflatten(2, (heads, -1)).permute(1, 2, 0, 3) for part in (query, key, value))  # b h tokens d
    q = q.shape[-1] ** -0.5 * q
    if factors is not None:
        left, right = factors
        q, k = torch.cat([q, left], -1), torch.cat([k, right.unsqueeze(1).expand(-1, heads, -1, -1)], -1)
    logits = q @ k.mT  # no view of another tensor: what is done to it in its own memory would be copied for gradients
    if bias is not None:
        logits = logits.add_(bias)
    if barred is not None:
        logits = logits.add_(barred.unsqueeze(1))
    weights = cast(Tensor, _Softmax.apply(logits, -1)) if len(key) < _REGISTER else logits.softmax(-1)
    return (weights @ v).permute(2, 0, 1, 3).flatten(2)


def _long(query: Tensor, key: Tensor, value: Tensor, heads: int, bias: Tensor | None, barred: Tensor | None) -> Tensor:
    q, k, v = (part.unflatten(2, (heads, -1)).permute(1, 2, 0, 3) for part in (query, key, value))  # b h tokens d
    added = None if bias is None else bias.unsqueeze(0) if bias.dim() == 3 else bias
    if barred is not None:
        added = barred.unsqueeze(1) if added is None else added + barred.unsqueeze(1)
    return scaled_dot_product_attention(q, k, v, attn_mask=added).permute(2, 0, 1, 3).flatten(2)


def _summed(bias: Tensor | None, factors: tuple[Tensor, Tensor] | None) -> Tensor | None:
    """Returns the bias with the product of the factors."""
    if factors is None:
        return bias
    left, right = factors
    product = left @ right.mT.unsqueeze(1)
    return product if bias is None else bias + product
