"""Masked attention over a modest number of tokens.

``scaled_dot_product_attention`` is made for long sequences and for devices with many cores. On a CPU, with ten or
twenty tokens, most of its time goes into tiny matrix products, copies, and a softmax over rows that are shorter than a
vector register. Two forms take its place there, and all agree:

- *few* (up to ``FEW`` keys): the products are sums of element-wise products with the batch as innermost axis, which
  vectorise whatever the number of tokens; keys that a whole batch shares lie beside them, and are multiplied at once;
- *short* (up to ``SHORT`` keys): the softmax is written as an exponential, which vectorises over the whole batch, and
  a sum.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.functional import linear, scaled_dot_product_attention

__all__ = ["FEW", "SHORT", "attend", "attend_shared", "project"]

FEW = 8
"""Up to so many keys the element-wise form is the fastest one on a CPU."""

SHARED = 64
"""Up to so many keys that a batch shares, beside few of each row, the element-wise form is the fastest one on a CPU."""

SHORT = 24
"""Up to so many keys torch's own attention is the slower one on a CPU."""

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


def attend(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    heads: int,
    bias: Tensor | None = None,
    mask: Tensor | None = None,
    factors: tuple[Tensor, Tensor] | None = None,
) -> Tensor:
    """Attention of queries over keys.

    Args:
        query: (queries, batch, width).
        key: (keys, batch, width).
        value: (keys, batch, width).
        heads: Number of heads; divides the width.
        bias: Added to the logits, ([batch,] heads, queries, keys).
        mask: True where attention is allowed, (batch or 1, queries, keys). Every query has a key that it may
            attend to. None: all allowed.
        factors: Two more tensors whose product is added to the logits, (batch, heads, queries, terms) and (batch, keys,
            terms); of many keys they take less time than their product would.

    Returns:
        (queries, batch, width).
    """
    if query.device.type != "cpu" or len(key) > SHORT:
        return _long(query, key, value, heads, bias, mask, factors)
    bias = _summed(bias, factors)
    return (_few if len(key) <= FEW else _short)(query, key, value, heads, bias, mask)


def attend_shared(
    query: Tensor,
    own: tuple[Tensor, Tensor],
    shared: tuple[Tensor, Tensor],
    heads: int,
    bias: Tensor | None = None,
    mask: Tensor | None = None,
) -> Tensor:
    """Attention over keys that are the same for the whole batch, and over others that are not.

    The shared keys are never copied: all queries of the batch are multiplied with them at once.

    Args:
        query: (queries, batch, width).
        own: Keys and values, each (keys, batch, width).
        shared: Keys and values, each (shared keys, 1, width).
        heads: Number of heads; divides the width.
        bias: Added to the logits, (heads, queries, shared keys + keys).
        mask: True where attention is allowed, (batch or 1, queries, shared keys + keys). None: all allowed.

    Returns:
        (queries, batch, width).
    """
    if _is_few(query, len(own[0]), len(shared[0])):
        return _few_shared(query, own, shared, heads, bias, mask)
    count, batch = query.shape[:2]
    q, k, v = (part.unflatten(2, (heads, -1)).permute(2, 0, 1, 3) for part in (query, *own))  # h tokens b d
    known, news = (part.squeeze(1).unflatten(1, (heads, -1)).transpose(0, 1) for part in shared)  # h tokens d
    q = q.shape[-1] ** -0.5 * q
    among_known = (q.flatten(1, 2) @ known.mT).unflatten(1, (count, batch))
    among_own = (q.transpose(1, 2) @ k.permute(0, 2, 3, 1)).transpose(1, 2)
    parts, sizes = (among_known, among_own), (len(shared[0]), len(k[0]))  # each h queries b keys
    if bias is not None:
        for part, own_bias in zip(parts, bias.unsqueeze(2).split(sizes, -1), strict=True):
            part.add_(own_bias)
    if mask is not None:
        for part, allowed in zip(parts, mask.transpose(0, 1).split(sizes, -1), strict=True):
            part.masked_fill_(~allowed, float("-inf"))
    # A softmax over both, in their own memory: the logits of many shared keys are what takes time here.
    top = torch.maximum(*(part.detach().amax(-1, keepdim=True) for part in parts))
    of_known, of_own = (part.sub_(top).exp_() for part in parts)
    read = (of_known.flatten(1, 2) @ news).unflatten(1, (count, batch))
    read = read + (of_own.transpose(1, 2) @ v.transpose(1, 2)).transpose(1, 2)
    read = read / (of_known.sum(-1, keepdim=True) + of_own.sum(-1, keepdim=True))
    return read.permute(1, 2, 0, 3).flatten(2)


def _is_few(x: Tensor, keys: int, shared: int) -> bool:
    return x.device.type == "cpu" and keys <= FEW and shared <= SHARED


def _few(query: Tensor, key: Tensor, value: Tensor, heads: int, bias: Tensor | None, mask: Tensor | None) -> Tensor:
    q, k, v = (part.permute(2, 0, 1).unflatten(0, (heads, -1)) for part in (query, key, value))  # h d tokens b
    logits = q.shape[1] ** -0.5 * _contracted(q.unsqueeze(3), k.unsqueeze(2), 1)  # h q k b
    if bias is not None:
        logits = logits + (bias.unsqueeze(-1) if bias.dim() == 3 else bias.permute(1, 2, 3, 0))
    if mask is not None:
        logits = logits.masked_fill(~mask.permute(1, 2, 0), float("-inf"))
    attended = _contracted(logits.softmax(2).unsqueeze(1), v.unsqueeze(2), 3)
    return attended.flatten(0, 1).permute(1, 2, 0)  # h d q b -> q b (h d)


def _few_shared(
    query: Tensor,
    own: tuple[Tensor, Tensor],
    shared: tuple[Tensor, Tensor],
    heads: int,
    bias: Tensor | None,
    mask: Tensor | None,
) -> Tensor:
    q, k, v = (part.permute(2, 0, 1).unflatten(0, (heads, -1)) for part in (query, *own))  # h d tokens b
    known, news = (part.squeeze(1).unflatten(1, (heads, -1)) for part in shared)  # tokens h d
    q = q.shape[1] ** -0.5 * q
    tokens = q.shape[2:]
    among_known = (known.transpose(0, 1) @ q.flatten(2)).unflatten(2, tokens)
    logits = torch.cat([among_known, _contracted(q.unsqueeze(2), k.unsqueeze(3), 1)], 1)  # h k q b
    if bias is not None:
        logits.add_(bias.mT.unsqueeze(-1))
    if mask is not None:
        logits.masked_fill_(~mask.permute(2, 1, 0), float("-inf"))
    weights = logits.sub_(logits.detach().amax(1, keepdim=True)).exp_()
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


def _short(query: Tensor, key: Tensor, value: Tensor, heads: int, bias: Tensor | None, mask: Tensor | None) -> Tensor:
    tokens, batch, width = query.shape
    features = width // heads
    q, k, v = (part.reshape(len(part), -1, features).transpose(0, 1) for part in (query, key, value))  # bh tokens d
    logits = _masked(((features**-0.5 * q) @ k.mT).unflatten(0, (batch, heads)), bias, mask)
    weights = logits.sub_(logits.detach().amax(-1, keepdim=True)).exp_().flatten(0, 1)
    attended = weights @ v / weights.sum(-1, keepdim=True)
    return attended.transpose(0, 1).reshape(tokens, batch, width)


def _long(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    heads: int,
    bias: Tensor | None,
    mask: Tensor | None,
    factors: tuple[Tensor, Tensor] | None,
) -> Tensor:
    q, k, v = (part.unflatten(2, (heads, -1)).permute(1, 2, 0, 3) for part in (query, key, value))  # b h tokens d
    learned = factors is not None or (bias is not None and bias.requires_grad)
    if query.device.type == "cpu" and learned:
        # torch has no kernel for it, and its plain form guards against rows without any key, which takes time.
        q = q.shape[-1] ** -0.5 * q
        if factors is not None:
            left, right = factors
            q, k = torch.cat([q, left], -1), torch.cat([k, right.unsqueeze(1).expand(-1, heads, -1, -1)], -1)
        return (_masked(q @ k.mT, bias, mask).softmax(-1) @ v).permute(2, 0, 1, 3).flatten(2)
    allowed = None if mask is None else mask.unsqueeze(1)
    bias = _summed(bias, factors)
    if bias is not None:
        bias = bias.unsqueeze(0) if bias.dim() == 3 else bias
        allowed = bias if allowed is None else bias.masked_fill(~allowed, float("-inf"))
    attended = scaled_dot_product_attention(q, k, v, attn_mask=allowed)
    return attended.permute(2, 0, 1, 3).flatten(2)


def _summed(bias: Tensor | None, factors: tuple[Tensor, Tensor] | None) -> Tensor | None:
    """Returns the bias with the product of the factors."""
    if factors is None:
        return bias
    left, right = factors
    product = left @ right.mT.unsqueeze(1)
    return product if bias is None else bias + product


def _masked(logits: Tensor, bias: Tensor | None, mask: Tensor | None) -> Tensor:
    """Adds the bias to logits (batch, heads, queries, keys), and masks them; in their own memory, which is new."""
    if bias is not None:
        logits = logits.add_(bias)
    return logits if mask is None else logits.masked_fill_(~mask.unsqueeze(1), float("-inf"))
