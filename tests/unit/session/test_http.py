"""The HTTP session parser against real stacks, and what those do not produce, by hand."""

from __future__ import annotations

import random
from collections.abc import Iterable
from typing import Any

import pytest
from support import http_stacks
from support.http_stacks import Told
from support.sessions import SECOND, Session, parser
from support.tls_stacks import Recorder
from traffic import stacks

from retina_jit.datatypes import HttpTransaction
from retina_jit.parsers.http.state import HEAD_LIMIT, MOST_PENDING
from retina_jit.parsers.session.contract import LIMITED, NOT_OURS, READY, RESYNCED, STOP
from retina_jit.status import Probe

GET = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


def transactions(segments: Iterable[tuple[Any, ...]]) -> list[HttpTransaction]:
    """Every session of a conversation, each segment a second after the one before."""
    with parser("http").session() as session:
        session.shown = []
        for n, (direction, data, *lost) in enumerate(segments, 1):
            session.feed(direction, data, *lost, ts=n * SECOND)
            if session.stopped:
                break
        session.finish()
        found = [HttpTransaction(*event) for event in session.events]
    assert parser("http").used == 0
    return found


def told(segments: Iterable[tuple[Any, ...]]) -> list[tuple[str, int]]:
    return [(t.uri, t.status_code) for t in transactions(segments)]


def request(n: int, method: str = "GET", more: str = "", body: bytes = b"") -> bytes:
    return f"{method} /{n} HTTP/1.1\r\nHost: x\r\n{more}\r\n".encode() + body


def response(n: int, body: bytes = b"") -> bytes:
    return f"HTTP/1.1 {200 + n}\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body


# ---------------------------------------------------------------------------------------------------------- real stacks


def assert_agrees(found: list[HttpTransaction], expected: list[Told]) -> None:
    assert len(found) == len(expected)
    for n, (t, e) in enumerate(zip(found, expected)):
        assert (t.trans_depth, t.method, t.uri, t.request_body_len) == (n, e.method, e.uri, e.request_body)
        assert t.headers == e.request_headers
        assert t.user_agent == dict(e.request_headers).get("User-Agent", "")
        assert t.header("host") == dict(e.request_headers).get("Host")
        if e.status:
            assert (t.status_code, t.status_msg, t.response_body_len) == (e.status, e.reason, e.response_body)
            assert t.response_headers == e.response_headers
            assert t.server == dict(e.response_headers)["Server"]
        assert not t.incomplete


REQUESTS: list[http_stacks.Request] = [
    ("GET", "/a?b=c", None, {"User-Agent": "one"}),
    ("HEAD", "/head", None, {}),
    ("POST", "/chunked", b"x" * 2000, {"Content-Type": "text/x"}),
    ("PUT", "/204", [b"GET / HTTP/1.1\r\n\r\n", b"y" * 3000], {"Transfer-Encoding": "chunked"}),
    ("GET", "/304", None, {"If-None-Match": "*"}),
    ("PROPFIND", "/missing", b"<x/>", {}),
    ("GET", "/phrase", None, {"Accept-Encoding": "identity"}),
    ("DELETE", "http://example.com/absolute", None, {}),
]


@pytest.mark.parametrize("seed", range(4))
def test_agrees_with_http_client_and_server(seed: int) -> None:
    requests = random.Random(seed).sample(REQUESTS, len(REQUESTS))
    segments, expected = http_stacks.by_client([*requests, ("GET", "/close", None, {})])
    assert_agrees(transactions(segments), expected)


@pytest.mark.parametrize("pieces", [1, 3, 40])
def test_agrees_with_http_server_on_pipelined_requests(pieces: int) -> None:
    targets = ["/a", "/chunked", "/204", "/b", "/missing", "/close"]
    data = b"".join(f"GET {t} HTTP/1.1\r\nHost: x\r\nUser-Agent: {t}\r\n\r\n".encode() for t in targets)
    segments, expected = http_stacks.by_hand(data, pieces)
    found = transactions(segments)
    assert_agrees(found, expected)
    assert [t.status_code for t in found] == [200, 200, 204, 200, 404, 200]


def test_agrees_with_http_server_on_an_interim_response() -> None:
    head = b"POST /a HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nConnection: close\r\nContent-Length: 3\r\n\r\n"
    segments, expected = http_stacks.by_hand(head + b"abc")
    assert any(b" 100 Continue" in data for _, data in segments)
    found = transactions(segments)
    assert_agrees(found, expected)
    assert found[0].status_code == 200


class Talk(Recorder):
    """Takes whether it is acknowledged, which makes no difference here."""

    def to_server(self, data: bytes, ack: bool = True) -> None:
        super().to_server(data)


@pytest.mark.parametrize("pipelined", [False, True])
def test_agrees_with_h11(pipelined: bool) -> None:
    talk = Talk()
    requests = [
        stacks.Request(
            ("GET", "POST", "HEAD")[n % 3], f"/{n}", (("Host", "h11.test"), ("User-Agent", f"agent {n}")), body=b"q" * (n % 3 % 2 * 10),
            status=200 + n, answer=b"z" * (900 * n), chunked=n % 2 == 0,
        )
        for n in range(8) if n != 4
    ]  # fmt: skip
    reports = stacks.http(talk, requests, pipelined=pipelined)  # type: ignore[arg-type]
    found = transactions(talk.segments)
    assert len(found) == len(reports)
    for t, report in zip(found, reports):
        assert {key: getattr(t, key) for key in report} == report


# ----------------------------------------------------------------------------------------------- what was not captured


def test_only_requests_are_delivered_at_the_end() -> None:
    assert told([(0, request(1)), (0, request(2))]) == [("/1", 0), ("/2", 0)]


def test_only_responses_are_delivered_alone() -> None:
    found = transactions([(1, response(1)), (1, response(2, b"body"))])
    assert [(t.status_code, t.has_request, t.trans_depth) for t in found] == [(201, False, 0), (202, False, 1)]


def test_a_connection_seen_from_its_middle_the_wrong_way_round() -> None:
    assert told([(0, b"rest of a body</html>\r\n" + response(0)), (1, request(1)), (0, response(1))]) == [("", 200), ("/1", 201)]


def test_a_hole_in_a_body_does_no_harm() -> None:
    half = b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n" + bytes(100)
    segments = [(0, request(1)), (1, half), (1, bytes(400) + response(2), 500), (0, request(2))]
    found = transactions([segments[0], segments[1], segments[3], segments[2]])
    assert [(t.uri, t.status_code, t.response_body_len, t.incomplete) for t in found] == [("/1", 200, 1000, True), ("/2", 202, 0, False)]


def test_a_hole_in_a_chunk_does_no_harm() -> None:
    half = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3e8\r\n" + bytes(100)
    found = transactions([(0, request(1)), (1, half), (1, bytes(400) + b"\r\n0\r\n\r\n", 500)])
    assert [(t.status_code, t.response_body_len, t.incomplete) for t in found] == [(200, 1000, True)]


def test_a_hole_that_swallows_a_response_does_not_shift_the_others() -> None:
    segments = [(0, request(1)), (0, request(2)), (1, b"</html>\n" + response(2), 700), (0, request(3)), (1, response(3))]
    assert told(segments) == [("/1", 0), ("/2", 202), ("/3", 203)]


def test_a_request_that_was_held_back_meets_its_response() -> None:
    with parser("http").session() as session:
        session.shown = []
        session.feed(0, request(0), ts=1)
        session.feed(1, response(0), ts=2)
        session.feed(1, response(1, b"b")[:-1], ts=4)
        session.feed(0, request(1), ts=3)  # behind a hole until now
        session.feed(1, b"b", ts=5)
        session.feed(1, response(2), ts=7)
        session.feed(0, request(2), ts=6)
        session.feed(0, request(3), ts=8)
        session.feed(1, response(3), ts=9)
        session.finish()
        found = [HttpTransaction(*event) for event in session.events]
    assert [(t.uri, t.status_code, t.trans_depth) for t in found] == [("/0", 200, 0), ("/1", 201, 1), ("/2", 202, 2), ("/3", 203, 3)]


def test_a_request_without_the_end_of_its_head_needs_a_response() -> None:
    assert told([(0, request(1)[:-10]), (0, request(2), 700)]) == [("/2", 0)]
    found = transactions([(0, request(1)[:-4]), (1, response(1))])
    assert [(t.uri, t.status_code, t.has_request) for t in found] == [("", 201, False)]
    found = transactions([(0, b"GET /1 HTTP/1.1\r\nHost: y\r\nCoo"), (0, b"", 700), (1, response(1))])
    assert [(t.uri, t.host, t.status_code, t.incomplete) for t in found] == [("/1", "y", 201, True)]


def test_losing_the_place_is_told() -> None:
    with parser("http").session() as session:
        assert session.feed(0, request(1)) == 0
        assert session.feed(0, b"tail\r\n" + request(2), 5) & RESYNCED


def test_a_response_without_length_ends_with_the_next_request() -> None:
    bare = b"HTTP/1.1 200 OK\r\n\r\n"
    segments = [(0, request(1)), (1, bare + b"HTTP/1.1 is a protocol\r\n"), (0, request(2)), (1, response(2))]
    found = transactions(segments)
    assert [(t.uri, t.status_code, t.response_body_len) for t in found] == [("/1", 200, 24), ("/2", 202, 0)]


# ------------------------------------------------------------------------------------------------------------- the rules


def test_a_granted_connect_ends_it() -> None:
    segments = [(0, b"CONNECT a:443 HTTP/1.1\r\n\r\n"), (1, b"HTTP/1.1 200 Connection established\r\n\r\n\x16\x03\x01"), (0, GET)]
    assert told(segments) == [("a:443", 200)]


def test_a_refused_connect_does_not() -> None:
    segments = [(0, b"CONNECT a:443 HTTP/1.1\r\n\r\n"), (1, response(207)), (0, request(2)), (1, response(2))]
    assert told(segments) == [("a:443", 407), ("/2", 202)]


def test_requests_before_a_change_of_protocol_are_delivered() -> None:
    with parser("http").session() as session:
        session.feed(0, request(1) + request(2))
        flags = session.feed(1, b"HTTP/1.1 101 Switching\r\n\r\n")
        assert (session.delivered, session.stopped, flags) == (2, True, READY | STOP)


def test_the_length_is_not_believed_beside_chunks() -> None:
    head = "Transfer-Encoding: chunked\r\nContent-Length: 3\r\n"
    assert told([(0, request(1, "POST", head, b"5\r\nhello\r\n0\r\n\r\n") + request(2))]) == [("/1", 0), ("/2", 0)]


@pytest.mark.parametrize("length", ["x", "-1", "", "99999999999999999999", "5x"])
def test_a_length_that_is_none(length: str) -> None:
    assert told([(0, request(1, "POST", f"Content-Length: {length}\r\n") + request(2))]) == [("/1", 0), ("/2", 0)]


@pytest.mark.parametrize("chunk", [b"x\r\n", b"\r\n", b"1111111111111111\r\n", b"2\r\nabc"])
def test_chunks_that_are_none_end_the_body(chunk: bytes) -> None:
    segments = [(0, request(1, "POST", "Transfer-Encoding: chunked\r\n", chunk)), (0, b"\r\n" + request(2))]
    found = transactions(segments)
    assert [t.uri for t in found] == ["/1", "/2"]
    assert found[0].incomplete


def test_the_last_of_several_headers_counts() -> None:
    [t] = transactions([(0, b"GET / HTTP/1.1\r\nhost: a\r\nHOST : b\r\nX: 1\r\nx: 2\r\n\r\n")])
    assert (t.host, t.header("X"), t.headers) == ("b", "2", [("host", "a"), ("HOST", "b"), ("X", "1"), ("x", "2")])


def test_no_byte_is_lost() -> None:
    agent = bytes(range(0x80, 0x100))
    [t] = transactions([(0, b"GET /\xff%ff?\xc3\xa9 HTTP/1.1\r\nUser-Agent: " + agent + b"\r\n\r\n")])
    assert t.header("user-agent") == agent.decode("latin-1")
    assert t.raw_headers == [(b"User-Agent", agent)]
    assert t.uri == "/\\xff%ff?\\xc3\\xa9"
    assert b"/\xff%ff?\xc3\xa9" in t.request_head


def test_times_are_those_of_the_start_lines() -> None:
    [t] = transactions([(0, GET[:5]), (0, GET[5:]), (1, OK[:20]), (1, OK[20:])])
    assert (t.request_ts, t.response_ts) == (1 * SECOND, 3 * SECOND)


# ---------------------------------------------------------------------------------------------------------------- limits


def feed_all(session: Session, direction: int, data: bytes, size: int) -> int:
    flags = 0
    for at in range(0, len(data), size):
        flags |= session.feed(direction, data[at : at + size])
    return flags


@pytest.mark.parametrize("size", [1460, 1 << 20])
def test_a_head_beyond_the_limit_is_left(size: int) -> None:
    long = b"GET /long HTTP/1.1\r\nHost: x\r\n" + b"A: b\r\n" * 20_000 + b"\r\n"
    with parser("http").session() as session:
        session.shown = []
        assert feed_all(session, 0, long + request(2), size) & LIMITED
        session.feed(1, response(1))
        session.feed(1, response(2))
        session.finish()
        found = [HttpTransaction(*event) for event in session.events]
    assert [(t.uri, t.incomplete) for t in found] == [("/long", True), ("/2", False)]
    assert len(found[0].request_head) <= HEAD_LIMIT


def test_a_line_beyond_the_limit_is_passed_over() -> None:
    assert told([(0, b"GET /" + b"a" * 100_000 + b" HTTP/1.1\r\n\r\n" + request(2))]) == [("/2", 0)]


def test_more_requests_than_can_wait_do_not_shift_the_responses() -> None:
    many = MOST_PENDING + 6
    with parser("http").session() as session:
        session.shown = []
        session.feed(0, b"".join(request(n) for n in range(many)))
        assert session.delivered == 6
        session.feed(1, b"".join(response(n) for n in range(many)))
        session.finish()
        found = [HttpTransaction(*event) for event in session.events]
    paired = [(t.uri, t.status_code) for t in found if t.has_request and t.has_response]
    assert paired == [(f"/{n}", 200 + n) for n in range(6, many)]


def test_without_memory_it_goes_on() -> None:
    http = parser("http")
    http.reset_arena(1024)
    try:
        with http.session() as session:
            flags = session.feed(0, request(1, more="A: " + "b" * 3000 + "\r\n") + request(2)) | session.feed(1, response(1) + response(2))
            session.finish()
            assert flags & LIMITED
            assert session.delivered >= 1
        assert http.used == 0
    finally:
        http.reset_arena(32 << 20)


def test_what_is_no_http_is_given_back() -> None:
    with parser("http").session() as session:
        assert feed_all(session, 0, b"GET \x00\r\n" + b"nothing of that kind\r\n" * 2000, 1000) & NOT_OURS


# ----------------------------------------------------------------------------------------------------------------- probe

LONG = b"GET /" + b"a" * 300


@pytest.mark.parametrize(
    ("data", "answer"),
    [
        (b"GET / HTTP/1.1\r\n", Probe.CERTAIN),
        (b"\r\nget /x y HTTP/1.0\n", Probe.CERTAIN),
        (b"VERSION-CONTROL /x HTTP/1.1\r\n", Probe.CERTAIN),
        (b"HTTP/1.1 200 OK\r\n", Probe.CERTAIN),
        (b"HTTP/1.0 404\r", Probe.CERTAIN),
        (LONG, Probe.CERTAIN),
        (b"GET / HTT", Probe.UNSURE),
        (b"HTTP/1", Probe.UNSURE),
        (b"\r\n", Probe.UNSURE),
        (b"OPTIONS rtsp://x/ RTSP/1.0\r\n", Probe.NOT_OURS),
        (b"OPTIONS sip:x SIP/2.0\r\n", Probe.NOT_OURS),
        (b"PRI * HTTP/2.0\r\n", Probe.NOT_OURS),
        (b"GET /\r\n", Probe.NOT_OURS),
        (b"EHLO x\r\n", Probe.NOT_OURS),
        (b"SSH-2.0-x\r\n", Probe.NOT_OURS),
        (b"RTSP/1.0 200 OK\r\n", Probe.NOT_OURS),
        (b"HTTP/2 200\r\n", Probe.NOT_OURS),
        (b"foo " + b"a" * 300, Probe.NOT_OURS),
        (b"\x16\x03\x01", Probe.NOT_OURS),
    ],
)
def test_probe(data: bytes, answer: Probe) -> None:
    assert parser("http").probe(data) == answer
