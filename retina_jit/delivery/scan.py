"""Finding the events in a run of ring bytes."""

from __future__ import annotations

from retina_jit import memory
from retina_jit.delivery.event import EVENT
from retina_jit.jit import entry
from retina_jit.memory import store64

EVENT_AT = memory.at(EVENT)


@entry
def scan(start, length, limit, out, most):
    """List whole events from `start` on: `offset << 32 | subscription` per event at `out`, then the bytes they take.

    Stops after `most` events, or before the event that would exceed `limit` bytes (but takes one at least).
    Returns how many; `out` has room for most + 1 words.
    """
    at = 0
    count = 0
    while at < length and count < most:
        e = EVENT_AT(start + at)
        if count and at + e.size > limit:
            break
        store64(out + 8 * count, (at << 32) | e.subscription)
        at += e.size
        count += 1
    store64(out + 8 * count, at)
    return count
