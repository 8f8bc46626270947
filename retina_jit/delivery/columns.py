"""Columns: what a `batch` callback gets for each of its data types."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from typing import Any

import numpy as np

from retina_jit import jit
from retina_jit.datatypes.base import DataType

GATHER = "retina_jit.delivery.scan:gather"


@cache
def _gather() -> jit.Entry:
    return jit.function(GATHER)


class Columns:
    """The records of one data type, of up to some thousand events; it owns its bytes.

    `len`, iteration and indexing give views as an `each` callback gets them; `rows` and `columns["field"]` give numpy
    arrays; `text("field")` decodes a variable part.
    """

    __slots__ = ("_buffer", "_offset", "_rows", "events", "type")

    def __init__(self, type_: type[DataType], buffer: bytes, events: np.ndarray[Any, Any], offset: int) -> None:
        self.type = type_
        self.events = events
        self._buffer = buffer
        self._offset = offset
        self._rows: np.ndarray[Any, Any] | None = None

    @property
    def rows(self) -> np.ndarray[Any, Any]:
        """Structured array, one record per event; variable parts are packed words (see `raw`)."""
        if self._rows is None:
            record = self.type.RECORD
            rows = np.empty(len(self.events), record)
            places = np.ascontiguousarray(self.events, np.int64)
            start = np.frombuffer(self._buffer, np.uint8).ctypes.data
            _gather()(start, places.ctypes.data, len(places), self._offset, record.itemsize, rows.ctypes.data)
            self._rows = rows
        return self._rows

    def __getitem__(self, key: str | int) -> Any:
        if isinstance(key, str):
            return self.rows[key]
        event = int(self.events[key])
        return self.type(self._buffer, event, event + self._offset)

    def __len__(self) -> int:
        return len(self.events)

    def __iter__(self) -> Iterator[DataType]:
        make, buffer, offset = self.type, self._buffer, self._offset
        for event in self.events.tolist():
            yield make(buffer, event, event + offset)

    def raw(self, name: str) -> list[bytes]:
        """Return a variable part of each event as bytes."""
        packed = self.rows[name]
        starts = (self.events + (packed >> 32)).tolist()
        lengths = (packed & 0xFFFFFFFF).tolist()
        buffer = self._buffer
        return [buffer[s : s + n] for s, n in zip(starts, lengths, strict=True)]

    def text(self, name: str) -> list[str]:
        """Return a variable part of each event as text."""
        return [b.decode(errors="backslashreplace") for b in self.raw(name)]

    def __repr__(self) -> str:
        return f"<{self.type.__name__} columns, {len(self)} events>"
