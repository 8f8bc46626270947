"""DTLS: fragments in any order, retransmissions, caps, what is cut off."""

from __future__ import annotations

import random
from typing import Any

import pytest
from support.sessions import Session, parser

from retina_jit.parsers.dtls import examples
from retina_jit.parsers.dtls.examples import fragment, record
from retina_jit.parsers.dtls.fragments import LIMIT, WINDOW
from retina_jit.parsers.session.contract import LIMITED
from retina_jit.status import Probe

HELLO, SERVER = examples._FIRST, examples._SERVER_HELLO
VEILED = bytes.fromhex("17 fefd 0001 000000000001 0010") + bytes(16)
PADDED = examples._client_hello(b"", examples._NAMED + "0015 1f40" + "00" * 8000)


def feed(*datagrams: tuple[int, bytes], cut: int = 0) -> tuple[Session, list[int]]:
    session = parser("dtls").session(17)
    flags = [session.feed(side, data, cut=cut) for side, data in datagrams]
    session.finish()
    return session, flags


def pieces(body: bytes, kind: int = 1, number: int = 0, size: int = 40, overlap: int = 0) -> list[tuple[int, bytes]]:
    return [(0, record(22, n, fragment(kind, number, body, max(0, n - overlap), n + size))) for n in range(0, len(body), size)]


@pytest.mark.parametrize("seed", range(12))
def test_fragments_in_any_order_doubled_and_overlapping_make_the_hello(seed: int) -> None:
    rng = random.Random(seed)
    many = [p for p in pieces(HELLO, size=rng.choice((7, 20, 50)), overlap=rng.choice((0, 3))) for _ in range(rng.choice((1, 2)))]
    rng.shuffle(many)
    with feed(*many, (1, record(22, 0, fragment(2, 0, SERVER))))[0] as session:
        assert (session["sni"], session["version"], session["client_ciphers"]) == (b"example.com", 0xFEFD, [0xC02B])
        assert session["ja4"][:4] == b"dd2d"
    assert parser("dtls").used == 0


def test_the_first_copy_of_a_byte_counts() -> None:
    other = HELLO.replace(b"example", b"EXAMPLE")
    with feed((0, record(22, 0, fragment(1, 0, HELLO, 0, 90))), (0, record(22, 1, fragment(1, 0, other, 50)))) [0] as session:
        assert session["sni"] == b"example.com"


def test_a_later_message_takes_the_place_of_one_that_stays_incomplete() -> None:
    lost = record(22, 0, fragment(1, 0, HELLO, 0, 60))
    second = examples._SECOND
    with feed((0, lost), (0, record(22, 1, fragment(1, 1, second))), (0, lost))[0] as session:
        assert session["client_random"] == examples._CLIENT_RANDOM.encode()
        assert session["client_extensions"] == [0, 10]
    with feed((0, record(22, 1, fragment(1, 1, second))), (0, record(22, 0, fragment(1, 0, PADDED))))[0] as session:
        assert session["client_extensions"] == [0, 10], "an older one comes too late"


def test_of_a_hello_that_stays_incomplete_its_beginning_is_told() -> None:
    first, rest = fragment(1, 0, HELLO, 0, 70), fragment(1, 0, HELLO, 75)
    with feed((0, record(22, 0, first)), (0, record(22, 1, rest)))[0] as session:
        assert (session.delivered, session["client_version"], session["ja4"], session["sni"]) == (1, 0xFEFD, None, b"example.com"[: session_name(70)])
    with feed((0, record(22, 0, fragment(1, 0, HELLO))[:80]), cut=30)[0] as session:
        assert (session.delivered, session["ja3_hash"]) == (1, None)
    with feed((0, record(22, 0, fragment(1, 0, HELLO, 40))))[0] as session:
        assert session.delivered == 0, "without its beginning there is nothing to tell"


def session_name(length: int) -> int:
    """How many bytes of the server name lie within the first `length` of the hello."""
    return max(0, min(11, length - HELLO.index(b"example.com")))


def test_caps() -> None:
    long = bytes.fromhex("fefd") + bytes(LIMIT)
    session, flags = feed((0, record(22, 0, fragment(1, 0, long, 0, 100))), (0, VEILED))
    with session:
        assert flags[0] & LIMITED
        assert session.delivered == 0
    far = [(0, record(22, n, fragment(1, 0, PADDED + bytes(16000), at, at + 100))) for n, at in enumerate((0, WINDOW + 101, 50))]
    with feed(*far)[0] as session:
        assert parser("dtls").used <= 4096, "no room is made for what is far away"
    session, flags = feed(*far)
    with session:
        assert [f & LIMITED for f in flags] == [0, LIMITED, 0]
    assert parser("dtls").used == 0


@pytest.mark.parametrize(
    ("data", "answer"),
    [
        (record(22, 0, fragment(1, 0, HELLO)), Probe.CERTAIN),
        (record(22, 0, fragment(1, 0, HELLO), version="feff"), Probe.CERTAIN),
        (record(22, 0, fragment(1, 0, HELLO, 50)), Probe.CERTAIN),
        (record(22, 0, fragment(3, 0, examples._VERIFY)), Probe.CERTAIN),
        (record(22, 0, fragment(2, 0, SERVER)), Probe.CERTAIN),
        (record(22, 0, fragment(11, 0, examples._CHAIN)), Probe.NOT_OURS),
        (record(22, 0, fragment(1, 0, HELLO), epoch=1), Probe.NOT_OURS),
        (record(22, 0, fragment(1, 0, HELLO), version="0303"), Probe.NOT_OURS),
        (record(22, 0, fragment(1, 0, HELLO))[:20], Probe.NOT_OURS),
        (bytes.fromhex("0101 0000 2112a442") + bytes(12), Probe.LATER),
        (bytes.fromhex("8000 0001") + bytes(60), Probe.NOT_OURS),
        (VEILED, Probe.NOT_OURS),
    ],
)
def test_the_probe(data: bytes, answer: Probe) -> None:
    assert parser("dtls").probe(data, 0, 17) == answer
    assert parser("dtls").probe(data, 0, 6) == Probe.NOT_OURS


def test_roles_follow_from_the_hellos() -> None:
    talk: list[Any] = [(1, record(22, 0, fragment(1, 0, HELLO))), (0, record(22, 0, fragment(2, 0, SERVER)))]
    with feed(*talk)[0] as session:
        assert (session["sni"], session["server_version"]) == (b"example.com", 0xFEFD)
