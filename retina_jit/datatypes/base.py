"""What a callback may ask for. A data type is one file: record, `project` kernel, view. Nothing here imports Numba.

The record is a fixed numpy dtype inside each event (see `retina_jit.delivery.event`); the view is a small Python object
that reads it when an attribute is asked for. A view owns its bytes, through the chunk that it refers to: it may be kept.
"""

from __future__ import annotations

import importlib
import re
from collections.abc import Callable
from struct import Struct
from typing import Any, ClassVar

import numpy as np

from retina_jit.datatypes.column import columns
from retina_jit.errors import ProtocolError

LEVELS = ("packet", "session", "connection", "static")

_PACKED = Struct("<q").unpack_from


LONGEST = 200
"""Letters of a text, or bytes, that a `repr` shows."""


def brief(value: Any) -> str:
    """Return a value as Python writes it, but not a whole payload."""
    if isinstance(value, str | bytes) and len(value) > LONGEST:
        return f"{value[:LONGEST]!r}... ({len(value):,} long)"
    return repr(value)


class View:
    """Reads a record in an event; its columns say what is there (see `retina_jit.datatypes.column`)."""

    __slots__ = ("_at", "_buffer", "_event")

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
        return {c.name: c.value(self) for c in columns(type(self)) if c.shown}

    def __repr__(self) -> str:
        inside = ", ".join(f"{k}={brief(v)}" for k, v in self.to_dict().items())
        return f"{type(self).__name__}({inside})"


class DataType(View):
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
    TRACK : int
        Parts of the row beside the connection that it reads, a bit each: see `retina_jit.state.parts`.
    """

    __slots__ = ()

    LEVEL: ClassVar[str] = ""
    RECORD: ClassVar[np.dtype[Any]]
    PROJECT: ClassVar[str] = ""
    PROJECT_IN_PLACE: ClassVar[str] = ""
    ROW_VIEW: ClassVar[np.dtype[Any] | None] = None
    SERVICE: ClassVar[str] = ""
    TRACK: ClassVar[int] = 0


def snake(name: str) -> str:
    """Return the key of a data type in JSON output: "TlsHandshake" -> "tls_handshake"."""
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name).lower()


_types: dict[str, type[DataType]] = {}


def register(cls: type[DataType]) -> type[DataType]:
    """Enter a data type in the registry (class decorator)."""
    if cls.LEVEL not in LEVELS:
        raise ProtocolError(f"{cls.__name__}.LEVEL is {cls.LEVEL!r}, not one of {', '.join(LEVELS)}")
    if cls.RECORD.itemsize % 8:
        raise ProtocolError(f"{cls.__name__}.RECORD has {cls.RECORD.itemsize} bytes, not a multiple of 8")
    _types[cls.__name__] = cls
    return cls


def registered() -> list[type[DataType]]:
    """Return the data types that are registered so far."""
    return list(_types.values())


def unregister(cls: type[DataType]) -> None:
    """Take a data type out of the registry."""
    _types.pop(cls.__name__, None)


def data_types() -> dict[str, type[DataType]]:
    """Return every data type by name."""
    # By name: an import statement here would make every data type's kernels depend on all the others.
    importlib.import_module("retina_jit.datatypes")
    importlib.import_module("retina_jit.datatypes.session").complete()
    return dict(_types)


Reader = Callable[[DataType], Any]
