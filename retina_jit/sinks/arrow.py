"""Arrow and Parquet files: events are brought together as columns, some ten thousand rows at a time."""

from __future__ import annotations

import ctypes
from collections.abc import Mapping, Sequence
from typing import Any, BinaryIO

import numpy as np

from retina_jit.datatypes.base import DataType, snake
from retina_jit.datatypes.programs import refuse_lists
from retina_jit.delivery.capsules import ArrowBatch
from retina_jit.delivery.columns import Columns, units
from retina_jit.delivery.vectors import columns_of, struct
from retina_jit.errors import ConfigError
from retina_jit.extras import library
from retina_jit.sinks.base import Layout
from retina_jit.sinks.scan import NUMBER, SCAN, Scanner

ROWS = 1 << 16
"""Rows that are gathered before they are written."""


def pyarrow() -> Any:
    """Return the module; raises `MissingExtraError` if it is not installed."""
    return library("pyarrow", "Arrow and Parquet output", "arrow")


class ArrowStream:
    """An Arrow IPC stream; one subscription only. It can be read up to the last batch that was written.

    The columns are those of the data type; of several data types each is a struct.
    """

    def __init__(self, out: BinaryIO) -> None:
        self._pa = pyarrow()
        self._out = out
        self._batches: list[Any] = []
        self._rows = 0
        self._writer: Any = None
        self.lines = 0

    def units(self, types: Sequence[type[DataType]]) -> list[str]:
        """Return the entries that a subscription to `types` needs."""
        refuse_lists(types, "a table")
        return [SCAN, *[u for t in types for u in units(t)]]

    def open(self, mine: Mapping[int, Layout], count: int) -> None:
        """Learn which subscription writes here.

        Raises
        ------
        ConfigError
            More than one.
        """
        if len(mine) > 1:
            raise ConfigError("a table has one kind of row: log one subscription, or use -T jsonl")
        ((self._number, (self._types, self._offsets)),) = mine.items()
        self._scan = Scanner()
        if self._writer is None:
            self._schema = self._schema_of(self._types, self._offsets)
            self._writer = self._make_writer(self._schema)

    def prepare(self, mine: Mapping[int, Layout]) -> None:
        """Refuse a second subscription, and other columns than those that the file has begun with."""
        for types, offsets in mine.values():
            if len(mine) > 1 or not self._schema_of(types, offsets).equals(self._schema):
                raise ConfigError("a table has one kind of row, and the file has begun with it: name another file, or use jsonl")

    def _schema_of(self, types: Sequence[type[DataType]], offsets: Sequence[int]) -> Any:
        return self._record_batch(types, offsets, bytes(8), np.zeros(0, np.int64)).schema

    def _make_writer(self, schema: Any) -> Any:
        return self._pa.ipc.new_stream(self._out, schema)

    def _record_batch(self, types: Sequence[type[DataType]], offsets: Sequence[int], buffer: bytes, events: Any) -> Any:
        tables = [columns_of(Columns(t, buffer, events, events + o)) for t, o in zip(types, offsets, strict=True)]
        if len(tables) == 1:
            made = tables[0]
        else:
            made = [struct(snake(t.__name__), table) for t, table in zip(types, tables, strict=True)]
        return self._pa.record_batch(ArrowBatch(struct("", made)))

    def take(self, address: int, length: int) -> int:
        """Take the whole events among the bytes from `address` on. Returns how many bytes they take."""
        done, words = self._scan(address, length)
        events = words[words & NUMBER == self._number] >> 32
        if len(events):
            self._batches.append(self._record_batch(self._types, self._offsets, ctypes.string_at(address, done), events))
            self._rows += len(events)
            self.lines += len(events)
            if self._rows >= ROWS:
                self._write()
        return done

    def _write(self) -> None:
        if self._batches:
            self._writer.write_table(self._pa.Table.from_batches(self._batches).combine_chunks())
            self._batches, self._rows = [], 0

    def flush(self) -> None:
        """Write what is gathered; all of it, for what is cut within a batch is told as a fault by those who read it."""
        self._write()
        self._out.flush()

    def close(self) -> None:
        """Write the rest and what belongs at the end; the file below stays open."""
        if self._writer is not None:
            self._write()
            self._writer.close()
        self._out.flush()


class Parquet(ArrowStream):
    """A Parquet file, compressed with zstd; one subscription only. It can be read once it is closed."""

    def _make_writer(self, schema: Any) -> Any:
        from pyarrow import parquet

        return parquet.ParquetWriter(self._out, schema, compression="zstd")

    def flush(self) -> None:
        """Do nothing: row groups shall be large."""
