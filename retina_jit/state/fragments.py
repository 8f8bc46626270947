"""IP fragments: datagrams that wait for their rest, in a capped table.

Declared policy, the same for IPv4 and IPv6:

1. The first copy of a byte wins, by units of eight bytes; a later copy is counted (`overlap`), and `inconsistent` when it
   differs. RFC 8200, 4.5 has receivers throw such datagrams away; an observer wants to see them.
2. Refused: a fragment without data, one that is not the last and does not end at a unit, one that reaches past the end
   that the last one has set or past 65535 bytes, a last one that ends elsewhere or before what is there. The datagram stays.
3. A datagram that is not whole `timeout` after its first fragment (capture time) is given up. When the table is full, the
   oldest is. Tiny fragments (RFC 1858) need no rule: nothing is looked into before the datagram is whole.

Where a capture has cut a fragment, the datagram's captured bytes end there.
"""

from __future__ import annotations

import numpy as np

from retina_jit import memory
from retina_jit.jit import kernel, leaf
from retina_jit.memory import copy, fill, load8, load32, load64, mix, store8, store32, store64
from retina_jit.state.arena import allocate, capacity, enlarge, release

FRAGMENTS = np.dtype(
    [
        ("pool", "i8"),  # address of the DATAGRAM records
        ("records", "i8"),  # how many there are: `most`, and what one burst may complete
        ("most", "i8"),  # datagrams that may wait, a power of two
        ("heads", "i8"),  # address of 2 * most words of 4 bytes: index + 1 of the first of each chain
        ("unused", "i8"),  # records from here on were never used
        ("free", "i8"),  # index + 1 of the first freed record
        ("live", "i8"),
        ("oldest", "i8"),  # index + 1; by the time of their first fragment
        ("newest", "i8"),
        ("done", "i8"),  # index + 1 of the first whole datagram of this burst
        ("timeout", "i8"),  # [ns]
        ("seed", "i8"),
        # What `take` and `sweep` tell.
        ("given_up", "i8"),  # frames of datagrams that were given up since it was last set to 0
        ("overlap", "i8"),  # fragments that brought bytes that were there
        ("inconsistent", "i8"),  # ... and differed
    ]
)
DATAGRAM = np.dtype(
    [
        ("a", "i8"),  # source
        ("b", "i8"),
        ("c", "i8"),  # destination
        ("d", "i8"),
        ("ident", "i8"),  # identification, family and (IPv4) protocol
        ("following", "i8"),  # index + 1 of the next one in the chain; of the next free or whole one
        ("older", "i8"),  # index + 1
        ("newer", "i8"),
        ("first", "i8"),  # capture time of the first fragment [ns]
        ("block", "i8"),  # address in the arena
        ("size", "i8"),  # that was asked for it
        ("total", "i8"),  # length, known from the last fragment; -1
        ("reach", "i8"),  # end of the furthest fragment
        ("got", "i8"),  # bytes that are there
        ("cut", "i8"),  # first byte that the capture does not have
        ("frames", "i8"),  # fragments that were frames of their own
        ("header", "i8"),  # length of what stands in front of the data; 0: the first fragment has not come
        ("head", "i8"),  # its hash, cut to a chain's number
    ]
)
FRAGMENTS_AT, DATAGRAM_AT = memory.at(FRAGMENTS), memory.at(DATAGRAM)
SIZE = DATAGRAM.itemsize

MOST_BYTES = 65535
UNITS = 1024
"""Bytes of the bitmap of units, at the beginning of a block."""
HEADER_ROOM = 256
"""Behind it; what stands in front of the data ends where this does. A longer link header is left out."""
DATA = UNITS + HEADER_ROOM
FIRST_SIZE = 4096
FAR = 1 << 20

REFUSED, HELD, WHOLE = range(3)


@leaf
def datagram_at(fragments, index):
    """The DATAGRAM record at an index."""
    return DATAGRAM_AT(FRAGMENTS_AT(fragments).pool + index * SIZE)


@kernel
def _unlink(fragments, index):
    """Take a datagram out of its chain and of the order by age."""
    f = FRAGMENTS_AT(fragments)
    d = datagram_at(fragments, index)
    place = f.heads + 4 * d.head
    at = load32(place)
    if at == index + 1:
        store32(place, d.following)
    else:
        while datagram_at(fragments, at - 1).following != index + 1:
            at = datagram_at(fragments, at - 1).following + 0
        datagram_at(fragments, at - 1).following = d.following
    if d.older:
        datagram_at(fragments, d.older - 1).newer = d.newer
    else:
        f.oldest = d.newer
    if d.newer:
        datagram_at(fragments, d.newer - 1).older = d.older
    else:
        f.newest = d.older
    f.live -= 1


@kernel
def _free(fragments, index, arena):
    f = FRAGMENTS_AT(fragments)
    d = datagram_at(fragments, index)
    release(arena, d.block, d.size)
    d.following = f.free
    f.free = index + 1


@kernel
def _give_up(fragments, index, arena):
    _unlink(fragments, index)
    FRAGMENTS_AT(fragments).given_up += datagram_at(fragments, index).frames
    _free(fragments, index, arena)


@kernel
def sweep(fragments, arena, now):
    """Give up what is too old at `now`, and what is whole: its burst is over. Counts in `given_up`."""
    f = FRAGMENTS_AT(fragments)
    while f.done:
        index = f.done - 1
        f.done = datagram_at(fragments, index).following
        _free(fragments, index, arena)
    while f.oldest and now - datagram_at(fragments, f.oldest - 1).first > f.timeout:
        _give_up(fragments, f.oldest - 1, arena)


@kernel
def _find(fragments, a, b, c, d, ident, ts, arena):
    """Index of the datagram, new if need be; -1 if there is no memory."""
    f = FRAGMENTS_AT(fragments)
    hash_ = mix(mix(a ^ f.seed, b ^ 0x2D358DCCAA6C78A5) ^ c, mix(d ^ 0x4BB33A62ED93F8EB, ident ^ f.seed))
    head = hash_ & (2 * f.most - 1)
    at = load32(f.heads + 4 * head)
    while at:
        g = datagram_at(fragments, at - 1)
        if g.ident == ident and g.a == a and g.b == b and g.c == c and g.d == d:
            if ts - g.first <= f.timeout:
                return at - 1
            _give_up(fragments, at - 1, arena)
            break
        at = g.following + 0
    if f.live == f.most:
        _give_up(fragments, f.oldest - 1, arena)
    if f.free == 0 and f.unused == f.records:
        return -1
    block = allocate(arena, FIRST_SIZE)
    if block == 0:
        return -1
    if f.free:
        index = f.free - 1
        f.free = datagram_at(fragments, index).following
    else:
        index = f.unused + 0
        f.unused += 1
    g = datagram_at(fragments, index)
    g.a, g.b, g.c, g.d, g.ident = a, b, c, d, ident
    g.first, g.block, g.size, g.head = ts, block, FIRST_SIZE, head
    g.total, g.reach, g.got, g.cut, g.frames, g.header = -1, 0, 0, FAR, 0, 0
    g.following = load32(f.heads + 4 * head)
    store32(f.heads + 4 * head, index + 1)
    g.older, g.newer = f.newest, 0
    if f.newest:
        datagram_at(fragments, f.newest - 1).newer = index + 1
    else:
        f.oldest = index + 1
    f.newest = index + 1
    f.live += 1
    fill(block, 0, UNITS)
    return index


@kernel
def _cover(fragments, index, offset, source, length, captured):
    """Keep the units of a fragment that are not there yet; compare the others."""
    f = FRAGMENTS_AT(fragments)
    d = datagram_at(fragments, index)
    there = d.block + DATA + offset
    overlapping, differing = 0, 0
    at = 0
    while at < length:
        unit = (offset + at) >> 3
        byte = d.block + (unit >> 3)
        bit = 1 << (unit & 7)
        size = min(8, length - at)
        have = max(0, min(size, captured - at))
        if load8(byte) & bit:
            overlapping = 1
            known = min(have, d.cut - offset - at)
            if known == 8:
                if load64(there + at) != load64(source + at):
                    differing = 1
            else:
                for n in range(max(0, known)):
                    if load8(there + at + n) != load8(source + at + n):
                        differing = 1
        else:
            store8(byte, load8(byte) | bit)
            if have == 8:
                store64(there + at, load64(source + at))
            else:
                copy(there + at, source + at, have)
                if have < size:
                    d.cut = min(d.cut, offset + at + have)
            d.got += size
        at += 8
    f.overlap += overlapping
    f.inconsistent += differing


@kernel
def take(fragments, arena, a, b, c, d, ident, ts, offset, more, source, length, captured, frames):
    """Take a fragment: `length` bytes at `offset`, of which `captured` stand at `source`; `more`: it is not the last.

    frames: 1 if it is a frame of its own. Returns the datagram's index << 2 | WHOLE, HELD or REFUSED; a whole one is no
    longer in the table and keeps its memory until `sweep`. What stands in front of the data is the caller's to write.
    """
    f = FRAGMENTS_AT(fragments)
    end = offset + length
    if length <= 0 or end > MOST_BYTES or (more and length & 7):
        return REFUSED
    index = _find(fragments, a, b, c, d, ident, ts, arena)
    if index < 0:
        return REFUSED
    g = datagram_at(fragments, index)
    wrong = (g.total >= 0 and (end > g.total or (more == 0 and end != g.total))) or (more == 0 and end < g.reach)
    if not wrong and DATA + end > g.size:
        fresh = enlarge(arena, g.block, DATA + g.reach, g.size, DATA + end)
        if fresh == 0:
            wrong = True
        else:
            g.block = fresh
            g.size = capacity(DATA + end)
    if wrong:
        if g.got == 0:
            _give_up(fragments, index, arena)
        return REFUSED
    if more == 0:
        g.total = end
    g.reach = max(g.reach, end)
    g.frames += frames
    _cover(fragments, index, offset, source, length, captured)
    if g.got != g.total:
        return (index << 2) | HELD
    _unlink(fragments, index)
    g.following = f.done
    f.done = index + 1
    return (index << 2) | WHOLE
