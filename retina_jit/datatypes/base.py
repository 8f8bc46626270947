"""What a callback may ask for. A data type is one file: record, `project` kernel, view. Nothing here imports Numba.

The record is a fixed numpy dtype inside each event (see `retina_jit.delivery.event`); the view is a small Python object
that reads it when an attribute is asked for. A view owns its bytes, through the chunk that it refers to: it may be kept.
"""

from __future__ import annotations

import importlib
import re
import socket
from collections.abc import Callable
from functools import cache
from struct import Struct
from typing import Any, ClassVar

import numpy as np

from retina_jit.errors import ProtocolError

LEVELS = ("packet", "session", "connection", "static")

_PACKED = Struct("<q").unpack_from


class DataType:
    """Base of all data types.

    Attributes
    ----------
    LEVEL : str
        One of `LEVELS`: when it is known.
    RECORD : dtype
        Its part of an event; a multiple of 8 bytes.
    PROJECT : str
        Entry that writes the record, "module:function".
    PROJECT_IN_PLACE : str
        The same for compiled callbacks, where it may refer to memory instead of copying it.
    ROW_VIEW : dtype or None
        The record's fields as they stand in a PACKET row, if they all do: compiled callbacks then get the row itself.
    SERVICE : str
        Session protocol whose parser it needs, or empty.
    TRACK : bool
        Whether it reads the per-connection counters.
    """

    __slots__ = ("_at", "_buffer", "_event")

    LEVEL: ClassVar[str] = ""
    RECORD: ClassVar[np.dtype[Any]]
    PROJECT: ClassVar[str] = ""
    PROJECT_IN_PLACE: ClassVar[str] = ""
    ROW_VIEW: ClassVar[np.dtype[Any] | None] = None
    SERVICE: ClassVar[str] = ""
    TRACK: ClassVar[bool] = False

    def __init__(self, buffer: bytes, event: int, at: int) -> None:
        self._buffer = buffer
        self._event = event
        self._at = at

    def _slice(self, offset: int) -> bytes:
        """Variable bytes that the packed word at `offset` of the record points to."""
        word = _PACKED(self._buffer, self._at + offset)[0]
        start = self._event + (word >> 32)
        return self._buffer[start : start + (word & 0xFFFFFFFF)]

    def to_dict(self) -> dict[str, Any]:
        """Return what JSON output shows: numbers, strings, lists; None for what is absent."""
        raise NotImplementedError

    def __repr__(self) -> str:
        inside = ", ".join(f"{k}={v!r}" for k, v in self.to_dict().items())
        return f"{type(self).__name__}({inside})"


def number(record: np.dtype[Any], name: str, doc: str) -> Any:
    """Make a property that reads a number of the record."""
    field, offset = record.fields[name][:2]  # type: ignore[index]
    codes = {"u1": "B", "u2": "H", "u4": "I", "i4": "i", "i8": "q", "u8": "Q", "f8": "d"}
    unpack = Struct("<" + codes[field.str[1:]]).unpack_from

    def read(self: DataType) -> Any:
        return unpack(self._buffer, self._at + offset)[0]

    return property(read, doc=doc)


def text(record: np.dtype[Any], name: str, doc: str) -> Any:
    r"""Make a property that reads variable bytes as text; bytes that are not UTF-8 are shown as \\xNN."""
    offset = record.fields[name][1]  # type: ignore[index]

    def read(self: DataType) -> str:
        return self._slice(offset).decode(errors="backslashreplace")

    return property(read, doc=doc)


def snake(name: str) -> str:
    """Return the key of a data type in JSON output: "TlsHandshake" -> "tls_handshake"."""
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name).lower()


_IPV4 = Struct(">I").pack
_IPV6 = Struct(">qq").pack


@cache
def _format_ipv4(low: int) -> str:
    return socket.inet_ntoa(_IPV4(low & 0xFFFFFFFF))


def format_address(high: int, low: int, is_ipv6: int) -> str:
    """Return an address as text (RFC 5952 for IPv6)."""
    if is_ipv6:
        return socket.inet_ntop(socket.AF_INET6, _IPV6(high, low))
    return _format_ipv4(low)


_types: dict[str, type[DataType]] = {}


def register(cls: type[DataType]) -> type[DataType]:
    """Enter a data type in the registry (class decorator)."""
    if cls.LEVEL not in LEVELS:
        raise ProtocolError(f"{cls.__name__}.LEVEL is {cls.LEVEL!r}, not one of {', '.join(LEVELS)}")
    if cls.RECORD.itemsize % 8:
        raise ProtocolError(f"{cls.__name__}.RECORD has {cls.RECORD.itemsize} bytes, not a multiple of 8")
    _types[cls.__name__] = cls
    return cls


def data_types() -> dict[str, type[DataType]]:
    """Return every data type by name."""
    # By name: an import statement here would make every data type's kernels depend on all the others.
    importlib.import_module("retina_jit.datatypes")
    return dict(_types)


Reader = Callable[[DataType], Any]
