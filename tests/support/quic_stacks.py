"""QUIC conversations between two aioquic ends in memory, as the datagrams that each side sent, in order."""

from __future__ import annotations

import ssl
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from aioquic.buffer import Buffer
from aioquic.quic.configuration import QuicConfiguration
from aioquic.quic.connection import QuicConnection
from aioquic.quic.packet import (
    QuicProtocolVersion,
    encode_quic_retry,
    encode_quic_version_negotiation,
    pull_quic_header,
)
from traffic.certificates import Authority

CLIENT, SERVER = ("192.0.2.1", 40000), ("198.51.100.1", 443)
V1, V2 = int(QuicProtocolVersion.VERSION_1), int(QuicProtocolVersion.VERSION_2)


@dataclass
class Case:
    """One conversation and its ends."""

    name: str
    segments: list[tuple[int, bytes]]
    client: QuicConnection
    server: QuicConnection
    marks: set[str] = field(default_factory=set)


def talk(
    name: str, client_options: dict[str, Any], server_options: dict[str, Any], identity: Any, *, retry: bool = False, refuse: bool = False,
    tickets: dict[bytes, Any] | None = None, keep: Callable[[Any], None] | None = None,
) -> Case:  # fmt: skip
    """Let two ends shake hands, say something and close."""
    configuration = QuicConfiguration(is_client=True, verify_mode=ssl.CERT_NONE, **client_options)
    client = QuicConnection(configuration=configuration, session_ticket_handler=keep)
    of_server = QuicConfiguration(is_client=False, **server_options)
    of_server.load_cert_chain(identity.chain_file, identity.key_file)
    segments: list[tuple[int, bytes]] = []
    client.connect(SERVER, now=0.0)
    server: QuicConnection | None = None
    original, retry_id, refused = client.original_destination_connection_id, None, not refuse
    now, said = 0.0, False
    for _ in range(12):
        now += 0.01
        for data, _ in client.datagrams_to_send(now=now):
            segments.append((0, data))
            if server is None:
                head = pull_quic_header(Buffer(data=data), host_cid_length=8)
                if not refused:
                    refused = True
                    answer = encode_quic_version_negotiation(head.destination_cid, head.source_cid, [V1])
                    segments.append((1, answer))
                    client.receive_datagram(answer, SERVER, now)
                    break
                if retry and retry_id is None:
                    retry_id = b"retry id"
                    answer = encode_quic_retry(head.version, retry_id, head.source_cid, head.destination_cid, b"a token")
                    segments.append((1, answer))
                    client.receive_datagram(answer, SERVER, now)
                    break
                server = QuicConnection(
                    configuration=of_server, original_destination_connection_id=original, retry_source_connection_id=retry_id,
                    session_ticket_fetcher=(lambda label: (tickets or {}).get(label)),
                    session_ticket_handler=(lambda ticket: tickets.__setitem__(ticket.ticket, ticket) if tickets is not None else None),
                )  # fmt: skip
            server.receive_datagram(data, CLIENT, now)
        if server is not None:
            for data, _ in server.datagrams_to_send(now=now):
                segments.append((1, data))
                client.receive_datagram(data, SERVER, now)
            if client.tls.alpn_negotiated and not said:
                said = True
                client.send_stream_data(0, b"GET /", end_stream=True)
    client.close()
    segments += [(0, data) for data, _ in client.datagrams_to_send(now=now)]
    assert server is not None and said, name
    return Case(name, segments, client, server)


@cache
def cases() -> dict[str, Case]:
    """The conversations by name, made once per process."""
    with TemporaryDirectory() as directory:
        identity = Authority(Path(directory)).issue("www.example.com")
        web = {"alpn_protocols": ["h3", "hq-interop"], "server_name": "www.example.com"}
        server = {"alpn_protocols": ["h3"]}
        found = []

        def add(name: str, *marks: str, client: dict[str, Any] | None = None, of_server: dict[str, Any] | None = None, **more: Any) -> Case:
            made = talk(name, web | (client or {}), server | (of_server or {}), identity, **more)
            made.marks |= set(marks)
            found.append(made)
            return made

        add("v1")
        add("v2", client={"supported_versions": [V2], "original_version": V2}, of_server={"supported_versions": [V2]})
        add("v1 answered in v2", client={"supported_versions": [V2, V1], "original_version": V1}, of_server={"supported_versions": [V2, V1]})
        add("retry", "retry", retry=True)
        add("retry v2", "retry", client={"supported_versions": [V2], "original_version": V2}, of_server={"supported_versions": [V2]}, retry=True)
        add("refused version", "negotiated", client={"supported_versions": [V1, V2], "original_version": V2}, of_server={"supported_versions": [V1]}, refuse=True)
        add("big hello", "big", client={"quantum_readiness_test": True})
        add("big hello, retry", "big", "retry", client={"quantum_readiness_test": True}, retry=True)
        add("long ids", client={"connection_id_length": 20}, of_server={"connection_id_length": 18})
        add("no id", client={"connection_id_length": 0})
        add("no name", client={"server_name": None})
        tickets: dict[bytes, Any] = {}
        kept: list[Any] = []
        add("first", tickets=tickets, keep=kept.append)
        add("resumed", "resumed", client={"session_ticket": kept[-1]}, tickets=tickets)
        return {case.name: case for case in found}
