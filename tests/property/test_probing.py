"""Whose bytes these are, against the plain twin: datagrams asked about one by one, wrong guesses taken back."""

from __future__ import annotations

import random
from collections import defaultdict
from typing import Any

import pytest
from oracle.talk import NAMES, Talk
from support import talkers
from support.running import MemoryFile, check, config, runtime
from traffic import Frame, TcpConversation, UdpExchange, pcap_bytes

from retina_jit.datatypes import FiveTuple
from retina_jit.subscription import Subscription

FLOWS = 400
TYPES = {"zz_a": talkers.TalkA, "zz_b": talkers.TalkB}


def run(frames: list[Frame], wanted: tuple[str, ...], more: list[Subscription] | None = None, **settings: Any) -> tuple[dict[Any, Any], dict[str, int]]:
    """Sessions by client port, counters."""
    seen = defaultdict(list)

    def note(name: str) -> Any:
        return lambda talk, t: seen[t.orig_port].append((name, talk.log()))

    with talkers.declared(), MemoryFile(pcap_bytes(frames, nanoseconds=True)) as path:
        subscriptions = [Subscription("", (TYPES[name], FiveTuple), note(name)) for name in wanted]
        made = runtime([*subscriptions, *(more or [])], [path], config(**settings))
        talkers.install(made.program)
        result = made.run()
    check(result)
    return dict(seen), result.counters


def datagram(rng: random.Random) -> bytes:
    size = rng.choice((0, 3, 3, 40, 400, 1000))
    return rng.choice((b"A", b"A", b"B", b"U", b"U", b"U", b"U", b"x")) + rng.choice((b"", b".", b".", b".", b"!", b"?", b"R", b"S")) + b"." * size


@pytest.mark.parametrize("wanted", [NAMES, ("zz_a",), ("zz_b",)])
@pytest.mark.parametrize(("most", "most_bytes"), [(4, 4096), (1, 50), (8, 900)])
def test_datagrams_go_to_whom_they_belong(wanted, most, most_bytes):
    rng = random.Random(f"{wanted} {most}")
    frames, talks = [], {}
    for port in range(20000, 20000 + FLOWS):
        flow, talk = UdpExchange(("192.0.2.1", port), ("198.51.100.1", 9)), Talk(wanted, most, most_bytes)
        for _ in range(rng.randint(1, 10)):
            side, data = rng.randint(0, 1), datagram(rng)
            side = side if flow.frames else 0
            flow.datagram(side, data, checksum=0)
            talk.datagram(side, data)
        talk.end()
        frames += flow.frames
        talks[port] = talk
    seen, counters = run(frames, wanted, probe_datagrams=most, probe_bytes=most_bytes)
    assert seen == {port: t.sessions for port, t in talks.items() if t.sessions}
    assert counters["probe_given_up"] == sum(t.given_up for t in talks.values()) > 0
    assert counters["wrong_guesses"] == sum(t.wrong for t in talks.values()) > 0


def tcp(*segments: tuple[int, bytes]) -> list[Frame]:
    talk = TcpConversation(("192.0.2.1", 20000), ("198.51.100.1", 9))
    talk.open()
    for side, data in segments:
        talk.send(side, data)
    talk.close()
    return talk.frames


@pytest.mark.parametrize(
    ("segments", "sessions", "wrong"),
    [
        # (segments; protocol and what it was given, by direction; wrong guesses)
        ([(0, b"A!12"), (1, b"B.34")], [("zz_b", b"A!12", b"B.34")], 1),
        ([(0, b"A.12"), (1, b"A!34"), (0, b"B.56")], [("zz_b", b"B.56", b"A!34")], 1),
        ([(0, b"U!12"), (1, b"A.34"), (0, b"56")], [], 1),
        ([(0, b"AR12"), (1, b"A!34"), (0, b"56")], [("zz_a", b"AR12", b"")], 0),
        ([(0, b"U.12"), (1, b"A.34"), (0, b"56")], [("zz_a", b"U.1256", b"A.34")], 0),
        ([(0, b"A!12"), (1, b"x.34"), (1, b"B.")], [], 1),
        ([(0, b"A!12"), (1, b"B?34"), (1, b"B.")], [], 2),
    ],
)
def test_a_wrong_guess_about_a_stream_is_taken_back(segments, sessions, wrong):
    seen, counters = run(tcp(*segments), NAMES)
    got = [(name, *(b"".join(d for s, d in log if s == n) for n in (0, 1))) for name, log in seen.get(20000, [])]
    assert got == sessions
    assert counters["wrong_guesses"] == wrong


def test_what_a_wrong_guess_has_decided_is_decided_anew():
    calls = []
    with talkers.declared():
        more = [
            Subscription("zz_a", (FiveTuple,), lambda t: calls.append("static a")),
            Subscription("zz_a or zz_b", (FiveTuple,), lambda t: calls.append("static either")),
            Subscription("zz_b", (FiveTuple,), lambda t: calls.append("static b")),
            Subscription("not zz_a", (FiveTuple,), lambda t: calls.append("static not a")),
        ]
        for s in more:
            s.check()
        run(udp(b"A!", b"B.", b"B."), NAMES, more)
    assert sorted(calls) == ["static a", "static b", "static either", "static not a"]


def udp(*datagrams: bytes) -> list[Frame]:
    talk = UdpExchange(("192.0.2.1", 20000), ("198.51.100.1", 9))
    for data in datagrams:
        talk.datagram(0, data, checksum=0)
    return talk.frames
