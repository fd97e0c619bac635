"""Sets of tokens as bits of machine words, 64 tokens to a word.

Unions and intersections of thousands of sets are then a few passes over small arrays. Shapes end in
``words``, the number of words that one set takes.
"""

from __future__ import annotations

import numpy as np

__all__ = ["Groups", "Words", "pack", "unpack"]

Words = np.ndarray
"""Array of uint64; its last axis holds the words of one set."""

_WORD = 64


def pack(sets: np.ndarray) -> Words:
    """Packs boolean sets (..., tokens) into words (..., words)."""
    padding = -sets.shape[-1] % _WORD
    padded = np.pad(sets, [(0, 0)] * (sets.ndim - 1) + [(0, padding)])
    return np.packbits(padded, axis=-1, bitorder="little").view("<u8")


def unpack(words: Words, tokens: int) -> np.ndarray:
    """Unpacks words (..., words) into boolean sets (..., tokens)."""
    return np.unpackbits(words.view(np.uint8), axis=-1, count=tokens, bitorder="little").view(bool)


class Groups:
    """Groups of sets that carry the same label.

    Args:
        labels: Label of each set, (batch, count), between 0 and count - 1.
    """

    def __init__(self, labels: np.ndarray) -> None:
        batch, count = labels.shape
        self._keys = (labels + count * np.arange(batch)[:, None]).ravel()
        self._order = np.argsort(self._keys, kind="stable")
        ordered = self._keys[self._order]
        self._starts = np.flatnonzero(np.diff(ordered, prepend=-1))
        self._number = np.empty(batch * count, dtype=np.int64)
        self._number[ordered[self._starts]] = np.arange(len(self._starts))

    def union(self, words: Words) -> Words:
        """Returns, for each set of (batch, count, words), the union of all sets of its group."""
        flat = words.reshape(-1, words.shape[-1])
        united = np.bitwise_or.reduceat(flat[self._order], self._starts, axis=0)
        return np.asarray(united[self._number[self._keys]].reshape(words.shape))
