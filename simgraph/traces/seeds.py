"""One stream of random numbers per (seed, node name, position).

A position is (trace, element) for functions that run one trace at a time, and (block, draw) for nodes
whose traces are drawn together, in fixed blocks of 1 024 traces. A value is a function of its own
stream and its parents alone, so traces do not change with the number of simulations, the order of
nodes, or the nodes that are added later.
"""

from __future__ import annotations

import hashlib
import struct

import numpy as np
import torch

from simgraph.errors import DeclarationError

__all__ = ["BLOCK", "block_seeds", "check_seed", "integer_seed", "numpy_stream", "torch_stream"]

BLOCK = 1024
"""Number of traces that are drawn together."""


def check_seed(seed: int) -> int:
    """Returns ``seed``, or raises DeclarationError if it is no whole number in [0, 2**63)."""
    if isinstance(seed, bool) or not isinstance(seed, (int, np.integer)) or not 0 <= seed < 2**63:
        raise DeclarationError(f"seed={seed!r} is no seed; use a whole number of 0 or more, below 2**63.")
    return int(seed)


def _key(seed: int, name: str, *position: int) -> bytes:
    text = "\x1f".join([str(seed), name, *map(str, position)])
    return hashlib.blake2b(text.encode(), digest_size=16).digest()


def integer_seed(seed: int, name: str, *position: int) -> int:
    """Returns the seed of a stream as an integer in [0, 2**63)."""
    return int.from_bytes(_key(seed, name, *position)[:8], "little") >> 1


def block_seeds(seed: int, name: str, draw: int, first: int, count: int) -> list[int]:
    """Returns the seeds of consecutive blocks in one random operation of a node, each in [0, 2**63).

    One hash serves eight blocks, because hashing would otherwise take as long as drawing.

    Args:
        seed: Seed of the simulation.
        name: Name of the node.
        draw: Number of the random operation.
        first: Number of the first block.
        count: Number of blocks.
    """
    found: list[int] = []
    for group in range(first // 8, (first + count - 1) // 8 + 1):
        text = f"{seed}\x1f{name}\x1f{draw}\x1f{group}"
        key = hashlib.blake2b(text.encode(), digest_size=64, person=b"blocks").digest()
        found.extend(word >> 1 for word in struct.unpack("<8Q", key))
    return found[first % 8 : first % 8 + count]


def numpy_stream(seed: int, name: str, *position: int) -> np.random.Generator:
    """Returns the stream as a NumPy generator."""
    return np.random.Generator(np.random.PCG64(int.from_bytes(_key(seed, name, *position), "little")))


def torch_stream(seed: int, name: str, *position: int) -> torch.Generator:
    """Returns the stream as a torch generator on the CPU."""
    return torch.Generator().manual_seed(integer_seed(seed, name, *position))
