"""Declared columns: each public accessor of a data type says where in the record its value stands and how it is shown.

One declaration gives the Python property, the key of JSON output (`to_dict` and the compiled writer), the column of a
batch and its schema. A column reads only the record and the event's variable bytes, to which the record points with
packed words (see `retina_jit.delivery.event`). Nothing here imports Numba.
"""

from __future__ import annotations

import socket
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, lru_cache
from struct import Struct
from typing import Any, NamedTuple

import numpy as np

UTF8, LATIN1, UTF8_OR_HEX = "utf-8", "latin-1", "utf-8 or hex"
"""How bytes become text. UTF8: of a text that is no UTF-8 each byte beyond ASCII is shown as \\xNN. UTF8_OR_HEX: as Retina
shows it, whole."""

_CODES = {"u1": "B", "u2": "H", "u4": "I", "i2": "h", "i4": "i", "i8": "q", "u8": "Q", "f8": "d"}
_PACKED = Struct("<q").unpack_from
_REMEMBERED = 4096


class Place(NamedTuple):
    """A field of a record."""

    offset: int
    width: int
    code: str
    """NumPy's: u1, i8, S32, ..."""


def place(record: np.dtype[Any], name: str) -> Place:
    """Return where a field stands."""
    field, offset = record.fields[name][:2]  # type: ignore[index]
    return Place(offset, field.itemsize, field.str[1:])


@dataclass(frozen=True)
class Null:
    """When a value is absent: if none of the bits of `mask` is set in the word of `width` bytes at `offset`."""

    offset: int
    width: int
    mask: int

    def holds(self, buffer: bytes, at: int) -> bool:
        """Whether the value is absent from the record at `at`."""
        start = at + self.offset
        return not int.from_bytes(buffer[start : start + self.width], "little") & self.mask


def unless(record: np.dtype[Any], name: str, bits: int) -> Null:
    """Absent unless one of `bits` is set in the field `name` (flags)."""
    offset, width, _ = place(record, name)
    return Null(offset, width, bits)


ZERO = "zero"
"""Absent if the field itself is zero: a number 0, text or list without any byte."""


class Names:
    """Names of numbers.

    Parameters
    ----------
    names : mapping of int to str
    default : str
        What a number without name is shown as; `{n}` in it stands for the number, `{x}` for it in hexadecimal.
    """

    def __init__(self, names: Mapping[int, str], default: str) -> None:
        self.names = dict(names)
        self.default = default

    def __getitem__(self, number: int) -> str:
        found = self.names.get(number)
        return self.default.replace("{n}", str(number)).replace("{x}", f"{number:#x}") if found is None else found


class Column(property):
    """A property whose storage is declared; it is as fast as a plain one.

    Attributes
    ----------
    name : str
        The attribute's name and the key in JSON.
    kind : str
        number, seconds, flag, text, bytes, name, address; lists: texts, numbers, names; object, objects; custom.
    place : Place
        The field in the record; of an address, an object: its beginning.
    null : Null or None
        When it is absent, which JSON shows as null; None: it never is.
    unit : str
        ns, byte, s, ...; empty: a plain number.
    shown : bool
        Whether it is in `to_dict`, JSON and CSV.
    options : mapping
        What the kind needs beside: `names`, `encoding`, `prefix`, `item`, `order`, `bits`, `part`, `since`, `type`, `write`.
    """

    name = ""

    def __init__(
        self, read: Callable[[Any], Any], kind: str, where: Place, doc: str, *, null: Null | None = None,
        unit: str = "", shown: bool = True, show: Callable[[Any], Any] | None = None, **options: Any,
    ) -> None:  # fmt: skip
        super().__init__(read, doc=doc)
        self.__doc__ = doc  # before Python 3.12 a subclass of property shows its own otherwise
        self.read = read
        self.kind, self.place, self.null, self.unit, self.shown, self.options = kind, where, null, unit, shown, options
        self._show = show

    def __set_name__(self, owner: type, name: str) -> None:
        self.name = name

    def value(self, view: Any) -> Any:
        """Return what JSON shows of a view: None for what is absent."""
        if self.null is not None and self.null.holds(view._buffer, view._at):
            return None
        found = self.read(view)
        return found if self._show is None else self._show(found)


_columns: dict[type, tuple[Column, ...]] = {}


def columns(cls: type) -> tuple[Column, ...]:
    """Return the columns of a view in their order: those of its bases first."""
    if cls not in _columns:
        _columns[cls] = _find_columns(cls)
    return _columns[cls]


def _find_columns(cls: type) -> tuple[Column, ...]:
    found: dict[str, Column] = {}
    for base in reversed(cls.__mro__):
        found |= {name: value for name, value in vars(base).items() if isinstance(value, Column)}
    return tuple(found.values())


def _null(where: Place, null: Null | str | None) -> Null | None:
    if null == ZERO:
        return Null(where.offset, 1 if where.code[0] == "S" else where.width, -1)
    assert null is None or isinstance(null, Null), null
    return null


# ------------------------------------------------------------------------------------------------------ single values


def number(
    record: np.dtype[Any], name: str, doc: str, *, null: Null | str | None = None, absent: Any = None, unit: str = "", shown: bool = True
) -> Any:
    """Declare a number; the accessor gives `absent` where it is absent."""
    where = place(record, name)
    offset, rule = where.offset, _null(where, null)
    unpack = Struct("<" + _CODES[where.code]).unpack_from

    if rule is None or (null == ZERO and absent == 0):

        def read(self: Any) -> Any:
            return unpack(self._buffer, self._at + offset)[0]

    elif null == ZERO:

        def read(self: Any) -> Any:
            return unpack(self._buffer, self._at + offset)[0] or absent

    else:

        def read(self: Any) -> Any:
            return absent if rule.holds(self._buffer, self._at) else unpack(self._buffer, self._at + offset)[0]

    return Column(read, "number", where, doc, null=rule, unit=unit, shown=shown)


def seconds(record: np.dtype[Any], name: str, doc: str, *, since: str = "", null: Null | str | None = None, shown: bool = True) -> Any:
    """Declare a duration in seconds, kept in nanoseconds (i8); `since`: the field that is subtracted from it."""
    where = place(record, name)
    start = place(record, since) if since else None
    end_at, rule = where.offset, _null(where, null)

    def read(self: Any) -> float | None:
        if rule is not None and rule.holds(self._buffer, self._at):
            return None
        end: int = _PACKED(self._buffer, self._at + end_at)[0]
        begin: int = _PACKED(self._buffer, self._at + start.offset)[0] if start is not None else 0
        return (end - begin) / 10**9  # of two integers: rounded once

    return Column(read, "seconds", where, doc, null=rule, unit="s", shown=shown, since=start)


def flag(record: np.dtype[Any], name: str, bits: int, doc: str, *, null: Null | str | None = None, shown: bool = True) -> Any:
    """Declare a truth value: whether one of `bits` is set in a field."""
    where = place(record, name)
    offset, rule = where.offset, _null(where, null)
    unpack = Struct("<" + _CODES[where.code]).unpack_from

    def read(self: Any) -> bool:
        return unpack(self._buffer, self._at + offset)[0] & bits != 0

    return Column(read, "flag", where, doc, null=rule, shown=shown, bits=bits)


def decoded(data: bytes, encoding: str = UTF8) -> str:
    """Return bytes as text, whatever they are."""
    if encoding == LATIN1:
        return data.decode(LATIN1)
    try:
        return data.decode()
    except UnicodeDecodeError:
        return f"<Invalid UTF-8: {data.hex(' ')}>" if encoding == UTF8_OR_HEX else data.decode("ascii", "backslashreplace")


def text(
    record: np.dtype[Any], name: str, doc: str, *, encoding: str = UTF8, null: Null | str | None = ZERO, absent: Any = "", shown: bool = True
) -> Any:
    """Declare text: variable bytes (i8, a packed word), or a field of fixed width (S), ASCII and padded with zeros.

    Text without a byte is absent, unless `null` says something else. Where it is absent the accessor gives `absent`.
    """
    where = place(record, name)
    offset, width, rule = where.offset, where.width, _null(where, null)
    if where.code[0] == "S":

        def read(self: Any) -> Any:
            at = self._at + offset
            return self._buffer[at : at + width].rstrip(b"\0").decode("ascii") or absent

    elif null == ZERO:

        def read(self: Any) -> Any:
            data = self._slice(offset)
            return decoded(data, encoding) if data else absent

    else:

        def read(self: Any) -> Any:
            return absent if rule is not None and rule.holds(self._buffer, self._at) else decoded(self._slice(offset), encoding)

    return Column(read, "text", where, doc, null=rule, shown=shown, encoding=encoding)


def raw(
    record: np.dtype[Any], name: str, doc: str, *, null: Null | str | None = ZERO, part: tuple[int, int] | None = None,
    as_hex: bool = False, shown: bool = True,
) -> Any:  # fmt: skip
    """Declare variable bytes; JSON shows them in hexadecimal. `part`: only those from the first to before the second position.

    `as_hex`: the accessor gives text in hexadecimal as well.
    """
    where = place(record, name)
    offset, rule = where.offset, _null(where, null)
    cut = slice(*part) if part else slice(None)

    def read(self: Any) -> Any:
        data = self._slice(offset)[cut]
        return data.hex() if as_hex else data

    return Column(read, "bytes", where, doc, null=rule, shown=shown, part=part, show=None if as_hex else bytes.hex)


def named(
    record: np.dtype[Any], name: str, names: Names, doc: str, *, null: Null | str | None = None, absent: Any = "", shown: bool = True
) -> Any:
    """Declare the name of a number."""
    where = place(record, name)
    offset, rule = where.offset, _null(where, null)
    unpack = Struct("<" + _CODES[where.code]).unpack_from

    def read(self: Any) -> Any:
        if rule is not None and rule.holds(self._buffer, self._at):
            return absent
        return names[unpack(self._buffer, self._at + offset)[0]]

    return Column(read, "name", where, doc, null=rule, shown=shown, names=names)


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


def address(record: np.dtype[Any], high: str, low: str, is_ipv6: str, doc: str, *, null: Null | str | None = None, shown: bool = True) -> Any:
    """Declare an address: its halves as words (i8; IPv4: the low half alone), and a byte that tells IPv6."""
    where, second, version = place(record, high), place(record, low), place(record, is_ipv6)
    a, b, v, rule = where.offset, second.offset, version.offset, _null(where, null)

    def read(self: Any) -> str | None:
        if rule is not None and rule.holds(self._buffer, self._at):
            return None
        buffer, at = self._buffer, self._at
        return format_address(_PACKED(buffer, at + a)[0], _PACKED(buffer, at + b)[0], buffer[at + v])

    return Column(read, "address", where, doc, null=rule, shown=shown, low=second, is_ipv6=version)


# --------------------------------------------------------------------------------------------------- lists and objects


@lru_cache(_REMEMBERED)
def split_texts(data: bytes, prefix: int, encoding: str) -> tuple[str, ...]:
    """Return texts that each follow their length, a number of `prefix` bytes in network order."""
    found, at = [], 0
    while at + prefix <= len(data):
        start = at + prefix
        at = start + int.from_bytes(data[at:start], "big")
        found.append(decoded(data[start:at], encoding))
    return tuple(found)


def texts(
    record: np.dtype[Any], name: str, doc: str, *, prefix: int = 2, encoding: str = UTF8, null: Null | str | None = None, shown: bool = True
) -> Any:
    """Declare a list of texts: variable bytes, each text behind its length in `prefix` bytes (1 or 2), network order."""
    where = place(record, name)
    offset = where.offset

    def read(self: Any) -> tuple[str, ...]:
        return split_texts(self._slice(offset), prefix, encoding)

    return Column(read, "texts", where, doc, null=_null(where, null), shown=shown, prefix=prefix, encoding=encoding)


@lru_cache(_REMEMBERED)
def split_numbers(data: bytes, item: int, order: str) -> tuple[int, ...]:
    """Return unsigned numbers of `item` bytes each."""
    kind = np.dtype(f"{'>' if order == 'big' else '<'}u{item}")
    return tuple(np.frombuffer(data, kind, len(data) // item).tolist())


def numbers(
    record: np.dtype[Any], name: str, doc: str, *, item: int, order: str = "big", unit: str = "", null: Null | str | None = None,
    shown: bool = True,
) -> Any:  # fmt: skip
    """Declare a list of unsigned numbers: variable bytes, `item` (1, 2, 4, 8) of them each, in `order` (big, little)."""
    where = place(record, name)
    offset = where.offset

    def read(self: Any) -> tuple[int, ...]:
        return split_numbers(self._slice(offset), item, order)

    return Column(read, "numbers", where, doc, null=_null(where, null), unit=unit, shown=shown, item=item, order=order)


def each_named(
    record: np.dtype[Any], name: str, names: Names, doc: str, *, item: int = 2, order: str = "big", null: Null | str | None = None,
    shown: bool = True,
) -> Any:  # fmt: skip
    """Declare a list of names of numbers (see `numbers`)."""
    where = place(record, name)
    offset = where.offset

    @lru_cache(_REMEMBERED)
    def listed(data: bytes) -> tuple[str, ...]:
        return tuple(names[n] for n in split_numbers(data, item, order))

    def read(self: Any) -> tuple[str, ...]:
        return listed(self._slice(offset))

    return Column(read, "names", where, doc, null=_null(where, null), shown=shown, names=names, item=item, order=order)


def _shown(view: Any) -> Any:
    return None if view is None else view.to_dict()


def _all_shown(views: Sequence[Any]) -> list[Any]:
    return [v.to_dict() for v in views]


def nested(view: type, at: int, doc: str, *, null: Null | None = None, shown: bool = True) -> Any:
    """Declare an object: another view whose record stands at `at` within this one."""

    def read(self: Any) -> Any:
        if null is not None and null.holds(self._buffer, self._at):
            return None
        return view(self._buffer, self._event, self._at + at)

    return Column(read, "object", Place(at, 0, ""), doc, null=null, shown=shown, show=_shown, type=view)


def objects(
    record: np.dtype[Any], name: str, view: type, item: np.dtype[Any], doc: str, *, count: str = "", null: Null | str | None = None,
    shown: bool = True,
) -> Any:  # fmt: skip
    """Declare a list of objects: records of dtype `item`, each read by `view`.

    They are variable bytes (`name` is a packed word; the records may in turn point to variable bytes of the event), or,
    with `count`, an array in the record, of which that field says how many are used.
    """
    where, size = place(record, name), item.itemsize
    offset, used = where.offset, place(record, count) if count else None
    unpack = Struct("<" + _CODES[used.code]).unpack_from if used else None

    def read(self: Any) -> tuple[Any, ...]:
        if unpack is not None and used is not None:
            start, n = self._at + offset, unpack(self._buffer, self._at + used.offset)[0]
        else:
            word = _PACKED(self._buffer, self._at + offset)[0]
            start, n = self._event + (word >> 32), (word & 0xFFFFFFFF) // size
        return tuple([view(self._buffer, self._event, start + k * size) for k in range(n)])

    return Column(read, "objects", where, doc, null=_null(where, null), shown=shown, show=_all_shown, type=view, item=size, count=used)


def custom(unit: str, show: Callable[[Any], Any] | None = None, *, null: Null | None = None) -> Callable[[Callable[[Any], Any]], Any]:
    """Declare a value that only its own code can write (decorator of the accessor, which gives what Python shall see).

    Parameters
    ----------
    unit : str
        Entry "module:function", `write(record, event, out, limit)`: it writes the value in JSON at `out` and returns the
        address behind it, or 0 if that would be beyond `limit`. See `retina_jit.formats.json` for what helps.
    show : callable, optional
        Makes of the accessor's value what JSON shows; the two must agree.
    null : Null, optional
        When it is absent.
    """

    def declare(read: Callable[[Any], Any]) -> Any:
        return Column(read, "custom", Place(0, 0, ""), read.__doc__ or "", null=null, show=show, write=unit)

    return declare
