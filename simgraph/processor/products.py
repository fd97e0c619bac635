"""Which library multiplies matrices.

torch hands products of float32 matrices to MKL, which leaves half of the vector units idle on processors with AVX-512
that Intel did not make; oneDNN, which torch also ships, uses all of them. torch offers oneDNN these products only where
it is allowed to round the factors to bfloat16. Processors without matrix units of their own (AMX) do not make use of
that permission, so that the products stay exact to float32; where they do make use of it, MKL keeps the products.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

import torch

__all__ = ["fast_products"]

_ROUNDING = 1e-5
"""Relative errors of float32 products stay far below this, those of rounded factors above."""


@contextmanager
def fast_products() -> Iterator[None]:
    """Lets the faster library multiply matrices where its products are exact to float32, until the context ends."""
    if not _exact():
        yield
        return
    with _rounding_allowed():
        yield


@cache
def _exact() -> bool:
    """Tells whether there is a faster library, and its products are exact although it might round."""
    if not torch.backends.mkldnn.is_available() or torch.backends.cpu.get_cpu_capability() != "AVX512":
        return False
    factor = 1 + 2.0**-12  # which is 1 when rounded to the eight bits of bfloat16
    with _rounding_allowed():
        product = torch.full((1024, 48), factor) @ torch.ones(48, 144)
    return bool((product / (48 * factor) - 1).abs().max() < _ROUNDING)


@contextmanager
def _rounding_allowed() -> Iterator[None]:
    settings: Any = torch.backends.mkldnn.matmul  # type: ignore[attr-defined]
    before = settings.fp32_precision
    settings.fp32_precision = "bf16"
    try:
        yield
    finally:
        settings.fp32_precision = before
