"""Conversations that try to cost a parser more than their length: long ones of each kind, for any length.

A maker takes a length in bytes, more or less, and gives segments (direction, bytes).
"""

from __future__ import annotations

import struct
from collections.abc import Callable

from retina_jit.parsers.protocol import SessionExample, protocols

Segments = list[tuple[int, bytes]]
Maker = Callable[[int], Segments]
TCP, UDP = 6, 17
SHORT = 6_000
"""Bytes of a short one; a long one is a multiple of it."""


def bytewise(data: bytes, direction: int = 0) -> Segments:
    """A segment for each byte."""
    return [(direction, data[n : n + 1]) for n in range(len(data))]


def repeated(part: bytes, size: int) -> bytes:
    """As many whole parts as fit into `size` bytes."""
    return part * max(1, size // len(part))


# -------------------------------------------------------------------------------------------------------- any protocol


def again(example: SessionExample) -> Maker:
    """An example over and over on one connection."""
    times = max(1, SHORT // sum(len(data) for _, data in example.segments))
    return lambda length: list(example.segments) * (times * length // SHORT)


def slow(example: SessionExample) -> Maker:
    """The same, a byte at a time."""
    return lambda length: [s for direction, data in again(example)(length) for s in bytewise(data, direction)]


def then(example: SessionExample, noise: bytes, slowly: bool) -> Maker:
    """The beginning of an example, then noise in its direction."""
    direction, data = example.segments[0]
    begin = data[: len(data) // 2]

    def make(length: int) -> Segments:
        rest = repeated(noise, length)
        if slowly:
            return [(direction, begin), *bytewise(rest, direction)]
        return [(direction, begin), *((direction, rest[n : n + 1400]) for n in range(0, len(rest), 1400))]

    return make


# ----------------------------------------------------------------------------------------------------------------- DNS


def _dns(qr: int, ident: int, counts: tuple[int, int, int, int], body: bytes) -> bytes:
    return struct.pack(">HH4H", ident & 0xFFFF, qr << 15, *counts) + body


def _most(size: int) -> int:
    return min(size, 60_000)


def _dns_questions(size: int) -> Segments:
    """Messages that are full of questions of five bytes."""
    n = _most(size) // 5
    return [(0, _dns(0, k, (n, 0, 0, 0), bytes.fromhex("00 0001 0001") * n)) for k in range(max(1, size // 60_000))]


def _dns_records(size: int) -> Segments:
    """Responses that are full of records of twelve bytes."""
    n = _most(size) // 12
    return [(1, _dns(1, k, (0, n, 0, 0), bytes.fromhex("00 0001 0001 00000000 0000") * n)) for k in range(max(1, size // 60_000))]


def _dns_pointers(size: int) -> Segments:
    """Each name a pointer to the pointer before it."""
    n = _most(size) // 14
    body = bytearray(b"\1a\0" + bytes.fromhex("0005 0001 00000000 0000"))
    before = 12
    for _ in range(n):
        at = 12 + len(body)
        body += struct.pack(">H", 0xC000 | before) + bytes.fromhex("0005 0001 00000000 0002") + struct.pack(">H", 0xC000 | before)
        before = at if at < 0x3FFF else before
    return [(1, _dns(1, k, (0, n + 1, 0, 0), bytes(body))) for k in range(max(1, size // len(body)))]


def _dns_in_vain(size: int) -> Segments:
    """Queries that nobody answers, all with one id; each is compared with those that wait."""
    query = _dns(0, 7, (1, 0, 0, 0), b"\1a\0" + bytes.fromhex("0001 0001"))
    return [(0, query)] * max(1, size // len(query))


def _dns_stream(size: int) -> Segments:
    """Many small messages in a stream, a byte at a time."""
    query = _dns(0, 7, (1, 0, 0, 0), b"\1a\0" + bytes.fromhex("0001 0001"))
    return bytewise(repeated(len(query).to_bytes(2, "big") + query, size))


# ---------------------------------------------------------------------------------------------------------------- HTTP

_GET = b"GET / HTTP/1.1\r\n"


def _http_headers(size: int) -> Segments:
    """Heads that are full of the shortest headers."""
    head = _GET + repeated(b"a:\n", _most(size) - 100) + b"\n"
    return [(0, head)] * max(1, size // len(head))


def _http_headers_slowly(size: int) -> Segments:
    return [s for direction, data in _http_headers(size) for s in bytewise(data, direction)]


def _http_folded(size: int) -> Segments:
    head = _GET + b"a: b\n" + repeated(b" c\n", _most(size) - 100) + b"\n"
    return [(0, head)] * max(1, size // len(head))


def _http_long_line(size: int) -> Segments:
    return [(0, _GET), *bytewise(b"x" * size)]


def _http_pipelined(size: int) -> Segments:
    return [(0, repeated(_GET + b"\r\n", size))]


def _http_answers(size: int) -> Segments:
    """Responses that nobody has asked for."""
    return [(1, repeated(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", size))]


def _http_chunks(size: int) -> Segments:
    return [(0, _GET + b"\r\n"), (1, b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + repeated(b"1\r\nx\r\n", size))]


def _http_chunks_slowly(size: int) -> Segments:
    return [s for direction, data in _http_chunks(size) for s in bytewise(data, direction)]


def _http_lines(size: int) -> Segments:
    """After a response, lines that are no start lines."""
    return [(0, _GET + b"\r\n"), (1, b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n" + repeated(b"HTTP/1.1 \n", size))]


# ---------------------------------------------------------------------------------------------------------------- TLS


def _record(body: bytes, kind: int = 22) -> bytes:
    return bytes([kind, 3, 1]) + len(body).to_bytes(2, "big") + body


def _hello(extensions: bytes) -> bytes:
    body = b"\3\3" + bytes(32) + b"\0" + b"\0\2\x13\1" + b"\1\0" + len(extensions).to_bytes(2, "big") + extensions
    return b"\1" + len(body).to_bytes(3, "big") + body


def _tls_extensions(size: int) -> Segments:
    """A ClientHello full of empty extensions, in records of one byte."""
    hello = _hello(repeated(bytes.fromhex("fe01 0000"), _most(size)))
    return [(0, b"".join(_record(hello[n : n + 1]) for n in range(len(hello))))] * max(1, size // 60_000)


def _tls_names(size: int) -> Segments:
    """ALPN with as many names as fit."""
    names = repeated(b"\1h", _most(size) - 20)
    listed = len(names).to_bytes(2, "big") + names
    hello = _hello(bytes.fromhex("0010") + len(listed).to_bytes(2, "big") + listed)
    pieces = [hello[n : n + 16000] for n in range(0, len(hello), 16000)]
    return [(0, b"".join(map(_record, pieces)))] * max(1, size // 60_000)


def _tls_alerts(size: int) -> Segments:
    return [(0, _record(_hello(b""))), (1, repeated(_record(b"\1\0", 21), size))]


def _tls_messages(size: int) -> Segments:
    """Handshake messages without a body, many in a record."""
    return [(0, _record(_hello(b""))), (1, repeated(_record(bytes(4) * 400), size))]


# ---------------------------------------------------------------------------------------------------------------- SSH


def _kexinit(kind: bytes) -> bytes:
    body = b"\x14" + bytes(16) + 10 * (len(kind).to_bytes(4, "big") + kind) + bytes(5)
    pad = 8 - (len(body) + 5) % 8 + 8
    return (len(body) + pad + 1).to_bytes(4, "big") + bytes([pad]) + body + bytes(pad)


def _ssh_lists(size: int) -> Segments:
    """KEXINITs of both sides with as many names as fit, none of which agree."""
    n = min(size, 60_000) // 40
    return [(0, b"SSH-2.0-a\r\n"), (1, b"SSH-2.0-b\r\n"), (0, _kexinit(b"a," * n + b"a")), (1, _kexinit(b"b," * n + b"b"))] * max(1, size // 60_000)


def _ssh_lists_slowly(size: int) -> Segments:
    return [s for direction, data in _ssh_lists(size) for s in bytewise(data, direction)]


def _ssh_lines(size: int) -> Segments:
    """Lines before the identification."""
    return [(1, repeated(b"hello\r\n", size))]


def _ssh_ignored(size: int) -> Segments:
    packet = b"\0\0\0\x0c\x0a\2" + bytes(10)
    return [(0, b"SSH-2.0-a\r\n"), (1, b"SSH-2.0-b\r\n"), (0, repeated(packet, size)), (1, repeated(packet, size))]


# ---------------------------------------------------------------------------------------------------------------- QUIC


def _quic_coalesced(size: int) -> Segments:
    """Initials of 21 bytes that cannot be opened, many in a datagram."""
    packet = bytes.fromhex("c0 00000001 08 0102030405060708 00 00 05 0000000000")
    datagram = repeated(packet, 1400)
    return [(0, datagram)] * max(1, size // len(datagram))


def _quic_versions(size: int) -> Segments:
    """A version negotiation that offers as much as fits."""
    datagram = bytes.fromhex("80 00000000 08 0102030405060708 08 0102030405060708") + repeated(bytes.fromhex("1a2a3a4a"), _most(size))
    return [(1, datagram)] * max(1, size // len(datagram))


# ---------------------------------------------------------------------------------------------------------------- all

_NOISE = {"zeros": b"\0", "newlines": b"\n", "text": b"a b:c\r\n", "ones": b"\xff", "letters": b"A"}

OWN: dict[str, dict[str, tuple[int, Maker]]] = {
    "dns": {
        "questions": (UDP, _dns_questions), "records": (UDP, _dns_records), "pointers": (UDP, _dns_pointers), "in vain": (UDP, _dns_in_vain),
        "small messages": (TCP, _dns_stream),
    },
    "http": {
        "headers": (TCP, _http_headers), "headers, slowly": (TCP, _http_headers_slowly), "folded": (TCP, _http_folded),
        "long line": (TCP, _http_long_line), "pipelined": (TCP, _http_pipelined), "answers": (TCP, _http_answers),
        "chunks": (TCP, _http_chunks), "chunks, slowly": (TCP, _http_chunks_slowly), "lines": (TCP, _http_lines),
    },
    "tls": {"extensions": (TCP, _tls_extensions), "names": (TCP, _tls_names), "alerts": (TCP, _tls_alerts), "messages": (TCP, _tls_messages)},
    "ssh": {
        "lists": (TCP, _ssh_lists), "lists, slowly": (TCP, _ssh_lists_slowly), "lines": (TCP, _ssh_lines), "ignored": (TCP, _ssh_ignored),
    },
    "quic": {"coalesced": (UDP, _quic_coalesced), "versions": (UDP, _quic_versions)},
}  # fmt: skip


def makers(name: str) -> dict[str, tuple[int, Maker]]:
    """Return what to try on a protocol: transport and maker by what it is."""
    found = dict(OWN.get(name, {}))
    for n, example in enumerate(protocols()[name].examples[:3]):
        found[f"example {n} again"] = (example.transport, again(example))
        if example.transport == TCP:
            found[f"example {n} slowly"] = (TCP, slow(example))
    first = protocols()[name].examples[0]
    for kind, noise in _NOISE.items():
        found[f"{kind} behind it"] = (first.transport, then(first, noise, slowly=False))
        if first.transport == TCP:
            found[f"{kind} behind it, slowly"] = (TCP, then(first, noise, slowly=True))
    return found
