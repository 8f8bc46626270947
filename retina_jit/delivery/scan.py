"""Finding the events in a run of ring bytes, and bringing their records together."""

from __future__ import annotations

from retina_jit import memory
from retina_jit.delivery.event import EVENT
from retina_jit.jit import entry
from retina_jit.memory import copy, load64, store64

EVENT_AT = memory.at(EVENT)
HEAD = EVENT.itemsize


@entry
def scan(start, length, out, most):
    """List the whole events from `start` on: `offset << 32 | subscription` per event at `out`, then the bytes they take.

    Stops after `most` events, or at one that `length` bytes do not hold whole. Returns how many; `out` has room for
    most + 1 words. If not even the first is whole, the bytes are what it takes.
    """
    at = 0
    count = 0
    while at + HEAD <= length and count < most:
        e = EVENT_AT(start + at)
        if at + e.size > length:
            break
        store64(out + 8 * count, (at << 32) | e.subscription)
        at += e.size
        count += 1
    store64(out + 8 * count, at if count else EVENT_AT(start).size + 0)
    return count


@entry
def gather(start, places, count, offset, size, out):
    """Copy `count` records of `size` bytes, `offset` behind each of the event positions at `places`, one behind the other."""
    for n in range(count):
        copy(out + n * size, start + load64(places + 8 * n) + offset, size)
    return 0
