"""Handshake messages of DTLS from their fragments, in any order, doubled or overlapping.

Three messages of a side can be gathered at a time, one of each sort that is kept (a hello, a Certificate, a key exchange);
others are only noted. Of bytes that come twice the first copy counts; a message with a higher number takes the place of one
that was not completed. A fragment that begins more than WINDOW bytes behind the last byte that is there is dropped, so what
a datagram can make us reserve is bounded.

Sources: RFC 6347 §4.2.3, RFC 9147 §5.5.
"""

from __future__ import annotations

import numpy as np

from retina_jit.jit import kernel, leaf
from retina_jit.memory import copy, fill, load8, store8
from retina_jit.parsers.dtls.state import CHAIN, HELLO, KEY, PART_AT, PARTS, STATE_AT, part_of
from retina_jit.parsers.tls import hello
from retina_jit.parsers.tls.messages import (
    CERTIFICATE,
    CERTIFICATE_REQUEST,
    CERTIFICATE_STATUS,
    CLIENT_HELLO,
    CLIENT_KEY_EXCHANGE,
    HELD_LIMIT,
    HELLO_LIMIT,
    NEW_SESSION_TICKET,
    SERVER_HELLO,
    SERVER_HELLO_DONE,
    SERVER_KEY_EXCHANGE,
    end_message,
    keep_bytes,
    wants,
)
from retina_jit.parsers.tls.state import CUT, DONE, GAP, SIDE_AT, hello_of, set_client, side_of
from retina_jit.parsers.wire import has, part, u8, u16, u24
from retina_jit.state import arena as pool

HEADER = 12
HELLO_VERIFY_REQUEST = 3
LIMIT = HELLO_LIMIT
"""Longest message that is gathered."""
WINDOW = 16 << 10
_FIRST_ROOM = 1792  # with its map it fills a block of the arena


@leaf
def sort_of(kind):
    """Which PART a message goes to; -1: it is not kept."""
    if kind == CLIENT_HELLO or kind == SERVER_HELLO:
        return HELLO
    if kind == CERTIFICATE:
        return CHAIN
    return KEY if kind == SERVER_KEY_EXCHANGE or kind == CLIENT_KEY_EXCHANGE else -1


@leaf
def _block(room):
    return room + (room >> 3)


@kernel
def release_part(place, arena):
    """Give back the memory of a PART."""
    p = PART_AT(place)
    pool.release(arena, p.buffer, _block(np.int64(p.room)))
    p.buffer = 0
    p.room = 0


@kernel
def _make_room(place, arena, size):
    """See that there is room for the first `size` bytes of the body. Returns False if the arena is full."""
    p = PART_AT(place)
    old = np.int64(p.room)
    if p.buffer and size <= old:
        return True
    room = max(old, _FIRST_ROOM)
    while room < size:
        room <<= 1
    fresh = pool.allocate(arena, _block(room))
    if fresh == 0:
        return False
    fill(fresh + room, 0, room >> 3)
    if p.buffer:
        copy(fresh, p.buffer, np.int64(p.far))
        copy(fresh + room, p.buffer + old, old >> 3)
        pool.release(arena, p.buffer, _block(old))
    p.buffer = fresh
    p.room = room
    return True


@kernel
def _gather(place, span, offset):
    """Take a fragment into a PART that has room for it."""
    p = PART_AT(place)
    bits = p.buffer + np.int64(p.room)
    for n in range(span[1]):
        at = offset + n
        byte = load8(bits + (at >> 3))
        if (byte >> (at & 7)) & 1 == 0:
            store8(bits + (at >> 3), byte | (1 << (at & 7)))
            store8(p.buffer + at, u8(span, n))
            p.have += 1
    p.far = max(np.int64(p.far), offset + span[1])


@kernel
def _file(state, direction, kind, body):
    """A message is complete: what is kept of it is what TLS keeps, a ClientHello without its cookie."""
    side = side_of(state, direction)
    s = SIDE_AT(side)
    s.message = kind
    s.keep = wants(side, kind)
    s.begun = s.held
    if s.keep and np.int64(s.held) + body[1] > HELD_LIMIT:
        s.keep = 0
    if s.keep:
        at = hello.after8(body, hello.SESSION_ID) if kind == CLIENT_HELLO else body[1]
        rest = hello.after8(body, at)
        if not keep_bytes(state, side, body, 0, min(at, body[1])) or (rest < body[1] and not keep_bytes(state, side, body, rest, body[1] - rest)):
            s.held = s.begun
            s.keep = 0
    end_message(state, side, direction)


@kernel
def _note(state, direction, kind):
    """A message that is not kept has come, or a part of it."""
    side = side_of(state, direction)
    if kind == HELLO_VERIFY_REQUEST:
        set_client(state, 1 - direction)
        STATE_AT(state).verified = 1
    elif kind == SERVER_HELLO_DONE or kind == NEW_SESSION_TICKET or kind == CERTIFICATE_REQUEST or kind == CERTIFICATE_STATUS:
        s = SIDE_AT(side)
        s.message = kind
        s.keep = 0
        end_message(state, side, direction)


@kernel
def _add(state, direction, arena, number, kind, length, offset, span):
    """Take a fragment of a message that is kept. Returns False if a cap leaves it out."""
    place = part_of(state, direction, sort_of(kind))
    p = PART_AT(place)
    if number < p.number or (number == p.number and (p.whole or p.kind != kind or p.length != length)):
        return True  # of a message that is here already, or was given up
    if number > p.number:
        release_part(place, arena)
        p.number, p.kind, p.length, p.have, p.far, p.whole = number, kind, length, 0, 0, 0
    if offset == 0 and span[1] == length:
        p.whole = 1
        _file(state, direction, kind, span)
        release_part(place, arena)
        return True
    if offset > p.far + WINDOW or not _make_room(place, arena, offset + span[1]):
        return False
    _gather(place, span, offset)
    if p.have == length:
        p.whole = 1
        _file(state, direction, kind, (p.buffer + 0, length))
        release_part(place, arena)
    return True


@kernel
def take(state, direction, arena, span):
    """Take the fragments of a handshake record. Returns False if a cap has left something out."""
    at, complete = np.int64(0), True
    while has(span, at, HEADER):
        kind, length, number = u8(span, at), u24(span, at + 1), u16(span, at + 4)
        offset, size = u24(span, at + 6), u24(span, at + 9)
        body = part(span, at + HEADER, size)
        at += HEADER + size
        if offset + size > length:
            break
        if sort_of(kind) < 0:
            _note(state, direction, kind)
        elif length > LIMIT:
            complete = False
        elif sort_of(kind) != HELLO or length >= hello.SHORTEST:
            if not _add(state, direction, arena, number + 1, kind, length, offset, body):
                complete = False
        if kind == CERTIFICATE or kind == SERVER_KEY_EXCHANGE or kind == CERTIFICATE_REQUEST:
            SIDE_AT(side_of(state, direction)).flags |= DONE  # no session was taken up, even if ServerHelloDone is lost
    return complete


@kernel
def _front(place):
    """How many bytes of a message that is not complete are there from its beginning on."""
    p = PART_AT(place)
    bits, at = p.buffer + np.int64(p.room), np.int64(0)
    while at < p.far and (load8(bits + (at >> 3)) >> (at & 7)) & 1:
        at += 1
    return at


@kernel
def conclude(state, direction, arena):
    """Nothing more will come: a hello that has begun is filed as far as it goes."""
    place = part_of(state, direction, HELLO)
    p = PART_AT(place)
    if p.buffer and hello_of(side_of(state, direction))[1] == 0:
        front = _front(place)
        if front >= hello.SHORTEST:
            SIDE_AT(side_of(state, direction)).flags |= CUT | GAP
            _file(state, direction, np.int64(p.kind), (p.buffer + 0, front))
    for which in range(PARTS):
        release_part(part_of(state, direction, which), arena)
        PART_AT(part_of(state, direction, which)).whole = 1
