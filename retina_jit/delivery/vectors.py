"""Columns in Arrow's memory layout, by numpy alone: what tables are made of and what other libraries take over as it is."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from retina_jit.datatypes.column import Column, columns
from retina_jit.delivery.columns import Columns, Lists, Texts
from retina_jit.errors import ConfigError

Array = np.ndarray[Any, Any]

NUMBERS = {"u1": "C", "i1": "c", "u2": "S", "i2": "s", "u4": "I", "i4": "i", "u8": "L", "i8": "l", "f8": "g"}
"""NumPy's codes -> Arrow's format strings."""
BOOL, TEXT, BYTES, LIST, STRUCT, TIME, DURATION = "b", "U", "Z", "+L", "+s", "tsn:UTC", "tDn"
"""Text, bytes and lists have offsets of eight bytes."""
ADDRESSES = ("str", "int", "bytes")
READABLE = {BOOL: "bool", TEXT: "text", BYTES: "bytes", TIME: "timestamp[ns, UTC]", DURATION: "duration[ns]"}
_DTYPES = {code: np.dtype(name) for name, code in NUMBERS.items()} | {TIME: np.dtype("i8"), DURATION: np.dtype("i8")}


@dataclass(frozen=True)
class Field:
    """Name and type of a column.

    Attributes
    ----------
    format : str
        Arrow's format string.
    nullable : bool
        Whether values may be absent.
    children : tuple of Field
        Of a list its items, of a struct its columns.
    """

    name: str
    format: str
    nullable: bool = False
    children: tuple[Field, ...] = ()
    doc: str = ""

    @property
    def readable(self) -> str:
        """The type in words."""
        if self.format == LIST:
            return f"list[{self.children[0].readable}]"
        if self.format == STRUCT:
            return f"struct[{', '.join(f'{c.name}: {c.readable}' for c in self.children)}]"
        return READABLE.get(self.format) or _DTYPES[self.format].name


@dataclass(frozen=True)
class Vector:
    """A column of values.

    Attributes
    ----------
    valid : array of u1 or None
        A bit per value, lowest first, 0 where it is absent; None: all are there.
    data : tuple of arrays
        Values; of text, bytes and lists first where each begins (they need not begin at 0).
    """

    field: Field
    length: int
    valid: Array | None
    data: tuple[Array, ...]
    children: tuple[Vector, ...] = ()

    def __len__(self) -> int:
        return self.length

    @property
    def nbytes(self) -> int:
        """Memory that it takes [byte]."""
        own = sum(d.nbytes for d in self.data) + (0 if self.valid is None else self.valid.nbytes)
        return own + sum(c.nbytes for c in self.children)

    @property
    def null_count(self) -> int:
        """How many values are absent."""
        nulls = self.nulls()
        return 0 if nulls is None else int(nulls.sum())

    def nulls(self) -> Array | None:
        """Return a bool per value, or None if none is absent."""
        return None if self.valid is None else ~unpacked(self.valid, self.length)

    def slice(self, start: int, stop: int) -> Vector:
        """Return some of the values; most of it shares memory."""
        valid = None if self.valid is None else packed(unpacked(self.valid, self.length)[start:stop])
        code = self.field.format
        if code == STRUCT:
            return replace(self, length=stop - start, valid=valid, children=tuple(c.slice(start, stop) for c in self.children))
        if code == BOOL:
            return replace(self, length=stop - start, valid=valid, data=(packed(unpacked(self.data[0], self.length)[start:stop]),))
        if code in (TEXT, BYTES, LIST):
            return replace(self, length=stop - start, valid=valid, data=(self.data[0][start : stop + 1], *self.data[1:]))
        return replace(self, length=stop - start, valid=valid, data=(self.data[0][start:stop],))

    def to_list(self, *, shown: bool = False, known: dict[bytes, str] | None = None) -> list[Any]:
        """Return Python values, None for what is absent; times and durations in nanoseconds.

        With `shown` what JSON shows: durations in seconds, bytes in hexadecimal. `known`: texts that were made already, of
        which each is one object; it is added to. Those within lists mostly come again and always are.
        """
        code = self.field.format
        found: list[Any]
        if code == STRUCT:
            names = [c.field.name for c in self.children]
            parts = [c.to_list(shown=shown, known=known) for c in self.children]
            found = [dict(zip(names, values, strict=True)) for values in zip(*parts, strict=True)] if parts else [{}] * self.length
        elif code == LIST:
            ends = self.data[0].tolist()
            items = self.children[0].to_list(shown=shown, known={} if known is None else known)
            found = [items[a:b] for a, b in itertools.pairwise(ends)]
        elif code in (TEXT, BYTES):
            ends = self.data[0].tolist()
            begin = ends[0]
            whole = self.data[1][begin : ends[-1]].tobytes()
            found = [whole[a - begin : b - begin] for a, b in itertools.pairwise(ends)]
            if code == TEXT and known is not None:
                found = [known.get(b) or known.setdefault(b, b.decode()) for b in found]
            elif code == TEXT:
                found = [b.decode() for b in found]
            elif shown:
                found = [b.hex() for b in found]
        elif code == BOOL:
            found = unpacked(self.data[0], self.length).tolist()
        else:
            found = self.data[0].tolist()
            if shown and code == DURATION:
                found = [n / 10**9 for n in found]
        nulls = self.nulls()
        if nulls is not None:
            for n in np.flatnonzero(nulls).tolist():
                found[n] = None
        return found

    def to_numpy(self) -> Array:
        """Return an array: times as datetime64[ns], durations as timedelta64[ns] (NaT where absent), text, bytes and lists
        as objects (None where absent). Numbers and truth values are a masked array where some may be absent.
        """
        code, nulls = self.field.format, self.nulls()
        if code in (TIME, DURATION):
            values = self.data[0].view("M8[ns]" if code == TIME else "m8[ns]")
            if nulls is not None:
                values = values.copy()
                values[nulls] = "NaT"
            return values
        if code == BOOL or code in _DTYPES:
            numbers = unpacked(self.data[0], self.length) if code == BOOL else self.data[0]
            if not self.field.nullable:
                return numbers
            return np.ma.MaskedArray(numbers, np.zeros(self.length, bool) if nulls is None else nulls)  # type: ignore[no-untyped-call, no-any-return]
        return object_array(self.to_list())


def object_array(values: list[Any]) -> Array:
    """Return an array of Python's objects, lists among them."""
    made = np.empty(len(values), object)
    made[:] = values
    return made


def dtype_of(field: Field) -> np.dtype[Any]:
    """Return the type of the values of numbers, times, durations and truth values (a byte each, not packed)."""
    return np.dtype(bool) if field.format == BOOL else _DTYPES[field.format]


def packed(bits: Array) -> Array:
    """Return a bit per truth value, lowest first."""
    return np.packbits(bits, bitorder="little")


def unpacked(bits: Array, length: int) -> Array:
    """Return a bool per bit, of so many."""
    return np.unpackbits(bits, count=length, bitorder="little").view(bool)


def empty(field: Field) -> Vector:
    """Return a vector without values."""
    nothing = np.zeros(0, np.uint8)
    code = field.format
    if code in (TEXT, BYTES):
        return Vector(field, 0, None, (np.zeros(1, np.int64), nothing))
    if code == LIST:
        return Vector(field, 0, None, (np.zeros(1, np.int64),), (empty(field.children[0]),))
    if code == STRUCT:
        return Vector(field, 0, None, (), tuple(map(empty, field.children)))
    return Vector(field, 0, None, (np.zeros(0, _DTYPES.get(code, np.uint8)),))


def struct(name: str, parts: Sequence[Vector], absent: Array | None = None, length: int | None = None) -> Vector:
    """Return columns as one column of structs."""
    count = parts[0].length if length is None else length
    field = Field(name, STRUCT, absent is not None, tuple(p.field for p in parts))
    return Vector(field, count, _validity(absent), (), tuple(parts))


# ------------------------------------------------------------------------------------------------- of declared columns


def shown_columns(view: type) -> list[Column]:
    """Return the columns of a view that a table has."""
    return [c for c in columns(view) if c.shown]


def field_of(c: Column, name: str = "", *, nullable: bool = False, addresses: str = "str") -> Field:
    """Return name and type that a declared column has in a table."""
    name, nullable, kind = name or c.name, nullable or c.null is not None, c.kind
    inner: tuple[Field, ...] = ()
    if kind == "object":
        code, inner = STRUCT, tuple(field_of(i, addresses=addresses) for i in shown_columns(c.options["type"]))
    elif kind == "objects":
        items = tuple(field_of(i, addresses=addresses) for i in shown_columns(c.options["type"]))
        code, inner = LIST, (Field("item", STRUCT, False, items),)
    elif kind in ("texts", "names"):
        code, inner = LIST, (Field("item", TEXT),)
    elif kind == "numbers":
        code, inner = LIST, (Field("item", NUMBERS[f"u{c.options['item']}"]),)
    elif kind == "number":
        code = TIME if c.unit == "ns" and c.place.code == "i8" else NUMBERS[c.place.code]
    elif kind == "address" and addresses != "str":
        code = BYTES if addresses == "bytes" else NUMBERS["u4"]
    else:
        code = {"seconds": DURATION, "flag": BOOL, "bytes": BYTES}.get(kind, TEXT)
    return Field(name, code, nullable, inner, c.__doc__ or "")


def vector(table: Columns, c: Column, *, name: str = "", absent: Array | None = None, nullable: bool = False, addresses: str = "str") -> Vector:
    """Return a column of events; `absent`: where what it stands in is absent, and it therefore as well."""
    field = field_of(c, name, nullable=nullable, addresses=addresses)
    null = table.null(c.name)
    if absent is not None:
        null = absent if null is None else null | absent
    count, valid = len(table), _validity(null)
    if c.kind == "object":
        inner = table[c.name]
        return Vector(field, count, valid, (), tuple(vector(inner, i, addresses=addresses) for i in shown_columns(inner.type)))
    if c.kind == "seconds":
        return Vector(field, count, valid, (table.nanoseconds(c.name),))
    if c.kind == "address" and addresses != "str":
        return Vector(field, count, valid, _addresses(table, c, null, as_bytes=addresses == "bytes"))
    values = table[c.name]
    if isinstance(values, Texts):
        return Vector(field, count, valid, (values.offsets, values.data))
    if isinstance(values, Lists):
        return Vector(field, count, valid, (np.ascontiguousarray(values.offsets, np.int64),), (_items(values, field.children[0], addresses),))
    if c.kind == "flag":
        return Vector(field, count, valid, (packed(values),))
    return Vector(field, count, valid, (np.ascontiguousarray(values),))


def _validity(null: Array | None) -> Array | None:
    return None if null is None or not null.any() else packed(~null)


def _items(values: Lists, field: Field, addresses: str) -> Vector:
    items = values.items
    if isinstance(items, Columns):
        parts = tuple(vector(items, c, addresses=addresses) for c in shown_columns(items.type))
        return Vector(field, len(items), None, (), parts)
    if isinstance(items, Texts):
        return Vector(field, len(items), None, (items.offsets, items.data))
    return Vector(field, len(items), None, (np.ascontiguousarray(items),))


def _addresses(table: Columns, c: Column, null: Array | None, *, as_bytes: bool) -> tuple[Array, ...]:
    high, low, is_ipv6 = table.address(c.name)
    is_ipv6 = is_ipv6 if null is None else is_ipv6 & ~null
    if not as_bytes:
        if is_ipv6.any():
            raise ConfigError(f"column {c.name!r}: an IPv6 address has 128 bits, which no column of integers holds; take addresses='bytes', or a filter with ipv4")
        return (low.astype(np.uint32),)
    octets = np.stack([high, low], 1).astype(">i8").view(np.uint8)
    kept = np.ones(octets.shape, bool)
    kept[~is_ipv6, :12] = False
    return np.concatenate([[0], np.cumsum(np.where(is_ipv6, 16, 4))]).astype(np.int64), octets[kept]


def columns_of(table: Columns) -> list[Vector]:
    """Return the columns that JSON shows."""
    return [vector(table, c) for c in shown_columns(table.type)]


def fields_of(names: Iterable[tuple[str, Column]]) -> tuple[Field, ...]:
    """Return the fields of named columns."""
    return tuple(field_of(c, name) for name, c in names)
