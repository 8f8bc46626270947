"""The CRYPTO stream of a side: frames in any order, doubled or overlapping, and the hello that they make up.

Of bytes that come twice the first copy counts. A stream is kept up to LIMIT bytes; a frame beyond is dropped.

Sources: RFC 9000 §19.6, RFC 8446 §4.
"""

from __future__ import annotations

import numpy as np

from retina_jit.jit import kernel
from retina_jit.memory import copy, fill, load8, load64, store8
from retina_jit.parsers.quic.state import (
    BROKEN,
    CUT,
    HELLO_RETRY,
    SIDE_AT,
    STATE_AT,
    client_side,
)
from retina_jit.parsers.tls import hello
from retina_jit.parsers.wire import has, u8, u24
from retina_jit.state import arena as pool

LIMIT = 32 << 10
_FIRST_ROOM = 2048  # its map fills the smallest block of the arena
CLIENT_HELLO, SERVER_HELLO = 1, 2


@kernel
def _make_room(state, side, size):
    """See that there is room for `size` bytes of stream. Returns False if the arena is full."""
    s = SIDE_AT(side)
    if s.buffer and size <= s.room:
        return True
    arena = STATE_AT(state).arena
    room = max(np.int64(s.room), _FIRST_ROOM)
    while room < size:
        room <<= 1
    old = np.int64(s.room)
    grown = pool.allocate(arena, room)
    bits = pool.allocate(arena, room >> 3)
    if grown == 0 or bits == 0:
        pool.release(arena, grown, room)
        pool.release(arena, bits, room >> 3)
        return False
    fill(bits, 0, room >> 3)
    if s.buffer:
        copy(grown, s.buffer, np.int64(s.far))
        copy(bits, s.map, old >> 3)
        pool.release(arena, s.buffer, old)
        pool.release(arena, s.map, old >> 3)
    s.buffer = grown
    s.map = bits
    s.room = room
    return True


@kernel
def _mark(bits, start, end):
    """Set the bits of a range."""
    at = start
    while at < end and at & 7:
        store8(bits + (at >> 3), load8(bits + (at >> 3)) | (1 << (at & 7)))
        at += 1
    if at < end:
        fill(bits + (at >> 3), 0xFF, (end - at) >> 3)
        at += (end - at) & ~7
    while at < end:
        store8(bits + (at >> 3), load8(bits + (at >> 3)) | (1 << (at & 7)))
        at += 1


@kernel
def _extent(bits, at, limit):
    """Where the run of set bits that includes the one before `at` ends."""
    while at < limit:
        if at & 63 == 0 and at + 64 <= limit and load64(bits + (at >> 3)) == -1:
            at += 64
        elif load8(bits + (at >> 3)) >> (at & 7) & 1:
            at += 1
        else:
            break
    return at


@kernel
def add(state, side, offset, data, length):
    """Take the `length` bytes at `data`, own memory, that stand at `offset` of the stream."""
    s = SIDE_AT(side)
    if s.flags & BROKEN or offset > LIMIT or offset + length > LIMIT:
        return
    end = offset + length
    skip = np.int64(s.front) - offset
    if skip > 0:
        offset += skip
        data += skip
    if offset >= end or not _make_room(state, side, end):
        return
    if offset >= s.far:
        copy(s.buffer + offset, data, end - offset)
    else:
        for n in range(end - offset):
            at = offset + n
            if load8(s.map + (at >> 3)) >> (at & 7) & 1 == 0:
                store8(s.buffer + at, load8(data + n))
    _mark(s.map, offset, end)
    s.far = max(np.int64(s.far), end)
    if offset <= s.front:
        s.front = _extent(s.map, max(end, np.int64(s.front)), np.int64(s.far))
        _take_messages(state, side)


@kernel
def _take_messages(state, side):
    """File the hello as soon as it is complete."""
    s = SIDE_AT(side)
    is_client = side == client_side(state)
    while not s.flags & BROKEN:
        span, at = (s.buffer, np.int64(s.front)), np.int64(s.message_at)
        if not has(span, at, 4):
            return
        kind, length = u8(span, at), u24(span, at + 1)
        if (s.hello_len == 0 and kind != (CLIENT_HELLO if is_client else SERVER_HELLO)) or length < hello.SHORTEST:
            s.flags |= BROKEN
            return
        if length > LIMIT or not has(span, at + 4, length):
            return
        s.message_at = at + 4 + length
        if s.hello_len == 0:
            if not is_client and hello.is_retry((s.buffer + at + 4, length)):
                STATE_AT(state).flags |= HELLO_RETRY
            else:
                s.hello_at = at + 4
                s.hello_len = length


@kernel
def conclude(side):
    """Nothing more will come: a ClientHello that has begun is filed as far as it goes."""
    s = SIDE_AT(side)
    span = (s.buffer, np.int64(s.front))
    if s.hello_len == 0 and not s.flags & BROKEN and s.message_at == 0 and has(span, 0, 4 + hello.SHORTEST):
        s.hello_at = 4
        s.hello_len = min(u24(span, 1), span[1] - 4)
        s.flags |= CUT
