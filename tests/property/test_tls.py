"""TLS sessions for any cut of the stream, any order of the sides, any damage; hellos against a plain reading."""

from __future__ import annotations

import struct
from itertools import pairwise
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from oracle import tls as oracle
from support.sessions import Session, parser
from support.tls_stacks import cases

from retina_jit.datatypes.tls_handshake import TlsHandshake

NAMES = sorted(cases())
WITHOUT_ALERTS = [name for name, case in cases().items() if case.report["completed"]]
LOOSE = {"deadline": None, "suppress_health_check": list(HealthCheck)}

Segments = list[tuple[int, bytes]]


def outcome(session: Session) -> tuple[int, bool, bytes]:
    """Everything that was found: the event from the record on, without addresses."""
    event, _, at = session.event()
    return session.delivered, session.stopped, event[at:]


def cut(data: bytes, places: list[int]) -> list[bytes]:
    ends = sorted({p % (len(data) + 1) for p in places} | {0, len(data)})
    return [data[a:b] for a, b in pairwise(ends)] or [b""]


def run(segments: Segments) -> Session:
    return parser("tls").run(segments)


def whole(name: str) -> tuple[Any, list[int]]:
    with run(cases()[name].segments) as session:
        return outcome(session), session.taken


@settings(max_examples=150, **LOOSE)
@given(st.sampled_from(NAMES), st.data())
def test_any_cut_gives_the_same_session(name: str, data: st.DataObject) -> None:
    pieces: Segments = []
    for side, bytes_ in cases()[name].segments:
        places = data.draw(st.lists(st.integers(0, max(len(bytes_), 1)), max_size=8))
        pieces += [(side, piece) for piece in cut(bytes_, places)]
    expected, taken = whole(name)
    with run(pieces) as session:
        assert outcome(session) == expected
        assert session.taken == taken, "it ended at another byte"


def test_single_bytes_give_the_same_session() -> None:
    for name in NAMES:
        pieces = [(side, bytes([byte])) for side, data in cases()[name].segments for byte in data]
        expected, taken = whole(name)
        with run(pieces) as session:
            assert outcome(session) == expected
            assert session.taken == taken


@settings(max_examples=100, **LOOSE)
@given(st.sampled_from(WITHOUT_ALERTS), st.data())
def test_any_order_of_the_sides_gives_the_same_session(name: str, data: st.DataObject) -> None:
    queues = []
    for side in (0, 1):
        stream = b"".join(bytes_ for d, bytes_ in cases()[name].segments if d == side)
        queues.append([(side, p) for p in cut(stream, data.draw(st.lists(st.integers(0, len(stream)), max_size=12)))])
    pieces: Segments = []
    while any(queues):
        side = data.draw(st.integers(0, 1)) if all(queues) else int(not queues[0])
        pieces.append(queues[side].pop(0))
    with run(cases()[name].segments) as session:
        expected = TlsHandshake(*session.event()).to_dict(raw=True) | {"alerts": []}
    with run(pieces) as session:
        assert session.delivered == 1
        assert TlsHandshake(*session.event()).to_dict(raw=True) | {"alerts": []} == expected


@settings(max_examples=100, **LOOSE)
@given(st.sampled_from(NAMES), st.data())
def test_what_is_cut_off_is_what_is_missing(name: str, data: st.DataObject) -> None:
    """A connection that ends early is a prefix of the story: no field of a hello that was there differs."""
    segments = cases()[name].segments
    left = data.draw(st.integers(0, sum(len(bytes_) for _, bytes_ in segments)))
    pieces: Segments = []
    for side, bytes_ in segments:
        pieces.append((side, bytes_[:left]))
        left = max(0, left - len(bytes_))
    with run(segments) as session:
        full = TlsHandshake(*session.event())
    with run(pieces) as session:
        tls = TlsHandshake(*session.event())
        assert session.delivered == (tls.has_client_hello or tls.has_server_hello)
        if tls.has_client_hello:
            assert (tls.client_hello, tls.ja4) == (full.client_hello, full.ja4)
        if tls.has_server_hello:
            assert (tls.server_hello, tls.ja3s_hash) == (full.server_hello, full.ja3s_hash)
        assert tls.server_certificates in ([], full.server_certificates)
    assert parser("tls").used == 0


@settings(max_examples=200, **LOOSE)
@given(st.sampled_from(NAMES), st.data())
def test_damage_breaks_nothing(name: str, data: st.DataObject) -> None:
    pieces: list[tuple[int, bytes, int]] = []
    for side, bytes_ in cases()[name].segments:
        changed = bytearray(bytes_)
        for place, value in data.draw(st.lists(st.tuples(st.integers(0, len(bytes_) - 1), st.integers(0, 255)), max_size=6)):
            changed[place] = value
        for piece in cut(bytes(changed), data.draw(st.lists(st.integers(0, len(bytes_)), max_size=3))):
            if data.draw(st.integers(0, 9)):
                pieces.append((side, piece, data.draw(st.sampled_from([0, 0, 0, 0, 1, 5, 300]))))
    with run(pieces) as session:  # type: ignore[arg-type]
        assert session.delivered <= 1
        session.fields()
        TlsHandshake(*session.event()).to_dict(raw=True)
    assert parser("tls").used == 0


@settings(max_examples=150, **LOOSE)
@given(st.lists(st.tuples(st.integers(0, 1), st.binary(max_size=80), st.sampled_from([0, 0, 3, 1000])), max_size=12))
def test_any_bytes_break_nothing(segments: list[tuple[int, bytes, int]]) -> None:
    with run(segments) as session:  # type: ignore[arg-type]
        session.fields()
        TlsHandshake(*session.event()).to_dict(raw=True)
    for _, data, _ in segments:
        parser("tls").probe(data)


numbers = st.lists(st.integers(0, 0xFFFF) | st.sampled_from([0x0A0A, 0xFAFA, 0x1301, 43, 51, 13, 16]), max_size=12)


def vector(size: int, data: bytes) -> bytes:
    return len(data).to_bytes(size, "big") + data


def list16(found: list[int]) -> bytes:
    return vector(2, struct.pack(f">{len(found)}H", *found))


@st.composite
def extensions(draw: st.DrawFn) -> bytes:
    """A block of extensions, most of them of a kind that is read, some of them nonsense."""
    kinds = {
        0: st.binary(max_size=12).map(lambda b: vector(2, b"\0" + vector(2, b))),
        10: numbers.map(list16),
        11: st.binary(max_size=5).map(lambda b: vector(1, b)),
        13: numbers.map(list16),
        16: st.lists(st.binary(max_size=6), max_size=4).map(lambda p: vector(2, b"".join(vector(1, b) for b in p))),
        43: numbers.map(lambda n: vector(1, struct.pack(f">{len(n)}H", *n))),
        51: st.binary(max_size=20),
    }
    block = b""
    for kind in draw(st.lists(st.sampled_from([*kinds, 0x0A0A, 0xFF01, 21]), max_size=10)):
        good = kinds.get(kind, st.binary(max_size=8))
        data = draw(good if draw(st.integers(0, 4)) else st.binary(max_size=10))
        block += struct.pack(">H", kind) + vector(2, data)
    return block


@st.composite
def hellos(draw: st.DrawFn, kind: int) -> bytes:
    version = draw(st.sampled_from([0x0300, 0x0301, 0x0303, 0x0304, 0x7F12, 0xFEFD]))
    body = struct.pack(">H", version) + draw(st.binary(min_size=32, max_size=32))
    if not (kind == 2 and version == 0x7F12):
        body += vector(1, draw(st.binary(max_size=33)))
    if kind == 1:
        body += list16(draw(numbers)) + vector(1, draw(st.binary(max_size=3)))
    else:
        body += struct.pack(">H", draw(st.integers(0, 0xFFFF))) + (b"" if version == 0x7F12 else draw(st.binary(min_size=1, max_size=1)))
    if draw(st.booleans()):
        body += vector(2, draw(extensions()))
    body += draw(st.sampled_from([b"", b"", b"\x00\x05junk"]))
    changed = bytearray(body)
    for place, value in draw(st.lists(st.tuples(st.integers(34, 200), st.integers(0, 255)), max_size=2)):
        if place < len(changed):
            changed[place] = value
    return bytes(changed[: draw(st.integers(34, 400))])


def fields_of(kind: int, body: bytes) -> tuple[dict[str, Any], dict[str, Any]]:
    with run([(kind - 1, oracle.record(22, oracle.message(kind, body)))]) as session:
        found = {key: None if value == b"" else value for key, value in session.fields().items()}
        return found, TlsHandshake(*session.event()).to_dict(raw=True)


@settings(max_examples=300, **LOOSE)
@given(hellos(1))
def test_client_hello_agrees_with_the_plain_reading(body: bytes) -> None:
    expected = oracle.client_hello(body)
    fields, shown = fields_of(1, body)
    assert {key: fields[key] for key in expected} == expected
    assert (shown["ja3_str"], shown["ja4"]) == (expected["ja3_str"].decode(), expected["ja4"].decode())
    assert len(shown["client_ciphers"]) == len(expected["client_ciphers"])
    assert len(shown["client_extensions"]) == len(expected["client_extensions"])


@settings(max_examples=300, **LOOSE)
@given(hellos(2))
def test_server_hello_agrees_with_the_plain_reading(body: bytes) -> None:
    expected = oracle.server_hello(body)
    fields, shown = fields_of(2, body)
    assert {key: fields[key] for key in expected} == expected
    assert shown["ja3s_str"] == expected["ja3s_str"].decode()
