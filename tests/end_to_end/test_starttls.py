"""Connections that turn to TLS: the outer protocol's session ends, and the handshake behind it is a TLS session."""

from __future__ import annotations

import random
from collections import defaultdict
from typing import Any

import pytest
from support import starttls_stacks, tls_stacks
from support.running import collect, run_frames, to
from traffic import Frame, TcpConversation

VERSIONS = {"TLSv1.2": 0x0303, "TLSv1.3": 0x0304}
WIDE = ("SmtpSession", "DnsTransaction", "SshHandshake", "HttpTransaction")
"""Whoever else looks for a protocol must not keep us from finding TLS."""
HELLO = tls_stacks.cases()["12 full"].segments
GREETING, EHLO, OFFER = (1, b"220 mx.example.org ESMTP\r\n"), (0, b"EHLO client\r\n"), (1, b"250-mx\r\n250 STARTTLS\r\n")
ASK, AGREE, REFUSE = (0, b"STARTTLS\r\n"), (1, b"220 go ahead\r\n"), (1, b"454 not now\r\n")
TURN = [GREETING, EHLO, OFFER, ASK, AGREE]

Segment = tuple[int, bytes]


def conversation(port: int, segments: list[Segment]) -> list[Frame]:
    talk = TcpConversation(("192.0.2.1", port), ("198.51.100.1", 25))
    talk.open()
    for side, data in segments:
        talk.send(side, data)
    talk.close()
    return talk.frames


def cut_anew(rng: random.Random, segments: list[Segment]) -> list[Segment]:
    """The same bytes in other pieces; small ones in front, where it matters."""
    found: list[Segment] = []
    for side, data in segments:
        places = sorted(rng.randint(0, len(data)) for _ in range(rng.choice((0, 0, 1, 3, 8)) if len(data) < 600 else 1))
        found += [(side, data[a:b]) for a, b in zip([0, *places], [*places, len(data)], strict=True) if a < b]
    return found


def run(conversations: list[list[Segment]], others: tuple[str, ...] = (), **subscriptions: tuple[str, str]) -> tuple[dict[int, list[Any]], dict[str, int]]:
    """What the subscriptions (name: data type, filter) are given, as (name, what, ...) by client port; counters."""
    seen: dict[int, list[Any]] = defaultdict(list)

    def note(name: str) -> Any:
        return lambda what, tuple_: seen[tuple_.orig_port].append((name, what))

    wanted = [to(f"{types},FiveTuple", text, note(name)) for name, (types, text) in subscriptions.items() if types != "FiveTuple"]
    wanted += [to(types, text, lambda t, n=name: note(n)(t, t)) for name, (types, text) in subscriptions.items() if types == "FiveTuple"]
    wanted += [to(f"{other},FiveTuple", "", note(other)) for other in others]
    frames = [f for n, segments in enumerate(conversations) for f in conversation(20000 + n, segments)]
    counters = run_frames(wanted, frames).counters
    return dict(seen), counters


@pytest.mark.parametrize("others", [(), WIDE], ids=["tls alone", "with others"])
def test_real_stacks_are_found_with_their_own_words_for_any_cut(others):
    rng = random.Random(len(others))
    cases = [case for case in starttls_stacks.cases() for _ in range(12)]
    seen, counters = run([cut_anew(rng, case.segments) if n % 12 else case.segments for n, case in enumerate(cases)], others, tls=("TlsHandshake", "tls"))
    for n, case in enumerate(cases):
        found = [what for name, what in seen.get(20000 + n, []) if name == "tls"]
        assert [(t.sni, t.version, t.cipher_suite) for t in found] == [(starttls_stacks.HOST, VERSIONS[case.version], case.cipher_id)], case.name
        assert bool(found[0].established) and found[0].ja4.startswith("t"), case.name
        whole = next(w for m, w in seen[20000 + n // 12 * 12] if m == "tls")
        assert found[0].to_dict() == whole.to_dict()
        mails = [what for name, what in seen[20000 + n] if name == "SmtpSession"]
        assert [(m.helo, m.starttls) for m in mails] == ([("client.example.com", True)] if others and case.name == "smtp" else [])
    assert counters["turned"] == len(cases)
    assert counters["turn_given_up"] == counters["probe_given_up"] == counters["wrong_guesses"] == 0


@pytest.mark.parametrize("others", [(), ("SmtpSession",)], ids=["tls alone", "with smtp"])
def test_each_subscription_stands_as_the_whole_connection_says(others):
    refused = [GREETING, EHLO, OFFER, ASK, REFUSE, (0, b"QUIT\r\n"), (1, b"221 bye\r\n")]
    seen, counters = run(
        [[*TURN, *HELLO], refused, HELLO],
        others,
        session=("TlsHandshake", "tls.sni = 'mail.example.net'"),
        record=("ConnRecord", "tls.sni contains 'example'"),
        protocol=("ConnRecord", "tls"),
        static=("FiveTuple", "tls"),
        **({"either": ("FiveTuple", "tls or smtp.helo = 'client'")} if others else {}),
        unlike=("FiveTuple", "not tls"),
        listed=("SessionList", "tls"),
        frames=("ZcFrame", "tls.sni = 'mail.example.net'"),
    )
    got = {port: [name for name, _ in rows] for port, rows in seen.items()}
    for port, names in got.items():
        for name in ("session", "record", "protocol", "static", "listed"):
            assert names.count(name) == (port != 20001), (port, name)
        assert names.count("unlike") == (port != 20002), "what it begins with decides"
        assert names.count("either") == len(others), "once, although it holds for both"
    turned = dict(seen[20000])
    assert turned["record"].service == "tls"
    assert turned["record"].orig.nb_payload_bytes == sum(len(data) for side, data in [*TURN, *HELLO] if side == 0)
    assert [type(s).__name__ for s in turned["listed"]] == ["TlsHandshake"]
    assert got[20000].count("frames") >= len(TURN) + len(HELLO), "those that waited, too"
    assert counters["turned"] == 1


XML = b"<?xml version='1.0'?><stream:stream to='x'>"


@pytest.mark.parametrize(
    ("segments", "found", "turned"),
    [
        ([(0, b"EHLO c\r\n"), ASK, *[s for s in HELLO if s[0] == 0]], 1, 1),  # only the client was captured
        ([GREETING, OFFER, AGREE, *[s for s in HELLO if s[0] == 1]], 1, 1),  # only the server
        ([(1, b"* OK ready\r\n"), (0, b"1 StartTLS\r\n"), (1, b"1 OK\r\n"), *HELLO], 1, 1),
        ([(0, XML), (1, XML), (0, b"<starttls/>"), (1, b"<proceed/>"), *HELLO], 1, 1),
        ([GREETING, EHLO, OFFER, ASK, REFUSE, ASK, AGREE, *HELLO], 1, 1),  # at the second attempt
        ([*TURN, (0, b"\x16 no record\r\n"), (0, b"nothing")], 0, 1),
        ([GREETING, EHLO, OFFER, (0, b"NOOP\r\n"), *HELLO], 0, 0),  # nobody has asked
        ([GREETING, (0, b"NOOP\r\n" * 1000), ASK, AGREE, *HELLO], 0, 0),  # too late
        ([(1, b"2"), (1, b"00 no such greeting\r\n"), ASK, AGREE, *HELLO], 0, 0),
        ([(0, b"E"), (0, b"VIL\r\n"), ASK, AGREE, *HELLO], 0, 0),
    ],
)  # fmt: skip
def test_where_tls_begins(segments, found, turned):
    seen, counters = run([segments], tls=("TlsHandshake", "tls"))
    assert len(seen.get(20000, [])) == found
    assert counters["turned"] == turned
    assert counters["turn_given_up"] == (len(segments[1][1]) > 4096)


def test_a_turn_that_was_none_is_taken_back():
    """The greeting and the ClientHello are missing, and DNS was long unsure: what follows is refused by TLS."""
    talk = TcpConversation(("192.0.2.1", 20000), ("198.51.100.1", 21))
    talk.open()
    talk.skip(1, 20)
    talk.to_server(b"AUTH TLS\r\n")
    talk.to_client(b"234 ok\r\n")
    for side, data in HELLO:
        if (side, data) == HELLO[0]:
            talk.skip(side, len(data))
        else:
            talk.send(side, data)
    talk.close()
    wanted = [collect(types)[0] for types in ("TlsHandshake", "DnsTransaction")]
    counters = run_frames(wanted, talk.frames).counters
    assert (counters["sessions"], counters["turned"], counters["wrong_guesses"]) == (0, 1, 1)


def test_tls_is_looked_for_only_where_somebody_wants_it():
    seen, counters = run([[*TURN, *HELLO]], mail=("SmtpSession", "smtp"), tls=("TlsHandshake", "tls and tcp.port = 9"))
    assert [(name, what.starttls) for name, what in seen[20000]] == [("mail", True)]
    assert counters["sessions"] == 1
