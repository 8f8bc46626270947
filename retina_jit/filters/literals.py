"""Values of a filter, read with the field's type in hand."""

from __future__ import annotations

import difflib
import re
import socket
from functools import lru_cache
from pathlib import Path

from retina_jit.errors import FilterError
from retina_jit.filters.syntax import FileOf, Octets, Quoted, SetOf, Span, Value, Word
from retina_jit.parsers.protocol import Field

Interval = tuple[int, int]
LARGEST = (1 << 63) - 1
"""Numbers are signed 64-bit words in kernels; a field without a width ends here."""

_NUMBER = re.compile(r"0[xX][0-9A-Fa-f]+|[0-9]+")
_MAC = re.compile(r"[0-9A-Fa-f]{2}([:-])[0-9A-Fa-f]{2}(?:\1[0-9A-Fa-f]{2}){4}")
_ESCAPE = re.compile(r"\\(?:x([0-9A-Fa-f]{2})|u([0-9A-Fa-f]{4})|(.))", re.S)
_PLAIN = {"n": "\n", "t": "\t", "r": "\r", "0": "\0", "\\": "\\", '"': '"'}

SAYS = {
    "int": "a number",
    "bool": "0 or 1",
    "ints": "a number",
    "ipv4": "an IPv4 address or network",
    "ipv6": "an IPv6 address or network",
    "mac": "a link-layer address like 02:00:00:00:00:01",
    "text": "a 'string' or |bytes|",
    "texts": "a 'string' or |bytes|",
    "bytes": "|bytes| or a 'string'",
}


UNITS = {"s": "seconds", "ms": "milliseconds", "ns": "nanoseconds", "byte": "bytes"}


class Literals:
    """Reads the values of one filter, and knows its text for the errors."""

    def __init__(self, text: str, folder: str = "") -> None:
        self.text = text
        self.asked = ""
        """The field as the filter calls it: `tcp.port` is two of them."""
        self.folder = Path(folder)
        """Where the path of a file of values begins, unless it begins at the root."""
        self._known: dict[tuple[str, int], tuple[Value, tuple[Interval, ...]]] = {}

    def fail(self, reason: str, span: Span) -> FilterError:
        """Return the error that points at a span."""
        return FilterError(reason, self.text, span.start, span.end)

    def _name(self, field: Field) -> str:
        return self.asked or f"{field.protocol}.{field.name}"

    # ------------------------------------------------------------------------------------------------------ numbers

    def ranges(self, field: Field, value: Value) -> tuple[Interval, ...]:
        """Return what a value, a set or a file means, sorted and disjoint."""
        # Both sides of a pair (`ipv4.addr`) take the same: a file may hold 100,000.
        key = (field.kind, id(value)) if field.kind in ("ipv4", "ipv6", "mac") else None
        if key is not None and key in self._known:
            return self._known[key][1]
        found = []
        for item in self.members(field, value):
            try:
                found.append(self.interval(field, item))
            except FilterError as fault:
                raise self.fail(self.source(value, item) + fault.reason, item.span) from None
        made = union(found)
        if key is not None:
            self._known[key] = value, made
        return made

    def source(self, value: Value, item: Value) -> str:
        """Return the beginning of an error about an item: where it stands, if that is not the filter."""
        return f"{value.path}, {getattr(item, 'text', '')!r}: " if isinstance(value, FileOf) else ""

    def interval(self, field: Field, value: Value) -> Interval:
        """Return what a single value means as a range, both ends included."""
        if isinstance(value, Quoted) and field.enum:
            value = Word(value.text, value.span)
        if not isinstance(value, Word):
            plain = isinstance(value, Quoted) and (_NUMBER.fullmatch(value.text) or family(value.text) or _MAC.fullmatch(value.text))
            hint = f": write {value.text}, without quotes" if isinstance(value, Quoted) and plain else ""
            raise self.fail(f"{self._name(field)} takes {SAYS[field.kind]}{hint}", value.span)
        if field.kind == "ipv4" or field.kind == "ipv6":
            return self._network(field, value)
        if field.kind == "mac":
            if not _MAC.fullmatch(value.text):
                raise self.fail(f"{self._name(field)} takes {SAYS['mac']}", value.span)
            number = int(value.text.replace(":", "").replace("-", ""), 16)
            return number, number
        if ".." in value.text:
            low, high = (self._number(field, part, value.span) for part in value.text.split("..", 1))
            if low > high:
                raise self.fail("this range is empty: it begins above its end", value.span)
            return low, high
        number = self._number(field, value.text, value.span)
        return number, number

    def _number(self, field: Field, word: str, span: Span) -> int:
        if field.kind == "bool" and word.lower() in ("true", "false"):
            return int(word.lower() == "true")
        if word in field.enum:
            return field.enum[word]
        if not _NUMBER.fullmatch(word):
            if word.startswith("-"):
                raise self.fail("negative numbers do not occur", span)
            near = difflib.get_close_matches(word, field.enum, n=1)
            hint = (
                f"; did you mean {near[0]}?"
                if near
                else f", or one of {', '.join(field.enum)}"
                if field.enum
                else f" of {UNITS[field.unit]}, a whole one"
                if field.unit in UNITS
                else ""
            )
            raise self.fail(f"{self._name(field)} takes {SAYS[field.kind]}{hint}", span)
        number = int(word, 16) if word[:2].lower() == "0x" else int(word)
        if number > top(field):
            width = (
                "a bool is 0 or 1"
                if field.kind == "bool"
                else f"a field of {field.bits or 63} bits holds at most {top(field)}"
            )
            raise self.fail(f"{word} is out of range: {width}", span)
        return number

    def _network(self, field: Field, value: Word) -> Interval:
        width = 32 if field.kind == "ipv4" else 128
        name = "IPv4" if width == 32 else "IPv6"

        def address(word: str) -> int:
            found, number = _address(word)
            if found == field.kind:
                return number
            if found:
                asked = self._name(field)
                there = asked.replace(field.protocol, found, 1) if asked.startswith(f"{field.protocol}.") else f"{found}.{field.name}"
                raise self.fail(f"{asked} is an {name} address; this value belongs to {there}", value.span)
            raise self.fail(f"this is no {name} address", value.span)

        if ".." in value.text:
            low, high = (address(part) for part in value.text.split("..", 1))
            if low > high:
                raise self.fail("this range is empty: it begins above its end", value.span)
            return low, high
        word, slash, prefix = value.text.partition("/")
        number = address(word)
        if not slash:
            return number, number
        if not prefix.isdecimal() or int(prefix) > width:
            raise self.fail(f"the prefix length of an {name} network is 0 to {width}", value.span)
        host = (1 << (width - int(prefix))) - 1
        # Host bits are ignored, as in Retina: 1.2.3.4/24 is 1.2.3.0/24.
        return number & ~host, number | host

    # -------------------------------------------------------------------------------------------------------- texts

    def octets(self, field: Field, value: Value, *, empty: bool) -> bytes:
        """Return the bytes that a string or a bytes literal stands for."""
        if isinstance(value, Octets):
            return value.value
        if not isinstance(value, Quoted):
            hint = f": write '{value.text}'" if isinstance(value, Word) else ""
            raise self.fail(f"{self._name(field)} takes {SAYS[field.kind]}{hint}", value.span)
        if not value.text and not empty:
            raise self.fail("an empty string stands everywhere: this would match always", value.span)
        if value.quote == "'":
            return value.text.encode()
        return b"".join(_unescape(value.text))

    def pattern(self, field: Field, value: Value) -> str:
        """Return a regular expression; its escapes are the pattern's own business, but for the quote's."""
        if not isinstance(value, Quoted):
            raise self.fail("a regular expression is written as a 'string'", value.span)
        if not value.text:
            raise self.fail("an empty pattern matches always", value.span)
        return value.text if value.quote == "'" else value.text.replace('\\"', '"')

    # --------------------------------------------------------------------------------------------------------- sets

    def members(self, field: Field, value: Value) -> list[Value]:
        """Return the values of a set, also of one that stands in a file; a single value is its own set."""
        if isinstance(value, SetOf):
            if not value.items:
                raise self.fail("an empty set matches never", value.span)
            for item in value.items:
                if isinstance(item, SetOf | FileOf):
                    raise self.fail("a set holds single values, no further sets", item.span)
            return list(value.items)
        if isinstance(value, FileOf):
            return self._lines(field, value)
        return [value]

    def _lines(self, field: Field, value: FileOf) -> list[Value]:
        try:
            lines = (self.folder / Path(value.path).expanduser()).read_text().splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise self.fail(
                f"{value.path} cannot be read: {getattr(error, 'strerror', None) or error}", value.span
            ) from None
        found: list[Value] = []
        for line in lines:
            word = line.partition("#")[0].strip()
            if word:
                textual = field.kind in ("text", "texts", "bytes")
                found.append(Quoted(word, "'", value.span) if textual else Word(word, value.span))
        if not found:
            raise self.fail(f"{value.path} holds no value: an empty set matches never", value.span)
        return found


def _unescape(text: str) -> list[bytes]:
    found, at = [], 0
    for m in _ESCAPE.finditer(text):
        found.append(text[at : m.start()].encode())
        if m[1]:
            found.append(bytes([int(m[1], 16)]))
        elif m[2]:
            found.append(chr(int(m[2], 16)).encode("utf-8", "surrogatepass"))
        else:  # an escape that has no meaning here stands for itself
            found.append(_PLAIN.get(m[3], m[0]).encode())
        at = m.end()
    return [*found, text[at:].encode()]


@lru_cache(maxsize=1 << 18)
def _address(word: str) -> tuple[str, int]:
    """Return (family or "", number): a list of addresses is read once, though it is asked for both sides."""
    name, form = ("ipv6", socket.AF_INET6) if ":" in word else ("ipv4", socket.AF_INET)
    try:
        return name, int.from_bytes(socket.inet_pton(form, word), "big")
    except (OSError, ValueError):  # ValueError: a zero byte, or no ASCII
        return "", 0


def family(word: str) -> str:
    """Return "ipv4", "ipv6" or, if this is no address, ""."""
    return _address(word.partition("/")[0].partition("..")[0])[0]


def top(field: Field) -> int:
    """Return the largest value of a field."""
    return (1 << field.bits) - 1 if field.bits and (field.bits < 64 or field.kind == "ipv6") else LARGEST


def union(intervals: list[Interval]) -> tuple[Interval, ...]:
    """Return the same set as sorted, disjoint, not even adjacent intervals."""
    merged: list[Interval] = []
    for low, high in sorted(intervals):
        if merged and low <= merged[-1][1] + 1:
            merged[-1] = (merged[-1][0], max(merged[-1][1], high))
        else:
            merged.append((low, high))
    return tuple(merged)


@lru_cache(maxsize=8)  # stages ask for the same large set
def complement(intervals: tuple[Interval, ...], largest: int) -> tuple[Interval, ...]:
    """Return what the intervals leave of 0..`largest`."""
    found, begin = [], 0
    for low, high in intervals:
        if low > begin:
            found.append((begin, low - 1))
        begin = high + 1
    if begin <= largest:
        found.append((begin, largest))
    return tuple(found)
