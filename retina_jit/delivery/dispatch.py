"""From the ring to the callbacks: drain, cut into pieces, call."""

from __future__ import annotations

import ctypes
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from retina_jit import objects
from retina_jit.delivery.columns import Columns
from retina_jit.delivery.event import EVENT
from retina_jit.delivery.sinks import Sinks, address_of
from retina_jit.delivery.streams import Streams
from retina_jit.errors import CallbackError
from retina_jit.subscription import Subscription

PIECE = 128 << 10
"""How much is copied out at once [byte]. A view that is kept keeps its piece alive, so pieces are small."""

BATCH_PIECE = 1 << 20
DIRECT_PIECE = 256 << 10
"""How much a sink reads from the ring before the worker gets the room back [byte]."""

MOST_CHUNK_TIME = 0.02
"""How long callbacks are called in a row before anything else is looked at [s]; a single one may take longer."""

MOST_EVENTS = BATCH_PIECE // 32
SCAN = "retina_jit.delivery.scan:scan"

Handler = Callable[[bytes, int], Any]


def _each(subscription: Subscription, offsets: Sequence[int]) -> Handler:
    """Make the function that turns one event into one call. Written out for the usual numbers of data types."""
    callback, types = subscription.callback, subscription.types
    if len(types) == 1:
        (t0,), (o0,) = types, offsets

        def one(buffer: bytes, at: int) -> Any:
            return callback(t0(buffer, at, at + o0))

        return one
    if len(types) == 2:
        (t0, t1), (o0, o1) = types, offsets

        def two(buffer: bytes, at: int) -> Any:
            return callback(t0(buffer, at, at + o0), t1(buffer, at, at + o1))

        return two
    pairs = list(zip(types, offsets, strict=True))

    def many(buffer: bytes, at: int) -> Any:
        return callback(*[t(buffer, at, at + o) for t, o in pairs])

    return many


def _every(subscription: Subscription, offsets: Sequence[int]) -> Callable[[bytes, Iterator[int]], None]:
    """Make the loop over the events of a program with one subscription: without a call and a look-up per event."""
    if len(subscription.types) != 1:
        handler = _each(subscription, offsets)

        def general(buffer: bytes, places: Iterator[int]) -> None:
            for at in places:
                handler(buffer, at)

        return general
    callback, (t0,), (o0,) = subscription.callback, subscription.types, offsets

    def one(buffer: bytes, places: Iterator[int]) -> None:
        for at in places:
            callback(t0(buffer, at, at + o0))

    return one


class Dispatcher:
    """Drains one worker's ring and calls.

    Parameters
    ----------
    worker : numpy record
        The WORKER record; `head` and `lap_end` are read, `tail` is written.
    subscriptions, offsets
        By number: the subscription, and where the records of its data types stand in an event.
    on_error : {"stop", "continue"}
        Raise at the first failing callback, or count and go on.
    sinks : Sinks
        Of the program: all workers' events end in the same.
    former : (Dispatcher, dict), optional
        Of the program before: delivers what lies in the ring now. And which of its subscriptions go on as which.

    Attributes
    ----------
    delivered : int
        Events handed over to callbacks and sinks.
    deadline : float
        No callback is begun after it (`time.perf_counter`); another thread may set it.
    given_up : int
        Events that came after it.
    """

    def __init__(
        self,
        worker: Any,
        subscriptions: Sequence[Subscription],
        offsets: Sequence[Sequence[int]],
        on_error: str,
        sinks: Sinks,
        former: tuple[Dispatcher, Mapping[int, int]] | None = None,
    ) -> None:
        self._worker = worker
        self._ring = int(worker["ring"])
        self._size = int(worker["ring_size"])
        self._scan = objects.function(SCAN)
        self._out = np.zeros(MOST_EVENTS + 1, np.int64)
        self._out_address = self._out.ctypes.data
        self._subscriptions = subscriptions
        self._offsets = offsets
        self._stop = on_error == "stop"
        self._batches = {n for n, s in enumerate(subscriptions) if s.deliver == "batch"}
        self._only_batches = len(self._batches) == len(subscriptions)
        self._sinks = sinks
        self._direct = self._sinks.only
        self._piece = BATCH_PIECE if self._batches else PIECE
        self._handlers = [None if s.deliver != "each" else _each(s, o) for s, o in zip(subscriptions, offsets, strict=True)]
        self._streams: Streams = Streams(worker) if former is None else Streams(worker, former[0]._streams, former[1])
        self._former = (former[0], int(worker["head"])) if former is not None else None
        for n, s in enumerate(subscriptions):
            handler = self._handlers[n]
            if s.every is not None and handler is not None:
                self._handlers[n] = self._streams.asking(n, handler)
        plain = len(subscriptions) == 1 and not self._batches and subscriptions[0].every is None
        self._loop = _every(subscriptions[0], offsets[0]) if plain else None
        self.delivered = 0
        self.given_up = 0
        self.deadline = math.inf
        self._chunk = 1
        self.failed = [0] * len(subscriptions)

    @property
    def names(self) -> list[str]:
        """Of the subscriptions."""
        return [s.name for s in self._subscriptions]

    def filled(self) -> float:
        """Which share of the ring waits to be delivered."""
        return (int(self._worker["head"]) - int(self._worker["tail"])) / self._size

    def drain(self, until: int | None = None) -> int:
        """Deliver what is in the ring now, or what was written to it until then. Returns how many events.

        Raises
        ------
        CallbackError
            A callback raised and the policy is to stop; the cause is its exception.
        """
        worker = self._worker
        if self._former is not None:
            former, mark = self._former
            count = former.drain(mark)
            if int(worker["tail"]) >= mark:
                self._former = None
                self._sinks.tail_passed()
            if count:
                return count
        if not self._sinks.ready:
            return 0  # another worker's tail goes to the same sinks
        head, tail = int(worker["head"]) if until is None else until, int(worker["tail"])
        self._streams.settle(head, tail)
        if head == tail:
            return 0
        mask = self._size - 1
        if (head ^ tail) & ~mask:
            end, after = int(worker["lap_end"]), (tail | mask) + 1
        else:
            end, after = head & mask, head
        start = tail & mask
        if self._direct is not None:
            return self._drain_direct(self._direct, tail - start, start, end, after)
        total = 0
        while start < end:
            # Copied before it is looked at: a copy streams, following the events through cold memory does not.
            buffer = ctypes.string_at(self._ring + start, min(end - start, self._piece))
            count = self._scan(address_of(buffer), len(buffer), self._out_address, MOST_EVENTS)
            if count == 0:
                buffer = ctypes.string_at(self._ring + start, int(self._out[0]))
                count = self._scan(address_of(buffer), len(buffer), self._out_address, MOST_EVENTS)
            start += int(self._out[count])
            # Free the place before calling: the worker goes on while Python works.
            worker["tail"] = after if start >= end else tail - (tail & mask) + start
            total += count
            self._call(buffer, self._out[:count])
        return total

    def _drain_direct(self, sink: Any, lap: int, start: int, end: int, after: int) -> int:
        """Let the only sink read the ring itself; the worker gets the room back piece by piece."""
        begun = sink.lines
        while start < end:
            taken = sink.take(self._ring + start, min(end - start, DIRECT_PIECE))
            start += taken or sink.take(self._ring + start, end - start)
            self._worker["tail"] = after if start >= end else lap + start
        self.delivered += sink.lines - begun
        return sink.lines - begun

    def idle(self) -> None:
        """Nothing is in the ring: a good time to write out what sinks have gathered."""
        self._sinks.idle()

    def _call(self, buffer: bytes, events: np.ndarray[Any, Any]) -> None:
        if self._sinks:
            before = len(events)
            events = self._sinks.take(buffer, events)
            self.delivered += before - len(events)
        if time.perf_counter() > self.deadline:
            self.given_up += len(events)
            return
        if self._only_batches and len(self._subscriptions) == 1:
            self._batch(0, buffer, events >> 32)
            return
        if self._batches:
            numbers, places = events & 0xFFFFFFFF, events >> 32
            for n in np.unique(numbers).tolist():
                if n in self._batches:
                    self._batch(n, buffer, places[numbers == n])
            if self._only_batches:
                return
            events = events[~np.isin(numbers, list(self._batches))]
        # In chunks that take some milliseconds: so often is the deadline looked at.
        at, begun = 0, time.perf_counter()
        while at < len(events):
            if begun > self.deadline:
                self.given_up += len(events) - at
                return
            chunk = events[at : at + self._chunk]
            self._call_some(buffer, chunk)
            self.delivered += len(chunk)
            at += len(chunk)
            now = time.perf_counter()
            if now - begun > MOST_CHUNK_TIME:
                self._chunk = max(self._chunk // 2, 1)
            elif now - begun < MOST_CHUNK_TIME / 4:
                self._chunk = min(self._chunk * 2, MOST_EVENTS)
            begun = now

    def _call_some(self, buffer: bytes, events: np.ndarray[Any, Any]) -> None:
        if self._loop is not None:
            self._call_only(buffer, iter((events >> 32).tolist()))
            return
        handlers = self._handlers
        at = 0
        listed = events.tolist()
        while at < len(listed):
            try:
                for event in listed[at:] if at else listed:
                    at += 1
                    handlers[event & 0xFFFFFFFF](buffer, event >> 32)  # type: ignore[misc]
            except Exception as error:  # noqa: BLE001 - whatever a user's callback raises
                self._failed(listed[at - 1] & 0xFFFFFFFF, error)

    def _call_only(self, buffer: bytes, places: Iterator[int]) -> None:
        assert self._loop is not None
        while True:
            try:
                self._loop(buffer, places)
            except Exception as error:  # noqa: BLE001 - whatever a user's callback raises
                self._failed(0, error)  # the iterator stands behind the event that failed
            else:
                return

    def _batch(self, n: int, buffer: bytes, places: np.ndarray[Any, Any]) -> None:
        s = self._subscriptions[n]
        if s.every is not None:
            places = self._streams.left(n, buffer, places)
            if not len(places):
                return
        self.delivered += len(places)
        try:
            answer = s.callback(*[Columns(t, buffer, places, places + o) for t, o in zip(s.types, self._offsets[n], strict=True)])
            if s.every is not None:
                self._streams.answered(n, buffer, places, answer)
        except Exception as error:  # noqa: BLE001 - whatever a user's callback raises
            self._failed(n, error)

    def _failed(self, n: int, error: Exception) -> None:
        self.failed[n] += 1
        if self._stop:
            s = self._subscriptions[n]
            raise CallbackError(f"the callback of subscription {s.name!r} (filter {s.filter!r}) raised {type(error).__name__}: {error}") from error


HEAD = EVENT.itemsize
