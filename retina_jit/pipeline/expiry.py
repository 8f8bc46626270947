"""Ending what has been silent for too long, and everything at the end of the input."""

from __future__ import annotations

from retina_jit.jit import kernel, leaf
from retina_jit.memory import load64, shift_right
from retina_jit.pipeline.access import WORKER_AT, connection_of, counter, terminate
from retina_jit.state import timers
from retina_jit.state.layout import OVER, SEEN_TWO
from retina_jit.state.table import TABLE_AT, prefetch_index, prefetch_slot
from retina_jit.state.track import signed32

EXPIRED, DRAINED, CLOSED = (counter(f"ended_{n}") for n in ("expired", "drained", "closed"))
AHEAD = 8
"""How many connections ahead memory is asked for."""


@leaf
def window(w, c):
    """How long a connection may be silent [ns]."""
    worker = WORKER_AT(w)
    if c.flags & OVER:
        return worker.tcp_close + 0
    if shift_right(c.key, 32) & 0xFF != 6:
        return worker.udp_inactivity + 0
    return worker.tcp_inactivity + 0 if c.flags & SEEN_TWO else worker.tcp_establish + 0


@kernel
def _visit(w, tick):
    """Look at every connection filed under the slot of `tick`: end it, or file it anew."""
    worker = WORKER_AT(w)
    t = timers.TIMERS_AT(worker.timers)
    slot = tick & (timers.SLOTS - 1)
    block = timers.take_chain(worker.timers, tick)
    while block:
        count = timers.count_of(block)
        for n in range(min(count, AHEAD)):
            prefetch_index(worker.table, timers.index_in(block, n))
        for n in range(count):
            if n + 2 * AHEAD < count:
                prefetch_index(worker.table, timers.index_in(block, n + 2 * AHEAD))
            if n + AHEAD < count:
                # Removing it will look for its slot.
                prefetch_slot(worker.table, connection_of(w, timers.index_in(block, n + AHEAD)).hash)
            index = timers.index_in(block, n)
            c = connection_of(w, index)
            # Filed elsewhere by now, or another connection in the same record: not this entry's business.
            if c.life and c.filed & (timers.SLOTS - 1) == slot:
                if signed32(t.now - c.filed) < 0:
                    timers.file_at(worker.timers, worker.table, index, t.now - signed32(t.now - c.filed))
                elif worker.now - c.last > window(w, c):
                    terminate(w, index, CLOSED if c.flags & OVER else EXPIRED)
                else:
                    timers.file(worker.timers, worker.table, index, c.last + window(w, c))
        following = load64(block)
        timers.free_block(worker.timers, block)
        block = following


@kernel
def expire(w):
    """Turn the wheel to the latest capture time; end what has been silent for too long."""
    worker = WORKER_AT(w)
    t = timers.TIMERS_AT(worker.timers)
    if t.entries > t.most_entries:
        timers.rebuild(worker.timers, worker.table)
    tick = worker.now // t.resolution
    if tick - t.now > timers.SLOTS:
        # A pause longer than a turn of the wheel: look at every slot once.
        t.now = tick
        for slot in range(timers.SLOTS):
            _visit(w, slot)
    else:
        while t.now < tick:
            t.now += 1
            _visit(w, t.now)


@kernel
def drain(w):
    """The input is over: end every connection."""
    worker = WORKER_AT(w)
    unused = TABLE_AT(worker.table).unused
    for index in range(unused):
        if index + AHEAD < unused:
            prefetch_slot(worker.table, connection_of(w, index + AHEAD).hash)
        c = connection_of(w, index)
        if c.life:
            terminate(w, index, CLOSED if c.flags & OVER else DRAINED)
