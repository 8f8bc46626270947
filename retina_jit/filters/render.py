"""How values print, in a form that parses again."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address

from retina_jit.filters.literals import Interval, complement, top
from retina_jit.parsers.protocol import Field

MOST_SHOWN = 8


def _one(field: Field, number: int) -> str:
    if field.kind == "ipv4":
        return str(IPv4Address(number))
    if field.kind == "ipv6":
        return str(IPv6Address(number))
    if field.kind == "mac":
        return number.to_bytes(6, "big").hex(":")
    return str(number)


def _interval(field: Field, interval: Interval) -> str:
    low, high = interval
    if low == high:
        return _one(field, low)
    size = high - low + 1
    if field.kind in ("ipv4", "ipv6") and size & (size - 1) == 0 and low % size == 0:
        return f"{_one(field, low)}/{field.bits - size.bit_length() + 1}"
    return f"{_one(field, low)}..{_one(field, high)}"


def _set(field: Field, ranges: tuple[Interval, ...]) -> str:
    inner = ", ".join(_interval(field, r) for r in ranges[:MOST_SHOWN])
    return f"{{{inner}{f', … {len(ranges)} ranges' if len(ranges) > MOST_SHOWN else ''}}}"


def render_ranges(field: Field, ranges: tuple[Interval, ...], negated: bool) -> str:
    """Return the shortest operator and value for a set of numbers."""
    largest = top(field)
    others = complement(ranges, largest)
    plain = len(ranges) == 1 and (
        field.kind in ("int", "bool", "ints") or ".." not in _interval(field, ranges[0])
    )
    if not negated and not plain and others and len(others) <= len(ranges):
        ranges, negated = others, True
    if len(ranges) == 1:
        (low, high) = ranges[0]
        if low == high:
            return f"{'!=' if negated else '='} {_one(field, low)}"
        if not negated and field.kind in ("int", "bool", "ints"):
            if high == largest:
                return f">= {low}"
            if low == 0:
                return f"<= {high}"
        if field.kind in ("int", "ints", "bool") or "/" in _interval(field, ranges[0]):
            return f"{'not ' * negated}in {_interval(field, ranges[0])}"
    return f"{'not ' * negated}in {_set(field, ranges)}"


def render_octets(value: bytes) -> str:
    """Return a string where the bytes are printable text, else bytes between bars."""
    try:
        text = value.decode()
    except UnicodeDecodeError:
        text = ""
    if (text or not value) and text.isprintable() and "'" not in text:
        return f"'{text}'"
    return f"|{value.hex(' ').upper()}|"


def render_texts(values: tuple[bytes, ...], negated: bool) -> str:
    """Return operator and value for a set of texts."""
    if len(values) == 1:
        return f"{'!=' if negated else '='} {render_octets(values[0])}"
    inner = ", ".join(map(render_octets, values[:MOST_SHOWN]))
    inner += f", … {len(values)} values" if len(values) > MOST_SHOWN else ""
    return f"{'not ' * negated}in {{{inner}}}"
