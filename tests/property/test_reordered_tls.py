"""A TLS connection cut otherwise, with segments repeated, overlapping and out of order, is the same TLS connection."""

from __future__ import annotations

import random
from dataclasses import replace
from functools import cache
from typing import Any

import pytest
from oracle.captures import read_capture
from oracle.tracker import see
from support.running import SAMPLES, collect, run_content, run_frames
from traffic import Frame, TcpConversation

Said = list[tuple[int, bytes]]


@cache
def conversations() -> list[tuple[dict[str, Any], Said]]:
    """The TLS connections of the shipped sample: what is delivered of each, and what its sides said in turn."""
    content = (SAMPLES / "tls.pcap").read_bytes()
    subscription, rows = collect("TlsHandshake,FiveTuple")
    run_content([subscription], content)
    said: dict[Any, Said] = {}
    expected: dict[Any, int] = {}
    disordered = set()
    for captured in read_capture(content).frames:
        p = see(captured.ts, captured.data, captured.length, captured.link)
        assert p is not None
        key = frozenset((p.src, p.dst))
        if p.payload_len:
            if p.seq != expected.get((p.src, p.dst), p.seq):
                disordered.add(key)
            expected[p.src, p.dst] = (p.seq + p.payload_len) % 2**32
            turns = said.setdefault(key, [])
            turns.append((p.src[2] == 443, p.data))
    ports = {next(e[2] for e in key if e[2] != 443): turns for key, turns in said.items() if key not in disordered}
    found = [(tls.to_dict(raw=True), ports[t.orig_port]) for tls, t in rows if t.orig_port in ports and t.resp_port == 443]
    assert len(found) > 10
    return found


def disturbed(rng: random.Random, said: Said, number: int) -> list[Frame]:
    """The same bytes in other segments; what one side says in one turn is shuffled and repeated."""
    talk = TcpConversation((f"10.1.{number >> 8}.{number & 255}", 40000), ("198.51.100.1", 443), isn=(rng.getrandbits(32), 2**32 - rng.randint(1, 600)))
    talk.open()
    turns: Said = []
    for side, data in said:
        if turns and turns[-1][0] == side:
            turns[-1] = (side, turns[-1][1] + data)
        else:
            turns.append((side, data))
    frames, talk.frames = talk.frames, []
    for side, data in turns:
        begin, at = talk.next_seq[side], 0
        size = rng.choice((1, 5, 50, 300, 1400)) if len(data) < 600 else rng.choice((50, 300, 1400))
        while at < len(data):
            start, end = max(0, at - rng.choice((0, 0, 3))), min(len(data), at + rng.randint(1, size))
            talk.segment(side, data[start:end], seq=(begin + start) % 2**32)
            at = end
        talk.next_seq[side] = (begin + len(data)) % 2**32
        turn = [f for f in talk.frames for _ in range(rng.choice((1, 1, 1, 2)))]
        for n in range(len(turn)):
            if rng.random() < 0.3:
                turn.insert(min(len(turn) - 1, n + rng.randint(1, 8)), turn.pop(n))
        frames += turn
        talk.frames = []
    talk.close()
    frames += talk.frames
    return [replace(f, ts_ns=frames[0].ts_ns + 1000 * n) for n, f in enumerate(frames)]


@pytest.mark.parametrize("seed", range(4))
def test_disturbed_handshake_is_delivered_the_same(seed):
    rng = random.Random(seed)
    cases = conversations()
    frames: list[Frame] = []
    for number, (_, said) in enumerate(cases):
        frames += disturbed(rng, said, number)
    subscription, rows = collect("TlsHandshake,FiveTuple")
    result = run_frames([subscription], sorted(frames, key=lambda f: f.ts_ns))
    assert result.counters["holes"] == 0 and result.counters["segments_held"] > 0
    got = {t.orig_addr: tls.to_dict(raw=True) for tls, t in rows}
    for number, (want, _) in enumerate(cases):
        assert got[f"10.1.{number >> 8}.{number & 255}"] == want
