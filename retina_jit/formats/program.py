"""Format programs: the columns of data types as a list of steps that one compiled loop follows.

A program belongs to a subscription; its steps read the records of an event and write one line. It is data, so a new data
type or another choice of columns compiles nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np

from retina_jit.errors import ProtocolError

OP = np.dtype(
    [
        ("code", "u1"),
        ("width", "u1"),  # of the number, or of each item
        ("encoding", "u1"),
        ("null_width", "u1"),  # 0: never absent
        ("key_len", "u4"),
        ("key", "i8"),  # address of what stands before the value: comma, name, colon
        ("offset", "i8"),  # of the field, from the base
        ("null_offset", "i8"),
        ("null_mask", "i8"),
        ("skip", "i8"),  # how many steps are left out where the value is absent
        ("a", "i8"),
        ("b", "i8"),
        ("c", "i8"),
    ]
)
"""One step; what `a`, `b` and `c` are is said at the code."""

# OP.code. From TEXT on the field is a packed word.
LITERAL, OBJECT, NUMBER, SIGNED, SECONDS, FLAG, NAME, ADDRESS, FIXED, CUSTOM, ARRAY = range(11)
"""OBJECT b: how many cells its columns take in a table. SECONDS a: offset of the beginning, -1: none. FLAG a: bits. NAME a: NAMES. ADDRESS a, b: offsets of the low half and of
the version. FIXED a: width. CUSTOM a: entry. ARRAY a: program, b: steps << 32 | size of an item, c: offset << 8 | width of
the count."""
TEXT, BYTES, TEXTS, NUMBERS, NAME_LIST, OBJECTS, SESSIONS = range(16, 23)
"""BYTES a, b: first position and the one behind the last. TEXTS a: bytes of a length. NUMBERS a: 1 big endian. NAME_LIST
a: the same, b: NAMES. OBJECTS a, b as ARRAY. SESSIONS a: address of (program, steps) per kind, b: 1: at most one, no list."""

ITEM_HEAD = 16
"""Before the record of a kept session: its size, this head included, and its kind, four bytes each; capture time."""

ENCODINGS = ("utf-8", "latin-1", "utf-8 or hex")
"""By number, see `retina_jit.formats.json`."""

NAMES = np.dtype(
    [
        ("count", "i8"),  # numbers from here on have no name
        ("index", "i8"),  # address of u2 per number: which entry, 0: no name
        ("entries", "i8"),  # address of (offset, length) per entry; the first three are the parts of the default
        ("text", "i8"),
        ("style", "i8"),  # default: 0 first part alone; 1: then the number, second part; 2: then it in hex, third part
        ("longest", "i8"),
    ]
)
MOST_NAMED = 1 << 17
"""A number with a name must be below this."""

Quote = Callable[[str], bytes]


class Pool:
    """Bytes and arrays that kernels refer to by address, kept alive as long as this object is."""

    def __init__(self) -> None:
        self._kept: list[np.ndarray[Any, Any]] = []
        self._known: dict[bytes, int] = {}
        self._names: dict[tuple[int, Quote], int] = {}

    def array(self, data: np.ndarray[Any, Any]) -> int:
        """Keep an array; returns its address."""
        self._kept.append(data)
        return int(data.ctypes.data)

    def bytes(self, data: bytes) -> int:
        """Keep bytes, with room behind them for reading eight at a time; returns their address."""
        if data not in self._known:
            self._known[data] = self.array(np.frombuffer(data + bytes(8), np.uint8).copy())
        return self._known[data]

    def names(self, names: Any, quote: Quote) -> int:
        """Keep a table of names (`retina_jit.datatypes.column.Names`) in the form that kernels read; returns its address."""
        key = id(names), quote
        if key not in self._names:
            self._names[key] = self._lay_out(names, quote)
        return self._names[key]

    def _lay_out(self, names: Any, quote: Quote) -> int:
        count = max(names.names, default=-1) + 1
        if count > MOST_NAMED or min(names.names, default=0) < 0:
            raise ProtocolError(f"names of numbers from 0 to {MOST_NAMED - 1}, not {count - 1}")
        style, parts = default_parts(quote(names.default))
        entries = [*parts, *[quote(x) for x in names.names.values()]]
        index = np.zeros(count, np.uint16)
        index[list(names.names)] = np.arange(3, len(entries))
        lengths = np.array([len(e) for e in entries])
        places = np.zeros((len(entries), 2), np.uint32)
        places[:, 0], places[:, 1] = np.cumsum(lengths) - lengths, lengths
        table = np.zeros(1, NAMES)
        row = (count, self.array(index), self.array(places), self.bytes(b"".join(entries)), style, int(lengths.max()))
        table[0] = row
        return self.array(table)


def default_parts(text: bytes) -> tuple[int, list[bytes]]:
    """Return the style of a default (see NAMES) and what stands before, between and behind its numbers."""
    first, number, rest = text.partition(b"{n}")
    if not number:
        if b"{x}" in text:
            raise ProtocolError(f"{text.decode()}: {{x}} must follow {{n}}")
        return 0, [text, b"", b""]
    second, hexadecimal, third = rest.partition(b"{x}")
    return (2 if hexadecimal else 1), [first, second, third]


def laid_out(pool: Pool, ops: Sequence[dict[str, int]]) -> tuple[int, int]:
    """Keep steps; returns address and number."""
    table = np.zeros(max(len(ops), 1), OP)
    for n, op in enumerate(ops):
        for field, value in op.items():
            table[n][field] = value - (1 << 64) if value >> 63 == 1 else value  # a mask may have the top bit
    return pool.array(table), len(ops)


def table_of(pool: Pool, programs: Iterable[tuple[int, int]]) -> int:
    """Keep the programs (address, steps) of all subscriptions, (0, 0) for one that is written elsewhere; returns the address."""
    return pool.array(np.array(list(programs), np.int64))
