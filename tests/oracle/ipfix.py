"""IPFIX messages taken apart (RFC 7011), slowly: whatever templates they bring. Shares no code with the package."""

from __future__ import annotations

from ipaddress import ip_address
from typing import Any

ADDRESSES = {8, 12, 27, 28}


def number(data: bytes, at: int, size: int) -> int:
    return int.from_bytes(data[at : at + size], "big")


def messages(content: bytes) -> list[bytes]:
    """The messages of a file (RFC 5655)."""
    found, at = [], 0
    while at < len(content):
        size = number(content, at + 2, 2)
        assert number(content, at, 2) == 10 and 16 <= size <= len(content) - at
        found.append(content[at : at + size])
        at += size
    return found


class Collector:
    """Takes messages; `flows` are dicts from an element's number, or (enterprise, number), to its value."""

    def __init__(self) -> None:
        self.templates: dict[int, list[tuple[Any, int]]] = {}
        self.flows: list[dict[Any, Any]] = []
        self.sequence = 0
        self.told = 0

    def take(self, message: bytes) -> None:
        assert number(message, 0, 2) == 10 and number(message, 2, 2) == len(message)
        assert number(message, 8, 4) == self.sequence % 2**32, "a gap in the sequence"
        at, before = 16, len(self.flows)
        while at < len(message):
            kind, size = number(message, at, 2), number(message, at + 2, 2)
            assert size >= 4 and at + size <= len(message)
            body = message[at + 4 : at + size]
            self._template(body) if kind == 2 else self._data(kind, body)
            at += size
        self.sequence += len(self.flows) - before

    def _template(self, body: bytes) -> None:
        at = 0
        while at < len(body):
            ident, count, fields = number(body, at, 2), number(body, at + 2, 2), []
            assert ident >= 256 and count
            at += 4
            for _ in range(count):
                element, size = number(body, at, 2), number(body, at + 2, 2)
                at += 4
                if element & 0x8000:
                    fields.append(((number(body, at, 4), element & 0x7FFF), size))
                    at += 4
                else:
                    fields.append((element, size))
            assert self.templates.setdefault(ident, fields) == fields
        self.told += 1

    def _data(self, ident: int, body: bytes) -> None:
        fields = self.templates[ident]
        whole = sum(size for _, size in fields)
        assert len(body) % whole == 0
        for start in range(0, len(body), whole):
            flow, at = {}, start
            for element, size in fields:
                flow[element] = str(ip_address(body[at : at + size])) if element in ADDRESSES else number(body, at, size)
                at += size
            self.flows.append(flow)
