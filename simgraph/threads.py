"""How many threads a small network should use.

The operations of a small transformer last microseconds. Splitting each of them over threads costs a
barrier per operation: with two threads on a machine whose second core is busy, a training step was
measured to take ten times as long as with one, and at best as long.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

__all__ = ["one_thread"]


@contextmanager
def one_thread() -> Iterator[None]:
    """Runs torch operations in one thread, and restores the number of threads on exit."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
