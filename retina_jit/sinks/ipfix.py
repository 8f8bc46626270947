"""Connections as IPFIX flows (RFC 7011, 7012): to a file (RFC 5655), or to a collector over UDP.

A flow is a connection with both directions in one record (RFC 5103), the originator's forwards. Its bytes are those of IP
packets, its times are in milliseconds: what collectors of all kinds read.
"""

from __future__ import annotations

import ctypes
import os
import socket
import struct
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, BinaryIO
from urllib.parse import urlsplit

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from retina_jit.datatypes.base import DataType
from retina_jit.errors import ConfigError
from retina_jit.sinks.base import Layout
from retina_jit.sinks.scan import NUMBER, SCAN, Scanner

TYPES = ("ConnRecord", "IpByteCount", "TcpFlags")
"""Data types of the subscription that fills it."""

PORT = 4739
VERSION, TEMPLATE_SET, DOMAIN = 10, 2, 1
_HEAD, _SET = struct.Struct(">HHIII"), struct.Struct(">HH")
_REVERSE = 29305 << 16
"""Private enterprise number of the elements of the other direction (RFC 5103, 6.1), above an element's number."""

# Name in our array, type, information element. The reverse flags stand before the forward ones, for nfcapd 1.7 keeps the last it reads.
_ADDRESSES: dict[int, list[tuple[str, str, int]]] = {
    4: [("src", ">u4", 8), ("dst", ">u4", 12)],
    6: [("src_hi", ">i8", 27), ("src_lo", ">i8", 0), ("dst_hi", ">i8", 28), ("dst_lo", ">i8", 0)],  # 0: the other half of the one before
}
_FIELDS: list[tuple[str, str, int]] = [
    ("src_port", ">u2", 7), ("dst_port", ">u2", 11), ("proto", "u1", 4), ("start", ">i8", 152), ("end", ">i8", 153), ("reason", "u1", 136),
    ("direction", "u1", 239), ("flags_back", ">u2", _REVERSE | 6), ("flags", ">u2", 6), ("octets", ">i8", 1), ("packets", ">i8", 2),
    ("octets_back", ">i8", _REVERSE | 1), ("packets_back", ">i8", _REVERSE | 2),
]  # fmt: skip
RECORDS = {v: np.dtype([(n, t) for n, t, _ in a + _FIELDS]) for v, a in _ADDRESSES.items()}
TEMPLATES = {4: 256, 6: 257}
_INITIATOR = 1

_LARGEST_FILE, _LARGEST_DATAGRAM = 65_000, 1400
_AGAIN_AFTER, _AGAIN_MESSAGES = 60.0, 1000
"""Over UDP the templates are sent again after so many seconds or messages (RFC 7011, 8.4)."""


def _template(version: int) -> bytes:
    fields = _ADDRESSES[version] + _FIELDS
    made, count = b"", 0
    for n, (_, kind, element) in enumerate(fields):
        if not element:
            continue
        size = np.dtype(kind).itemsize * (2 if n + 1 < len(fields) and not fields[n + 1][2] else 1)
        enterprise = element >> 16
        made += struct.pack(">HHI", 0x8000 | (element & 0x7FFF), size, enterprise) if enterprise else struct.pack(">HH", element, size)
        count += 1
    return struct.pack(">HH", TEMPLATES[version], count) + made


_BODY = b"".join(_template(v) for v in _ADDRESSES)
TEMPLATE = _SET.pack(TEMPLATE_SET, _SET.size + len(_BODY)) + _BODY


class Exporter:
    """Makes messages of connections, for `send`.

    Parameters
    ----------
    send : callable
        Gets each message, and how many flows are in it.
    largest : int
        Most bytes of a message.
    again : bool
        Whether the templates are to be said again from time to time.
    """

    def __init__(self, send: Callable[[bytes, int], None], largest: int, *, again: bool) -> None:
        self._send, self._largest, self._again = send, largest, again
        self._sequence = self._messages = 0
        self._told = 0.0
        self.lines = 0

    def units(self, types: Sequence[type[DataType]]) -> list[str]:
        """Return the entries that a subscription to `types` needs."""
        return [SCAN]

    def open(self, mine: Mapping[int, Layout], count: int) -> None:
        """Learn which subscriptions write here, and tell the templates.

        Raises
        ------
        ConfigError
            One asks for something that is no connection.
        """
        self.prepare(mine)
        self._layouts = mine
        self._scan = Scanner()
        if not self._told:
            self._tell()

    def prepare(self, mine: Mapping[int, Layout]) -> None:
        """Refuse what is no connection."""
        for types, _ in mine.values():
            if tuple(t.__name__ for t in types) != TYPES:
                raise ConfigError(f"{', '.join(t.__name__ for t in types)}: IPFIX exports connections: write ConnRecord")

    def take(self, address: int, length: int) -> int:
        """Export the whole events among the bytes from `address` on. Returns how many bytes they take."""
        done, words = self._scan(address, length)
        if not done:
            return 0
        buffer = np.frombuffer(ctypes.string_at(address, done), np.uint8)
        numbers, places = words & NUMBER, words >> 32
        for number, (types, offsets) in self._layouts.items():
            events = places[numbers == number]
            if len(events):
                self.lines += len(events)
                self._export(*(_records(buffer, t.RECORD, events + o) for t, o in zip(types, offsets, strict=True)))
        return done

    def _export(self, conn: Any, ip: Any, flags: Any) -> None:
        wide = conn["five_tuple"]["is_ipv6"] != 0
        for version, chosen in ((4, ~wide), (6, wide)):
            if chosen.any():
                self._put(version, _flows(version, conn[chosen], ip[chosen], flags[chosen]))

    def _put(self, version: int, flows: Any) -> None:
        size = RECORDS[version].itemsize
        step = (self._largest - _HEAD.size - _SET.size) // size
        for at in range(0, len(flows), step):
            some = flows[at : at + step]
            if self._again and (self._messages >= _AGAIN_MESSAGES or time.monotonic() - self._told >= _AGAIN_AFTER):
                self._tell()
            self._message(_SET.pack(TEMPLATES[version], _SET.size + size * len(some)) + some.tobytes(), len(some))

    def _tell(self) -> None:
        self._told, self._messages = time.monotonic(), 0
        self._message(TEMPLATE, 0)

    def _message(self, body: bytes, flows: int) -> None:
        self._send(_HEAD.pack(VERSION, _HEAD.size + len(body), int(time.time()) & 0xFFFFFFFF, self._sequence, DOMAIN) + body, flows)
        self._sequence = (self._sequence + flows) & 0xFFFFFFFF
        self._messages += 1

    def flush(self) -> None:
        """Do nothing: what is taken is sent."""


def _records(buffer: Any, record: np.dtype[Any], at: Any) -> Any:
    """The records at these places."""
    return sliding_window_view(buffer, record.itemsize)[at].view(record)[:, 0]


def _flows(version: int, conn: Any, ip: Any, flags: Any) -> Any:
    t, made = conn["five_tuple"], np.empty(len(conn), RECORDS[version])
    if version == 4:
        made["src"], made["dst"] = t["orig_lo"] & 0xFFFFFFFF, t["resp_lo"] & 0xFFFFFFFF
    else:
        made["src_hi"], made["src_lo"], made["dst_hi"], made["dst_lo"] = t["orig_hi"], t["orig_lo"], t["resp_hi"], t["resp_lo"]
    made["src_port"], made["dst_port"], made["proto"] = t["orig_port"], t["resp_port"], t["proto"]
    made["start"], made["end"] = conn["first_seen_ts"] // 1_000_000, conn["last_seen_ts"] // 1_000_000
    made["reason"], made["direction"] = conn["end_reason"], _INITIATOR
    made["flags"], made["flags_back"] = flags["orig"], flags["resp"]
    made["octets"], made["octets_back"] = ip["orig"], ip["resp"]
    made["packets"], made["packets_back"] = conn["orig"]["nb_pkts"], conn["resp"]["nb_pkts"]
    return made


class IpfixFile(Exporter):
    """A file of IPFIX messages. It can be read up to the last message that was written."""

    def __init__(self, out: BinaryIO) -> None:
        super().__init__(self._write, _LARGEST_FILE, again=False)
        self._out = out

    def _write(self, message: bytes, flows: int) -> None:
        self._out.write(message)

    def take(self, address: int, length: int) -> int:
        """Write the whole events among the bytes from `address` on. Returns how many bytes they take."""
        done = super().take(address, length)
        if done:
            self._out.flush()
        return done

    def close(self) -> None:
        """Write the rest; the file stays open."""
        self._out.flush()


class IpfixCollector(Exporter):
    """A collector that is sent IPFIX messages over UDP.

    Parameters
    ----------
    url : str
        ipfix://HOST:PORT; without a port 4739.

    Attributes
    ----------
    lost : int
        Flows of datagrams that this host could not send, or that the collector's host has refused. Others that went
        lost on their way are known to the collector, by the sequence numbers.
    """

    def __init__(self, url: str) -> None:
        super().__init__(self._put_out, _LARGEST_DATAGRAM, again=True)
        self.url = url
        self.lost = 0
        self._before = 0
        self._fault = ""
        try:
            parts = urlsplit(url)
            host, port = parts.hostname, parts.port or PORT
        except ValueError as fault:
            raise ConfigError(f"{url}: {fault}. Write ipfix://HOST:PORT") from fault
        if not host or parts.path.strip("/") or parts.query:
            raise ConfigError(f"{url}: no address of a collector: write ipfix://HOST:PORT")
        try:
            family, kind, proto, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_DGRAM)[0]
            self._socket = socket.socket(family, kind, proto)
            self._socket.connect(address)
        except OSError as fault:
            raise ConfigError(f"{url}: {fault.strerror or fault}") from fault

    def _put_out(self, message: bytes, flows: int) -> None:
        try:
            self._socket.send(message)
        except ConnectionRefusedError as fault:
            # The answer to the datagram before; this one has not been sent.
            self._lose(fault, self._before)
            self._try_again(message, flows)
        except OSError as fault:
            self._lose(fault, flows)
        else:
            self._before = flows

    def _try_again(self, message: bytes, flows: int) -> None:
        try:
            self._socket.send(message)
        except OSError as fault:
            self._lose(fault, flows)
        else:
            self._before = flows

    def _lose(self, fault: OSError, flows: int) -> None:
        self._fault, self.lost, self._before = fault.strerror or str(fault), self.lost + flows, 0

    @property
    def problems(self) -> list[str]:
        """What the user is to be told at the end."""
        return [f"{self.url}: {self._fault}: at least {self.lost} of {self.lines} flows have not arrived"] if self._fault else []

    def close(self) -> None:
        """Close the socket; what was said of the last datagram is heard."""
        with self._socket:
            if number := self._socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
                self._lose(OSError(number, os.strerror(number)), self._before)
