"""The TLS session parser against real OpenSSL ends, and what those do not produce, by hand."""

from __future__ import annotations

import hashlib
import struct
from typing import Any

import pytest
from oracle import tls as oracle
from oracle.tls import message, record
from support.sessions import Session, parser
from support.tls_stacks import Case, cases

from retina_jit.datatypes.tls_handshake import (
    DhParams,
    DhPublic,
    EcdhParams,
    EcdhPublic,
    RsaSecret,
    TlsHandshake,
)
from retina_jit.parsers.iana import tls as iana
from retina_jit.parsers.session.contract import NOT_OURS, READY, STOP
from retina_jit.status import Probe

VERSIONS = {"TLSv1": 0x0301, "TLSv1.1": 0x0302, "TLSv1.2": 0x0303, "TLSv1.3": 0x0304}
NAMES = sorted(cases())
CCS = record(20, b"\x01")
DATA = record(23, bytes(40))
FINISHED = record(22, bytes.fromhex("e5") + bytes(39))
CLIENT, SERVER = 0, 1


def view(session: Session) -> TlsHandshake:
    return TlsHandshake(*session.event())


def hello(kind: int, **more: Any) -> bytes:
    """A small ClientHello (1) or ServerHello (2) as a record; `tls13` puts it into supported_versions."""
    extensions = b""
    if more.get("sni"):
        name = struct.pack(">BH", 0, len(more["sni"])) + more["sni"]
        extensions += struct.pack(">HHH", 0, len(name) + 2, len(name)) + name
    if more.get("tls13") and kind == 2:
        extensions += bytes.fromhex("002b00020304")
    extensions += more.get("extensions", b"")
    middle = bytes.fromhex("0004 1301c02f 0100") if kind == 1 else bytes.fromhex("c02f 00")
    body = bytes.fromhex("0303") + more.get("random", bytes(32)) + b"\x00" + middle
    if extensions:
        body += struct.pack(">H", len(extensions)) + extensions
    return record(22, message(kind, body))


RETRY = hello(2, tls13=True, random=hashlib.sha256(b"HelloRetryRequest").digest(), extensions=bytes.fromhex("003300020018"))
FLIGHT = record(22, message(11, b"\0\0\0") + message(12, bytes(40)) + message(14, b""))
CLIENT_FLIGHT = record(22, message(16, bytes(34)))


# ---------------------------------------------------------------------------------------------------------- real stacks


@pytest.mark.parametrize("name", NAMES)
def test_agrees_with_the_stacks(name: str) -> None:
    case: Case = cases()[name]
    report = case.report
    with parser("tls").run(case.segments) as session:
        assert session.delivered == 1
        assert session.stopped, "it waited for the end of the connection"
        tls = view(session)
        assert tls.sni == (report["sni"] or "")
        if report["completed"]:
            assert tls.version == VERSIONS[case.client.version() or ""]
            assert tls.cipher_suite == report["cipher_id"]
        if tls.has_server_hello and tls.version < 0x0304:
            assert tls.server_alpn_protocol == (report["alpn"] or "")
        assert list(tls.client_alpn_protocols) == list(case.alpn)
        assert tls.is_resumption == report["resumed"] == session["is_resumption"]
        assert tls.hello_retry_request == ("retry" in case.marks) == session["hello_retry_request"]
        assert tls.server_certificates == list(case.chain)
        assert tls.client_certificates == list(case.client_chain)
        assert session["certificate_count"] == len(case.chain)
        assert session["certificate"] == (case.chain[0] if case.chain else None)
    assert parser("tls").used == 0


@pytest.mark.parametrize("name", NAMES)
def test_agrees_with_the_plain_reading(name: str) -> None:
    streams = [b"".join(data for side, data in cases()[name].segments if side == d) for d in (CLIENT, SERVER)]
    expected = oracle.client_hello(next(body for kind, body in oracle.bodies(streams[0]) if kind == 1))
    hellos = [body for kind, body in oracle.bodies(streams[1]) if kind == 2]
    if hellos:
        expected["version"] = 0
        # After a retry the ServerHello stands behind a ChangeCipherSpec, where the plain reading ends.
        expected |= oracle.server_hello(hellos[0]) if "retry" not in name else {"version": 0x0304}
    else:
        expected |= {"version": expected["client_version"], "server_version": 0, "ja3s_hash": None}
    with parser("tls").run(cases()[name].segments) as session:
        found = session.fields()
        assert {key: found[key] for key in expected} == expected
        tls = view(session)
        assert tls.ja3_str.encode() == expected["ja3_str"]
        assert tls.ja3_hash.encode() == expected["ja3_hash"]
        assert tls.ja4.encode() == expected["ja4"]
        assert tls.ja3s_str.encode() == (found["ja3s_str"] or b"")
        assert tls.cipher.encode() == (found["cipher"] or b"")


def test_alerts_in_clear() -> None:
    def alerts(name: str) -> list[tuple[str, str, str]]:
        with parser("tls").run(cases()[name].segments) as session:
            return [tuple(a) for a in view(session).alerts]

    assert alerts("12 no version") == [("server", "fatal", "protocol_version")]
    assert alerts("12 no cipher") == [("server", "fatal", "handshake_failure")]
    assert alerts("12 untrusted") == [("client", "fatal", "unknown_ca")]
    assert alerts("13 refused name") == [("server", "fatal", "unrecognized_name")]
    assert alerts("13 full") == []


@pytest.mark.parametrize(
    ("name", "server", "client"),
    [
        ("12 full", EcdhParams, EcdhPublic),
        ("12 dhe", DhParams, DhPublic),
        ("10 rsa", type(None), RsaSecret),
        ("13 full", type(None), type(None)),
    ],
)
def test_key_exchanges(name: str, server: type, client: type) -> None:
    with parser("tls").run(cases()[name].segments) as session:
        tls = view(session)
        ours, theirs = tls.client_key_exchange, tls.server_key_exchange
        assert isinstance(theirs, server)
        assert isinstance(ours, client)
        if isinstance(theirs, EcdhParams):
            assert theirs.curve == "x25519"
            assert len(theirs.kx_data) == len(ours.kx_data) == 32
        if isinstance(theirs, DhParams):
            assert len(theirs.prime) == len(theirs.kx_data) == 256
            assert theirs.generator == b"\x02"
            assert len(ours.kx_data) == 256
        if isinstance(ours, RsaSecret):
            assert len(ours.encrypted_pms) == 256


# ------------------------------------------------------------------------------------------------- when a session ends


def flags_of(*segments: tuple[int, bytes]) -> list[int]:
    session = parser("tls").session()
    found = [session.feed(*segment) for segment in segments]
    session.release()
    return found


def test_tls13_ends_at_the_server_hello_without_ccs() -> None:
    assert flags_of((CLIENT, hello(1)), (SERVER, hello(2, tls13=True))) == [0, READY | STOP]


def test_tls12_full_ends_when_both_have_changed() -> None:
    steps = [(CLIENT, hello(1)), (SERVER, hello(2)), (SERVER, FLIGHT), (CLIENT, CLIENT_FLIGHT), (CLIENT, CCS + FINISHED), (SERVER, CCS)]
    assert flags_of(*steps) == [0, 0, 0, 0, 0, READY | STOP]


def test_ticket_resumption_ends_at_the_servers_change() -> None:
    ticket = record(22, message(4, bytes(100)))
    assert flags_of((CLIENT, hello(1)), (SERVER, hello(2) + ticket), (SERVER, CCS)) == [0, 0, READY | STOP]


def test_retry_waits_for_both_second_hellos() -> None:
    steps = [(CLIENT, hello(1)), (SERVER, RETRY + CCS), (CLIENT, CCS + hello(1)), (SERVER, hello(2, tls13=True))]
    assert flags_of(*steps) == [0, 0, 0, READY | STOP]


def test_retry_with_early_data_in_between() -> None:
    steps = [(CLIENT, hello(1) + CCS + DATA), (SERVER, RETRY + CCS), (CLIENT, hello(1)), (SERVER, hello(2, tls13=True) + DATA)]
    assert flags_of(*steps) == [0, 0, 0, READY | STOP]


def test_early_data_does_not_end_it() -> None:
    assert flags_of((CLIENT, hello(1) + CCS + DATA * 3), (SERVER, hello(2, tls13=True))) == [0, READY | STOP]


def test_first_hello_counts_after_a_retry() -> None:
    steps = [(CLIENT, hello(1, sni=b"one.example")), (SERVER, RETRY), (CLIENT, hello(1, sni=b"two.example")), (SERVER, hello(2, tls13=True))]
    with parser("tls").run(steps) as session:
        assert session["sni"] == b"one.example"
        assert view(session).retry_group == "secp384r1"


def test_fatal_alert_ends_it() -> None:
    assert flags_of((CLIENT, hello(1)), (SERVER, record(21, b"\x02\x28"))) == [0, READY | STOP]


def test_warning_does_not_end_it() -> None:
    steps = [(CLIENT, hello(1)), (SERVER, record(21, b"\x01\x70")), (SERVER, hello(2, tls13=True))]
    with parser("tls").run(steps) as session:
        assert [tuple(a) for a in view(session).alerts] == [("server", "warning", "unrecognized_name")]
        assert session["version"] == 0x0304


def test_encrypted_alerts_are_no_alerts() -> None:
    steps = [(CLIENT, hello(1)), (SERVER, hello(2) + CCS + record(21, b"\x02\x28")), (CLIENT, CCS)]
    with parser("tls").run(steps) as session:
        assert session["alerts"] == []


def test_application_data_on_both_sides_ends_what_has_begun_before() -> None:
    assert flags_of((SERVER, hello(2) + DATA), (CLIENT, DATA)) == [0, READY | STOP]
    assert flags_of((SERVER, DATA), (CLIENT, DATA)) == [0, STOP]


def test_one_sided_traffic_is_given_up_after_some_data() -> None:
    session = parser("tls").session()
    session.feed(SERVER, hello(2) + CCS)
    answers = [session.feed(SERVER, record(23, bytes(16000))) for _ in range(3)]
    assert answers == [0, 0, READY | STOP]
    session.release()


@pytest.mark.parametrize("side", [CLIENT, SERVER])
def test_one_side_alone_is_delivered_at_the_end(side: int) -> None:
    for case in cases().values():
        with parser("tls").run([s for s in case.segments if s[0] == side]) as session:
            tls = view(session)
            assert session.delivered == (side == CLIENT or tls.has_server_hello)
            assert (tls.has_client_hello, tls.has_server_hello and side == SERVER) in ((True, False), (False, True), (False, False))


def test_nothing_is_delivered_twice() -> None:
    session = parser("tls").session()
    session.feed(CLIENT, hello(1))
    session.feed(SERVER, hello(2, tls13=True))
    assert parser("tls").call("finish", session.address, parser("tls").arena_address) == 0
    session.release()
    session.release()
    assert parser("tls").used == 0


def test_roles_follow_the_hellos() -> None:
    """Taken up in its middle, a connection may be known the wrong way round."""
    for case in cases().values():
        with parser("tls").run(case.segments) as right, parser("tls").run([(1 - d, b) for d, b in case.segments]) as wrong:
            a, b = view(right).to_dict(raw=True), view(wrong).to_dict(raw=True)
            assert a == b


# ------------------------------------------------------------------------------------------------------------- defects


def test_directions_do_not_share_a_buffer() -> None:
    """Retina's TLS parser keeps the rest of an incomplete record in one buffer for both directions (6.1)."""
    ours, theirs = hello(1, sni=b"a.example"), hello(2)
    steps = [(CLIENT, ours[:20]), (SERVER, theirs[:11]), (CLIENT, ours[20:]), (SERVER, theirs[11:] + CCS), (CLIENT, CCS)]
    with parser("tls").run(steps) as session:
        assert (session["sni"], session["server_version"], session.stopped) == (b"a.example", 0x0303, True)


@pytest.mark.parametrize("size", [1, 2, 3, 4, 5, 7, 50])
def test_messages_span_records(size: int) -> None:
    """Retina loses handshake messages that span records (6.1)."""
    data = hello(1, sni=b"long.example")[5:] + b""
    stream = b"".join(record(22, data[n : n + size]) for n in range(0, len(data), size))
    with parser("tls").run([(CLIENT, stream), (SERVER, hello(2, tls13=True))]) as session:
        assert session["sni"] == b"long.example"


def test_ssl3_server_hello() -> None:
    """Retina's TLS parser refuses the ServerHello of SSL 3.0 (6.1)."""
    body = bytes.fromhex("0300") + bytes(32) + bytes.fromhex("00 0005 00")
    with parser("tls").run([(CLIENT, hello(1)), (SERVER, record(22, message(2, body), 0x0300))]) as session:
        assert (session["version"], session["cipher"]) == (0x0300, b"TLS_RSA_WITH_RC4_128_SHA")


def test_nonsense_in_an_extension_hides_no_other_one() -> None:
    """Retina's list of extensions ends at the first one that does not parse (4.5)."""
    bad = bytes.fromhex("000a 0003 ffff00") + bytes.fromhex("000d 0001 07")
    with parser("tls").run([(CLIENT, hello(1, extensions=bad + bytes.fromhex("0010 0005 0003 02 6832") + b"\xff\x01\x00\x01\x00"))]) as session:
        assert session["client_extensions"] == [10, 13, 16, 0xFF01]
        assert session["client_alpn_protocols"] == [b"h2"]


def test_longest_encrypted_record_is_no_error() -> None:
    """Retina takes records above 16384 bytes for errors, although encrypted ones may be longer (6.1)."""
    steps = [(CLIENT, hello(1)), (SERVER, hello(2) + FLIGHT), (CLIENT, CLIENT_FLIGHT + CCS + record(22, bytes(16384 + 2048))), (SERVER, CCS)]
    assert flags_of(*steps) == [0, 0, 0, READY | STOP]


@pytest.mark.parametrize("draft", [0x7F0E, 0x7F12, 0x7F15])
def test_server_hello_of_early_drafts(draft: int) -> None:
    body = struct.pack(">H", draft) + bytes(32) + bytes.fromhex("1301 0004 0033 0000")
    assert flags_of((CLIENT, hello(1)), (SERVER, record(22, message(2, body)))) == [0, READY | STOP]
    with parser("tls").run([(CLIENT, hello(1)), (SERVER, record(22, message(2, body)))]) as session:
        assert (session["cipher_suite"], session["server_extensions"], session["version"]) == (0x1301, [0x33], draft)


# -------------------------------------------------------------------------------------------------------- SSL 2.0 format


def old_hello(version: int = 0x0301) -> bytes:
    ciphers, challenge = bytes.fromhex("000004 010080 000005 0000ff"), bytes(range(16))
    rest = struct.pack(">BHHHH", 1, version, len(ciphers), 0, len(challenge)) + ciphers + challenge
    return struct.pack(">H", 0x8000 | len(rest)) + rest


def test_hello_in_ssl2_format() -> None:
    steps = [(CLIENT, old_hello()), (SERVER, hello(2) + FLIGHT), (CLIENT, CLIENT_FLIGHT + CCS), (SERVER, CCS)]
    assert flags_of(*steps) == [0, 0, 0, READY | STOP]
    with parser("tls").run(steps) as session:
        assert session["client_version"] == 0x0301
        assert session["client_ciphers"] == [4, 5, 0xFF]
        assert session["client_random"] == bytes(16).hex().encode() + bytes(range(16)).hex().encode()
        assert session["client_compression_algs"] == b"\x00"
        assert session["client_extensions"] == []
        assert session["ja3_hash"] is session["ja3_str"] is session["ja4"] is None
        assert view(session).to_dict()["ja3_hash"] is None


def test_hello_in_ssl2_format_without_an_answer_is_not_delivered() -> None:
    """Skype begins so and goes on with noise."""
    with parser("tls").run([(CLIENT, old_hello()), (CLIENT, b"noise, noise"), (SERVER, b"more noise")]) as session:
        assert session.delivered == 0


# ---------------------------------------------------------------------------------------------------- gaps and nonsense


def test_gap_inside_encrypted_data_loses_nothing() -> None:
    big = record(22, bytes(1000))
    session = parser("tls").session()
    session.feed(CLIENT, hello(1) + CCS + big[:100])
    session.feed(CLIENT, big[400:], 300)
    assert session.feed(SERVER, hello(2) + CCS) == READY | STOP
    assert not view(session).incomplete
    session.release()


def test_gap_inside_a_certificate() -> None:
    flight = record(22, message(11, bytes(3000)) + message(12, bytes(40)) + message(14, b""))
    session = parser("tls").session()
    session.feed(CLIENT, hello(1, sni=b"gap.example"))
    session.feed(SERVER, hello(2) + flight[:500])
    session.feed(SERVER, flight[1500:], 1000)
    assert session.feed(CLIENT, CLIENT_FLIGHT + CCS) == READY | STOP
    tls = view(session)
    assert (tls.sni, tls.has_server_hello, tls.server_certificates, tls.incomplete) == ("gap.example", True, [], True)
    session.release()


def test_gap_that_ends_at_a_record() -> None:
    session = parser("tls").session()
    session.feed(CLIENT, hello(1)[:30])
    session.feed(CLIENT, CCS, 200)
    session.feed(SERVER, hello(2) + FLIGHT)
    assert session.feed(SERVER, CCS) == READY | STOP
    assert not view(session).has_client_hello
    session.release()


def test_gap_in_the_client_hello_still_gives_the_server() -> None:
    session = parser("tls").session()
    session.feed(CLIENT, hello(1)[:30])
    session.feed(CLIENT, hello(1)[35:], 5)
    assert session.feed(SERVER, hello(2, tls13=True)) == READY | STOP
    assert view(session).version == 0x0304
    session.release()


def test_short_snapshots_show_what_they_have() -> None:
    ours, theirs = hello(1, sni=b"cut.example", extensions=bytes(300)), hello(2, extensions=bytes(300))
    session = parser("tls").session()
    assert session.feed(CLIENT, ours[:100], 0, len(ours) - 100) == 0
    assert session.feed(SERVER, theirs[:60], 0, len(theirs) - 60) == 0
    session.feed(SERVER, CCS, len(theirs) - 60)
    assert session.feed(CLIENT, CCS, len(ours) - 100) == READY | STOP
    tls = view(session)
    assert (tls.sni, tls.cipher_suite, tls.incomplete) == ("cut.example", 0xC02F, True)
    assert tls.ja3_hash == tls.ja3_str == tls.ja3s_hash == tls.ja3s_str == tls.ja4 == ""
    session.release()


@pytest.mark.parametrize(
    "bytes_",
    [b"GET / HTTP/1.1\r\n", b"SSH-2.0-x\r\n", bytes(40), b"\x16\x03\x05\x00\x10", b"\x16\x03\x01\xff\xff", b"\x80\x00\x02\x00\x00"],
)
def test_not_ours(bytes_: bytes) -> None:
    session = parser("tls").session()
    assert session.feed(CLIENT, bytes_) & NOT_OURS
    assert session.finish() == 0
    session.release()


def test_nonsense_after_the_hello_delivers_what_is_there() -> None:
    with parser("tls").run([(CLIENT, hello(1, sni=b"x.example")), (SERVER, b"HTTP/1.1 400 Bad Request\r\n\r\n")]) as session:
        assert (session.delivered, session["sni"]) == (1, b"x.example")


@pytest.mark.parametrize("kind", [1, 2, 11])
def test_declared_lengths_have_limits(kind: int) -> None:
    session = parser("tls").session()
    session.feed(CLIENT, record(22, struct.pack(">I", kind << 24 | 0xFFFFFF) + bytes(100)))
    assert parser("tls").used == 0
    session.release()


def test_memory_follows_what_came_not_what_is_declared() -> None:
    session = parser("tls").session()
    session.feed(CLIENT, record(22, struct.pack(">I", 1 << 24 | 30000) + bytes(100)))
    assert parser("tls").used == 256
    session.release()


def test_full_arena_delivers_what_is_there() -> None:
    tls = parser("tls")
    try:
        tls.reset_arena(512)
        session = tls.session()
        session.feed(CLIENT, hello(1, sni=b"small.example"))
        session.feed(SERVER, hello(2))
        session.feed(SERVER, record(22, message(11, bytes(600)) + message(14, b"")))
        session.feed(CLIENT, CCS)
        session.finish()
        assert session.delivered == 1
        assert session["sni"] == b"small.example"
        assert session["ja4"] is session["ja3_hash"] is session["client_random"] is None
        session.release()
        assert tls.used == 0
    finally:
        tls.reset_arena(32 << 20)


# ---------------------------------------------------------------------------------------------------------------- probe


def test_probe_is_certain_of_every_conversation_within_its_limit() -> None:
    limit = parser("tls").module.PROBE_LIMIT
    for case in [*(c.segments for c in cases().values()), [(CLIENT, old_hello())]]:
        for side in (CLIENT, SERVER):
            stream = b"".join(data for d, data in case if d == side)
            answers = [parser("tls").probe(stream[:n], side) for n in range(min(limit, len(stream)) + 1)]
            if stream:
                assert answers[-1] == Probe.CERTAIN
                assert answers[0] == Probe.UNSURE
                assert Probe.NOT_OURS not in answers


@pytest.mark.parametrize(
    ("first", "expected"),
    [
        (CCS, Probe.CERTAIN),
        (record(21, b"\x02\x28"), Probe.CERTAIN),
        (record(21, bytes(24)), Probe.NOT_OURS),
        (record(21, b"\x09\x28"), Probe.NOT_OURS),
        (DATA, Probe.NOT_OURS),
        (FINISHED, Probe.NOT_OURS),
        (record(22, message(11, bytes(3000))), Probe.CERTAIN),
        (record(22, message(1, bytes(10))), Probe.NOT_OURS),
        (record(22, b"\x01\x00"), Probe.CERTAIN),
        (b"GET / HTTP/1.1", Probe.NOT_OURS),
        (b"\x16\x02\x00\x00\x40", Probe.NOT_OURS),
        (bytes.fromhex("802e 01 0002 0015 0000 0010"), Probe.NOT_OURS),
        (b"\x80", Probe.UNSURE),
        (b"\x16", Probe.UNSURE),
    ],
    ids=range(14),
)
def test_probe(first: bytes, expected: Probe) -> None:
    assert parser("tls").probe(first[:11]) == expected


# ---------------------------------------------------------------------------------------------------------------- names


def test_cipher_names_agree_with_openssl() -> None:
    import ssl

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.set_ciphers("ALL:COMPLEMENTOFALL:@SECLEVEL=0")
    found = context.get_ciphers()
    assert len(found) > 50
    for cipher in found:
        number, name = cipher["id"] & 0xFFFF, iana.CIPHER_SUITES[cipher["id"] & 0xFFFF]
        if number >> 8 == 0x13:
            assert name == cipher["name"]
        else:
            parts = set(cipher["name"].replace("AES128", "AES-128").replace("AES256", "AES-256").split("-"))
            assert all(part in name or part in ("ADH", "AECDH", "CCM8", "POLY1305", "DES") or part[:3] in ("ARI", "CAM", "CBC", "EDH", "DES") for part in parts), (name, cipher["name"])


@pytest.mark.parametrize("number", [0, 1, 0x002F, 0x00FF, 0x1301, 0x1307, 0xC02F, 0xCCA9, 0xD005])
def test_cipher_name_of_known_numbers(number: int) -> None:
    body = bytes.fromhex("0303") + bytes(33) + struct.pack(">H", number) + b"\0"
    with parser("tls").run([(SERVER, record(22, message(2, body)))]) as session:
        assert session["cipher"] == iana.CIPHER_SUITES[number].encode()
        assert view(session).cipher == iana.CIPHER_SUITES[number]


@pytest.mark.parametrize("number", [0x001C, 0x0A0A, 0x1308, 0xD004, 0xFFFF])
def test_cipher_name_of_unknown_numbers(number: int) -> None:
    body = bytes.fromhex("0303") + bytes(33) + struct.pack(">H", number) + b"\0"
    with parser("tls").run([(SERVER, record(22, message(2, body)))]) as session:
        assert session["cipher"] == b"UNKNOWN_CIPHER"
