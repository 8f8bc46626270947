"""Events made by hand, and sinks that write to memory."""

from __future__ import annotations

import io
import struct
from collections.abc import Iterable, Sequence
from typing import Any

from retina_jit import objects
from retina_jit.datatypes.base import DataType, View
from retina_jit.delivery.event import EVENT
from retina_jit.delivery.sinks import address_of
from retina_jit.sinks import JsonLines

HEAD = EVENT.itemsize


class Parts:
    """An event in the making: a record, and the variable bytes that its packed words point to."""

    def __init__(self, size: int) -> None:
        self._tail = bytearray()
        self._size = size

    def put(self, data: bytes) -> int:
        """Append variable bytes; returns the packed word."""
        if not data:
            return 0
        word = (HEAD + self._size + len(self._tail)) << 32 | len(data)
        self._tail += data
        return word

    def event(self, record: bytes, subscription: int = 0) -> bytes:
        """The whole event."""
        assert len(record) == self._size
        body = record + bytes(self._tail)
        body += bytes(-len(body) % 8)
        return struct.pack("<IIqII", HEAD + len(body), subscription, 0, 0, 0) + body


def opened(out: Any, layouts: Sequence[Sequence[type[DataType]]], sink: Any = None) -> Any:
    """A sink for several subscriptions whose records stand one behind the other."""
    sink = sink or JsonLines(out)
    objects.ensure(u for types in layouts for u in sink.units(types))
    mine: dict[int, Any] = {}
    for n, types in enumerate(layouts):
        at, offsets = HEAD, []
        for t in types:
            offsets.append(at)
            at += t.RECORD.itemsize
        mine[n] = types, offsets
    sink.open(mine, len(layouts))
    return sink


def written(types: Sequence[type[DataType]], events: Iterable[bytes]) -> list[bytes]:
    """The lines that are written for events of one subscription."""
    out = io.BytesIO()
    sink = opened(out, [types])
    data = b"".join(events)
    assert sink.take(address_of(data), len(data)) == len(data)
    sink.close()
    return out.getvalue().splitlines(keepends=True)


def view(of: type[View], event: bytes) -> Any:
    """The view of an event of one data type."""
    return of(event, 0, HEAD)
