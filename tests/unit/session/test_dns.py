"""DNS: which messages belong together, how they are found in datagrams and streams, and what is refused."""

from __future__ import annotations

import pytest
from support.sessions import parser

from retina_jit.datatypes.column import decoded
from retina_jit.datatypes.dns_transaction import DnsTransaction
from retina_jit.parsers.dns.state import MOST_WAITING, PATIENCE
from retina_jit.status import Probe

SECOND = 10**9
UDP, TCP = 17, 6


def name(text: str) -> bytes:
    return b"".join(bytes([len(label)]) + label.encode() for label in text.split(".") if label) + b"\0"


def message(
    ident: int, qname: str | None = "example.com", qtype: int = 1, *, response: bool = False, flags: int = 0, answers: tuple[bytes, ...] = ()
) -> bytes:
    question = b"" if qname is None else name(qname) + qtype.to_bytes(2, "big") + b"\0\1"
    counts = (int(qname is not None), len(answers), 0, 0)
    head = ident.to_bytes(2, "big") + (flags | 0x8000 * response).to_bytes(2, "big")
    return head + b"".join(n.to_bytes(2, "big") for n in counts) + question + b"".join(answers)


def record(owner: bytes, rtype: int, data: bytes) -> bytes:
    return owner + rtype.to_bytes(2, "big") + b"\0\1\0\0\0\x3c" + len(data).to_bytes(2, "big") + data


def stream(*messages: bytes) -> bytes:
    return b"".join(len(m).to_bytes(2, "big") + m for m in messages)


Seen = tuple[int, bool, bool, int]
"""Id, query seen, response seen, equal queries that were waiting."""


def talk(transport: int, *segments: tuple[int, bytes] | tuple[int, bytes, dict[str, int]]) -> list[Seen]:
    """What a connection delivers, in its order; each segment comes a second after the one before."""
    with parser("dns").session(transport) as session:
        session.shown = []
        for seconds, (direction, data, *more) in enumerate(segments, 1):
            session.feed(direction, data, **({"ts": seconds * SECOND} | (more[0] if more else {})))
        session.finish()
        found = [(s["transaction_id"], s["has_query"], s["has_response"], s["repeated"]) for s in session.shown]
    assert parser("dns").used == 0, "memory was not given back"
    return found


ASK, SAY = message(1), message(1, response=True)

# ------------------------------------------------------------------------------------------------- what belongs together


def test_a_response_belongs_to_the_query_with_its_id_and_question():
    asked = [message(1, "a.com"), message(1, "b.com"), message(2, "a.com")]
    said = [message(2, "a.com", response=True), message(1, "B.com", response=True)]
    found = talk(UDP, *((0, m) for m in asked), *((1, m) for m in said))
    assert found == [(2, True, True, 0), (1, True, True, 0), (1, True, False, 0)]


def test_another_type_is_another_question():
    assert talk(UDP, (0, message(1, qtype=1)), (1, message(1, qtype=33, response=True))) == [(1, False, True, 0), (1, True, False, 0)]


def test_a_response_from_the_side_that_asked_is_not_its_answer():
    assert talk(UDP, (0, ASK), (0, SAY)) == [(1, False, True, 0), (1, True, False, 0)]


def test_each_side_may_ask():
    assert talk(UDP, (1, ASK), (0, ASK), (0, SAY), (1, SAY)) == [(1, True, True, 0)] * 2


def test_a_response_without_question_belongs_to_the_query_with_its_id():
    error = message(7, None, response=True, flags=1)
    assert talk(UDP, (0, message(6)), (0, message(7)), (1, error)) == [(7, True, True, 0), (6, True, False, 0)]


def test_an_answer_of_multicast_dns_belongs_to_the_question_for_its_record():
    answer = message(0, None, response=True, answers=(record(name("b.local"), 1, b"abcd"),))
    other = message(0, None, response=True, answers=(record(name("c.local"), 1, b"abcd"),))
    asked = [(0, message(0, "a.local")), (0, message(0, "b.local"))]
    assert talk(UDP, *asked, (1, other), (1, answer)) == [(0, False, True, 0), (0, True, True, 0), (0, True, False, 0)]


def test_every_message_is_in_one_transaction():
    found = talk(UDP, (0, ASK), (0, ASK), (0, ASK), (1, SAY), (1, SAY), (1, SAY), (1, SAY))
    assert [f[:3] for f in found] == [(1, True, True)] * 3 + [(1, False, True)]
    assert [f[3] for f in found] == [0, 1, 2, 0]


def test_a_query_is_given_up_after_its_time():
    late = PATIENCE // SECOND + 3
    found = talk(UDP, (0, ASK), (0, message(2), {"ts": late * SECOND}), (1, SAY, {"ts": late * SECOND}))
    assert found == [(1, True, False, 0), (1, False, True, 0), (2, True, False, 0)]


def test_no_more_than_so_many_wait_and_none_is_lost():
    count = MOST_WAITING + 50
    found = talk(UDP, *((0, message(n), {"ts": n}) for n in range(count)), (1, message(count - 1, response=True), {"ts": count}))
    assert [f[0] for f in found[:50]] == list(range(50))
    assert found[50] == (count - 1, True, True, 0)
    assert sorted(f[0] for f in found) == list(range(count))


def test_without_memory_nothing_breaks():
    dns = parser("dns")
    try:
        dns.reset_arena(512)  # two blocks
        assert talk(UDP, *((0, message(n)) for n in range(5)), (1, message(0, response=True)))
        assert talk(TCP, (0, stream(*(message(n) for n in range(5)))[:-3]), (1, b"\1")) is not None
    finally:
        dns.reset_arena(32 << 20)


# ------------------------------------------------------------------------------------------------------------- streams


def test_a_hole_within_a_message_costs_that_message_only():
    text = stream(message(1, "a" * 40 + ".com", answers=(record(b"\xc0\x0c", 1, b"abcd"),)), message(2))
    first = talk(TCP, (0, text[:70]), (0, text[76:], {"lost": 6}))
    assert first == [(1, True, False, 0), (2, True, False, 0)], "its question is there"
    first = talk(TCP, (0, text[:20]), (0, text[24:], {"lost": 4}))
    assert first == [(2, True, False, 0)]


def test_a_hole_over_a_boundary_resumes_right_behind_it():
    text = stream(message(1), message(2), message(3))
    size = len(stream(message(1)))
    assert talk(TCP, (0, text[: size - 3]), (0, text[2 * size :], {"lost": size + 3})) == [(3, True, False, 0)]


def test_what_makes_no_sense_behind_a_hole_ends_the_direction():
    text = stream(message(1), message(2), message(3))
    found = talk(TCP, (0, text[:31]), (0, text[40:], {"lost": 9}), (0, stream(message(4))), (1, stream(SAY)))
    assert found == [(1, True, True, 0)]


def test_messages_of_a_short_snapshot_are_read_as_far_as_they_go():
    long = message(1, response=True, answers=tuple(record(b"\xc0\x0c", 16, b"\x63" + b"x" * 99) for _ in range(3)))
    text = stream(long, message(2, response=True))
    segments = [(1, text[:80], {"cut": len(stream(long)) - 80}), (1, b"", {"lost": len(stream(long)) - 80}), (1, text[len(stream(long)) :])]
    assert talk(TCP, *segments) == [(1, False, True, 0), (2, False, True, 0)]
    assert talk(UDP, (1, long[:60], {"cut": len(long) - 60})) == [(1, False, True, 0)]


def test_a_message_that_is_none_is_passed_over():
    assert talk(TCP, (0, stream(ASK)), (0, stream(b"\xff" * 40)), (1, stream(SAY))) == [(1, True, True, 0)]
    assert talk(UDP, (0, ASK), (0, b"\xff" * 40), (0, b"x"), (1, SAY)) == [(1, True, True, 0)]


def test_another_protocol_is_left_to_others():
    for transport, data in ((TCP, b"\0\x20" + b"\xff" * 32), (UDP, b"\xff" * 40)):
        with parser("dns").session(transport) as session:
            session.feed(0, data)
            assert session.not_ours
            assert not session.delivered


# ------------------------------------------------------------------------------------------------------ what DNS looks like

NETBIOS = b"\x20" + b"EKEPEIEOCACACACACACACACACACACAAA" + b"\0"


@pytest.mark.parametrize(
    "data",
    [
        message(1),
        message(1, response=True, flags=0x0180),
        message(1, None, response=True, flags=3),  # an error that repeats nothing
        message(1, "."),
        message(1, "_sip._udp.example.com", 33),
        message(1, flags=5 << 11, qtype=6),  # update
        message(1, flags=4 << 11, qtype=6),  # notify
        message(1, qtype=65535),
        message(0, None, response=True, flags=0x0400, answers=(record(name("x.local"), 1, b"abcd"),)),
        message(1, response=True, answers=(record(b"\xc0\x0c", 1, b"abcd"),))[:-3],  # a short snapshot
        b"\0\1\x01\0\0\0\0\0\0\0\0\1" + b"\0\0\x29\x10\0\0\0\0\0\0\0",  # a cookie alone
    ],
)
def test_it_is_dns(data):
    assert parser("dns").probe(data, 0, UDP) == Probe.CERTAIN
    assert parser("dns").probe(stream(data), 0, TCP) == Probe.CERTAIN
    assert parser("dns").probe(stream(data)[:13], 0, TCP) == Probe.UNSURE


@pytest.mark.parametrize(
    "data",
    [
        message(1)[:20],  # the name is cut
        message(1, flags=0x0040),  # Z
        message(1, flags=3),  # a query with an error
        message(1, flags=9 << 11),
        message(1)[:-2] + b"\0\2",  # class CS is not in use
        message(1, None),
        message(1, None, response=True),
        b"\0\1\1\0\0\1\0\0\0\0\0\0" + b"\x01a\xc0\x0c" + b"\0\1\0\1",  # a name that contains itself
        b"\0\1\1\0\0\1\0\0\0\0\0\0" + b"\x40" * 70 + b"\0\0\1\0\1",  # no such label
        b"\0\1\1\0\0\1\0\0\0\0\0\0" + (b"\x3f" + b"x" * 63) * 4 + b"\0\0\1\0\1",  # 257 bytes
        b"\0\1\1\0\0\1\0\0\0\0\0\0" + NETBIOS + b"\0\x20\0\1",
        b"\0\1\1\0\0\1\0\0\0\0\0\0" + NETBIOS + b"\0\x21\0\1",
        message(1, response=True, answers=(record(b"\xc0\xff", 1, b"abcd"),)),  # points behind itself
        bytes(40),
        b"\xff" * 40,
    ],
)
def test_it_is_not_dns(data):
    assert parser("dns").probe(data, 0, UDP) == Probe.NOT_OURS


# ---------------------------------------------------------------------------------------------------------------- names


def transaction(*segments: tuple[int, bytes], transport: int = UDP) -> DnsTransaction:
    seen: list[DnsTransaction] = []
    with parser("dns").session(transport) as session:
        session.on_delivery = lambda: seen.append(DnsTransaction(*session.event()))
        for direction, data in segments:
            session.feed(direction, data)
        session.finish()
    return seen[0]


def labels(*parts: bytes) -> bytes:
    return b"".join(bytes([len(p)]) + p for p in parts) + b"\0"


@pytest.mark.parametrize(
    ("wire", "shown"),
    [
        (labels(b"Example", b"COM"), "Example.COM"),
        (labels(), "."),
        (labels(b"a.b", b"c\\d"), "a\\.b.c\\\\d"),
        (labels(b"a\0\x1f\x7f b"), "a\\000\\031\\127 b"),
        (labels("küche".encode(), b"local"), "küche.local"),
        (labels(b"\xe4x"), "\\xe4x"),
        (labels("ü".encode(), b"\xe4x"), "\\xc3\\xbc.\\xe4x"),
        (labels(*[b"x" * 63] * 3, b"y" * 61), ".".join(["x" * 63] * 3 + ["y" * 61])),
    ],
)
def test_names_are_shown(wire, shown):
    query = b"\0\1\1\0\0\1\0\0\0\0\0\0" + wire + b"\0\1\0\1"
    seen = transaction((0, query))
    assert seen.query_domain == shown
    assert seen.query is not None
    assert seen.query.queries == (shown,)
    found: list[bytes] = []
    with parser("dns").session(UDP) as session:
        session.on_delivery = lambda: found.append(session["query_domain"])
        session.feed(0, query)
        session.finish()
    assert decoded(found[0]) == shown
