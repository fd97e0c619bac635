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

# Axes: h heads, d features of one head, q queries, k keys, b batch (innermost).


def attend(query: Tensor, key: Tensor, value: Tensor, bias: Tensor | None) -> Tensor:
    """Attention of queries over keys.

    Args:
        query: (h, d, q, b).
        key: (h, d, k, b).
        value: (h, d, k, b).
        bias: Boolean mask or float bias added to the logits, broadcastable to (b, h, q, k); a boolean is
            true where attention is allowed. Every query has a key that it may attend to. None: all allowed.

    Returns:
        (h, d, q, b).
    """
    if query.device.type == "cpu" and key.shape[2] <= FEW:
        return _few(query, key, value, bias)
    q, k, v = (part.permute(3, 0, 2, 1) for part in (query, key, value))
    return scaled_dot_product_attention(q, k, v, attn_mask=bias).permute(1, 3, 2, 0)


def _few(query: Tensor, key: Tensor, value: Tensor, bias: Tensor | None) -> Tensor:
    logits = query.shape[1] ** -0.5 * (query.unsqueeze(3) * key.unsqueeze(2)).sum(1)  # h q k b
    if bias is not None:
        if bias.dtype == torch.bool:
            bias = torch.zeros(bias.shape).masked_fill(~bias, float("-inf"))
        logits = logits + bias.permute(1, 2, 3, 0)
    weights = logits.softmax(2)
    return (weights.unsqueeze(1) * value.unsqueeze(2)).sum(3)
