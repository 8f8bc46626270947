"""Whole conversations without captures of others: TLS 1.3 handshakes with data, plain transfers, DNS; same bytes everywhere.

Thousands of conversations run side by side, packet by packet, so that each packet meets a connection out of the cache.
"""

from __future__ import annotations

import json
import struct
from pathlib import Path

import numpy as np

VERSION = 1
"""Part of the file name: change it with the content."""

TOGETHER = 4000
"""Conversations of each kind at a time."""

HTTPS, PLAIN, DNS = 443, 8080, 53
GREASE = 0x2A2A
CIPHERS = (GREASE, 0x1301, 0x1302, 0x1303, 0xC02B, 0xC02F, 0xC02C, 0xC030, 0xCCA9, 0xCCA8, 0xC013, 0xC014, 0x9C, 0x9D, 0x2F, 0x35)
Segment = tuple[int, bytes]
"""Direction (0: from the client) and bytes."""


def _vector(content: bytes, width: int) -> bytes:
    return len(content).to_bytes(width, "big") + content


def _extension(kind: int, content: bytes = b"") -> bytes:
    return struct.pack(">HH", kind, len(content)) + content


def _numbers(*numbers: int) -> bytes:
    return struct.pack(f">{len(numbers)}H", *numbers)


def client_hello(name: str = "www.example.com") -> bytes:
    """Return a record with a ClientHello as browsers send it: 16 ciphers, 16 extensions, 500 bytes."""
    extensions = [
        _extension(GREASE),
        _extension(0, _vector(b"\0" + _vector(name.encode(), 2), 2)),
        _extension(23),
        _extension(0xFF01, b"\0"),
        _extension(10, _vector(_numbers(GREASE, 0x001D, 0x0017, 0x0018), 2)),
        _extension(11, b"\x01\x00"),
        _extension(35),
        _extension(16, _vector(_vector(b"h2", 1) + _vector(b"http/1.1", 1), 2)),
        _extension(5, b"\x01\0\0\0\0"),
        _extension(13, _vector(_numbers(0x0403, 0x0804, 0x0401, 0x0503, 0x0805, 0x0501, 0x0806, 0x0601), 2)),
        _extension(18),
        _extension(51, _vector(_numbers(GREASE, 1) + b"\0" + _numbers(0x001D, 32) + bytes(range(32)), 2)),
        _extension(45, b"\x01\x01"),
        _extension(43, _vector(_numbers(GREASE, 0x0304, 0x0303), 1)),
        _extension(27, b"\x02\x00\x02"),
        _extension(21, bytes(180)),
    ]
    body = b"\x03\x03" + bytes(range(32)) + _vector(bytes(range(32, 64)), 1) + _vector(_numbers(*CIPHERS), 2) + b"\x01\x00"
    return _record(1, body + _vector(b"".join(extensions), 2))


def server_hello() -> bytes:
    """Return a record with a ServerHello of TLS 1.3."""
    extensions = _extension(43, b"\x03\x04") + _extension(51, _numbers(0x001D, 32) + bytes(range(64, 96)))
    return _record(2, b"\x03\x03" + bytes(range(96, 128)) + _vector(bytes(range(32, 64)), 1) + b"\x13\x01\x00" + _vector(extensions, 2))


def _record(kind: int, body: bytes) -> bytes:
    return b"\x16\x03\x01" + _vector(bytes([kind]) + _vector(body, 3), 2)


def tls() -> list[Segment]:
    """Return a TLS 1.3 conversation with some data behind it."""
    spec = b"\x14\x03\x03\x00\x01\x01"
    data = b"\x17\x03\x03" + _vector(bytes(1375), 2)
    return [
        (0, client_hello()),
        (1, (server_hello() + spec + data)[:1380]),
        (1, (server_hello() + spec + data)[1380:] + data[:600]),
        (0, spec + data[:3] + _vector(bytes(69), 2)),
        (0, data[:3] + _vector(bytes(300), 2)),
        (1, data[600:]),
        *[(1, data)] * 6,
    ]


def plain() -> list[Segment]:
    """Return a transfer that is no protocol at all."""
    return [(0, b"\x80GIVE ME" + bytes(60)), *[(1, b"\x80" + bytes(1379))] * 4, (0, bytes(30)), (1, bytes(500))]


def _tcp(segments: list[Segment], service: int) -> list[tuple[int, bytes]]:
    """Return direction and frame of a whole TCP connection; an acknowledgement answers every second data segment."""
    frames = []
    sequence = [1000, 5000]

    def send(side: int, flags: int, payload: bytes = b"") -> None:
        ports = (0, service) if side == 0 else (service, 0)
        header = struct.pack(">HHIIBBHHH", *ports, sequence[side], sequence[1 - side], 0x50, flags, 64240, 0, 0)
        frames.append((side, _ip(side, 6, header + payload)))
        sequence[side] += len(payload) + (flags & 3 != 0)

    send(0, 2)
    send(1, 18)
    send(0, 16)
    for n, (side, payload) in enumerate(segments):
        send(side, 24, payload)
        if n % 2:
            send(1 - side, 16)
    send(0, 17)
    send(1, 17)
    send(0, 16)
    return frames


def _udp(segments: list[Segment], service: int) -> list[tuple[int, bytes]]:
    return [(s, _ip(s, 17, struct.pack(">HHHH", *((0, service) if s == 0 else (service, 0)), 8 + len(p), 0) + p)) for s, p in segments]


def _ip(side: int, protocol: int, content: bytes) -> bytes:
    client, server = bytes(4), bytes([198, 18, 0, 1])
    pair = client + server if side == 0 else server + client
    return bytes.fromhex("02000000000b02000000000a0800") + struct.pack(">BBHHHBBH", 0x45, 0, 20 + len(content), 0, 0x4000, 64, protocol, 0) + pair + content


def write(path: Path, size: int) -> None:
    """Write a capture of about `size` bytes, and beside it what is in it."""
    query = bytes.fromhex("123401000001000000000000") + b"\x03www\x07example\x03com\x00\x00\x01\x00\x01"
    kinds = [_tcp(tls(), HTTPS), _tcp(plain(), PLAIN), _udp([(0, query), (1, query + bytes(60))], DNS)]
    micro, written, wave = 1_700_000_000_000_000, 24, 0
    with path.open("wb") as out:
        out.write(bytes.fromhex("d4c3b2a1 0200 0400 00000000 00000000 00000400 01000000"))
        while written < size:
            for step in range(max(map(len, kinds))):
                for kind, frames in enumerate(kinds):
                    if step < len(frames):
                        written += out.write(_copies(frames[step], 3 * wave + kind, micro).tobytes())
                        micro += TOGETHER
            wave += 1
    counts = {"connections": 3 * TOGETHER * wave, "tls": TOGETHER * wave}
    path.with_name(f"{path.name}.json").write_text(json.dumps({"exact": counts}))


def _copies(template: tuple[int, bytes], wave: int, micro: int) -> np.ndarray:
    """Return the same packet of many conversations, with record headers: clients and times differ."""
    side, frame = template
    rows = np.zeros((TOGETHER, 16 + len(frame)), np.uint8)
    times = micro + np.arange(TOGETHER)
    head = np.stack([times // 1_000_000, times % 1_000_000, np.full(TOGETHER, len(frame)), np.full(TOGETHER, len(frame))], axis=1)
    rows[:, :16] = head.astype("<u4").view(np.uint8)
    rows[:, 16:] = np.frombuffer(frame, np.uint8)
    client = 0x0A000000 + ((wave * TOGETHER + np.arange(TOGETHER)) * 0x9E3779B1 & 0xFFFFFF)
    rows[:, 16 + (26 if side == 0 else 30) :][:, :4] = client.astype(">u4").view(np.uint8).reshape(-1, 4)
    rows[:, 16 + (34 if side == 0 else 36) :][:, :2] = np.frombuffer(struct.pack(">H", 1024 + wave % 60000), np.uint8)
    return rows
