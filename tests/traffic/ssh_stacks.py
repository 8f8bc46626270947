"""SSH conversations between asyncssh's client and server on loopback, as the bytes that went through a relay, in order."""

from __future__ import annotations

import asyncio
import warnings
from dataclasses import dataclass
from functools import cache
from typing import Any

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # of ciphers that cryptography is about to move
    import asyncssh

Segment = tuple[int, bytes]


@dataclass
class Case:
    """One conversation: what was written, what the stacks say about it, what they were told to use."""

    name: str
    segments: list[Segment]
    report: dict[str, Any]
    options: dict[str, Any]


class _Server(asyncssh.SSHServer):
    def begin_auth(self, username: str) -> bool:
        return False


async def _carry(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, side: int, segments: list[Segment]) -> None:
    while data := await reader.read(1 << 16):
        segments.append((side, data))
        writer.write(data)
        await writer.drain()
    writer.close()


async def _talk(name: str, host_key: str, options: dict[str, Any]) -> Case:
    segments: list[Segment] = []
    key = asyncssh.generate_private_key(host_key)
    server = await asyncssh.create_server(_Server, "127.0.0.1", 0, server_host_keys=[key], server_version="Server-1 of a test", **options)
    target = server.sockets[0].getsockname()[1]
    tasks = []

    async def relay(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there_reader, there_writer = await asyncio.open_connection("127.0.0.1", target)
        tasks.append(asyncio.create_task(_carry(there_reader, writer, 1, segments)))
        await _carry(reader, there_writer, 0, segments)

    middle = await asyncio.start_server(relay, "127.0.0.1", 0)
    port = middle.sockets[0].getsockname()[1]
    client = await asyncssh.connect("127.0.0.1", port, known_hosts=None, username="x", client_version="Client-2", config=None, **options)
    words = ("client_version", "server_version", "send_cipher", "recv_cipher", "send_mac", "recv_mac", "send_compression", "recv_compression")
    report = {word: client.get_extra_info(word) for word in words}
    shown = client.get_server_host_key()
    assert shown is not None
    report["fingerprint"], report["host_key_type"] = shown.get_fingerprint(), shown.get_algorithm()
    client.close()
    await client.wait_closed()
    middle.close()
    server.close()
    await asyncio.gather(*tasks)
    return Case(name, segments, report, options)


CASES: dict[str, tuple[str, dict[str, Any]]] = {
    "curve25519, gcm": ("ssh-ed25519", {"kex_algs": ["curve25519-sha256"], "encryption_algs": ["aes256-gcm@openssh.com"]}),
    "nistp256, chacha20": ("ecdsa-sha2-nistp256", {"kex_algs": ["ecdh-sha2-nistp256"], "encryption_algs": ["chacha20-poly1305@openssh.com"]}),
    "group14, ctr": (
        "ssh-rsa", {"kex_algs": ["diffie-hellman-group14-sha256"], "encryption_algs": ["aes128-ctr"], "mac_algs": ["hmac-sha2-256"]},
    ),
    "group exchange, zlib": (
        "ssh-ed25519",
        {"kex_algs": ["diffie-hellman-group-exchange-sha256"], "mac_algs": ["hmac-sha2-512-etm@openssh.com"],
         "encryption_algs": ["aes256-ctr"], "compression_algs": ["zlib@openssh.com"]},
    ),
    "whatever they like": ("ssh-ed25519", {}),
}  # fmt: skip


@cache
def cases() -> dict[str, Case]:
    """The conversations by name, made once per process."""

    async def all_of_them() -> list[Case]:
        return [await _talk(name, key, options) for name, (key, options) in CASES.items()]

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return {case.name: case for case in asyncio.run(all_of_them())}
