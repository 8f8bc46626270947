"""Hellos the obvious way: slices, no addresses. Lengths that promise too much are cut, as in the kernels."""

from __future__ import annotations

import struct
from typing import Any

from oracle import ja

SHORT_DRAFTS = range(0x7F0E, 0x7F16)


class Cursor:
    """Reads from the front of some bytes; a vector that is cut is given as far as it goes."""

    def __init__(self, data: bytes) -> None:
        self.data = data

    def take(self, count: int) -> bytes:
        found, self.data = self.data[:count], self.data[count:]
        return found

    def number(self, size: int) -> int:
        found = self.take(size)
        return int.from_bytes(found, "big") if len(found) == size else 0

    def vector(self, size: int) -> bytes:
        if len(self.data) < size:
            return b""
        return self.take(self.number(size))


def numbers(data: bytes) -> list[int]:
    return list(struct.unpack(f">{len(data) // 2}H", data[: len(data) // 2 * 2]))


def extensions(data: bytes) -> list[tuple[int, bytes]]:
    cursor, found = Cursor(data), []
    while len(cursor.data) >= 4 and len(found) < 1024:
        found.append((cursor.number(2), cursor.vector(2)))
    return found


def first(found: list[tuple[int, bytes]], kind: int) -> bytes:
    return next((data for k, data in found if k == kind), b"")


def names(data: bytes) -> list[bytes]:
    cursor, found = Cursor(data), []
    while cursor.data and len(found) < 64:
        found.append(cursor.vector(1))
    return found


def client_hello(body: bytes, transport: str = "t") -> dict[str, Any]:
    cursor = Cursor(body)
    version, random = cursor.number(2), cursor.take(32)
    session_id, ciphers, compressions = cursor.vector(1), numbers(cursor.vector(2)), cursor.vector(1)
    found = extensions(cursor.vector(2))
    types = [kind for kind, _ in found]
    groups = numbers(Cursor(first(found, 10)).vector(2))
    formats = Cursor(first(found, 11)).vector(1)
    algorithms = numbers(Cursor(first(found, 13)).vector(2))
    protocols = names(Cursor(first(found, 16)).vector(2))
    versions = numbers(Cursor(first(found, 43)).vector(1))
    name_list = Cursor(Cursor(first(found, 0)).vector(2))
    is_name = len(name_list.data) >= 3 and name_list.number(1) == 0
    text = ja.ja3(version, ciphers, types, groups, formats)
    return {
        "client_version": version,
        "client_random": random.hex().encode(),
        "client_session_id": session_id.hex().encode() or None if len(session_id) <= 32 else None,
        "client_ciphers": ciphers,
        "client_compression_algs": compressions or None,
        "client_extensions": types,
        "client_supported_groups": groups,
        "client_signature_algs": algorithms,
        "client_alpn_protocols": protocols,
        "sni": name_list.vector(2) or None if is_name else None,
        "ja3_str": text.encode(),
        "ja3_hash": ja.md5(text).encode(),
        "ja4": ja.ja4(version, versions, ciphers, types, protocols, algorithms, transport).encode(),
    }


def server_hello(body: bytes) -> dict[str, Any]:
    cursor = Cursor(body)
    version, random = cursor.number(2), cursor.take(32)
    is_short = version in SHORT_DRAFTS
    session_id = b"" if is_short else cursor.vector(1)
    cipher = cursor.number(2)
    compression = 0 if is_short else cursor.number(1)
    found = extensions(cursor.vector(2))
    types = [kind for kind, _ in found]
    text = ja.ja3s(version, cipher, types)
    return {
        "server_version": version,
        "server_random": random.hex().encode(),
        "server_session_id": session_id.hex().encode() or None if len(session_id) <= 32 else None,
        "cipher_suite": cipher,
        "compression_alg": compression,
        "server_extensions": types,
        "version": Cursor(first(found, 43)).number(2) or version,
        "ja3s_str": text.encode(),
        "ja3s_hash": ja.md5(text).encode(),
    }


def message(kind: int, body: bytes) -> bytes:
    """A handshake message."""
    return bytes([kind]) + len(body).to_bytes(3, "big") + body


def record(content: int, data: bytes, version: int = 0x0303) -> bytes:
    """A record."""
    return struct.pack(">BHH", content, version, len(data)) + data


def bodies(stream: bytes) -> list[tuple[int, bytes]]:
    """Handshake messages in clear of one direction's bytes."""
    cursor, shaking = Cursor(stream), b""
    while len(cursor.data) >= 5:
        content, _, data = cursor.number(1), cursor.number(2), cursor.vector(2)
        if content != 22:
            break
        shaking += data
    cursor, found = Cursor(shaking), []
    while len(cursor.data) >= 4:
        found.append((cursor.number(1), cursor.vector(3)))
    return found
