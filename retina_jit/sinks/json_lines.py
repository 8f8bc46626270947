"""JSON lines: one object per event, written by a compiled loop from the ring's bytes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import BinaryIO

import numpy as np

from retina_jit import jit
from retina_jit.datatypes.base import DataType
from retina_jit.formats.program import Pool, table_of
from retina_jit.sinks.columns import JsonProgram, custom_units

UNITS = ("retina_jit.formats.json_lines:json_lines", "retina_jit.formats.json_lines:run")
BUFFER = 1 << 20
"""Lines are gathered in so many bytes before they are written; a longer line makes it larger."""


class JsonLines:
    """Writes what subscriptions deliver as one JSON object per line, in the order of the events.

    Parameters
    ----------
    out : binary file
        Gets large writes; it is flushed, but not closed.
    """

    def __init__(self, out: BinaryIO) -> None:
        self._out = out
        self._pool = Pool()
        self._counts = np.zeros(3, np.int64)
        self._grow(BUFFER)
        self._used = 0
        self.lines = 0

    def _grow(self, size: int) -> None:
        self._buffer = np.empty(size, np.uint8)
        self._start = int(self._buffer.ctypes.data)
        self._view = memoryview(self._buffer)  # type: ignore[arg-type]

    def units(self, types: Sequence[type[DataType]]) -> list[str]:
        """Return the entries that a subscription to `types` needs."""
        return [*UNITS, *custom_units(types)]

    def open(self, mine: Mapping[int, tuple[Sequence[type[DataType]], Sequence[int]]], count: int) -> None:
        """Learn which of `count` subscriptions write here: number -> data types and where their records stand."""
        programs = [JsonProgram(self._pool).line(*mine[n]) if n in mine else (0, 0) for n in range(count)]
        self._programs = table_of(self._pool, programs)
        self._write = jit.function(UNITS[0])
        self._run = jit.address(UNITS[1])

    def take(self, address: int, length: int) -> int:
        """Write the whole events among the bytes from `address` on. Returns how many bytes they take."""
        done = 0
        while True:
            out = self._start + self._used
            limit = self._start + len(self._buffer)
            done += self._write(address + done, length - done, self._programs, out, limit, self._run, self._counts.ctypes.data)
            self._used = int(self._counts[0]) - self._start
            self.lines += int(self._counts[1])
            if not self._counts[2]:
                return done
            if self._used:
                self.flush()
            else:
                self._grow(2 * len(self._buffer))

    def flush(self) -> None:
        """Write what is gathered."""
        if self._used:
            self._out.write(self._view[: self._used])
            self._used = 0

    def close(self) -> None:
        """Write the rest; the file stays open."""
        self.flush()
        self._out.flush()
