"""HTTP transactions that are made up, in every way of writing them, cut anywhere: the parser says what they were made of."""

from __future__ import annotations

from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.sessions import Timed, parser

LOOSE = {"deadline": None, "suppress_health_check": list(HealthCheck)}
TOKEN = st.text("abcXYZ019-_.!~", min_size=1, max_size=12)
VALUE = st.binary(max_size=30).map(lambda b: bytes(c for c in b if c not in b"\r\n\0 \t").strip())
CRLF = st.sampled_from([b"\r\n", b"\r\n", b"\n"])
SPACE = st.sampled_from([b"", b" ", b"  ", b"\t"])
FOLD = st.sampled_from([b"\r\n ", b"\r\n\t", b"\n  "])
NOTED = ("Host", "User-Agent", "Cookie", "Referer", "Origin", "Server", "Location", "Content-Type")


def case(draw: Any, name: str) -> str:
    return draw(st.sampled_from([name, name.lower(), name.upper(), name.swapcase()]))


def headers(draw: Any) -> tuple[bytes, list[tuple[str, bytes]]]:
    """Header lines, and what they say: names as written, values as they are to be read."""
    lines, said = b"", []
    for name in draw(st.lists(st.one_of(st.sampled_from(NOTED), TOKEN.map("X-".__add__)), max_size=6)):
        name = case(draw, name)
        value, shown = draw(VALUE), b""
        written = shown = value
        if value and draw(st.integers(0, 9)) == 0:
            fold, rest = draw(FOLD), draw(VALUE.filter(bool))
            written = value + fold + rest
            shown = value + fold.translate(bytes.maketrans(b"\r\n", b"  ")) + rest
        lines += name.encode() + draw(st.sampled_from([b"", b"", b" "])) + b":" + draw(SPACE) + written + draw(SPACE) + draw(CRLF)
        said.append((name, shown))
    return lines, said


def body(draw: Any, response: bool) -> tuple[bytes, bytes, int]:
    """Header lines that say how long the body is, the body as it is sent, and its length."""
    content = draw(st.binary(max_size=60) | st.just(b"GET / HTTP/1.1\r\n\r\nHTTP/1.1 200 OK\r\n\r\n"))
    kind = draw(st.sampled_from(["none", "length", "chunks"]))
    if kind == "none":
        return (b"Content-Length: 0\r\n" if response else b""), b"", 0
    if kind == "length":
        return case(draw, "Content-Length").encode() + b": %d\r\n" % len(content), content, len(content)
    sent, at = b"", 0
    while at < len(content):
        size = draw(st.integers(1, 30))
        piece = content[at : at + size]
        sent += draw(st.sampled_from([b"%x", b"%X", b"0%x"])) % len(piece) + draw(st.sampled_from([b"", b";a", b' ; b="c"'])) + draw(CRLF)
        sent += piece + draw(CRLF)
        at += size
    trailer = draw(st.sampled_from([b"", b"", b"T: GET / HTTP/1.1\r\n", b"A: b\nC: d\r\n"]))
    coding = case(draw, draw(st.sampled_from(["chunked", "gzip, chunked"]))).encode()
    return case(draw, "Transfer-Encoding").encode() + b": " + coding + b"\r\n", sent + b"0\r\n" + trailer + draw(CRLF), len(content)


def last(said: list[tuple[str, bytes]], name: str) -> bytes | None:
    return next((value for n, value in reversed(said) if n.lower() == name), None)


@st.composite
def exchange(draw: Any) -> tuple[bytes, bytes, dict[str, Any]]:
    """Bytes of a request and of its response, and the fields that they give."""
    method = draw(st.sampled_from(["GET", "HEAD", "POST", "PROPFIND", "get", "M-SEARCH"]) | TOKEN)
    uri = b"/" + draw(VALUE)
    lines, said = headers(draw)
    framing, content, length = body(draw, response=False)
    lines, said = (lines + framing, said)
    sent = draw(st.sampled_from([b"", b"", b"\r\n"])) + method.encode() + b" " + uri + b" HTTP/1.1" + draw(CRLF) + lines + draw(CRLF) + content
    status = draw(st.sampled_from([200, 204, 304, 404, 500, 999]))
    answer_lines, answer_said = headers(draw)
    answer_framing, answer_content, answer_length = body(draw, response=True)
    if method == "HEAD" or status in (204, 304):
        answer_content, answer_length = b"", 0
    answer = draw(st.sampled_from([b"", b"", b"HTTP/1.1 100 Continue\r\nHost: no\r\n\r\n"]))
    answer += b"HTTP/1.%d %d" % (draw(st.integers(0, 1)), status) + draw(st.sampled_from([b"", b" OK", b" Two Words "])) + draw(CRLF)
    answer += answer_lines + answer_framing + draw(CRLF) + answer_content
    fields = {
        "method": method.encode(), "uri": uri, "host": last(said, "host"), "user_agent": last(said, "user-agent"),
        "cookie": last(said, "cookie"), "referer": last(said, "referer"), "origin": last(said, "origin"),
        "request_content_type": last(said, "content-type"), "request_body_len": length, "status_code": status,
        "server": last(answer_said, "server"), "location": last(answer_said, "location"),
        "response_content_type": last(answer_said, "content-type"), "response_body_len": answer_length,
    }  # fmt: skip
    names = [n.encode() for n, _ in said] + ([framing.split(b":")[0]] if framing else [])
    return sent, answer, {**fields, "header_names": names}


def mixed(draw: Any, exchanges: list[tuple[bytes, bytes, dict[str, Any]]]) -> list[Timed]:
    """Pieces of both streams; a response begins after its request has ended."""
    pipelined = draw(st.booleans())
    pieces: list[tuple[int, bytes]] = []
    if pipelined:
        pieces = [(0, b"".join(sent for sent, _, _ in exchanges)), (1, b"".join(answer for _, answer, _ in exchanges))]
    else:
        pieces = [piece for sent, answer, _ in exchanges for piece in ((0, sent), (1, answer))]
    found = []
    for direction, data in pieces:
        places = sorted(draw(st.lists(st.integers(0, len(data)), max_size=8)))
        found += [(1, direction, data[a:b]) for a, b in zip([0, *places], [*places, len(data)])]
    return found


@settings(max_examples=400, **LOOSE)
@given(st.data())
def test_transactions_are_what_they_were_made_of(data: st.DataObject) -> None:
    exchanges = data.draw(st.lists(exchange(), min_size=1, max_size=5))
    parsed, finished = parser("http").conversation(mixed(data.draw, exchanges))
    assert finished == [], "it waited for the end of the connection"
    assert [{key: found[key] for key in fields} for found, (_, _, fields) in zip(parsed, exchanges)] == [f for _, _, f in exchanges]
    assert len(parsed) == len(exchanges)
    assert [found["trans_depth"] for found in parsed] == list(range(len(exchanges)))
    assert parser("http").used == 0
