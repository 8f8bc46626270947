"""No conversation costs a parser more than its length: one that is eight times as long takes about eight times as long."""

from __future__ import annotations

import time
from functools import cache

import numpy as np
import pytest
from support.damaged_sessions import Player
from support.hostile import SHORT, Segments, makers

from retina_jit.parsers.protocol import protocols

LONGER = 8
MOST = 24
"""Times as long; what costs the square of its length takes 64 times as long."""
NAMES = sorted(n for n, p in protocols().items() if p.level == "session" and p.examples and not p.like)
CASES = [pytest.param(name, kind, id=f"{name}-{kind}") for name in NAMES for kind in makers(name)]


@cache
def player(name: str) -> Player:
    return Player(name)


def packed(transport: int, segments: Segments) -> bytes:
    """A conversation as `fuzz_kernels` reads it, its segments a microsecond apart."""
    out = [np.int64(len(segments)).tobytes()]
    for n, (direction, data) in enumerate(segments):
        out += [np.array([direction, transport, 0, 0, n * 1000, len(data)], np.int64).tobytes(), data, bytes(-len(data) % 8)]
    return b"".join(out)


def cost(name: str, conversation: bytes, times: int) -> float:
    """Least time of the processor for a conversation [s]."""
    work, found = player(name), []
    for _ in range(times):
        begin = time.process_time()
        assert work.play(conversation, 1, every_item=True) >= 0
        found.append(time.process_time() - begin)
    return min(found)


@pytest.mark.parametrize(("name", "kind"), CASES)
def test_a_longer_conversation_costs_in_proportion(name: str, kind: str) -> None:
    transport, make = makers(name)[kind]
    short, long = make(SHORT), make(LONGER * SHORT)
    size = sum(len(data) for _, data in short), sum(len(data) for _, data in long)
    assert 0.8 * LONGER < size[1] / size[0] < 1.3 * LONGER
    least = cost(name, packed(transport, short), 7)
    most = MOST * max(least, 2e-5)
    assert cost(name, packed(transport, long), 3) < most or cost(name, packed(transport, long), 20) < most
