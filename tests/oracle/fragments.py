"""IP fragments in plain Python: the slow twin of `retina_jit.state.fragments`, a byte at a time on dicts."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


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
