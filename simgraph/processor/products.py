"""Which library multiplies matrices.

torch hands products of float32 matrices to MKL, which leaves half of the vector units idle on AMD's processors with
AVX-512; oneDNN, which torch also ships, uses all of them. torch offers oneDNN these products only where it is allowed
to round the factors to bfloat16. Processors without matrix units of their own (AMX) make no use of that permission, so
that the products stay exact to float32; where they do make use of it, MKL keeps the products.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

import torch

__all__ = ["fast_products"]

_ROUNDING = 1e-5
"""Relative errors of float32 products stay far below this, those of rounded factors above."""

_lock = threading.RLock()
_users = 0
_before = "none"


@contextmanager
def fast_products() -> Iterator[None]:
    """Lets the faster library multiply matrices where its products are exact to float32, until the context ends.

    The setting is one for the whole process: the first context to begin sets it, the last one to end restores it.
    """
    if not _exact():
        yield
        return
    _allow()
    try:
        yield
    finally:
        _disallow()


def _exact() -> bool:
    """Tells whether there is a faster library, and its products are exact although it might round."""
    with _lock:
        return _measured()


@cache
def _measured() -> bool:
    if not torch.backends.mkldnn.is_available() or torch.backends.cpu.get_cpu_capability() != "AVX512":
        return False
    factor = 1 + 2.0**-12  # which is 1 when rounded to the eight bits of bfloat16
    left, right = (torch.full(shape, factor, dtype=torch.float32, device="cpu") for shape in ((1024, 48), (48, 144)))
    _allow()
    try:
        product = left @ right
    finally:
        _disallow()
    return bool((product / (48 * factor**2) - 1).abs().max() < _ROUNDING)


def _allow() -> None:
    global _users, _before
    with _lock:
        if not _users:
            _before = _settings().fp32_precision
            _settings().fp32_precision = "bf16"
        _users += 1


def _disallow() -> None:
    global _users
    with _lock:
        _users -= 1
        if not _users:
            _settings().fp32_precision = _before


def _settings() -> Any:
    return torch.backends.mkldnn.matmul  # type: ignore[attr-defined]
