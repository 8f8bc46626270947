"""A session parser over bytes in memory, the same conversation again and again."""

from __future__ import annotations

import importlib
from pathlib import Path

import conversations
import numpy as np

from retina_jit import memory, objects
from retina_jit.delivery.event import CONTEXT, EVENT
from retina_jit.state.arena import ARENA
from retina_jit.state.layout import INPUT

KERNELS = str(Path(__file__).with_name("loop_kernels.py"))


class SessionJob:
    """All that `parse_handshakes` needs, in memory that stays."""

    def __init__(self, name: str, segments: list[conversations.Segment], *, project: bool) -> None:
        module = importlib.import_module(f"retina_jit.parsers.session.{name}")
        self._state, self._given, self._context = np.zeros(1, module.STATE), np.zeros(1, INPUT), np.zeros(1, CONTEXT)
        self._arena, self._pool, self._event = np.zeros(1, ARENA), memory.Region(8 << 20), memory.Region(1 << 20)
        self._arena["top"], self._arena["end"] = self._pool.address, self._pool.address + self._pool.size
        self._given["transport"] = 6
        self._given["arena"] = self._arena.ctypes.data
        start = self._event.address
        cursor = start + EVENT.itemsize + module.RECORD.itemsize
        c = self._context
        c["event"], c["out"], c["limit"], c["session"] = start, start + EVENT.itemsize, start + self._event.size, self._state.ctypes.data
        self._bytes = [np.frombuffer(data, np.uint8) for _, data in segments]
        entries = [objects.address(f"{module.__name__}:{entry}") for entry in ("parse", "project", "release")]
        words = [self._state.ctypes.data, module.STATE.itemsize, self._given.ctypes.data, entries[0], entries[1] if project else 0]
        words += [entries[2], c.ctypes.data, cursor, len(segments)]
        for (direction, data), held in zip(segments, self._bytes, strict=True):
            words += [direction, held.ctypes.data, len(data)]
        self._words = np.array(words, np.int64)

    def run(self, times: int) -> int:
        return objects.function(f"{KERNELS}:parse_handshakes")(self._words.ctypes.data, times)

    @property
    def leaked(self) -> int:
        return int(self._arena["used"][0])
