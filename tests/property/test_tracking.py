"""Connection tracking, TCP life, counters and reassembly against the plain tracker, on seeded traffic mixes."""

from __future__ import annotations

import itertools
import os
import random
from collections import defaultdict
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from oracle.tracker import Settings, Tracker
from support.mixes import faithful, mix
from support.running import collect, config, run_frames
from support.tracking import compare, run
from traffic import Frame, TcpConversation

PER_RUN = int(os.environ.get("RETINA_JIT_MIXES", "100"))
"""Mixes in each run; 24 runs of them."""


def merged(mixes: list[Any]) -> list[Frame]:
    return sorted((f for m in mixes for f in m.frames), key=lambda f: f.ts_ns)


CASES = {
    "default": Settings(),
    "midstream": Settings(midstream=True),
    "parse": Settings(parse=True),
    "parse midstream": Settings(parse=True, midstream=True),
    "few held": Settings(parse=True, most_held=3),
    "one held": Settings(parse=True, most_held=1),
    "short timeouts": Settings(tcp_establish=700, tcp_inactivity=2000, udp_inactivity=900, tcp_close=50, midstream=True, parse=True),
    "long close": Settings(tcp_close=400_000, parse=True),
}


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("part", range(3))
def test_mixes_agree_with_plain_tracker(name, part):
    s = CASES[name]
    base = 1_000_000 * list(CASES).index(name) + 10_000 * part
    compare(merged([mix(base + n, n, s) for n in range(PER_RUN)]), s)


@settings(max_examples=10, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    st.integers(0, 2**40),
    st.builds(
        Settings,
        tcp_establish=st.sampled_from([1, 100, 5000]),
        tcp_inactivity=st.sampled_from([1, 2000, 300_000]),
        udp_inactivity=st.sampled_from([1, 60_000]),
        tcp_close=st.sampled_from([1, 1000]),
        midstream=st.booleans(),
        most_held=st.sampled_from([1, 2, 5, 100]),
        parse=st.booleans(),
    ),
    st.sampled_from([1, 7, 100, 1000]),
)
def test_any_configuration_agrees_with_plain_tracker(seed, s, resolution):
    compare(merged([mix(seed + n, n, s) for n in range(10)]), s, timeout_resolution=resolution)


@pytest.mark.parametrize("part", range(2))
def test_reassembly_gives_back_what_was_sent(part):
    mixes = [faithful(5_000_000 + 1000 * part + n, n) for n in range(PER_RUN)]
    s = Settings(parse=True)
    frames = merged(mixes)
    _, seen, counters = run(frames, s)
    by_end = {e[:2]: t for e, t in seen}
    for m in mixes:
        (client, to_server, to_client) = m.sent[0]
        if max(len(to_server), len(to_client)) < 4:
            continue
        got = by_end[client]
        assert [b"".join(t) for t in got] == [to_server, to_client]
    assert counters["holes"] == 0 and counters["overlap_inconsistent"] == 0
    compare(frames, s)


def test_full_table_refuses_and_counts():
    s = Settings(midstream=True)
    frames = merged([mix(7_000_000 + n, n, s) for n in range(40)])
    subscription, records = collect("ConnRecord")
    result = run_frames([subscription], frames, config(max_connections=20, midstream=True))
    assert result.extra["live_peak"] == 20
    assert result.counters["table_full"] > 0
    assert result.counters["connections"] == len(records)
    assert sum(c.total_pkts for c in records) == result.counters["tracked"]


def test_mixes_reach_every_counter():
    total: dict[str, int] = defaultdict(int)
    for s in (CASES["few held"], CASES["short timeouts"]):
        tracker = Tracker(s)
        for f in merged([mix(n, n, s) for n in range(PER_RUN)]):
            tracker.frame(f.ts_ns, f.data, f.length)
        tracker.finish()
        for name, n in tracker.counters.items():
            total[name] += n
    assert [name for name, n in total.items() if n == 0] == []


def test_connections_that_come_and_go_while_time_stands_still():
    # Each leaves an entry in the timer wheel; the wheel does not turn, and its room is that of five connections.
    talk = TcpConversation(("192.0.2.1", 40000), ("198.51.100.1", 443), step_ns=0)
    for n in range(1500):
        talk.next_seq = [n, 2 * n]
        talk.segment(0, flags=2, ack=0)
        talk.segment(1, flags=4 | 16)
    compare(talk.frames, Settings(), max_connections=5)


def test_clock_that_jumps_far_ahead():
    frames = merged([mix(8_000_000 + n, n, Settings()) for n in range(30)])
    frames.insert(len(frames) // 2, replace(frames[0], ts_ns=frames[0].ts_ns + 60 * 10**9 * 60 * 24 * 365))
    subscription, records = collect("ConnRecord")
    result = run_frames([subscription], frames, config(max_connections=50, midstream=True))
    assert sum(c.total_pkts for c in records) == result.counters["tracked"]


def with_holes(number: int, places: list[int], filled: list[int]) -> list[Frame]:
    """A conversation whose client sends one segment at each place, and then what fills some of the holes between."""
    talk = TcpConversation((f"10.{number >> 8}.{number & 255}.1", 40000), ("198.51.100.1", 443), isn=(2**32 - 70, 5), start_ns=10**18)
    talk.open()
    for place in [*places, *filled]:
        talk.segment(0, b"C" * 9, seq=(2**32 - 69 + 9 * place) % 2**32)
    return talk.frames


def test_more_gaps_than_a_block_begins_with():
    """The block of intervals and gaps grows to its most; holes open in every order, and close or do not."""
    rng = random.Random(1)
    frames: list[Frame] = []
    number = 0
    for holes in (1, 5, 6, 7, 13, 14, 15, 29, 30, 31, 62, 63, 99, 100, 101, 130):
        for order in ("forward", "backward", "any"):
            places = [2 * n + 1 for n in range(holes)]
            if order != "forward":
                places = places[::-1] if order == "backward" else rng.sample(places, holes)
            frames += with_holes(number, places, rng.sample([p - 1 for p in places], rng.choice((0, holes // 2, holes))))
            number += 1
    compare(sorted(frames, key=lambda f: f.ts_ns), Settings())


def test_gaps_when_memory_is_short():
    """Packets are counted all the same; what is told of intervals is true, if not all."""
    holes, connections = 40, 1500
    frames = [f for n in range(connections) for f in with_holes(n, [2 * k + 1 for k in range(holes)], [])]
    subscription, records = collect("ConnRecord")
    result = run_frames([subscription], frames, config(memory=1))
    assert result.counters["tracked"] == len(frames)
    assert {c.orig.nb_pkts for c in records} == {holes + 2}
    lengths = {len(c.orig.chunks) for c in records}
    assert max(lengths) == holes and min(lengths) < holes
    every = [(9 * (2 * k + 1), 9 * (2 * k + 2)) for k in range(holes)]
    assert all(c.orig.chunks == every[: len(c.orig.chunks)] for c in records)


def test_every_arrangement_of_three_chunks_follows_the_policy():
    """First copy wins, in every order and overlap, behind a first segment or a hole."""
    spans = [(a, b) for a in range(3) for b in range(a + 1, 4)]
    frames: list[Frame] = []
    for number, (chunks, hole) in enumerate(itertools.product(itertools.product(spans, repeat=3), (False, True))):
        talk = TcpConversation((f"10.1.{number >> 8}.{number & 255}", 40000), ("198.51.100.1", 443), isn=(2**32 - 7, 5), start_ns=10**18)
        talk.open()
        for n, (a, b) in enumerate(chunks):
            talk.segment(0, bytes([65 + n]) * (4 * (b - a)), seq=(2**32 - 6 + 4 * a + hole) % 2**32)
        frames += talk.frames
    frames.sort(key=lambda f: f.ts_ns)
    for most_held in (100, 1):
        compare(frames, Settings(parse=True, most_held=most_held))
