"""The sinks of a program: each gets the pieces of the ring in which it has events."""

from __future__ import annotations

import ctypes
import time
from collections.abc import Sequence
from typing import Any

import numpy as np

from retina_jit.subscription import Subscription


def address_of(buffer: bytes) -> int:
    """Return where the bytes lie; valid as long as the object lives."""
    return ctypes.cast(ctypes.c_char_p(buffer), ctypes.c_void_p).value or 0


FLUSH_AFTER = 0.2
"""How long gathered output may wait for more [s]."""


class Sinks:
    """Opens the sinks that subscriptions name, and hands them events.

    Attributes
    ----------
    only : Sink or None
        The sink of all subscriptions, if there is just that one: it may read the ring itself.
    """

    def __init__(self, subscriptions: Sequence[Subscription], offsets: Sequence[Sequence[int]]) -> None:
        mine: dict[int, dict[int, Any]] = {}
        self._all: dict[int, Any] = {}
        for n, (s, o) in enumerate(zip(subscriptions, offsets, strict=True)):
            if s.deliver == "sink":
                self._all[id(s.sink)] = s.sink
                if hasattr(s.sink, "names"):
                    s.sink.names[n] = s.name
                mine.setdefault(id(s.sink), {})[n] = (s.types, o)
        for key, sink in self._all.items():
            sink.open(mine[key], len(subscriptions))
        self._flushed = 0.0
        self._numbers = [n for n, s in enumerate(subscriptions) if s.deliver == "sink"]
        alone = len(self._all) == 1 and len(self._numbers) == len(subscriptions)
        self.only = next(iter(self._all.values())) if alone else None

    def __bool__(self) -> bool:
        return bool(self._all)

    def take(self, buffer: bytes, events: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        """Hand a copied piece to every sink. Returns those of `events` (offset << 32 | subscription) that are left for others."""
        mine = np.isin(events & 0xFFFFFFFF, self._numbers)
        if mine.any():
            for sink in self._all.values():
                sink.take(address_of(buffer), len(buffer))
        return events[~mine]

    def idle(self) -> None:
        """Write out what is gathered, but not in driblets."""
        if self._all and (now := time.perf_counter()) > self._flushed + FLUSH_AFTER:
            self._flushed = now
            for sink in self._all.values():
                sink.flush()
