"""Columns: what a `batch` callback gets for each of its data types, in the layout of Arrow."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from functools import cache
from typing import Any

import numpy as np

from retina_jit import objects
from retina_jit.datatypes.base import View
from retina_jit.datatypes.column import Column, columns, decoded, split_numbers, split_texts
from retina_jit.datatypes.programs import CellProgram, custom_units
from retina_jit.formats.program import Pool

Array = np.ndarray[Any, Any]

SCAN, DISTINCT = "retina_jit.delivery.scan", "retina_jit.delivery.distinct"
UNITS = (f"{SCAN}:gather", f"{SCAN}:gather_bytes", f"{SCAN}:gather_cells", "retina_jit.formats.cells:put_cell", "retina_jit.formats.json_lines:run", f"{DISTINCT}:distinct")

_entry = cache(objects.function)
_pool = Pool()
_steps: dict[Column, int] = {}


def units(view: type[View]) -> list[str]:
    """Return the entries that the columns of a view need."""
    return [*UNITS, *custom_units([view])]


@cache
def _calls() -> int:
    return _pool.array(np.array([objects.address(u) for u in UNITS[3:]], np.int64))


def _step(c: Column) -> int:
    if c not in _steps:
        _steps[c] = CellProgram(_pool).column(c, 0)
    return _steps[c]


def _at(array: Array) -> int:
    return int(array.ctypes.data)


class Texts:
    """A column of text or bytes: all values one behind the other, and where each begins.

    Attributes
    ----------
    offsets : array of i8
        Value n is `data[offsets[n] : offsets[n + 1]]`; there is one more than values.
    data : array of u1
        UTF-8, or the bytes themselves.
    null : array of bool or None
        Where the value is absent; None: nowhere.
    """

    __slots__ = ("_bytes", "data", "null", "offsets")

    def __init__(self, offsets: Array, data: Array, null: Array | None, as_bytes: bool = False) -> None:
        self.offsets, self.data, self.null, self._bytes = offsets, data, null, as_bytes

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def __getitem__(self, n: int) -> Any:
        n = range(len(self))[n]
        if self.null is not None and self.null[n]:
            return None
        found = self.data[self.offsets[n] : self.offsets[n + 1]].tobytes()
        return found if self._bytes else found.decode()

    def to_list(self) -> list[Any]:
        """Return the values; None for what is absent."""
        whole, ends = self.data.tobytes(), self.offsets.tolist()
        found: list[Any] = [whole[a:b] for a, b in itertools.pairwise(ends)]
        if not self._bytes:
            found = [b.decode() for b in found]
        if self.null is not None:
            for n in np.flatnonzero(self.null).tolist():
                found[n] = None
        return found

    def __iter__(self) -> Iterator[Any]:
        return iter(self.to_list())

    def __repr__(self) -> str:
        return f"<{'bytes' if self._bytes else 'text'} column, {len(self)} values>"


class Lists:
    """A column of lists: all items one behind the other (`items`), and where each list begins (`offsets`)."""

    __slots__ = ("items", "null", "offsets")

    def __init__(self, offsets: Array, items: Any, null: Array | None) -> None:
        self.offsets, self.items, self.null = offsets, items, null

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def to_list(self) -> list[Any]:
        """Return a list per event; None for what is absent."""
        items = self.items.tolist() if isinstance(self.items, np.ndarray) else list(self.items)
        ends = self.offsets.tolist()
        found: list[Any] = [items[a:b] for a, b in itertools.pairwise(ends)]
        if self.null is not None:
            for n in np.flatnonzero(self.null).tolist():
                found[n] = None
        return found

    def __iter__(self) -> Iterator[Any]:
        return iter(self.to_list())

    def __getitem__(self, n: int) -> Any:
        return self.to_list()[n]

    def __repr__(self) -> str:
        return f"<list column, {len(self)} lists, {len(self.items)} items>"


class Columns:
    """The records of one data type, of up to some thousand events; it owns its bytes.

    `columns["name"]` gives a column by the accessor's name: numbers, flags and durations as numpy arrays (where a value
    is absent they hold 0, see `null`), text, names and addresses as `Texts`, bytes as `Texts` of bytes, lists as `Lists`,
    nested objects as `Columns`. `len`, iteration and `columns[n]` give views as an `each` callback gets them. `rows` are
    the records themselves.
    """

    __slots__ = ("_buffer", "_places", "_rows", "events", "type")

    def __init__(self, type_: type[View], buffer: bytes, events: Array, places: Array) -> None:
        self.type = type_
        self.events = np.ascontiguousarray(events, np.int64)
        self._places = np.ascontiguousarray(places, np.int64)
        self._buffer = buffer
        self._rows: Array | None = None

    @property
    def names(self) -> list[str]:
        """The columns that JSON shows; there may be more."""
        return [c.name for c in columns(self.type) if c.shown]

    @property
    def rows(self) -> Array:
        """Structured array, one record per event; variable parts are packed words (see `raw`)."""
        if self._rows is None:
            self._rows = self._field(0, self.type.RECORD)  # type: ignore[attr-defined]
        return self._rows

    @property
    def _start(self) -> int:
        return _at(np.frombuffer(self._buffer, np.uint8))

    def _field(self, offset: int, dtype: Any) -> Array:
        found = np.empty(len(self.events), dtype)
        _entry(UNITS[0])(self._start, _at(self._places), len(found), offset, found.dtype.itemsize, _at(found))
        return found

    def null(self, name: str) -> Array | None:
        """Return where a column is absent, a bool per event; None if it never is."""
        rule = self._column(name).null
        if rule is None:
            return None
        word = self._field(rule.offset, f"u{rule.width}")
        return (word & np.array(rule.mask & ((1 << 8 * rule.width) - 1), word.dtype)) == 0

    def nanoseconds(self, name: str) -> Array:
        """Return a column of durations, exact [ns]."""
        c = self._column(name)
        end, since = self._field(c.place.offset, "i8"), c.options["since"]
        return end - self._field(since.offset, "i8") if since is not None else end

    def address(self, name: str) -> tuple[Array, Array, Array]:
        """Return a column of addresses as numbers: high and low halves (IPv4: the low one alone), and where it is IPv6."""
        c = self._column(name)
        low, version = c.options["low"], c.options["is_ipv6"]
        return self._field(c.place.offset, "i8"), self._field(low.offset, "i8"), self._field(version.offset, "u1") != 0

    def _column(self, name: str) -> Column:
        found = getattr(self.type, name, None)
        if not isinstance(found, Column):
            known = ", ".join(c.name for c in columns(self.type))
            raise KeyError(f"{self.type.__name__} has no column {name!r}; there are: {known}")
        return found

    def __getitem__(self, key: str | int) -> Any:
        if not isinstance(key, str):
            n = range(len(self))[key]
            return self.type(self._buffer, int(self.events[n]), int(self._places[n]))
        if not isinstance(getattr(self.type, key, None), Column) and key in (getattr(self.type, "RECORD", np.dtype([])).names or ()):
            return self.rows[key]
        return self._values(self._column(key))

    def _values(self, c: Column) -> Any:
        offset, kind = c.place.offset, c.kind
        if kind == "number":
            return self._field(offset, c.place.code)
        if kind == "flag":
            return (self._field(offset, f"u{c.place.width}") & np.uint64(c.options["bits"])) != 0
        if kind == "seconds":
            return self.nanoseconds(c.name) / 1e9
        if kind == "object":
            return Columns(c.options["type"], self._buffer, self.events, self._places + offset)
        if kind == "bytes":
            return self._bytes(c)
        if kind in ("numbers", "texts", "names", "objects"):
            return self._lists(c)
        return self._texts(c)

    def _texts(self, c: Column) -> Texts:
        """Let the kernel write what stands in a cell of a table."""
        count, offsets = len(self), np.zeros(len(self) + 1, np.int64)
        room = 64 * count + 4096
        if c.kind == "text":
            room += 4 * int((self._field(c.place.offset, "i8") & 0xFFFFFFFF).sum()) if c.place.code[0] != "S" else c.place.width * count
        while True:
            data = np.empty(room, np.uint8)
            fitted = _entry(UNITS[2])(
                self._start, _at(self.events), _at(self._places), count, _step(c), _at(offsets), _at(data), _at(data) + room, _calls()
            )
            if fitted == count:
                break
            room *= 4
        return Texts(offsets, data[: offsets[-1]].copy(), self.null(c.name))

    def _packed(self, words: Array) -> tuple[Array, Array]:
        """Return offsets and bytes of what packed words point to."""
        offsets = np.zeros(len(self) + 1, np.int64)
        data = np.empty(int((words & 0xFFFFFFFF).sum()), np.uint8)
        _entry(UNITS[1])(self._start, _at(self.events), _at(words), len(self), _at(offsets), _at(data))
        return offsets, data

    def _bytes(self, c: Column) -> Texts:
        words = self._field(c.place.offset, "i8")
        if c.options["part"]:
            first, last = c.options["part"]
            at, length = words >> 32, words & 0xFFFFFFFF
            start = np.minimum(length, first)
            words = (at + start) << 32 | np.maximum(np.minimum(length, last) - start, 0)
        return Texts(*self._packed(words), self.null(c.name), as_bytes=True)

    def _lists(self, c: Column) -> Lists:
        null = self.null(c.name)
        if c.kind == "objects":
            return self._objects(c, null)
        if c.kind == "numbers":
            item, big = c.options["item"], c.options["order"] == "big"
            words = self._field(c.place.offset, "i8")
            words -= (words & 0xFFFFFFFF) % item
            offsets, data = self._packed(words)
            return Lists(offsets // item, data.view(f"{'>' if big else '<'}u{item}").astype(f"u{item}"), null)
        return self._text_lists(c, null)

    def _text_lists(self, c: Column, null: Array | None) -> Lists:
        """Lists of texts: whoever offers something mostly offers what others do, so each different list is made once."""
        options = c.options
        ends, data = self._packed(self._field(c.place.offset, "i8"))
        which, firsts = distinct(ends, data)
        texts: list[bytes] = []
        numbers = []
        for start, end in zip(ends[firsts].tolist(), ends[firsts + 1].tolist(), strict=True):
            raw = data[start:end].tobytes()
            if c.kind == "texts":
                values = split_texts(raw, options["prefix"], options["encoding"])
            else:
                values = tuple([options["names"][n] for n in split_numbers(raw, options["item"], options["order"])])
            texts += [v.encode() for v in values]
            numbers.append(len(values))
        flat, sizes = np.frombuffer(b"".join(texts), np.uint8), np.array([len(t) for t in texts], np.int64)
        # The items of a list are `counts` of those of the distinct ones, from `begins` on.
        each = np.array(numbers, np.int64)  # of no rows: a list would be floats
        counts, begins = each[which], (np.cumsum(each) - each)[which]
        offsets = np.concatenate([np.zeros(1, np.int64), np.cumsum(counts)])
        items = np.arange(offsets[-1]) + np.repeat(begins - offsets[:-1], counts)
        words = ((np.cumsum(sizes) - sizes) << 32 | sizes)[items]
        marks, written = np.zeros(len(items) + 1, np.int64), np.empty(int(sizes[items].sum()), np.uint8)
        nowhere = np.zeros_like(words)
        _entry(UNITS[1])(_at(flat), _at(nowhere), _at(words), len(items), _at(marks), _at(written))
        return Lists(offsets, Texts(marks, written, None), null)

    def _objects(self, c: Column, null: Array | None) -> Lists:
        size, used = c.options["item"], c.options["count"]
        if used is not None:
            counts, begins = self._field(used.offset, used.code).astype(np.int64), self._places + c.place.offset
        else:
            words = self._field(c.place.offset, "i8")
            counts, begins = (words & 0xFFFFFFFF) // size, self.events + (words >> 32)
        offsets = np.concatenate([[0], np.cumsum(counts)])
        within = np.arange(offsets[-1]) - np.repeat(offsets[:-1], counts)
        items = Columns(c.options["type"], self._buffer, np.repeat(self.events, counts), np.repeat(begins, counts) + within * size)
        return Lists(offsets, items, null)

    def __len__(self) -> int:
        return len(self.events)

    def __iter__(self) -> Iterator[Any]:
        make, buffer = self.type, self._buffer
        for event, place in zip(self.events.tolist(), self._places.tolist(), strict=True):
            yield make(buffer, event, place)

    def raw(self, name: str) -> list[bytes]:
        """Return a variable part of each event as bytes, by the name in the record."""
        packed = self.rows[name]
        starts = (self.events + (packed >> 32)).tolist()
        lengths = (packed & 0xFFFFFFFF).tolist()
        buffer = self._buffer
        return [buffer[s : s + n] for s, n in zip(starts, lengths, strict=True)]

    def text(self, name: str) -> list[str]:
        """Return a variable part of each event as text, by the name in the record."""
        return [decoded(b) for b in self.raw(name)]

    def __repr__(self) -> str:
        return f"<{self.type.__name__} columns, {len(self)} events>"


def distinct(offsets: Array, data: Array) -> tuple[Array, Array]:
    """Return for each run of bytes which distinct one it is, and of those the first run each."""
    count = len(offsets) - 1
    which, firsts, mask = np.empty(count, np.int64), np.empty(count, np.int64), (1 << (2 * count).bit_length()) - 1
    table = np.zeros(mask + 1, np.int64)
    found = _entry(UNITS[5])(_at(data), _at(offsets), count, _at(table), mask, _at(which), _at(firsts))
    return which, firsts[:found]
