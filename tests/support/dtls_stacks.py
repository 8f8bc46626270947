"""DTLS conversations between two OpenSSL ends (pyOpenSSL), as the datagrams that each side wrote, in order; and, for
DTLS 1.3, which OpenSSL does not speak yet, the hellos of TLS 1.3 in DTLS's records.
"""

from __future__ import annotations

import random
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from oracle.tls import numbers
from traffic.certificates import Authority

from support import tls_stacks

Datagram = tuple[int, bytes]
V10, V12, V13 = 0xFEFF, 0xFEFD, 0xFEFC
NAME = "dtls.example.com"


@dataclass
class Case:
    """A conversation and what its stacks say."""

    name: str
    datagrams: list[Datagram]
    version: int
    cipher: str
    sni: str | None
    resumed: bool = False
    cookie: bool = False
    chain: tuple[bytes, ...] = ()
    established: bool = True


def records(data: bytes) -> Iterator[bytes]:
    """Split what an end has written; it writes whole records."""
    while data:
        end = 13 + int.from_bytes(data[11:13], "big")
        yield data[:end]
        data = data[end:]


def _context(identity: Any, authority: Authority, version: int, **settings: Any) -> Any:
    from OpenSSL import SSL

    context = SSL.Context(SSL.DTLS_METHOD)
    context.set_min_proto_version(version)
    context.set_max_proto_version(version)
    context.set_cipher_list(settings.get("ciphers", b"DEFAULT:@SECLEVEL=0"))
    if identity is not None:
        context.use_certificate_chain_file(str(identity.chain_file))
        context.use_privatekey_file(str(identity.key_file))
        context.set_cookie_generate_callback(lambda _end: b"a cookie of the server")
        context.set_cookie_verify_callback(lambda _end, cookie: cookie == b"a cookie of the server")
        context.set_session_id(b"dtls")
    if not settings.get("tickets", True):
        context.set_options(SSL.OP_NO_TICKET)
    if "alpn" in settings:
        context.set_alpn_protos(settings["alpn"])
    return context


def shake(rng: random.Random, client: Any, server: Any, *, cookie: bool = False, mtu: int = 1200, data: bool = True) -> list[Datagram]:
    """Let two ends shake hands, each datagram of one or more records; some are sent twice."""
    from OpenSSL import SSL

    datagrams: list[Datagram] = []
    ends = (client, server)
    client.set_connect_state()
    server.set_accept_state()
    for end in ends:
        end.set_ciphertext_mtu(mtu)

    def carry(side: int) -> None:
        try:
            written = ends[side].bio_read(1 << 17)
        except SSL.WantReadError:
            return
        parts = [*records(written)]
        while parts:
            count = rng.choice((1, 1, 2, 4, 9))
            datagram = b"".join(parts[:count])
            parts = parts[count:]
            datagrams.append((side, datagram))
            if rng.random() < 0.15:
                datagrams.append((side, datagram))  # a retransmission
            ends[1 - side].bio_write(datagram)
            attempt(1 - side)

    listening, failed = cookie, [False, False]

    def attempt(side: int) -> None:
        nonlocal listening
        try:
            if side and listening:
                server.DTLSv1_listen()
                listening = False
            ends[side].do_handshake()
        except SSL.WantReadError:
            pass
        except SSL.Error:
            failed[side] = True

    attempt(0)
    for _ in range(12):
        carry(0)
        carry(1)
    if data and not any(failed):
        client.send(b"hello")
        carry(0)
        server.send(b"hello yourself")
        carry(1)
    return datagrams


def conversations(directory: Path) -> list[Case]:
    """Return full, resumed, verified and refused handshakes of DTLS 1.0 and 1.2, and the hellos of 1.3."""
    from OpenSSL import SSL

    rng = random.Random(4)
    authority = Authority(directory)
    identity = authority.issue("dtls.example.com")
    found: list[Case] = []
    alive = []  # an end that is freed without a good-bye forgets its session

    def talk(name: str, client_context: Any, server_context: Any, *, session: Any = None, sni: str | None = NAME, **more: Any) -> Any:
        client, server = SSL.Connection(client_context, None), SSL.Connection(server_context, None)
        if sni:
            client.set_tlsext_host_name(sni.encode())
        if session:
            client.set_session(session)
        alive.append(server)
        datagrams = shake(rng, client, server, **more)
        versions = {"DTLSv1": V10, "DTLSv1.2": V12}
        resumed = "resumed" in name
        case = Case(name, datagrams, versions[client.get_protocol_version_name()], client.get_cipher_name() or "", sni, resumed,
                    more.get("cookie", False), () if resumed else identity.chain)  # fmt: skip
        found.append(case)
        return client

    for version, name in ((V10, "1.0"), (V12, "1.2")):
        for tickets in (True, False):
            clients, servers = _context(None, authority, version, tickets=tickets), _context(identity, authority, version, tickets=tickets)
            how = "ticket" if tickets else "id"
            first = talk(f"{name} {how}", clients, servers, cookie=tickets)
            talk(f"{name} {how} resumed", clients, servers, session=first.get_session())
        talk(f"{name} small", _context(None, authority, version, alpn=[b"webrtc", b"c-webrtc"]), _context(identity, authority, version), mtu=256, cookie=True)
        talk(f"{name} no name", _context(None, authority, version), _context(identity, authority, version), sni=None)
    refused = talk("refused", _context(None, authority, V12), _context(identity, authority, V12, ciphers=b"DHE-RSA-AES128-SHA"), data=False)
    assert refused.get_cipher_name() is None
    found[-1].chain, found[-1].established = (), False
    return [*found, *_of_13()]


def _of_13() -> list[Case]:
    """Hellos of OpenSSL's TLS 1.3 in records of DTLS 1.3, cut in fragments."""
    rng, found = random.Random(13), []
    for name in ("13 full", "13 resumed", "13 retry"):
        case = tls_stacks.cases()[name]
        written: dict[int, bytes] = {0: b"", 1: b""}
        datagrams: list[Datagram] = []
        count = [0, 0]
        for side, data in case.segments:
            written[side] += data
            for kind, body in _hellos(written, side):
                datagrams += [(side, d) for d in _wrapped(rng, kind, count[side], as_dtls(kind, body))]
                count[side] += 1
        datagrams += [(side, bytes.fromhex("2f 0001 0020") + bytes(32)) for side in (1, 0)]
        found.append(Case(name.replace("13", "1.3"), datagrams, V13, case.client.cipher()[0], case.report["sni"], case.report["resumed"]))  # type: ignore[index]
    return found


def _hellos(written: dict[int, bytes], side: int) -> Iterator[tuple[int, bytes]]:
    """Take whole records out of what a side has written; give the hellos in them."""
    while len(written[side]) >= 5 and len(written[side]) >= (end := 5 + int.from_bytes(written[side][3:5], "big")):
        record, written[side] = written[side][:end], written[side][end:]
        if record[0] == 22:
            assert end == 9 + int.from_bytes(record[6:9], "big"), "one message in one record"
            yield record[5], record[9:]


def as_dtls(kind: int, body: bytes) -> bytes:
    """A hello of TLS 1.3 as DTLS 1.3 has it: version numbers, a cookie that is empty."""
    at = 35 + body[34]
    if kind == 1:
        body = body[:at] + b"\0" + body[at:]
    body = b"\xfe\xfd" + body[2:]
    versions = bytes.fromhex("002b 0002 0304") if kind == 2 else None
    if versions:
        assert versions in body
        return body.replace(versions, bytes.fromhex("002b 0002 fefc"))
    at = body.index(bytes.fromhex("002b 00"))
    listed = body[at + 5 : at + 5 + body[at + 4]]
    assert 0x0304 in numbers(listed)
    ours = b"".join({0x0304: b"\xfe\xfc", 0x0303: b"\xfe\xfd"}.get(v, v.to_bytes(2, "big")) for v in numbers(listed))
    return body[: at + 5] + ours + body[at + 5 + len(ours) :]


def _wrapped(rng: random.Random, kind: int, number: int, body: bytes) -> list[bytes]:
    """A message in fragments, out of order, overlapping."""
    places = [0, *sorted(rng.sample(range(1, len(body)), rng.choice((0, 1, 3)))), len(body)]
    found = []
    for a, b in pairwise(places):
        a = max(0, a - rng.choice((0, 0, 7)))
        head = bytes([kind]) + len(body).to_bytes(3, "big") + number.to_bytes(2, "big") + a.to_bytes(3, "big") + (b - a).to_bytes(3, "big")
        payload = head + body[a:b]
        found.append(bytes.fromhex("16 fefd 0000") + rng.randrange(1 << 16).to_bytes(6, "big") + len(payload).to_bytes(2, "big") + payload)
    rng.shuffle(found)
    return found


@cache
def cases() -> dict[str, Case]:
    """The conversations by name, made once per process."""
    with TemporaryDirectory() as directory, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return {case.name: case for case in conversations(Path(directory))}
