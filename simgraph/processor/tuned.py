"""How torch should run a small network.

The operations of a small transformer last microseconds. Splitting each of them over threads costs a barrier per
operation: with two threads on a machine whose second core is busy, a training step was measured to take ten times as
long as with one, and at best as long. What can be split are batches, one part for each core.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import torch

from simgraph.processor.memory import keep_freed_memory
from simgraph.processor.products import fast_products

__all__ = ["tuned", "workers"]


@contextmanager
def tuned() -> Iterator[None]:
    """Runs torch operations in one thread each, by the faster library; restores both on exit."""
    keep_freed_memory()
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with fast_products():
            yield
    finally:
        torch.set_num_threads(before)


@contextmanager
def workers(most: int | None = None) -> Iterator[ThreadPoolExecutor]:
    """Starts threads that run torch operations so, one for each core or as many as there is work for."""
    cores = os.cpu_count() or 1
    with tuned(), ThreadPoolExecutor(cores if most is None else min(most, cores)) as pool:
        yield pool
