"""TCP segments in order, per direction.

In-order payload is passed on in place; only a segment that came too early is copied (*held*) until the hole in front of
it is filled. Rules:

1. The first copy of a byte wins. A later copy that differs is counted (`overlap_inconsistent`), never passed on.
2. Held segments are disjoint and sorted. At most `most_held` per connection; the arena caps their bytes.
3. A hole that the receiver has acknowledged will not be filled any more: it is skipped when the next early segment
   arrives. A hole that cannot be waited for, because a cap is reached or the connection ends, is skipped at once.
   What follows a skipped hole is passed on with the number of bytes that are missing.
4. What lies more than MOST_AHEAD in front is out of any window unless the receiver acknowledges it: where it would be
   skipped to, it is dropped instead (`payload_dropped`), as long as fewer than ENOUGH segments say the same. More than
   MOST_EARLY in front, which no window allows (RFC 7323, 2.3), it is not held at all.

The caller passes on what is in order, holds what is early, and then takes held segments with `take_ready`.
"""

from __future__ import annotations

import numpy as np

from retina_jit import memory
from retina_jit.jit import kernel, leaf
from retina_jit.memory import copy, load8, store64
from retina_jit.state.arena import allocate, release
from retina_jit.state.layout import ACK_KNOWN, NEXT_KNOWN, RESP
from retina_jit.state.tcp import sent
from retina_jit.state.track import MOST_AHEAD, signed32

SEGMENT = np.dtype(
    [
        ("following", "i8"),  # address of the next held segment
        ("seq", "i8"),
        ("length", "i8"),
        ("ts", "i8"),
        ("cut", "i8"),  # bytes behind it that the capture does not have
    ]
)
"""Head of a held segment; its bytes follow."""
SEGMENT_AT = memory.at(SEGMENT)
HEAD = SEGMENT.itemsize

HELD, NO_ROOM = range(2)
ENOUGH = 8
MOST_EARLY = 1 << 30


@leaf
def next_of(c, side):
    """Next sequence number in order."""
    return (c.next1 if side else c.next0) + 0


@leaf
def set_next(c, side, seq):
    """Move the next sequence number in order."""
    if side:
        c.next1 = seq & 0xFFFFFFFF
    else:
        c.next0 = seq & 0xFFFFFFFF
    c.tcp |= NEXT_KNOWN << (RESP * side)


@leaf
def held_of(c, side):
    """First held segment, or 0."""
    return (c.held1 if side else c.held0) + 0


@leaf
def _set_held(c, side, segment):
    if side:
        c.held1 = segment
    else:
        c.held0 = segment


@kernel
def _differ(address, other, length):
    for n in range(length):
        if load8(address + n) != load8(other + n):
            return True
    return False


@kernel
def _hold_piece(c, side, before, following, seq, address, length, ts, cut, arena, overlaps):
    """Copy one piece between two held segments. Returns its address or 0."""
    made = allocate(arena, HEAD + length)
    if made == 0:
        return 0
    s = SEGMENT_AT(made)
    s.following, s.seq, s.length, s.ts, s.cut = following, seq, length, ts, cut
    copy(made + HEAD, address, length)
    if before:
        SEGMENT_AT(before).following = made
    else:
        _set_held(c, side, made)
    c.held += 1
    store64(overlaps + 16, memory.load64(overlaps + 16) + length)
    return made


@kernel
def hold(c, side, seq, address, length, ts, cut, arena, most_held, overlaps):
    """Keep an early segment, without the bytes that are held already.

    `overlaps`: address of counters: overlapping segments, inconsistent ones, bytes held. Returns HELD, or NO_ROOM when a cap
    forbids it (pieces kept until then stay).
    """
    base = next_of(c, side)
    before = 0
    at = held_of(c, side)
    start = signed32(seq - base)
    end = start + length
    offset = start
    while True:
        # The piece before the next held segment.
        stop = end
        if at:
            s = SEGMENT_AT(at)
            h_start = signed32(s.seq - base)
            h_end = h_start + s.length
            if h_end <= offset:
                before = at + 0
                at = s.following + 0
                continue
            stop = min(end, max(h_start, offset))
        if stop > offset:
            if c.held >= most_held:
                return NO_ROOM
            piece_cut = cut if stop == end else 0
            made = _hold_piece(
                c, side, before, at, (base + offset) & 0xFFFFFFFF, address + (offset - start), stop - offset, ts, piece_cut, arena,
                overlaps,
            )  # fmt: skip
            if made == 0:
                return NO_ROOM
            before = made + 0
            offset = stop + 0
        if offset >= end or at == 0:
            return HELD
        s = SEGMENT_AT(at)
        h_start = signed32(s.seq - base)
        common = min(end, h_start + s.length) - offset
        if common > 0:
            store64(overlaps, memory.load64(overlaps) + 1)
            if _differ(address + (offset - start), at + HEAD + (offset - h_start), common):
                store64(overlaps + 8, memory.load64(overlaps + 8) + 1)
            offset += common
        before = at + 0
        at = s.following + 0
        if offset >= end:
            return HELD


@kernel
def compare(c, side, seq, address, length, overlaps):
    """Count what a segment in order, or partly before it, overlaps of what is held; counters as in `hold`."""
    base = next_of(c, side)
    start = signed32(seq - base)
    at = held_of(c, side)
    while at:
        s = SEGMENT_AT(at)
        h_start = signed32(s.seq - base)
        common = min(start + length, h_start + s.length) - h_start
        if common <= 0:
            return
        store64(overlaps, memory.load64(overlaps) + 1)
        if _differ(address + (h_start - start), at + HEAD, common):
            store64(overlaps + 8, memory.load64(overlaps + 8) + 1)
        at = s.following + 0


@kernel
def acknowledged(c, side):
    """Whether the receiver has acknowledged the hole in front of the first held segment."""
    first = held_of(c, side)
    if first == 0 or not sent(c, 1 - side, ACK_KNOWN):
        return False
    ack = c.ack0 if side else c.ack1
    return signed32(ack - SEGMENT_AT(first).seq) >= 0


@kernel
def take_ready(c, side):
    """Unhook the first held segment if no hole is in front of it. Returns its address or 0.

    The caller passes on what is new in it and releases it with `drop_segment`.
    """
    first = held_of(c, side)
    if first and signed32(SEGMENT_AT(first).seq - next_of(c, side)) <= 0:
        _set_held(c, side, SEGMENT_AT(first).following)
        c.held -= 1
        return first
    return 0


@kernel
def hole(c, side):
    """How many bytes are missing in front of the first held segment; 0 when none is held."""
    first = held_of(c, side)
    if first == 0:
        return 0
    return max(0, signed32(SEGMENT_AT(first).seq - next_of(c, side)))


@kernel
def is_wild(c, side):
    """Whether the first held segment lies out of any window (rule 4)."""
    return hole(c, side) > MOST_AHEAD and c.held < ENOUGH and not acknowledged(c, side)


@kernel
def drop_segment(segment, arena):
    """Give a segment back to the arena."""
    release(arena, segment, HEAD + SEGMENT_AT(segment).length)


@kernel
def drop_side(c, side, arena):
    """Give back what is held of one side. Returns how many bytes it was."""
    at = held_of(c, side)
    dropped = 0
    while at:
        following = SEGMENT_AT(at).following + 0
        dropped += SEGMENT_AT(at).length
        drop_segment(at, arena)
        c.held -= 1
        at = following
    _set_held(c, side, 0)
    return dropped


@kernel
def drop_all(c, arena):
    """Give back everything that is held, both sides. Returns how many bytes it was."""
    return drop_side(c, 0, arena) + drop_side(c, 1, arena)
