"""DNS: ns per message, from the bytes of datagrams to transactions, events and JSON."""

from __future__ import annotations

from pathlib import Path

import measure
import numpy as np
import pytest

from retina_jit import memory, objects
from retina_jit.delivery.event import CONTEXT, EVENT
from retina_jit.parsers.session import dns
from retina_jit.state.arena import ARENA
from retina_jit.state.layout import INPUT

KERNELS = str(Path(__file__).with_name("loop_kernels.py"))
ROUNDS, TIMES, PAIRS = 7, 2000, 16

_NAME = bytes.fromhex("03777777 076578616d706c65 03636f6d 00")
_EDNS = bytes.fromhex("00 0029 04d0 0000 0000 0000")


def _messages(ident: int) -> tuple[bytes, bytes]:
    head, question = ident.to_bytes(2, "big"), _NAME + b"\0\1\0\1"
    answers = bytes.fromhex("c00c 0005 0001 0000003c 0006 03 777777 c010") + b"".join(
        bytes.fromhex("c02d 0001 0001 0000012c 0004 5db8d8") + bytes([n]) for n in range(3)
    )
    query = head + bytes.fromhex("0100 0001 0000 0000 0001") + question + _EDNS
    return query, head + bytes.fromhex("8180 0001 0004 0000 0001") + question + answers + _EDNS


class Job:
    """One connection with so many transactions, over and over; in memory that stays."""

    def __init__(self, pairs: int, *, project: bool) -> None:
        self.segments = [(side, data) for n in range(pairs) for side, data in enumerate(_messages(n))]
        self._state, self._given, self._context = np.zeros(1, dns.STATE), np.zeros(1, INPUT), np.zeros(1, CONTEXT)
        self._arena, self._pool, self._event = np.zeros(1, ARENA), memory.Region(8 << 20), memory.Region(1 << 20)
        self._arena["top"], self._arena["end"] = self._pool.address, self._pool.address + self._pool.size
        self._given["arena"], self._given["transport"] = self._arena.ctypes.data, 17
        start = self._event.address
        cursor = start + EVENT.itemsize + dns.RECORD.itemsize
        c = self._context
        c["event"], c["out"], c["limit"], c["session"] = start, start + EVENT.itemsize, start + self._event.size, self._state.ctypes.data
        self.bytes = [np.frombuffer(data, np.uint8) for _, data in self.segments]
        entries = [objects.address(f"retina_jit.parsers.session.dns:{name}") for name in ("parse", "project", "release")]
        words = [self._state.ctypes.data, dns.STATE.itemsize, self._given.ctypes.data, entries[0], entries[1] if project else 0]
        words += [entries[2], c.ctypes.data, cursor, len(self.segments)]
        for (direction, data), held in zip(self.segments, self.bytes, strict=True):
            words += [direction, held.ctypes.data, len(data)]
        self._words = np.array(words, np.int64)

    def run(self, times: int) -> int:
        return objects.function(f"{KERNELS}:parse_handshakes")(self._words.ctypes.data, times)

    def write(self, times: int) -> int:
        """Write the response of the last event as JSON so many times."""
        out = np.zeros(1 << 16, np.uint8)
        work, write = objects.function(f"{KERNELS}:write_json"), objects.address("retina_jit.parsers.dns.objects:write_response")
        start = self._event.address
        return work(write, start + EVENT.itemsize, start, out.ctypes.data, out.ctypes.data + out.size, times)

    @property
    def leaked(self) -> int:
        return int(self._arena["used"][0])


@pytest.mark.benchmark(group="dns")
@pytest.mark.parametrize("what", ["parse", "parse_and_project"])
@pytest.mark.parametrize("pairs", [1, PAIRS])
def test_transactions(benchmark, pairs, what):
    job = Job(pairs, project=what != "parse")
    assert job.run(1) == pairs
    benchmark.pedantic(lambda: job.run(TIMES), rounds=ROUNDS, warmup_rounds=1)
    assert job.leaked == 0
    messages, size = 2 * pairs * TIMES, sum(len(data) for _, data in job.segments) * TIMES
    seconds = measure.note(benchmark, messages, "message", pairs=pairs)
    if seconds:
        benchmark.extra_info["bytes_per_second"] = round(size / seconds)


@pytest.mark.benchmark(group="dns")
def test_response_as_json(benchmark):
    job = Job(1, project=True)
    job.run(1)
    assert job.write(1) > 300
    benchmark.pedantic(lambda: job.write(TIMES), rounds=ROUNDS, warmup_rounds=1)
    measure.note(benchmark, TIMES, "response")
