"""Session protocols: ns per conversation, from the bytes of each protocol's first declared example to its sessions and events.

A protocol gets its line by declaring an example; aims and other shapes of traffic are in the files of single protocols.
"""

from __future__ import annotations

import importlib
from pathlib import Path

import measure
import numpy as np
import pytest

from retina_jit import memory, objects
from retina_jit.datatypes import data_types
from retina_jit.delivery.event import CONTEXT, EVENT
from retina_jit.parsers.protocol import SessionExample, protocols
from retina_jit.state.arena import ARENA
from retina_jit.state.layout import INPUT

KERNELS = str(Path(__file__).with_name("loop_kernels.py"))
ROUNDS, TIMES = 7, 2000
NAMES = [p.name for p in protocols().values() if p.level == "session" and p.examples]


class Job:
    """One conversation, over and over, in memory that stays."""

    def __init__(self, name: str, example: SessionExample, *, project: bool) -> None:
        protocol = protocols()[name]
        module = importlib.import_module(protocol.module)
        shown = next(t for t in data_types().values() if (t.SERVICE, t.LEVEL) == (name, "session"))
        self._state, self._given, self._context = np.zeros(1, module.STATE), np.zeros(1, INPUT), np.zeros(1, CONTEXT)
        self._arena, self._pool, self._event = np.zeros(1, ARENA), memory.Region(8 << 20), memory.Region(1 << 20)
        self._arena["top"], self._arena["end"] = self._pool.address, self._pool.address + self._pool.size
        self._given["arena"], self._given["transport"] = self._arena.ctypes.data, example.transport
        start = self._event.address
        c = self._context
        c["event"], c["out"], c["limit"], c["session"] = start, start + EVENT.itemsize, start + self._event.size, self._state.ctypes.data
        self._bytes = [np.frombuffer(data, np.uint8) for _, data in example.segments]
        self.size = sum(len(data) for _, data in example.segments)
        parse, release = (objects.address(f"{protocol.module}:{entry}") for entry in ("parse", "release"))
        words = [self._state.ctypes.data, module.STATE.itemsize, self._given.ctypes.data, parse, objects.address(shown.PROJECT) if project else 0]
        words += [release, c.ctypes.data, start + EVENT.itemsize + shown.RECORD.itemsize, len(self._bytes)]
        for (direction, data), held in zip(example.segments, self._bytes, strict=True):
            words += [direction, held.ctypes.data, len(data)]
        self._words = np.array(words, np.int64)

    def run(self, times: int) -> int:
        return objects.function(f"{KERNELS}:parse_handshakes")(self._words.ctypes.data, times)

    @property
    def leaked(self) -> int:
        return int(self._arena["used"][0])


@pytest.mark.benchmark(group="sessions")
@pytest.mark.parametrize("what", ["parse", "parse_and_project"])
@pytest.mark.parametrize("name", NAMES)
def test_conversation(benchmark, name, what):
    job = Job(name, protocols()[name].examples[0], project=what != "parse")
    assert job.run(1) > 0
    benchmark.pedantic(lambda: job.run(TIMES), rounds=ROUNDS, warmup_rounds=1)
    assert job.leaked == 0
    measure.note(benchmark, TIMES, "conversation", bytes=job.size)
