"""Sinks that write each event from Python, in pieces of whole events."""

from __future__ import annotations

import ctypes
from collections.abc import Iterator, Mapping, Sequence
from typing import BinaryIO

from retina_jit.datatypes.base import DataType
from retina_jit.sinks.base import Layout
from retina_jit.sinks.scan import NUMBER, SCAN, Scanner


class Events:
    """Base of these sinks: finds the events of its subscriptions."""

    def __init__(self) -> None:
        self.lines = 0
        self.names: dict[int, str] = {}
        """Names of the subscriptions that write here."""
        self._layouts: Mapping[int, Layout] = {}

    def units(self, types: Sequence[type[DataType]]) -> list[str]:
        """Return the entries that a subscription to `types` needs."""
        return [SCAN]

    def open(self, mine: Mapping[int, Layout], count: int) -> None:
        """Learn which subscriptions write here."""
        self._layouts = mine
        self._scan = Scanner()

    def take(self, address: int, length: int) -> int:
        """Write the whole events among the bytes from `address` on. Returns how many bytes they take."""
        done, words = self._scan(address, length)
        if done:
            self.write(ctypes.string_at(address, done), self._mine(words.tolist()))
        return done

    def _mine(self, words: Sequence[int]) -> Iterator[tuple[int, int]]:
        for word in words:
            number = word & NUMBER
            if number in self._layouts:
                self.lines += 1
                yield number, word >> 32

    def write(self, buffer: bytes, events: Iterator[tuple[int, int]]) -> None:
        """Write events: number of the subscription, where it begins in `buffer`."""
        raise NotImplementedError

    def flush(self) -> None:
        """Do nothing: what is taken is written."""


def put(out: BinaryIO, data: bytes) -> None:
    """Write whole records: of a process that is killed only the last write may be cut."""
    if data:
        out.write(data)
        out.flush()
