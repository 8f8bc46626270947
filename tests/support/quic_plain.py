"""Plaintexts of Initial packets with every frame that may stand there."""

from __future__ import annotations

import struct

from oracle import quic
from oracle.tls import message


def _extension(kind: int, data: bytes) -> bytes:
    return struct.pack(">HH", kind, len(data)) + data


_BLOCK = (
    _extension(0, b"\0\x0e\0\0\x0bexample.com") + _extension(16, b"\0\x03\x02h3") + _extension(43, b"\x02\x03\x04")
    + _extension(10, b"\0\x02\0\x1d") + _extension(57, bytes.fromhex("010480007530040480100000 0e0102"))
)  # fmt: skip
CLIENT_HELLO = message(1, b"\x03\x03" + bytes(32) + b"\0\0\x04\x13\x01\x13\x02\x01\0" + struct.pack(">H", len(_BLOCK)) + _BLOCK)
SERVER_HELLO = message(2, b"\x03\x03" + bytes(32) + b"\0\x13\x01\0\0\x06" + _extension(43, b"\x03\x04"))
_ACK, _ACK_ECN, _CLOSE = b"\x02\x05\0\x01\x02\x01\0", b"\x03\x05\0\0\x02\x01\x01\x01", b"\x1c\x0b\x06\x03why"


def _pieces(hello: bytes, *places: int) -> list[bytes]:
    edges = [0, *places, len(hello)]
    return [quic.crypto_frame(a, hello[a:b]) for a, b in zip(edges, edges[1:])]  # noqa: RUF007


_CLIENT = _pieces(CLIENT_HELLO, 30, 31, 90)
CLIENT_FRAMES = _CLIENT[2] + b"\x01" + _CLIENT[0] + bytes(30) + _CLIENT[3] + _ACK + _CLIENT[1]
SERVER_FRAMES = _ACK_ECN + b"".join(_pieces(SERVER_HELLO, 10)) + bytes(12) + _CLOSE
