"""Capture files of the packets that match: pcap and pcapng, with times in nanoseconds."""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping, Sequence
from typing import BinaryIO

from retina_jit.datatypes.base import DataType
from retina_jit.datatypes.captured import CapturedFrame
from retina_jit.errors import ConfigError
from retina_jit.sinks.base import Layout
from retina_jit.sinks.events import Events, put

SNAPLEN = 0x40000
_RECORD = struct.Struct("<qIIqq").unpack_from
_PCAP = struct.Struct("<IIII").pack
_ETHERNET = 1


class Pcap(Events):
    """A pcap file with times in nanoseconds; all packets have one link type.

    A record has 32 bits for the seconds: a time before 1970 or from 2106 on is written modulo 2^32 s, as pcapng's are modulo 2^64 ns.
    """

    def __init__(self, out: BinaryIO) -> None:
        super().__init__()
        self._out = out
        self._link = -1

    def open(self, mine: Mapping[int, Layout], count: int) -> None:
        """Learn which subscriptions write here.

        Raises
        ------
        ConfigError
            One asks for something that is no packet.
        """
        super().open(mine, count)
        self.prepare(mine)

    def prepare(self, mine: Mapping[int, Layout]) -> None:
        """Refuse what is no packet."""
        for types, _ in mine.values():
            if tuple(types) != (CapturedFrame,):
                raise ConfigError(f"{', '.join(t.__name__ for t in types)}: a capture file holds packets: write ZcFrame")

    def _frames(self, buffer: bytes, events: Iterator[tuple[int, int]]) -> Iterator[tuple[int, int, int, int, bytes]]:
        """Number of the subscription, time, length, link type, bytes."""
        for number, at in events:
            ts, length, _, link, word = _RECORD(buffer, at + self._layouts[number][1][0])
            start = at + (word >> 32)
            yield number, ts, length, link, buffer[start : start + (word & 0xFFFFFFFF)]

    def write(self, buffer: bytes, events: Iterator[tuple[int, int]]) -> None:
        """Write packets.

        Raises
        ------
        ConfigError
            They have more than one link type.
        """
        parts: list[bytes] = []
        for _, ts, length, link, data in self._frames(buffer, events):
            if link != self._link:
                if self._link >= 0:
                    put(self._out, b"".join(parts))
                    raise ConfigError(f"packets of link types {self._link} and {link} do not go into one pcap file: use -T pcapng")
                self._begin(link)
            parts += [_PCAP(ts // 10**9 & 0xFFFFFFFF, ts % 10**9, len(data), length), data]
        put(self._out, b"".join(parts))

    def _begin(self, link: int) -> None:
        self._link = link
        put(self._out, struct.pack("<IHHiIII", 0xA1B23C4D, 2, 4, 0, 0, SNAPLEN, link))

    def close(self) -> None:
        """End the file, which stays open; without a packet it is an empty Ethernet capture."""
        if self._link < 0:
            self._begin(_ETHERNET)


class PcapNg(Pcap):
    """A pcapng file: an interface per link type, and with each packet the name of its subscription as a comment."""

    def __init__(self, out: BinaryIO) -> None:
        super().__init__(out)
        self._begun = False
        self._links: list[int] = []
        self._comments: dict[int, bytes] = {}

    def open(self, mine: Mapping[int, Layout], count: int) -> None:
        """Learn which subscriptions write here, and begin the file."""
        super().open(mine, count)
        for number in mine:
            name = self.names.get(number, "").encode()[:1000]
            self._comments[number] = _option(1, name) + bytes(4) if name else b""
        if not self._begun:
            self._begun = True
            put(self._out, _block(0x0A0D0D0A, struct.pack("<IHHq", 0x1A2B3C4D, 1, 0, -1)))

    def write(self, buffer: bytes, events: Iterator[tuple[int, int]]) -> None:
        """Write packets."""
        parts: list[bytes] = []
        for number, ts, length, link, data in self._frames(buffer, events):
            if link not in self._links:
                self._links.append(link)
                parts.append(_block(1, struct.pack("<HHI", link, 0, 0) + _option(9, b"\x09") + bytes(4)))
            head = struct.pack("<IIIII", self._links.index(link), (ts >> 32) & 0xFFFFFFFF, ts & 0xFFFFFFFF, len(data), length)
            parts.append(_block(6, head + data + bytes(-len(data) % 4) + self._comments[number]))
        put(self._out, b"".join(parts))

    def close(self) -> None:
        """Do nothing: a pcapng file has no end."""


def _option(code: int, value: bytes) -> bytes:
    return struct.pack("<HH", code, len(value)) + value + bytes(-len(value) % 4)


def _block(kind: int, body: bytes) -> bytes:
    size = struct.pack("<I", len(body) + 12)
    return struct.pack("<I", kind) + size + body + size


def frame_types(types: Sequence[str]) -> list[type[DataType] | str]:
    """Return what to subscribe to where ZcFrame is asked for."""
    return [CapturedFrame if t == "ZcFrame" else t for t in types]
