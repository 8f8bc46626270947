"""QUIC: ns per connection, from Initial packets of 1200 bytes to the session; with libcrypto and with own code."""

from __future__ import annotations

import ctypes
from pathlib import Path

import measure
import numpy as np
import pytest
from oracle import quic as oracle
from support.quic_plain import CLIENT_FRAMES, SERVER_FRAMES

from retina_jit import memory, objects
from retina_jit.delivery.event import CONTEXT, EVENT
from retina_jit.parsers.crypto.library import Crypto
from retina_jit.parsers.session import quic
from retina_jit.state.arena import ARENA
from retina_jit.state.layout import INPUT

KERNELS = str(Path(__file__).with_name("loop_kernels.py"))
ROUNDS, TIMES = 7, 1000
DCID = bytes.fromhex("8394c8f03e515708")


class Job:
    """All that `parse_handshakes` needs, in memory that stays."""

    def __init__(self, segments: list[tuple[int, bytes]], *, library: bool) -> None:
        self._state, self._given, self._context = np.zeros(1, quic.STATE), np.zeros(1, INPUT), np.zeros(1, CONTEXT)
        self._arena, self._pool = np.zeros(1, ARENA), memory.Region(8 << 20)
        self._arena["top"], self._arena["end"] = self._pool.address, self._pool.address + self._pool.size
        self._crypto = Crypto(use_library=library)
        self._given["arena"], self._given["crypto"] = self._arena.ctypes.data, self._crypto.address
        self._held = [ctypes.create_string_buffer(data, len(data)) for _, data in segments]
        entries = [objects.address(f"retina_jit.parsers.session.quic:{name}") for name in ("parse", "release")]
        words = [self._state.ctypes.data, quic.STATE.itemsize, self._given.ctypes.data, entries[0], 0, entries[1]]
        words += [self._context.ctypes.data, EVENT.itemsize, len(segments)]
        for (direction, data), held in zip(segments, self._held, strict=True):
            words += [direction, ctypes.addressof(held), len(data)]
        self._words = np.array(words, np.int64)

    def run(self, times: int) -> int:
        return objects.function(f"{KERNELS}:parse_handshakes")(self._words.ctypes.data, times)

    @property
    def leaked(self) -> int:
        return int(self._arena["used"][0])


@pytest.mark.benchmark(group="quic")
@pytest.mark.parametrize("crypto", ["library", "own"])
@pytest.mark.parametrize("what", ["both", "client"])
def test_initials(benchmark, what, crypto):
    """`client`: the client's Initial alone."""
    first = oracle.initial(CLIENT_FRAMES, dcid=DCID, scid=b"client", size=1200)
    answer = oracle.initial(SERVER_FRAMES, dcid=b"client", scid=b"server", secret_id=DCID, is_server=True, size=1200)
    segments = [(0, first), (1, answer)][: 2 if what == "both" else 1]
    job = Job(segments, library=crypto == "library")
    assert job.run(1) == (what == "both")
    benchmark.pedantic(lambda: job.run(TIMES), rounds=ROUNDS, warmup_rounds=1)
    assert job.leaked == 0
    measure.note(benchmark, TIMES, "connection", segments=len(segments))
