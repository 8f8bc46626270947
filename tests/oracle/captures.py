"""Capture files read the plain way: the slow twin of `retina_jit.ingest`."""

from __future__ import annotations

import struct
from dataclasses import dataclass, field
from fractions import Fraction

MOST_CAPTURED = 256 << 10


@dataclass
class Captured:
    ts: int
    data: bytes
    length: int
    link: int


@dataclass
class Reading:
    frames: list[Captured] = field(default_factory=list)
    cut: bool = False
    broken: bool = False
    offset: int = 0


def read_capture(content: bytes) -> Reading:
    return _read_pcapng(content) if content[:4] == b"\x0a\x0d\x0d\x0a" else _read_pcap(content)


def _read_pcap(content: bytes) -> Reading:
    magic = content[:4].hex()
    order, unit, header = {
        "d4c3b2a1": ("<", 1000, 16),
        "a1b2c3d4": (">", 1000, 16),
        "4d3cb2a1": ("<", 1, 16),
        "a1b23c4d": (">", 1, 16),
        "34cdb2a1": ("<", 1000, 24),
        "a1b2cd34": (">", 1000, 24),
    }[magic]
    link = struct.unpack_from(order + "I", content, 20)[0] & 0xFFFF
    out = Reading(offset=24)
    while out.offset < len(content):
        record = content[out.offset : out.offset + header]
        if len(record) < header:
            out.cut = True
            break
        seconds, fraction, caplen, length = struct.unpack_from(order + "IIII", record)
        if caplen > MOST_CAPTURED or not any((seconds, fraction, caplen, length)):
            out.broken = True
            break
        data = content[out.offset + header : out.offset + header + caplen]
        if len(data) < caplen:
            out.cut = True
            break
        out.frames.append(Captured(seconds * 10**9 + fraction * unit, data, length, link))
        out.offset += header + caplen
    return out


@dataclass
class _Interface:
    link: int
    snaplen: int
    tick: Fraction  # [s]
    offset: int  # [s]


def _interface(order: str, body: bytes) -> _Interface:
    link, _, snaplen = struct.unpack_from(order + "HHI", body)
    made = _Interface(link, snaplen, Fraction(1, 10**6), 0)
    at = 8
    while at + 4 <= len(body):
        code, n = struct.unpack_from(order + "HH", body, at)
        value = body[at + 4 : at + 4 + n]
        if code == 0 or len(value) < n:
            break
        if code == 9 and n >= 1:
            made.tick = Fraction(1, 2 ** (value[0] & 127)) if value[0] & 128 else Fraction(1, 10 ** value[0])
        if code == 14 and n >= 8:
            made.offset = struct.unpack(order + "q", value[:8])[0]
        at += 4 + (n + 3) // 4 * 4
    return made


def _read_pcapng(content: bytes) -> Reading:
    out = Reading()
    order = "<"
    interfaces: list[_Interface] = []
    last = 0
    while out.offset < len(content):
        rest = content[out.offset :]
        if rest[:4] == b"\x0a\x0d\x0d\x0a" and len(rest) >= 28:
            mark = rest[8:12]
            if mark not in (b"\x4d\x3c\x2b\x1a", b"\x1a\x2b\x3c\x4d"):
                out.broken = True
                break
            order = "<" if mark == b"\x4d\x3c\x2b\x1a" else ">"
            if struct.unpack_from(order + "H", rest, 12)[0] != 1:
                out.broken = True
                break
            interfaces = []
        if len(rest) < 12 or (rest[:4] == b"\x0a\x0d\x0d\x0a" and len(rest) < 28):
            out.cut = True
            break
        kind, total = struct.unpack_from(order + "II", rest)
        if total < 12 or total % 4 or total > 16 << 20:
            out.broken = True
            break
        if len(rest) < total:
            out.cut = True
            break
        body = rest[8 : total - 4]
        if rest[total - 4 : total] != rest[4:8]:
            out.broken = True
            break
        if kind == 1:
            if len(body) < 8:
                out.broken = True
                break
            interfaces.append(_interface(order, body))
            if interfaces[-1].tick < Fraction(1, 10**18) and interfaces[-1].tick.denominator % 5 == 0:
                out.broken = True
                break
        elif kind in (2, 3, 6):
            if len(body) < (4 if kind == 3 else 20):
                out.broken = True
                break
            if kind == 3:
                number, length = 0, struct.unpack_from(order + "I", body)[0]
                data, ticks = body[4:], None
            else:
                if kind == 6:
                    number, high, low, caplen, length = struct.unpack_from(order + "IIIII", body)
                else:
                    number, _, high, low, caplen, length = struct.unpack_from(order + "HHIIII", body)
                data, ticks = body[20:], high << 32 | low
                if caplen > len(data):
                    out.broken = True
                    break
                data = data[:caplen]
            if number >= len(interfaces):
                out.broken = True
                break
            interface = interfaces[number]
            if len(data) > MOST_CAPTURED:
                out.broken = True
                break
            if ticks is None:
                data = data[: min(length, interface.snaplen or length)]
            else:
                last = int(ticks * interface.tick * 10**9 // 1) + interface.offset * 10**9
                last = (last + 2**63) % 2**64 - 2**63  # damaged times wrap
            out.frames.append(Captured(last, data, length, interface.link))
        out.offset += total
    return out
