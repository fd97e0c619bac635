"""Numbers that a user hands over, as arrays."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from simgraph.errors import EvidenceError

__all__ = ["numbers"]


def numbers(where: str, value: Any) -> np.ndarray:
    """Returns a float64 array of numbers, lists, arrays or tensors.

    Args:
        where: What the user wrote, for messages: ``"given(x=...)"``.
        value: What was handed over.

    Raises:
        EvidenceError: If it is ragged, or holds anything but numbers.

    Example:
        >>> numbers("given(x=...)", [1, 2])
        array([1., 2.])
    """
    if isinstance(value, torch.Tensor):
        value = value.detach().cpu().numpy()
    try:
        array = np.asarray(value)
    except ValueError as error:
        raise EvidenceError(f"{where} is no array: {error}.") from None
    if array.dtype.kind not in "iubf":
        kind = "text" if array.dtype.kind in "US" else f"values of type {array.dtype}"
        raise EvidenceError(
            f"{where} holds {kind}, not numbers.\n"
            "  Hand over a number, a list, an array or a tensor; categories are whole numbers."
        )
    return array.astype(np.float64)
