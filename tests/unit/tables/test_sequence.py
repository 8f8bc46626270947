"""A connection's packets as bytes over time: numbers that wrap, what is sent again, what comes late, datagrams."""

from __future__ import annotations

import random

import matplotlib as mpl
import pytest
from traffic import TcpConversation, UdpExchange

import retina_jit as rj
from retina_jit.tables.sequence import Segment, _add, segments

mpl.use("Agg")
CLIENT, SERVER = ("192.0.2.10", 40000), ("198.51.100.20", 443)


def listed(frames) -> rj.Table:
    return rj.from_bytes((f.ts_ns, f.data) for f in frames).select("", rj.BidirPktStream, rj.FiveTuple)


def found(frames) -> list[Segment]:
    return segments(listed(frames)[0]["packets"], 1)


def talk(**options) -> TcpConversation:
    made = TcpConversation(CLIENT, SERVER, **options)
    made.open()
    made.to_server(b"x" * 100)
    made.to_client(b"y" * 2000, mss=1000)
    return made


def runs(made: list[Segment], way: int) -> list[tuple[int, int]]:
    return [(s.start, s.end) for s in made if s.direction == way and s.end > s.start]


def test_bytes_of_both_directions_count_from_their_syn() -> None:
    made = talk()
    made.close()
    segments_ = found(made.frames)
    assert len(segments_) == len(made.frames)
    assert runs(segments_, 0) == [(0, 1), (1, 101), (101, 102)]
    assert runs(segments_, 1) == [(0, 1), (1, 1001), (1001, 2001), (2001, 2002)]
    assert not any(s.again for s in segments_)
    assert [s.time for s in segments_] == [(f.ts_ns - made.frames[0].ts_ns) / 1e9 for f in made.frames]
    assert max(s.ack or 0 for s in segments_ if s.direction == 1) == 102


def test_numbers_wrap() -> None:
    frames = talk(isn=(2**32 - 50, 2**32 - 500)).frames
    assert runs(found(frames), 0) == [(0, 1), (1, 101)]
    assert runs(found(frames), 1) == [(0, 1), (1, 1001), (1001, 2001)]


def test_late_is_not_again() -> None:
    frames = list(talk().frames)
    places = [n for n, s in enumerate(found(frames)) if s.direction == 1 and s.end - s.start == 1000]
    a, b = places
    swapped = [*frames]
    swapped[a], swapped[b] = frames[b], frames[a]
    times = [f.ts_ns for f in frames]
    late = [type(f)(t, f.data) for f, t in zip(swapped, times, strict=True)]
    assert runs(found(late), 1) == [(0, 1), (1001, 2001), (1, 1001)]
    assert not any(s.again for s in found(late))
    twice = [*late, type(late[0])(times[-1] + 1000, frames[a].data)]
    assert [s.again for s in found(twice)] == [False] * len(late) + [True]


def test_datagrams_are_counted_through() -> None:
    exchange = UdpExchange(CLIENT, SERVER)
    exchange.to_server(b"a" * 10)
    exchange.to_client(b"b" * 300)
    exchange.to_server(b"c" * 20)
    made = found(exchange.frames)
    assert (runs(made, 0), runs(made, 1)) == ([(0, 10), (10, 30)], [(0, 300)])
    assert all(s.ack is None and not s.again for s in made)


def test_no_byte_is_read_that_a_packet_has_not() -> None:
    """Of a list that is too long for an event some packets have lengths, and no bytes."""
    one = listed(talk().frames)[0]["packets"][3]
    assert len(segments([one], 1)) == 1
    assert segments([{**one, "data": memoryview(one["data"])[:20]}], 1) == []
    assert segments([{**one, "data": b""}], 1) == []


def test_runs_of_bytes_are_joined_as_a_set_of_them_is() -> None:
    chance = random.Random(1)
    for _ in range(200):
        there: list[tuple[int, int]] = []
        bytes_: set[int] = set()
        for _ in range(30):
            start = chance.randrange(60)
            end = start + chance.randrange(1, 12)
            new = not set(range(start, end)) <= bytes_
            bytes_ |= set(range(start, end))
            assert _add(there, start, end) == new
            assert sorted(b for a, e in there for b in range(a, e)) == sorted(bytes_)
            assert there == sorted(there)


def test_the_picture() -> None:
    table = listed(talk().frames)
    ax = table.plot.sequence()
    assert ax.get_title() == "192.0.2.10:40000 → 198.51.100.20:443"
    assert {t.get_text() for t in ax.get_legend().get_texts()} == {"originator", "responder", "SYN"}
    ends = sorted(y for line in ax.get_lines() if line.get_label() in ("originator", "responder") for y in line.get_ydata())
    assert ends == [-2001, -1001, -1, 1, 101]
    assert table.plot.sequence(-1, ax=ax) is ax
    with pytest.raises(IndexError):
        table.plot.sequence(1)
    with pytest.raises(KeyError, match="BidirPktStream"):
        rj.read(rj.sample_capture("mixed")).connections.plot.sequence()
    assert table.plot.sequence(link=0).texts[0].get_text() == "no rows"  # no packets of BSD loopback
