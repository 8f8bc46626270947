"""The columns of data types as format programs."""

from __future__ import annotations

import json
from collections.abc import Sequence

import numpy as np

from retina_jit import objects
from retina_jit.datatypes.base import DataType, snake
from retina_jit.datatypes.column import Column, columns
from retina_jit.datatypes.sessions import Listed, items_of, kind_of
from retina_jit.errors import ConfigError, ProtocolError
from retina_jit.formats import program
from retina_jit.formats.program import ENCODINGS, Pool, Quote, laid_out
from retina_jit.pipeline.layout import ITEM

assert ITEM.itemsize == program.ITEM_HEAD
_LISTS = {"texts": program.TEXTS, "numbers": program.NUMBERS, "names": program.NAME_LIST}


def quoted(text: str) -> bytes:
    """Return text as a JSON string."""
    return json.dumps(text, ensure_ascii=False).encode()


def custom_units(types: Sequence[type]) -> list[str]:
    """Return the entries that write custom columns."""
    units: list[str] = []
    items = [item for t in types if issubclass(t, Listed) for item in items_of(t)]
    for t in [*types, *items]:
        for c in columns(t):
            if c.kind == "custom" and c.shown:
                units.append(c.options["write"])
            elif c.kind in ("object", "objects") and c.shown:
                units += custom_units([c.options["type"]])
    return list(dict.fromkeys(units))


def plain(text: str) -> bytes:
    """Return text as it stands in a table."""
    return text.encode()


def key_of(t: type[DataType]) -> str:
    """Return the key of a data type in a line: "tls_handshake", of `list[TlsHandshake]` "tls_handshakes"."""
    if issubclass(t, Listed) and t.ITEMS:
        return snake(t.ITEMS[0].__name__) + ("" if t.OPTIONAL else "s")
    return snake(t.__name__)


def refuse_lists(types: Sequence[type], form: str) -> None:
    """Check that there are no lists of sessions, which a table has no place for.

    Raises
    ------
    ConfigError
        There is one.
    """
    for t in types:
        if issubclass(t, Listed):
            raise ConfigError(f"{t.__name__} has no place in {form}: log the session's own type, one line each, or use -T jsonl")


class Steps:
    """Steps of a format program in the making.

    Parameters
    ----------
    pool : Pool
        Keeps what the steps refer to.
    quote : callable
        How names of numbers are written.
    """

    def __init__(self, pool: Pool, quote: Quote) -> None:
        self._pool, self._quote = pool, quote
        self._ops: list[dict[str, int]] = []

    def laid_out(self) -> tuple[int, int]:
        """Return address and number of the steps."""
        return laid_out(self._pool, self._ops)

    def add(self, c: Column, base: int, op: dict[str, int]) -> None:
        """Append a step for a column of the record at `base`."""
        op["offset"] = base + c.place.offset
        if c.null is not None:
            op |= {"null_offset": base + c.null.offset, "null_width": c.null.width, "null_mask": c.null.mask}
        self._ops.append(op)

    def value(self, c: Column, base: int) -> dict[str, int]:
        """Return the step that writes a column; the caller adds what stands before it."""
        options, kind, width, code = c.options, c.kind, c.place.width, c.place.code
        if kind == "number":
            if code[0] == "f":
                raise ProtocolError(f"column {c.name!r}: floating-point numbers are not written; keep an integer with a unit, or seconds(...)")
            return {"code": program.SIGNED if code[0] == "i" else program.NUMBER, "width": width}
        if kind == "seconds":
            return {"code": program.SECONDS, "a": base + options["since"].offset if options["since"] is not None else -1}
        if kind == "flag":
            return {"code": program.FLAG, "width": width, "a": options["bits"]}
        if kind == "name":
            return {"code": program.NAME, "width": width, "a": self._pool.names(options["names"], self._quote)}
        if kind == "address":
            return {"code": program.ADDRESS, "a": base + options["low"].offset, "b": base + options["is_ipv6"].offset}
        if kind == "text":
            if code[0] == "S":
                return {"code": program.FIXED, "a": width}
            return {"code": program.TEXT, "encoding": ENCODINGS.index(options["encoding"])}
        if kind == "bytes":
            first, last = options["part"] or (0, (1 << 32) - 1)
            return {"code": program.BYTES, "a": first, "b": last}
        if kind in _LISTS:
            big = int(options.get("order", "big") == "big")
            op = {"code": _LISTS[kind], "width": options.get("item", 0), "a": options.get("prefix", big)}
            if kind == "texts":
                op["encoding"] = ENCODINGS.index(options["encoding"])
            elif kind == "names":
                op["b"] = self._pool.names(options["names"], self._quote)
            return op
        if kind == "objects":
            return self._objects(c, base)
        assert kind == "custom", kind
        return {"code": program.CUSTOM, "a": objects.address(options["write"])}

    def _objects(self, c: Column, base: int) -> dict[str, int]:
        address, steps = JsonProgram(self._pool).item(c.options["type"])
        op = {"code": program.OBJECTS, "a": address, "b": steps << 32 | c.options["item"]}
        count = c.options["count"]
        if count is not None:
            op |= {"code": program.ARRAY, "c": (base + count.offset) << 8 | count.width}
        return op


class JsonProgram(Steps):
    """Makes the steps that write one line of JSON."""

    def __init__(self, pool: Pool) -> None:
        super().__init__(pool, quoted)
        self._before = b""

    def line(self, types: Sequence[type[DataType]], offsets: Sequence[int]) -> tuple[int, int]:
        """Return address and number of the steps for an event whose records stand at `offsets`."""
        self._before += b"{"
        for n, (t, offset) in enumerate(zip(types, offsets, strict=True)):
            self._before += b"," * bool(n) + quoted(key_of(t)) + b":"
            if issubclass(t, Listed):
                self._sessions(t, offset)
            else:
                self._object(t, offset)
        self._before += b"}\n"
        self._end()
        return self.laid_out()

    def item(self, view: type) -> tuple[int, int]:
        """Return address and number of the steps for an object in a list."""
        self._object(view, 0)
        self._end()
        return self.laid_out()

    def _sessions(self, t: type[Listed], base: int) -> None:
        """A list of sessions, or one of them or null; those of a SessionList stand behind their data type's name."""
        items = items_of(t)
        table = np.zeros((1 + max(map(kind_of, items)), 2), np.int64)
        for item in items:
            made = JsonProgram(self._pool)
            if not t.ITEMS:
                made._before = b"{" + quoted(snake(item.__name__)) + b":"
            made._object(item, 0)
            made._before += b"}" * (not t.ITEMS)
            made._end()
            table[kind_of(item)] = made.laid_out()
        op = {"code": program.SESSIONS, "offset": base, "a": self._pool.array(table), "b": int(t.OPTIONAL)}
        self._ops.append(op | self._key())

    def _object(self, view: type, base: int) -> None:
        self._before += b"{"
        for n, c in enumerate([c for c in columns(view) if c.shown]):
            self._before += b"," * bool(n) + quoted(c.name) + b":"
            if c.kind == "object":
                self._nested(c, base)
            else:
                self.add(c, base, self.value(c, base) | self._key())
        self._before += b"}"

    def _nested(self, c: Column, base: int) -> None:
        if c.null is None:
            self._object(c.options["type"], base + c.place.offset)
            return
        at = len(self._ops)
        self.add(c, base, {"code": program.OBJECT, **self._key()})
        self._object(c.options["type"], base + c.place.offset)
        self._end()
        self._ops[at]["skip"] = len(self._ops) - at - 1

    def _end(self) -> None:
        """Write what still stands before a value that does not come."""
        if self._before:
            self._ops.append({"code": program.LITERAL, **self._key()})

    def _key(self) -> dict[str, int]:
        key, self._before = self._before, b""
        return {"key": self._pool.bytes(key), "key_len": len(key)}


class CellProgram(Steps):
    """Makes the steps of a table: one per column, those of nested objects among them.

    Attributes
    ----------
    names : list of str
        The columns, "tls_handshake.sni".
    """

    def __init__(self, pool: Pool) -> None:
        super().__init__(pool, plain)
        self.names: list[str] = []

    def table(self, types: Sequence[type[DataType]], offsets: Sequence[int]) -> tuple[int, int]:
        """Return address and number of the steps for events whose records stand at `offsets`."""
        for t, offset in zip(types, offsets, strict=True):
            self._columns(t, offset, snake(t.__name__))
        return self.laid_out()

    def column(self, c: Column, base: int) -> int:
        """Return the address of the step for one column alone."""
        self.add(c, base, self.value(c, base))
        return self.laid_out()[0]

    def _columns(self, view: type, base: int, prefix: str) -> None:
        for c in [c for c in columns(view) if c.shown]:
            name = f"{prefix}.{c.name}"
            if c.kind != "object":
                self.names.append(name)
                self.add(c, base, self.value(c, base))
                continue
            at, cells = len(self._ops), len(self.names)
            if c.null is not None:
                self.add(c, base, {"code": program.OBJECT})
            self._columns(c.options["type"], base + c.place.offset, name)
            if c.null is not None:
                self._ops[at] |= {"skip": len(self._ops) - at - 1, "b": len(self.names) - cells}
