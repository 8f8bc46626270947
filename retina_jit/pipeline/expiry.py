"""Ending what has been silent for too long, and everything at the end of the input.

However much is due at once, packets wait for a part of it only: what a burst leaves of it is the next one's. Nobody can tell
from the events, for a packet of a connection that is due ends it itself, and a full table asks for what is due first.
"""

from __future__ import annotations

from retina_jit.jit import entry, kernel, leaf
from retina_jit.memory import load64, shift_right, store64
from retina_jit.pipeline.access import WORKER_AT, connection_of, counter, terminate
from retina_jit.state import timers
from retina_jit.state.flowkey import protocol_of
from retina_jit.state.layout import ANSWERED, OVER, SEEN_TWO
from retina_jit.state.table import TABLE_AT, move_slots, prefetch_index, prefetch_slot

EXPIRED, DRAINED, CLOSED, EVICTED, EVICTED_HALF_OPEN = (
    counter(f"ended_{n}") for n in ("expired", "drained", "closed", "evicted", "half_open")
)  # fmt: skip
SLOTS_PER_BURST = 64
VISITS, VISITS_PER_PACKET = 512, 4
"""Entries of the wheel looked at with each burst, some 20 us: more than it adds, two for a packet."""
VISITS_IDLE = 1 << 18
"""And when no packet has come for a while, some 20 ms."""
FOREVER = 1 << 62
"""A time that none is after [ns]."""
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
def _visit(w, block, now, why):
    """Look at every connection in an unhooked block: end it if it is silent too long at `now`, or file it anew.

    Returns how many entries there were.
    """
    worker = WORKER_AT(w)
    count = timers.count_of(block)
    for n in range(min(count, 2 * AHEAD)):
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
        if c.filed == timers.entry_number(worker.timers, block, n):
            if now - c.last > window(w, c):
                terminate(w, index, CLOSED if c.flags & OVER else why)
            else:
                timers.file(worker.timers, worker.table, index, c.last + window(w, c))
    timers.free_block(worker.timers, block)
    return count


@kernel
def _turn(w, visits):
    """Turn the wheel towards the latest capture time, ending what has been silent for too long.

    Stops after some `visits` entries. Returns how many it might still have looked at: 0 or less if there may be more.
    """
    worker = WORKER_AT(w)
    t = timers.TIMERS_AT(worker.timers)
    tick = worker.now // t.resolution
    # After a pause longer than a turn of the wheel each slot is to be looked at once.
    t.now = max(t.now, tick - timers.SLOTS)
    while visits > 0:
        block = timers.take_block(worker.timers, t.now)
        if block:
            visits -= _visit(w, block, worker.now, EXPIRED)
        elif t.now < tick:
            t.now += 1
        else:
            break
    return visits


@kernel
def _sweep(w, visits):
    """File a part of the wheel anew: entries that are not valid any more have piled up.

    They do when connections come and go while capture time stands still.
    """
    worker = WORKER_AT(w)
    while visits > 0:
        block = timers.take_stale(worker.timers)
        if block == 0:
            break
        visits -= timers.file_block(worker.timers, worker.table, block, timers.stale_tick(worker.timers))


@kernel
def expire(w, visits):
    """After a burst: go on with what is due, and with the growth of the table; some `visits` entries of the wheel."""
    worker = WORKER_AT(w)
    t = timers.TIMERS_AT(worker.timers)
    if TABLE_AT(worker.table).old:
        # Insertions alone would do, but there may be no more of them, and two look-ups cost more than one.
        move_slots(worker.table, SLOTS_PER_BURST)
    _turn(w, visits)
    if t.sweep or t.swept:
        _sweep(w, visits)
    elif t.entries > t.most_entries:
        t.sweep = timers.SLOTS


@entry
def make_room(w):
    """The table is full: end what is due, then, if it may evict, whose time would be over first. Returns 1 if there is room now.

    Goes forward over the wheel, and not again over what it has looked at before time goes on: the cost is that of a turn.
    """
    worker = WORKER_AT(w)
    t = timers.TIMERS_AT(worker.timers)
    table = TABLE_AT(worker.table)
    if t.now == 0:
        return 0
    # What is due may hang in the chain that is being swept.
    while table.live >= table.most and t.swept:
        _sweep(w, 1)
    while table.live >= table.most and _turn(w, 1) <= 0:
        pass
    if worker.evict:
        worker.room_tick = max(worker.room_tick, t.now + 1)
        # What is due later than a turn ahead stands in the last slot: what is looked at there would be filed there anew.
        while table.live >= table.most and worker.room_tick < t.now + timers.SLOTS - 1:
            block = timers.take_block(worker.timers, worker.room_tick)
            if block:
                _visit(w, block, worker.room_tick * t.resolution, EVICTED)
            else:
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
    t = timers.TIMERS_AT(worker.timers)
    if t.now:
        while t.swept:
            _sweep(w, 1)
        t.sweep = 0
        _turn(w, FOREVER)
    unused = TABLE_AT(worker.table).unused
    for index in range(unused):
        if index + AHEAD < unused:
            prefetch_slot(worker.table, connection_of(w, index + AHEAD).hash)
        c = connection_of(w, index)
        if c.life:
            # Within its last tick the wheel has not looked at all that is due.
            silent = worker.now - c.last > window(w, c)
            terminate(w, index, CLOSED if c.flags & OVER else EXPIRED if silent else DRAINED)
