"""IP fragments: the table against its plain twin in every arrangement of three chunks, then whole packets through a run."""

from __future__ import annotations

import itertools
import random
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from oracle.fragments import Table
from support import state_kernels
from support.running import collect, config, run_frames, to
from traffic import CLIENT, Frame, Link, UdpExchange
from traffic import packets as p

from retina_jit import objects
from retina_jit.memory import Region
from retina_jit.state.arena import ARENA
from retina_jit.state.fragments import DATAGRAM, FRAGMENTS

FILE = str(Path(state_kernels.__file__))
MS = 1_000_000
WHAT = ("refused", "held", "whole")

Operation = tuple[int, int, int, bool, bytes, int, bool]
"""Key, time, offset, more, data, bytes captured of it, whether the burst ends here."""


@cache
def entry() -> objects.Entry:
    return objects.function(f"{FILE}:fragment_table")


class Kernel:
    """The compiled table."""

    def __init__(self, most: int, timeout: int, pool: int = 64 << 20) -> None:
        self.words, self.arena = np.zeros(1, FRAGMENTS), np.zeros(1, ARENA)
        self.records, self.heads = np.zeros(most + 5000, DATAGRAM), np.zeros(2 * most, np.int32)
        self.pool = Region(pool)
        w = self.words
        w["records"] = most + 5000
        w["pool"], w["heads"], w["most"], w["timeout"] = self.records.ctypes.data, self.heads.ctypes.data, most, timeout
        self.arena["top"], self.arena["end"] = self.pool.address, self.pool.address + pool

    def take(self, operations: list[Operation]) -> list[tuple[str, int, bytes]]:
        data = np.frombuffer(b"".join(o[4] for o in operations) + b"\0", np.uint8)
        given, at = np.zeros((len(operations), 8), np.int64), data.ctypes.data
        for row, (key, ts, offset, more, piece, captured, ends) in zip(given, operations):
            row[:] = key, ts, offset, more, at, len(piece), captured, ends
            at += len(piece)
        answers, out = np.zeros((len(operations), 3), np.int64), np.zeros(len(data) + 65536, np.uint8)
        entry()(self.words.ctypes.data, self.arena.ctypes.data, given.ctypes.data, len(operations), answers.ctypes.data, out.ctypes.data)
        found, start = [], 0
        for what, total, there in answers.tolist():
            found.append((WHAT[what], total, out[start : start + there].tobytes()))
            start += there
        return found


def compare(operations: list[Operation], most: int, timeout: int) -> Kernel:
    kernel, twin = Kernel(most, timeout), Table(most, timeout)
    for operation, (what, _, data) in zip(operations, kernel.take(operations)):
        key, ts, offset, more, piece, _, ends = operation
        want = twin.take(key, ts, offset, more, piece)
        assert (data if what == "whole" else what) == want, operation
        if ends:
            twin.sweep(ts)
    told = kernel.words[["given_up", "overlap", "inconsistent", "live"]][0].tolist()
    assert told == (twin.given_up, twin.overlap, twin.inconsistent, len(twin.waiting))
    return kernel


def test_every_arrangement_of_three_chunks_follows_the_policy():
    """First copy wins, whatever the order, the overlap, and which of them claims to be the last."""
    spans = [(a, b) for a in range(4) for b in range(a + 1, 5)]
    operations: list[Operation] = []
    for key, (chunks, last, tail) in enumerate(itertools.product(itertools.product(spans, repeat=3), range(8), (0, 3))):
        for n, (a, b) in enumerate(chunks):
            more = not last >> n & 1
            data = bytes([n + 1]) * (8 * (b - a) - (0 if more else tail))
            operations.append((key, 0, 8 * a, more, data, len(data), n == 2))
    assert len(operations) == 3 * 16 * 1000
    compare(operations, most=1 << 14, timeout=1)


@pytest.mark.parametrize("seed", range(4))
def test_random_fragments_agree_with_the_twin(seed):
    rng = random.Random(seed)
    operations: list[Operation] = []
    now = 0
    for _ in range(4000):
        now += rng.choice((0, 0, 1, 20, 500))
        offset = 8 * rng.choice((0, 1, 2, 3, 10, 100, 8191))
        more = rng.random() < 0.7
        data = rng.choice((b"a", b"b")) * rng.choice((0, 1, 7, 8, 16, 24, 160, 4000))
        operations.append((rng.randrange(20), now, offset, more, data, len(data), rng.random() < 0.3))
    compare(operations, most=8, timeout=300)


def test_memory_comes_back():
    kernel = Kernel(8, 100)
    pieces = [(n % 20, 0, 8 * (n % 5), True, b"x" * 8, 8, False) for n in range(400)]
    kernel.take([*pieces, (0, 10_000, 0, False, b"y", 1, True), (1, 10**9, 0, False, b"y", 1, True), (1, 10**10, 8, True, b"y" * 8, 8, True)])
    kernel.take([(2, 10**12, 0, False, b"y", 1, True)])
    assert int(kernel.arena["used"][0]) == 0


def test_no_memory_refuses():
    kernel = Kernel(64, 100, pool=2 << 20)
    answers = kernel.take([(n, 0, 65520, True, b"x" * 8, 8, False) for n in range(64)])
    assert {a[0] for a in answers} == {"held", "refused"}
    assert int(kernel.words["live"][0]) == [a[0] for a in answers].count("held")


def test_captured_bytes_end_where_a_fragment_was_cut():
    kernel = Kernel(8, 100)
    answers = kernel.take([(1, 0, 16, False, b"ccccc", 5, False), (1, 0, 8, True, b"bbbbbbbb", 3, False), (1, 0, 0, True, b"aaaaaaaa", 8, False)])
    assert answers[2] == ("whole", 21, b"aaaaaaaabbb")


# ------------------------------------------------------------------------------------------------------- whole runs

V4, V6 = ("192.0.2.1", "198.51.100.1"), ("2001:db8::1", "2001:db8::2")


def datagram(v6: bool, payload: bytes, ts: int = 10**18) -> Frame:
    a, b = V6 if v6 else V4
    talk = UdpExchange((a, 4000), (b, 53), start_ns=ts)
    talk.datagram(CLIENT, payload)
    return talk.frames[0]


def fragments_of(frame: Frame, mtu: int, ident: int = 7) -> list[Frame]:
    return [replace(frame, data=frame.data[:14] + piece, length=0) for piece in p.fragment(frame.data[14:], mtu, ident=ident)]


@pytest.mark.parametrize("v6", [False, True])
@pytest.mark.parametrize("order", [(0, 1, 2), (2, 1, 0), (1, 2, 0), (0, 0, 1, 2)])
def test_a_datagram_reaches_its_connection_once_and_whole(v6, order):
    whole = datagram(v6, bytes(range(256)) * 10)
    pieces = fragments_of(whole, 1000)
    assert len(pieces) == 3
    subscription, records = collect("ConnRecord")
    result = run_frames([subscription], [pieces[n] for n in order])
    (c,) = records
    assert (c.orig.nb_pkts, c.orig.nb_payload_bytes, c.orig.nb_pkt_bytes) == (1, 2560, len(whole.data))
    assert c.five_tuple.orig_port == 4000
    assert result.counters["fragment_used"] == len(order)
    assert result.counters["datagrams"] == 1


@pytest.mark.parametrize("v6", [False, True])
def test_what_is_not_whole_is_given_up_and_counted(v6):
    pieces = fragments_of(datagram(v6, bytes(2560)), 1000)
    late = replace(pieces[2], ts_ns=pieces[2].ts_ns + 31 * 10**9)
    subscription, records = collect("ConnRecord")
    result = run_frames([subscription], [*pieces[:2], late])
    assert records == []
    assert result.counters["fragment_timeout"] == 3
    assert result.counters["datagrams"] == 0


@pytest.mark.parametrize("v6", [False, True])
def test_tiny_first_fragment_hides_nothing(v6):
    """RFC 1858: the ports are in the first eight bytes, the length in the second fragment's."""
    whole = datagram(v6, b"0123456789abcdef")
    subscription, records = collect("ConnRecord")
    run_frames([subscription], fragments_of(whole, 28 if not v6 else 56))
    assert [(c.five_tuple.resp_port, c.orig.nb_payload_bytes) for c in records] == [(53, 16)]


def test_atomic_fragment_is_a_packet():
    packet = datagram(True, b"abc").data[14:]
    atomic = packet[:4] + (len(packet) - 40 + 8).to_bytes(2, "big") + bytes([44]) + packet[7:40] + bytes([17, 0, 0, 0, 0, 0, 0, 9]) + packet[40:]
    subscription, records = collect("ConnRecord")
    result = run_frames([subscription], [Frame(10**18, Link().wrap(0x86DD, atomic))])
    assert len(records) == 1
    assert result.counters["fragment_used"] == result.counters["datagrams"] == 0


def test_packet_subscriptions_see_the_fragments_connections_the_datagram():
    pieces = fragments_of(datagram(False, bytes(2560)), 1000)
    conn, records = collect("ConnRecord")
    frames: list[Any] = []
    result = run_frames([conn, to("ZcFrame", "ipv4", frames.append)], pieces)
    assert [f.length for f in frames] == [len(f.data) for f in pieces]
    assert len(records) == 1
    alone: list[Any] = []
    result = run_frames([to("ZcFrame", "udp", alone.append)], pieces)
    assert len(alone) == 1  # only the first has ports
    assert result.counters["not_transport"] == 2


def test_fragments_are_left_alone_when_switched_off():
    pieces = fragments_of(datagram(False, bytes(2560)), 1000)
    subscription, records = collect("ConnRecord")
    result = run_frames([subscription], pieces, config(max_datagrams=0))
    assert result.counters["not_transport"] == 2
    assert [c.orig.nb_pkts for c in records] == [1]


@pytest.mark.parametrize("inside", [False, True])
def test_fragments_around_and_inside_a_tunnel(inside):
    inner = datagram(False, bytes(2560))
    if inside:
        outer = [p.ipv4("192.0.2.9", "192.0.2.8", 4, f.data[14:]) for f in fragments_of(inner, 1000)]
    else:
        outer = p.fragment(p.ipv4("192.0.2.9", "192.0.2.8", 4, inner.data[14:]), 1000, ident=3)
    subscription, records = collect("ConnRecord")
    result = run_frames([subscription], [Frame(inner.ts_ns, Link().wrap(0x0800, x)) for x in outer], config(decap=("ipip",)))
    assert [(c.five_tuple.orig_addr, c.orig.nb_pkts, c.orig.nb_payload_bytes) for c in records] == [("192.0.2.1", 1, 2560)]
    assert result.counters["datagrams"] == 1
    assert result.counters["frames"] == 3
