"""Sets of tokens as bits of machine words, 64 tokens to a word.

Unions and intersections of thousands of sets are then a few passes over small arrays. Shapes end in
``words``, the number of words that one set takes.
"""

from __future__ import annotations

import numpy as np

__all__ = ["Groups", "Parts", "Words", "include", "listed", "pack", "unpack"]

Words = np.ndarray
"""Array of uint64; its last axis holds the words of one set."""

_WORD = 64


def pack(sets: np.ndarray) -> Words:
    """Packs boolean sets (..., tokens) into words (..., words)."""
    words = -(-sets.shape[-1] // _WORD)
    packed = np.zeros((*sets.shape[:-1], words * (_WORD // 8)), dtype=np.uint8)
    packed[..., : -(-sets.shape[-1] // 8)] = np.packbits(sets, axis=-1, bitorder="little")
    return packed.view("<u8")


def unpack(words: Words, tokens: int) -> np.ndarray:
    """Unpacks words (..., words) into boolean sets (..., tokens)."""
    return np.unpackbits(words.view(np.uint8), axis=-1, count=tokens, bitorder="little").view(bool)


def listed(words: Words) -> tuple[np.ndarray, np.ndarray]:
    """Lists the tokens of sets (..., words): the number of the set, counted flat, and the token; sorted by both."""
    flat, width = words.reshape(-1), words.shape[-1]
    full = np.flatnonzero(flat)  # most words of sparse sets are empty
    place, bit = np.nonzero(unpack(flat[full, None], _WORD))
    return full[place] // width, full[place] % width * _WORD + bit


def include(words: Words, number: np.ndarray, token: np.ndarray) -> None:
    """Puts tokens into sets (..., words), in place; sets are numbered as they lie in memory."""
    bit = np.left_shift(np.uint64(1), (token % _WORD).astype(np.uint64))
    np.bitwise_or.at(words.reshape(-1), number * words.shape[-1] + token // _WORD, bit)


class Parts:
    """Consecutive parts of a list, each reduced by an operation that may take an entry twice (union, minimum).

    ``ufunc.reduceat`` does the same several times slower: it works entry by entry, this by windows of doubling width,
    of which two cover each short part.

    Args:
        starts: Where each part begins; no part is empty.
        total: Length of the list.
    """

    _LONG = 64

    def __init__(self, starts: np.ndarray, total: int) -> None:
        ends = np.append(starts[1:], total)
        length = ends - starts
        level = np.frexp(length)[1] - 1  # the widest window that fits into a part is 2 ** level
        short = length < self._LONG
        self._windows = []
        for each in range(int(level[short].max(initial=-1)) + 1):
            parts = np.flatnonzero(short & (level == each))
            self._windows.append((parts, starts[parts], ends[parts] - (1 << each)))
        self._long = [(part, int(starts[part]), int(ends[part])) for part in np.flatnonzero(~short).tolist()]
        self._count = len(starts)

    def reduce(self, operation: np.ufunc, values: np.ndarray) -> np.ndarray:
        """Reduces values (batch, total, ...) to (batch, parts, ...)."""
        result = np.empty((len(values), self._count, *values.shape[2:]), dtype=values.dtype)
        for part, begin, end in self._long:
            operation.reduce(values[:, begin:end], axis=1, out=result[:, part])
        for level, (parts, first, last) in enumerate(self._windows):
            if level:
                width = 1 << (level - 1)
                values = operation(values[:, :-width], values[:, width:])
            if len(parts):
                result[:, parts] = operation(values.take(first, 1), values.take(last, 1))
        return result


class Groups:
    """Groups of sets that carry the same label.

    Args:
        labels: Label of each set, (batch, count), between 0 and count - 1.
    """

    def __init__(self, labels: np.ndarray) -> None:
        batch, count = labels.shape
        keys = (labels + count * np.arange(batch)[:, None]).ravel()
        self._order = np.argsort(keys, kind="stable")
        new = np.diff(keys[self._order], prepend=-1) != 0
        self._parts = Parts(np.flatnonzero(new), len(keys))
        self._group = np.empty(len(keys), dtype=np.int64)
        self._group[self._order] = np.cumsum(new) - 1

    def union(self, words: Words) -> Words:
        """Returns, for each set of (batch, count, words), the union of all sets of its group."""
        ordered = words.reshape(-1, words.shape[-1]).take(self._order, 0)
        return self._parts.reduce(np.bitwise_or, ordered[None])[0].take(self._group, 0).reshape(words.shape)
