"""Finding the events in a run of ring bytes, and bringing their records together."""

from __future__ import annotations

from retina_jit import memory
from retina_jit.delivery.event import EVENT
from retina_jit.jit import entry
from retina_jit.memory import call6, copy, load64, store64

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
    """Copy `count` records of `size` bytes, `offset` behind each of the positions at `places`, one behind the other."""
    if size == 8:
        for n in range(count):
            store64(out + 8 * n, load64(start + load64(places + 8 * n) + offset))
        return 0
    for n in range(count):
        copy(out + n * size, start + load64(places + 8 * n) + offset, size)
    return 0


@entry
def gather_bytes(start, events, words, count, offsets, out):
    """Copy the variable bytes that `words`, a packed word per event, point to; `offsets` gets where each begins, and the end."""
    at = 0
    for n in range(count):
        word = load64(words + 8 * n)
        length = word & 0xFFFFFFFF
        store64(offsets + 8 * n, at)
        copy(out + at, start + load64(events + 8 * n) + (word >> 32), length)
        at += length
    store64(offsets + 8 * count, at)
    return at


@entry
def gather_cells(start, events, places, count, op, offsets, out, limit, calls):
    """Write a column as text (`retina_jit.formats.cells`); `calls`: addresses of put_cell and of the JSON writer, two words.

    `offsets` gets where the text of each record begins, and the end. Returns how many fitted.
    """
    put_cell, json_run = load64(calls), load64(calls + 8)
    at = out
    for n in range(count):
        store64(offsets + 8 * n, at - out)
        end = call6(put_cell, op, start + load64(places + 8 * n), start + load64(events + 8 * n), at, limit, json_run)
        if end == 0:
            return n
        at = end
    store64(offsets + 8 * count, at - out)
    return count
