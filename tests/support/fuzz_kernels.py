"""Many conversations through the entries of a session parser in one call."""

from __future__ import annotations

from retina_jit import memory
from retina_jit.delivery.event import CONTEXT, CONTEXT_AT
from retina_jit.jit import entry, kernel
from retina_jit.memory import call2, call4, fill, load64
from retina_jit.parsers.session.contract import NOT_OURS, READY, STOP
from retina_jit.state.arena import ARENA
from retina_jit.state.layout import INPUT

INPUT_AT, ARENA_AT = memory.at(INPUT), memory.at(ARENA)
CONTEXT_SIZE = CONTEXT.itemsize
SEGMENT = 6
"""Words before the bytes of a segment: direction, transport, lost, cut, capture time, length."""


@kernel
def _items(table, which, session, out):
    """How many items a list has; 2 for what is none."""
    if which >> 32 == 0:
        return 2
    call4(load64(table + 40), session, which & 0xFFFF, -1, out)
    return load64(out) if which >> 32 == 1 else load64(out + 8)


@kernel
def _shown(table, readers, session, context, event, record, room):
    """Ask for all that a delivered session gives."""
    fill(context, 0, CONTEXT_SIZE)
    c = CONTEXT_AT(context)
    c.event, c.out, c.cursor, c.limit, c.session = event, event + 24, event + 24 + record, event + room, session
    memory.call1(load64(table + 32), context)
    out = event + room
    for n in range(readers & 0xFFFF):
        which = load64(table + 48 + 8 * n)
        for item in range(-1, _items(table, which, session, out) if readers >> 32 else 2):
            call4(load64(table + 40), session, which & 0xFFFF, item, out)


@entry
def conversations(batch, count, table, readers, state, size, given, context, event):
    """Run `count` conversations. Returns how many sessions were delivered, or -1 - n if the n-th did not give back its memory.

    table: addresses of probe, parse, finish, release, project, read(session, field, n, out); then the numbers of `readers` fields,
    each with 1 << 32 if it is a list of numbers, 2 << 32 if one of texts. readers: 1 << 32 is added to ask for every item of lists.
    event: room of 1 MiB and 64 bytes; the word before it: length of the record.
    """
    room = 1 << 20
    record = load64(event - 8)
    i = INPUT_AT(given)
    arena = i.arena + 0
    delivered = 0
    at = batch
    for k in range(count):
        segments = load64(at)
        at += 8
        fill(state, 0, size)
        stopped = False
        for _ in range(segments):
            length = load64(at + 40)
            i.direction, i.transport, i.lost, i.cut, i.ts = load64(at), load64(at + 8), load64(at + 16), load64(at + 24), load64(at + 32)
            i.address, i.length, i.at = at + 8 * SEGMENT, length, 0
            call4(load64(table), i.address, length, i.direction, i.transport)
            while not stopped:
                flags = call2(load64(table + 8), state, given)
                if flags & READY:
                    delivered += 1
                    _shown(table, readers, state, context, event, record, room)
                stopped = flags & (STOP | NOT_OURS) != 0
                if not flags & READY:
                    break
            at += 8 * SEGMENT + ((length + 7) & ~7)
        while call2(load64(table + 16), state, arena) & READY:
            delivered += 1
            _shown(table, readers, state, context, event, record, room)
        call2(load64(table + 24), state, arena)
        if ARENA_AT(arena).used:
            return -1 - k
    return delivered
