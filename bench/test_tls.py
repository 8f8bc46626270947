"""TLS: ns per handshake, from the bytes of both hellos to the session, and to the event that Python gets."""

from __future__ import annotations

from pathlib import Path

import conversations
import measure
import numpy as np
import pytest

from retina_jit import jit, memory
from retina_jit.delivery.event import CONTEXT, EVENT
from retina_jit.parsers.session import tls
from retina_jit.state.arena import ARENA
from retina_jit.state.layout import INPUT

KERNELS = str(Path(__file__).with_name("loop_kernels.py"))
ROUNDS, TIMES = 7, 2000


class Job:
    """All that `parse_handshakes` needs, in memory that stays."""

    def __init__(self, segments: list[conversations.Segment], *, project: bool) -> None:
        self._state, self._given, self._context = np.zeros(1, tls.STATE), np.zeros(1, INPUT), np.zeros(1, CONTEXT)
        self._arena, self._pool, self._event = np.zeros(1, ARENA), memory.Region(8 << 20), memory.Region(1 << 20)
        self._arena["top"], self._arena["end"] = self._pool.address, self._pool.address + self._pool.size
        self._given["arena"] = self._arena.ctypes.data
        start = self._event.address
        cursor = start + EVENT.itemsize + tls.RECORD.itemsize
        c = self._context
        c["event"], c["out"], c["limit"], c["session"] = start, start + EVENT.itemsize, start + self._event.size, self._state.ctypes.data
        self._bytes = [np.frombuffer(data, np.uint8) for _, data in segments]
        entries = [jit.address(f"retina_jit.parsers.session.tls:{name}") for name in ("parse", "project", "release")]
        words = [self._state.ctypes.data, tls.STATE.itemsize, self._given.ctypes.data, entries[0], entries[1] if project else 0]
        words += [entries[2], c.ctypes.data, cursor, len(segments)]
        for (direction, data), held in zip(segments, self._bytes, strict=True):
            words += [direction, held.ctypes.data, len(data)]
        self._words = np.array(words, np.int64)

    def run(self, times: int) -> int:
        return jit.function(f"{KERNELS}:parse_handshakes")(self._words.ctypes.data, times)

    @property
    def leaked(self) -> int:
        return int(self._arena["used"][0])


STREAMS = {
    "whole": conversations.tls(),
    "in_pieces": [(side, data[n : n + 100]) for side, data in conversations.tls()[:4] for n in range(0, len(data), 100)],
}


@pytest.mark.benchmark(group="tls")
@pytest.mark.parametrize("what", ["parse", "parse_and_project"])
@pytest.mark.parametrize("stream", STREAMS)
def test_handshake(benchmark, stream, what):
    job = Job(STREAMS[stream], project=what != "parse")
    assert job.run(1) == 1
    benchmark.pedantic(lambda: job.run(TIMES), rounds=ROUNDS, warmup_rounds=1)
    assert job.leaked == 0
    measure.note(benchmark, TIMES, "handshake", segments=len(STREAMS[stream]))
