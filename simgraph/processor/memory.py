"""What happens to memory that is freed.

A step of training, or an evaluation of the sampler, frees tensors of a few megabytes and asks for the same sizes again.
As glibc starts out, such memory goes back to the system at once and returns page by page, each page by a fault: a fifth
of the time of drawing, and a twentieth of that of training, were spent there.
"""

from __future__ import annotations

import ctypes
import platform
from functools import cache

__all__ = ["keep_freed_memory"]

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # malloc.h

_LARGEST = 32 * 2**20
"""The largest threshold that glibc allows."""


@cache
def keep_freed_memory() -> bool:
    """Sets the thresholds of malloc to the largest that glibc itself comes to after freeing large blocks; once.

    Up to 64 MB that are freed at the end of a heap then stay with the process.

    Returns:
        Whether there was something to set: other allocators are left alone.
    """
    if platform.libc_ver()[0] != "glibc":
        return False
    libc = ctypes.CDLL(None)
    return bool(libc.mallopt(_MMAP_THRESHOLD, _LARGEST) and libc.mallopt(_TRIM_THRESHOLD, 2 * _LARGEST))
