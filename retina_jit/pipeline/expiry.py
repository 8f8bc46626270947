"""Ending what has been silent for too long, and everything at the end of the input."""

from __future__ import annotations

from retina_jit.jit import entry, kernel, leaf
from retina_jit.memory import load64, shift_right, store64
from retina_jit.pipeline.access import WORKER_AT, connection_of, counter, terminate
from retina_jit.state import timers
from retina_jit.state.flowkey import protocol_of
from retina_jit.state.layout import ANSWERED, OVER, SEEN_TWO
from retina_jit.state.table import TABLE_AT, move_slots, prefetch_index, prefetch_slot
from retina_jit.state.track import signed32

EXPIRED, DRAINED, CLOSED, EVICTED, EVICTED_HALF_OPEN = (
    counter(f"ended_{n}") for n in ("expired", "drained", "closed", "evicted", "half_open")
)  # fmt: skip
SLOTS_PER_BURST = 64
AHEAD = 8
"""How many connections ahead memory is asked for."""


@leaf
def window(w, c):
    """How long a connection may be silent [ns]."""
    worker = WORKER_AT(w)
    if c.flags & OVER:
        return worker.tcp_close + 0
    if protocol_of(c.key) != 6:
        return worker.udp_inactivity + 0
    return worker.tcp_inactivity + 0 if c.flags & SEEN_TWO else worker.tcp_establish + 0


@kernel
def _visit(w, tick, upto, now, why):
    """Look at every connection filed under the slot of `tick`: end it if it is silent too long at `now`, or file it anew.

    upto: what is filed under a later tick stays there.
    """
    worker = WORKER_AT(w)
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
                if signed32(upto - c.filed) < 0:
                    timers.file_at(worker.timers, worker.table, index, upto - signed32(upto - c.filed))
                elif now - c.last > window(w, c):
                    terminate(w, index, CLOSED if c.flags & OVER else why)
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
    if TABLE_AT(worker.table).old:
        # Insertions alone would do, but there may be no more of them, and two look-ups cost more than one.
        move_slots(worker.table, SLOTS_PER_BURST)
    if t.entries > t.most_entries:
        timers.rebuild(worker.timers, worker.table)
    tick = worker.now // t.resolution
    if tick - t.now > timers.SLOTS:
        # A pause longer than a turn of the wheel: look at every slot once.
        t.now = tick
        for slot in range(timers.SLOTS):
            _visit(w, slot, t.now, worker.now, EXPIRED)
    else:
        while t.now < tick:
            t.now += 1
            _visit(w, t.now, t.now, worker.now, EXPIRED)


@entry
def make_room(w):
    """The table is full: end the connections whose time would be over first. Returns 1 if there is room now.

    Goes forward over the wheel, and not again over what it has looked at before time goes on: the cost is that of a turn.
    """
    worker = WORKER_AT(w)
    t = timers.TIMERS_AT(worker.timers)
    table = TABLE_AT(worker.table)
    if t.now == 0:
        return 0
    worker.room_tick = max(worker.room_tick, t.now + 1)
    while table.live >= table.most and worker.room_tick < t.now + timers.SLOTS:
        _visit(w, worker.room_tick, worker.room_tick, worker.room_tick * t.resolution, EVICTED)
        worker.room_tick += 1
    return 1 if table.live < table.most else 0


@kernel
def note_attempt(w, index):
    """Remember a connection attempt; the one `most_half_open` attempts ago goes, if nobody has answered and room is short."""
    worker = WORKER_AT(w)
    table = TABLE_AT(worker.table)
    place = worker.half_open + 8 * (worker.attempts % worker.most_half_open)
    worker.attempts += 1
    if 2 * table.live > table.most:
        old = load64(place)
        c = connection_of(w, old & 0xFFFFFFFF)
        if old and old & 0xFFFFFFFF != index and c.life and not c.flags & (ANSWERED | OVER):
            if protocol_of(c.key) == 6 and (c.first & 0x7FFFFFFF) == shift_right(old, 32):
                terminate(w, old & 0xFFFFFFFF, EVICTED_HALF_OPEN)
    store64(place, ((connection_of(w, index).first & 0x7FFFFFFF) << 32) | index)


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
