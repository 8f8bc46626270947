"""Sinks that write a line per event, by a compiled loop, from the ring's bytes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import BinaryIO

import numpy as np

from retina_jit import objects
from retina_jit.datatypes.base import DataType
from retina_jit.datatypes.programs import CellProgram, JsonProgram, custom_units, refuse_lists
from retina_jit.errors import ConfigError
from retina_jit.formats.program import Pool, table_of
from retina_jit.sinks.base import Layout

BUFFER = 1 << 20
"""Lines are gathered in so many bytes before they are written; a longer line makes it larger."""

RUN_JSON = "retina_jit.formats.json_lines:run"


class Lines:
    """Gathers lines and writes them in large pieces.

    Parameters
    ----------
    out : binary file
        It is flushed, but not closed.
    """

    UNIT = ""
    """Entry that writes the lines of a run of events, see `retina_jit.formats.json_lines:json_lines`."""

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
        return [self.UNIT, RUN_JSON, *custom_units(types)]

    def open(self, mine: Mapping[int, Layout], count: int) -> None:
        """Learn which of `count` subscriptions write here: number -> data types and where their records stand."""
        programs = [self.program(*mine[n]) if n in mine else (0, 0) for n in range(count)]
        self._programs = table_of(self._pool, programs)
        self._write = objects.function(self.UNIT)
        self._runner = self.runner()

    def program(self, types: Sequence[type[DataType]], offsets: Sequence[int]) -> tuple[int, int]:
        """Return address and number of the steps of a subscription."""
        raise NotImplementedError

    def runner(self) -> int:
        """Return the word that the entry gets to reach what it calls."""
        raise NotImplementedError

    def prepare(self, mine: Mapping[int, Layout]) -> None:
        """Refuse nothing: each line speaks for itself."""

    def take(self, address: int, length: int) -> int:
        """Write the whole events among the bytes from `address` on. Returns how many bytes they take."""
        done = 0
        while True:
            out, limit = self._start + self._used, self._start + len(self._buffer)
            done += self._write(address + done, length - done, self._programs, out, limit, self._runner, self._counts.ctypes.data)
            self._used = int(self._counts[0]) - self._start
            self.lines += int(self._counts[1])
            if not self._counts[2]:
                return done
            if self._used:
                self.flush()
            else:
                self._grow(2 * len(self._buffer))

    def put(self, data: bytes) -> None:
        """Write bytes before the next line."""
        self.flush()
        self._out.write(data)

    def flush(self) -> None:
        """Write what is gathered."""
        if self._used:
            self._out.write(self._view[: self._used])
            self._out.flush()  # whole lines: of a process that is killed only the last write may be cut
            self._used = 0

    def close(self) -> None:
        """Write the rest; the file stays open."""
        self.flush()
        self._out.flush()


class JsonLines(Lines):
    """One JSON object per event, in the order of the events; its keys are the data types' names in snake case."""

    UNIT = "retina_jit.formats.json_lines:json_lines"

    def program(self, types: Sequence[type[DataType]], offsets: Sequence[int]) -> tuple[int, int]:
        """Return address and number of the steps of a subscription."""
        return JsonProgram(self._pool).line(types, offsets)

    def runner(self) -> int:
        """Return the address of what writes an object."""
        return objects.address(RUN_JSON)


class Csv(Lines):
    """Comma-separated values with a header line (RFC 4180); one subscription only, for lines must have the same columns.

    Columns of nested objects have dotted names; the items of a list are joined by commas, a list of objects is JSON.
    """

    UNIT = "retina_jit.formats.csv_lines:csv_lines"
    PUT_CELL = "retina_jit.formats.cells:put_cell"

    def __init__(self, out: BinaryIO) -> None:
        super().__init__(out)
        self._names: tuple[str, ...] = ()

    def units(self, types: Sequence[type[DataType]]) -> list[str]:
        """Return the entries that a subscription to `types` needs."""
        refuse_lists(types, "csv")
        return [*super().units(types), self.PUT_CELL]

    def open(self, mine: Mapping[int, Layout], count: int) -> None:
        """Learn which subscription writes here.

        Raises
        ------
        ConfigError
            More than one.
        """
        if len(mine) > 1:
            raise ConfigError("csv has one header: log one subscription, or use -T jsonl")
        super().open(mine, count)

    def prepare(self, mine: Mapping[int, Layout]) -> None:
        """Refuse a second subscription, and other columns than those of the header."""
        for types, offsets in mine.values():
            made = CellProgram(Pool())
            made.table(types, offsets)
            if len(mine) > 1 or tuple(made.names) != self._names:
                raise ConfigError("csv has one header, which stands in the file already: name another file, or use jsonl")

    def program(self, types: Sequence[type[DataType]], offsets: Sequence[int]) -> tuple[int, int]:
        """Return address and number of the steps of the subscription; the header is written, once."""
        made = CellProgram(self._pool)
        found = made.table(types, offsets)
        if not self._names:
            self._names = tuple(made.names)
            self.put(",".join(made.names).encode() + b"\r\n")
        return found

    def runner(self) -> int:
        """Return the address of two words: what writes a cell, and what writes an object in it."""
        return self._pool.array(np.array([objects.address(self.PUT_CELL), objects.address(RUN_JSON)], np.int64))
