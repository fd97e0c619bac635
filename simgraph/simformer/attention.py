"""Masked attention over few tokens.

``scaled_dot_product_attention`` is made for long sequences; with a handful of tokens nearly all of its
time on a CPU goes into tiny matrix products. Up to ``FEW`` tokens the products are written out as sums
of element-wise products with the batch as the innermost axis, which vectorise; both ways agree.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

__all__ = ["FEW", "attend"]

FEW = 8
"""Up to so many keys the element-wise form is the faster one on a CPU."""

# Axes: b batch, h heads, q queries, k keys, d features of one head.


def attend(query: Tensor, key: Tensor, value: Tensor, bias: Tensor | None) -> Tensor:
    """Attention of queries over keys.

    Args:
        query: (b, q, h, d).
        key: (b, k, h, d).
        value: (b, k, h, d).
        bias: Boolean mask or float bias added to the logits, broadcastable to (b, h, q, k); a boolean is
            true where attention is allowed. Every query has a key that it may attend to. None: all allowed.

    Returns:
        (b, q, h, d).
    """
    if query.device.type == "cpu" and key.shape[1] <= FEW:
        return _few(query, key, value, bias)
    out = scaled_dot_product_attention(
        query.transpose(1, 2), key.transpose(1, 2), value.transpose(1, 2), attn_mask=bias
    )
    return out.transpose(1, 2)


def _few(query: Tensor, key: Tensor, value: Tensor, bias: Tensor | None) -> Tensor:
    features = query.shape[-1]
    q, k, v = (part.permute(1, 2, 3, 0).contiguous() for part in (query * features**-0.5, key, value))
    logits = (q.unsqueeze(1) * k).sum(3)  # q k h b
    if bias is not None:
        if bias.dtype == torch.bool:
            bias = torch.zeros(bias.shape).masked_fill(~bias, float("-inf"))
        logits = logits + bias.permute(2, 3, 1, 0)
    weights = logits.softmax(1)
    out = (weights.unsqueeze(3) * v).sum(1)  # q h d b
    return out.permute(3, 0, 1, 2)
