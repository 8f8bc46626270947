"""Events brought together as columns, some ten thousand rows at a time, without Python per event."""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from retina_jit.datatypes.base import DataType, View
from retina_jit.datatypes.column import Column, number
from retina_jit.datatypes.programs import refuse_lists
from retina_jit.delivery.columns import Columns, units
from retina_jit.delivery.event import EVENT
from retina_jit.delivery.vectors import Array, Field, Vector, field_of, vector
from retina_jit.sinks.base import Layout
from retina_jit.sinks.scan import NUMBER, SCAN, Scanner

ROWS, BYTES = 1 << 16, 8 << 20
"""A batch is made of so many rows, or of so many bytes of events."""


class Head(View):
    """What every event says of itself."""

    __slots__ = ()
    RECORD = EVENT
    ts = number(EVENT, "ts", "Capture time of the packet that caused the row.", unit="ns")


HEAD = -1
"""Instead of a data type's position: the event's own head."""


@dataclass(frozen=True)
class Choice:
    """A column of a table: where it is found in an event.

    Attributes
    ----------
    name : str
        In the table.
    position : int
        Of the data type in the subscription, or `HEAD`.
    path : tuple of Column
        From the data type through nested objects to the value.
    addresses : {"str", "int", "bytes"}
    """

    name: str
    position: int
    path: tuple[Column, ...]
    addresses: str = "str"

    @property
    def field(self) -> Field:
        """Name and type."""
        within = any(c.null is not None for c in self.path[:-1])
        return field_of(self.path[-1], self.name, nullable=within, addresses=self.addresses)


Batch = tuple[Vector, ...]
Emit = Callable[[Batch], None]


class Gather:
    """Makes batches of columns of one subscription's events.

    Parameters
    ----------
    choices : sequence of Choice
        The columns.
    emit : callable
        Gets each batch when it is full, and what is left at `flush`.
    """

    def __init__(self, choices: Sequence[Choice], emit: Emit, rows: int = ROWS) -> None:
        self._choices = choices
        self._emit = emit
        self._most = rows
        self._pieces: list[bytes] = []
        self._events: list[Array] = []
        self._bytes = self._rows = 0
        self.lines = 0

    def units(self, types: Sequence[type[DataType]]) -> list[str]:
        """Return the entries that a subscription to `types` needs."""
        refuse_lists(types, "a table")
        return list(dict.fromkeys([SCAN, *units(Head), *[u for t in types for u in units(t)]]))

    def open(self, mine: Mapping[int, Layout], count: int) -> None:
        """Learn which subscription's events to take."""
        ((self._number, (self._types, self._offsets)),) = mine.items()
        self._scan = Scanner()

    def take(self, address: int, length: int) -> int:
        """Take the whole events among the bytes from `address` on. Returns how many bytes they take."""
        done, words = self._scan(address, length)
        events = words[words & NUMBER == self._number] >> 32
        if len(events):
            self._pieces.append(ctypes.string_at(address, done))
            self._events.append(events + self._bytes)
            self._bytes += done
            self._rows += len(events)
            self.lines += len(events)
            if self._rows >= self._most or self._bytes >= BYTES:
                self.flush()
        return done

    def flush(self) -> None:
        """Give what is gathered."""
        if self._rows:
            buffer, events = b"".join(self._pieces), np.concatenate(self._events)
            self._pieces, self._events, self._bytes, self._rows = [], [], 0, 0
            self._emit(self._batch(buffer, events))

    def _batch(self, buffer: bytes, events: Array) -> Batch:
        tables = [Columns(t, buffer, events, events + o) for t, o in zip(self._types, self._offsets, strict=True)]
        head = Columns(Head, buffer, events, events)
        inner: dict[tuple[int, tuple[Column, ...]], tuple[Columns, Array | None]] = {}

        def within(position: int, path: tuple[Column, ...]) -> tuple[Columns, Array | None]:
            """The columns in which the last of a path stands, and where they are absent."""
            key = position, path[:-1]
            if key not in inner:
                table, absent = (head if position == HEAD else tables[position]), None
                for c in path[:-1]:
                    null = table.null(c.name)
                    absent = null if absent is None else absent if null is None else absent | null
                    table = table[c.name]
                inner[key] = table, absent
            return inner[key]

        made = []
        for c in self._choices:
            table, absent = within(c.position, c.path)
            made.append(vector(table, c.path[-1], name=c.name, absent=absent, nullable=c.field.nullable, addresses=c.addresses))
        return tuple(made)
