"""DTLS of real stacks, over UDP: every handshake is found, with the words of the stacks and of the plain twin."""

from __future__ import annotations

import random
from typing import Any

from oracle import tls as oracle
from support import dtls_stacks, tls_stacks
from support.dtls_stacks import Case
from support.running import run_frames, to
from traffic import Frame, UdpExchange

STUN = bytes.fromhex("0001 0000 2112a442") + bytes(12)
RTP = bytes.fromhex("8000 0001") + bytes(160)


def run(talks: list[list[tuple[int, bytes]]], *wanted: tuple[str, str]) -> tuple[dict[int, list[Any]], dict[str, int]]:
    """What each subscription (data type, filter) is given, by client port; counters."""
    seen: dict[int, list[Any]] = {}
    frames: list[Frame] = []
    for n, datagrams in enumerate(talks):
        flow = UdpExchange(("192.0.2.1", 20000 + n), ("198.51.100.1", 4433))
        for side, data in datagrams:
            flow.datagram(side, data)
        frames += flow.frames
    subscriptions = [to(f"{types},FiveTuple", text, lambda what, t: seen.setdefault(t.orig_port, []).append(what)) for types, text in wanted]
    counters = run_frames(subscriptions, frames).counters
    return seen, counters


def first_hello(case: Case) -> dict[str, Any]:
    """The first ClientHello, put together by hand and read by the plain twin."""
    number, body, parts = -1, b"", {}
    for side, datagram in case.datagrams:
        for record in dtls_stacks.records(datagram) if side == 0 and datagram[0] == 22 else ():
            if record[0] == 22 and record[3:5] == b"\0\0" and record[13] == 1 and (number < 0 or record[17:19] == number.to_bytes(2, "big")):
                number, length = int.from_bytes(record[17:19], "big"), int.from_bytes(record[14:17], "big")
                at = int.from_bytes(record[19:22], "big")
                parts |= {at + n: byte for n, byte in enumerate(record[25:])}
                body = bytes(parts.get(n, 0) for n in range(length)) if len(parts) == length else body
    at = 35 + body[34]
    return oracle.client_hello(body[:at] + body[at + 1 + body[at] :], "d")


def check(case: Case, found: Any) -> None:
    hello = first_hello(case)
    assert found.version == case.version
    assert found.sni == (case.sni or "")
    assert found.hello_verify_request == case.cookie
    assert found.hello_retry_request == ("retry" in case.name)
    assert found.established == case.established
    assert found.is_resumption == case.resumed
    assert tuple(found.server_certificates) == case.chain
    assert list(found.client_cipher_suites) == hello["client_ciphers"]
    assert bool(found.alerts) == (case.name == "refused")
    assert (found.ja3_str.encode(), found.ja3_hash.encode(), found.ja4.encode()) == (hello["ja3_str"], hello["ja3_hash"], hello["ja4"])
    assert found.ja4[1:3] == {0xFEFF: "d1", 0xFEFD: "d2", 0xFEFC: "d3"}[case.version]


def test_every_handshake_is_found_with_the_words_of_its_stacks():
    cases = [*dtls_stacks.cases().values()]
    seen, counters = run([c.datagrams for c in cases], ("DtlsHandshake", "dtls"))
    for n, case in enumerate(cases):
        (found,) = seen[20000 + n]
        try:
            check(case, found)
        except AssertionError as fault:
            raise AssertionError(f"{case.name}: {found.to_dict()}") from fault
    assert counters["sessions"] == len(cases)
    assert counters["probe_given_up"] == counters["parser_limited"] == 0


def test_any_order_of_a_flight_and_any_loss_give_no_other_story():
    """What is lost is missing, nothing is made up; with all of it there, in whatever order, nothing is missing."""
    rng = random.Random(9)
    talks, about = [], []
    for case in dtls_stacks.cases().values():
        for _ in range(30):
            flights: list[list[tuple[int, bytes]]] = []
            for datagram in case.datagrams:
                if not flights or flights[-1][0][0] != datagram[0]:
                    flights.append([])
                flights[-1].append(datagram)
            whole = rng.random() < 0.5
            shuffled = []
            for flight in flights:
                hello_first = [flight[0], *rng.sample(flight[1:], len(flight) - 1)]
                shuffled += [d for d in hello_first if whole or rng.random() < 0.8]
            talks.append([(0, STUN), *shuffled[:3], (1, RTP), *shuffled[3:]])
            about.append((case, whole))
    seen, counters = run(talks, ("DtlsHandshake", "dtls"))
    for n, (case, whole) in enumerate(about):
        for found in seen.get(20000 + n, []):
            assert found.sni in ("", case.sni or "")
            assert found.version in (case.version, 0xFEFD, 0)
            assert tuple(found.server_certificates) in ((), case.chain)
        if whole:
            assert len(seen[20000 + n]) == 1, case.name
            assert seen[20000 + n][0].sni == (case.sni or ""), case.name
    assert counters["sessions"] > 200


def test_filters_ask_what_they_ask_of_tls():
    cases = [*dtls_stacks.cases().values()]
    filters = {
        f"dtls.sni = '{dtls_stacks.NAME}'": lambda c: c.sni == dtls_stacks.NAME,
        "dtls.version = DTLSv1.2": lambda c: c.version == dtls_stacks.V12,
        "dtls.version = DTLSv1.3": lambda c: c.version == dtls_stacks.V13,
        "dtls.hello_verify_request": lambda c: c.cookie,
        "dtls.resumed": lambda c: c.resumed,
        "not dtls.established": lambda c: not c.established,
        "dtls.alerts = handshake_failure": lambda c: c.name == "refused",
        "dtls.certificate_count = 2": lambda c: len(c.chain) == 2,
        "dtls.client_alpn_protocols = 'webrtc'": lambda c: "small" in c.name,
        "dtls.handshake.ja4 ~ '^dd2'": lambda c: c.version == dtls_stacks.V12,
        "tls": lambda c: False,
    }
    got: dict[str, set[int]] = {text: set() for text in filters}
    frames: list[Frame] = []
    for n, case in enumerate(cases):
        flow = UdpExchange(("192.0.2.1", 20000 + n), ("198.51.100.1", 4433))
        for side, data in case.datagrams:
            flow.datagram(side, data)
        frames += flow.frames
    run_frames([to("FiveTuple", text, lambda t, text=text: got[text].add(t.orig_port)) for text in filters], frames)
    for text, expected in filters.items():
        assert got[text] == {20000 + n for n, c in enumerate(cases) if expected(c)}, text


def test_it_is_found_behind_many_messages_that_find_the_way():
    case = dtls_stacks.cases()["1.2 ticket"]
    for many, found in ((60, 1), (70, 0)):
        seen, counters = run([[(n & 1, STUN) for n in range(many)] + case.datagrams], ("DtlsHandshake", "dtls"))
        assert [d.sni for d in seen.get(20000, [])] == [case.sni] * found
        assert counters["probe_given_up"] == 1 - found


def test_a_tls_record_is_no_dtls():
    segments = tls_stacks.cases()["12 full"].segments
    seen, _ = run([segments], ("DtlsHandshake", "dtls"))
    assert seen == {}
