"""Constant data of generated code: long literals, large sets, automata. Code knows where it lies, not what it says.

So another word, another list of addresses or another pattern needs no compilation.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np

from retina_jit.filters.literals import Interval

SIGN = 1 << 63
_MASK = (1 << 64) - 1


def signed(word: int) -> int:
    """Return a 64-bit word as the signed number that kernels hold."""
    word &= _MASK
    return word - (1 << 64) if word & SIGN else word


PARALLEL = (-1).to_bytes(8, "little", signed=True)
"""How the table of a pattern begins that has no automaton of states, see `parallel`."""


class Tables:
    """Collects arrays; equal ones are kept once."""

    def __init__(self) -> None:
        self._arrays: list[np.ndarray[Any, Any] | None] = []
        self._known: dict[bytes, int] = {}
        self._literals = bytearray()
        self._literal_at: dict[bytes, int] = {}
        self._literal_table = -1

    def add(self, array: np.ndarray[Any, Any]) -> int:
        """Return the index of an array."""
        content = array.tobytes()
        if content not in self._known:
            self._known[content] = len(self._arrays)
            self._arrays.append(array)
        return self._known[content]

    def is_parallel(self, index: int) -> bool:
        """Whether an automaton is one of `parallel`."""
        array = self._arrays[index]
        return array is not None and array[:8].tobytes() == PARALLEL

    def reserve(self) -> int:
        """Return the index of one word that is not known yet: the address of code."""
        self._arrays.append(np.zeros(1, np.int64))
        return len(self._arrays) - 1

    def put(self, index: int, array: np.ndarray[Any, Any]) -> None:
        """Fill a reserved place."""
        self._arrays[index] = array

    def literal(self, value: bytes) -> tuple[int, int]:
        """Return (index of the table of literals, position of a byte string in it)."""
        if self._literal_table < 0:
            self._literal_table = len(self._arrays)
            self._arrays.append(None)
        if value not in self._literal_at:
            self._literal_at[value] = len(self._literals)
            self._literals += value
        return self._literal_table, self._literal_at[value]

    def arrays(self) -> list[np.ndarray[Any, Any]]:
        """Return all arrays, in the order of their indices."""
        literals = np.frombuffer(bytes(self._literals) + bytes(8), np.uint8)
        return [literals if a is None else a for a in self._arrays]


@lru_cache(maxsize=8)  # stages ask for the same large set
def range_table(ranges: tuple[Interval, ...]) -> np.ndarray[Any, Any]:
    """Return [count, lows…, highs…] for `match.in_ranges`."""
    return np.array([len(ranges), *(low for low, _ in ranges), *(high for _, high in ranges)], np.int64)


@lru_cache(maxsize=8)
def wide_range_table(ranges: tuple[Interval, ...]) -> np.ndarray[Any, Any]:
    """Return [count, (low, low, high, high)…] for `match.in_wide_ranges`: 128-bit numbers, their signs flipped."""
    words = [len(ranges)]
    for pair in ranges:
        for number in pair:
            words += [signed((number >> 64) ^ SIGN), signed(number ^ SIGN)]
    return np.array(words, np.int64)


def text_table(values: tuple[bytes, ...]) -> np.ndarray[Any, Any]:
    """Return [count, (position, length)…, bytes…] for `match.in_texts`, sorted by length, then by content."""
    values = tuple(sorted(values, key=lambda v: (len(v), v)))
    head, at = [len(values)], 8 + 16 * len(values)
    for value in values:
        head += [at, len(value)]
        at += len(value)
    content = np.array(head, np.int64).tobytes() + b"".join(values)
    return np.frombuffer(content + bytes(-len(content) % 8), np.int64)
