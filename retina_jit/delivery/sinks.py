"""The sinks of a program: each gets the pieces of the ring in which it has events."""

from __future__ import annotations

import ctypes
import time
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from retina_jit.errors import ConfigError
from retina_jit.subscription import Subscription


def address_of(buffer: bytes) -> int:
    """Return where the bytes lie; valid as long as the object lives."""
    return ctypes.cast(ctypes.c_char_p(buffer), ctypes.c_void_p).value or 0


def prepare(sink: Any, mine: Mapping[int, Any]) -> None:
    """Make an open sink ready for other subscriptions.

    Raises
    ------
    ConfigError
        It cannot go on with them.
    """
    if not hasattr(sink, "prepare"):
        raise ConfigError(f"what {type(sink).__name__} writes keeps its subscriptions for the whole run: start it anew")
    sink.prepare(mine)


FLUSH_AFTER = 0.2
"""How long gathered output may wait for more [s]."""


class Sinks:
    """Opens the sinks that subscriptions name, and hands them events.

    Parameters
    ----------
    subscriptions, offsets
        As `Dispatcher` has them.
    former : Sinks, optional
        Of the program before: sinks that are open go on. One that nobody writes to any more stays open, for a later program
        may name it again.
    tails : int
        How many dispatchers of that program still have events.

    Attributes
    ----------
    only : Sink or None
        The sink of all subscriptions, if there is just that one: it may read the ring itself.

    Raises
    ------
    ConfigError
        One that cannot be opened, or cannot go on with what subscriptions now want of it.
    """

    def __init__(self, subscriptions: Sequence[Subscription], offsets: Sequence[Sequence[int]], former: Sinks | None = None, tails: int = 0) -> None:
        self._mine: dict[int, dict[int, Any]] = {}
        self._names: dict[int, dict[int, str]] = {}
        self._all: dict[int, Any] = {}
        self._count = len(subscriptions)
        for n, (s, o) in enumerate(zip(subscriptions, offsets, strict=True)):
            if s.deliver == "sink":
                self._all[id(s.sink)] = s.sink
                self._names.setdefault(id(s.sink), {})[n] = s.name
                self._mine.setdefault(id(s.sink), {})[n] = (s.types, o)
        before: dict[int, Any] = {} if former is None else former._known
        self._known: dict[int, Any] = before | self._all
        self._tails = tails if self._known else 0
        for key, sink in self._all.items():
            if key not in before:
                self._open(key, sink)
                continue
            try:
                prepare(sink, self._mine[key])
            except ConfigError as fault:
                raise ConfigError(f"subscription {', '.join(map(repr, self._names[key].values()))}: {fault}") from fault
        self._going_on = {key: sink for key, sink in before.items() if key in self._all}
        self._flushed = 0.0
        self._numbers = [n for n, s in enumerate(subscriptions) if s.deliver == "sink"]
        alone = len(self._all) == 1 and len(self._numbers) == len(subscriptions)
        self.only = next(iter(self._all.values())) if alone else None

    def _open(self, key: int, sink: Any) -> None:
        if hasattr(sink, "names"):
            sink.names = self._names[key]
        sink.open(self._mine[key], self._count)

    @property
    def ready(self) -> bool:
        """Whether all events of the program before have been taken: sinks that go on know that one's numbers until then."""
        return not self._tails

    def tail_passed(self) -> None:
        """Learn that a dispatcher of the program before has no more events."""
        if not self._tails:
            return
        self._tails -= 1
        if self.ready:
            for key, sink in self._known.items():
                if key in self._going_on:
                    self._open(key, sink)
                elif key not in self._all:
                    sink.flush()

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
