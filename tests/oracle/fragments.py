"""IP fragments in plain Python: the slow twin of `retina_jit.state.fragments`, a byte at a time on dicts."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from oracle.decode import FRAGMENT, IPV4, decode


@dataclass
class Datagram:
    """What is there of one datagram: position -> byte."""

    first: int
    bytes: dict[int, int] = field(default_factory=dict)
    total: int | None = None
    frames: int = 0


class Table:
    """Datagrams by key, the oldest first."""

    def __init__(self, most: int, timeout: int) -> None:
        self.most, self.timeout = most, timeout
        self.waiting: dict[Any, Datagram] = {}
        self.given_up = self.overlap = self.inconsistent = 0

    def take(self, key: Any, ts: int, offset: int, more: bool, data: bytes) -> str | bytes:
        """Return "refused", "held", or the whole datagram."""
        end = offset + len(data)
        if not data or end > 65535 or (more and len(data) % 8):
            return "refused"
        d = self.waiting.get(key)
        if d is not None and ts - d.first > self.timeout:
            self.give_up(key)
            d = None
        if d is None:
            if len(self.waiting) == self.most:
                self.give_up(next(iter(self.waiting)))
            d = self.waiting[key] = Datagram(ts)
        if d.total is not None and (end > d.total or (not more and end != d.total)):
            return "refused"
        if not more:
            if d.bytes and max(d.bytes) >= end:
                return "refused"
            d.total = end
        d.frames += 1
        new = {offset + n: byte for n, byte in enumerate(data)}
        self.overlap += bool(new.keys() & d.bytes.keys())
        self.inconsistent += any(d.bytes[n] != new[n] for n in new.keys() & d.bytes.keys())
        d.bytes = new | d.bytes
        if d.total is None or len(d.bytes) < d.total:
            return "held"
        del self.waiting[key]
        return bytes(d.bytes[n] for n in range(d.total))

    def give_up(self, key: Any) -> None:
        self.given_up += self.waiting.pop(key).frames

    def sweep(self, now: int) -> None:
        for key in [k for k, d in self.waiting.items() if now - d.first > self.timeout]:
            self.give_up(key)


HEADERS = (0, 43, 51, 60, 135, 139, 140)
"""IPv6 extension headers that may stand in front of a fragment header."""


class Defragmenter:
    """Frames in, what connections are given out: frames as they are, and datagrams put together."""

    def __init__(self, most: int, timeout: int) -> None:
        self.table = Table(most, timeout)
        self.fronts: dict[Any, bytes] = {}
        self.cuts: dict[Any, int] = {}
        self.count = 0

    def take(self, ts: int, data: bytes, length: int, link: int) -> list[tuple[bytes, int]]:
        """Return the (data, length on the wire) of one packet, or none."""
        row = decode(data, link, length)
        if not row["layers"] & FRAGMENT:
            return [(data, length)]
        ends = tuple(row[n] for n in ("src_hi", "src_lo", "dst_hi", "dst_lo"))
        found = _read_v4(data, row["l3"]) if row["layers"] & IPV4 else _read_v6(data, row["l3"])
        if found is None:
            return []
        at, front, ident, word, end = found
        offset, more = word & ~7, bool(word & 1)
        end = end or max(len(data), length)
        piece = data[at:end]
        key = (ends, ident)
        if key not in self.table.waiting:
            self.fronts.pop(key, None)
            self.cuts.pop(key, None)
        answer = self.table.take(key, ts, offset, more, piece.ljust(end - at, b"\0"))
        if answer == "refused":
            return []
        if len(piece) < end - at:
            self.cuts[key] = min(offset + len(piece), self.cuts.get(key, 1 << 20))
        if offset == 0:
            self.fronts.setdefault(key, front)
        if answer == "held":
            return []
        assert isinstance(answer, bytes)
        self.count += 1
        head, l3 = bytearray(self.fronts.pop(key)), row["l3"]
        if row["layers"] & IPV4:
            head[l3 + 2 : l3 + 4], head[l3 + 6 : l3 + 8] = (len(head) - l3 + len(answer)).to_bytes(2, "big"), b"\0\0"
        else:
            head[l3 + 4 : l3 + 6] = len(answer).to_bytes(2, "big")
        return [(bytes(head) + answer[: self.cuts.pop(key, 1 << 20)], len(head) + len(answer))]


def _read_v4(data: bytes, l3: int) -> tuple[int, bytes, Any, int, int] | None:
    """Where its data begin, the header, what it belongs to, offset and flag as in IPv6, where it ends (0: not told)."""
    at = l3 + 4 * (data[l3] & 15)
    word, total = int.from_bytes(data[l3 + 6 : l3 + 8], "big"), int.from_bytes(data[l3 + 2 : l3 + 4], "big")
    return at, data[:at], (4, data[l3 + 9], data[l3 + 4 : l3 + 6]), (word & 0x1FFF) << 3 | word >> 13 & 1, l3 + total if total else 0


def _read_v6(data: bytes, l3: int) -> tuple[int, bytes, Any, int, int] | None:
    at, number, total = l3 + 40, data[l3 + 6], int.from_bytes(data[l3 + 4 : l3 + 6], "big")
    while number in HEADERS:
        if len(data) < at + 8:
            return None
        number, size = data[at], 4 * (data[at + 1] + 2) if number == 51 else 8 * (data[at + 1] + 1)
        at += size
    if number != 44 or len(data) < at + 8:
        return None
    front = data[: l3 + 6] + data[at : at + 1] + data[l3 + 7 : l3 + 40]
    return at + 8, front, (6, data[at + 4 : at + 8]), int.from_bytes(data[at + 2 : at + 4], "big") & 0xFFF9, l3 + 40 + total if total else 0
