"""TLS over a byte stream: records and handshake messages, in each direction, for any cut of the stream.

A record header and a message header are gathered byte by byte where they are cut; the bodies of the few messages that
are reported are copied, whole, one after another, into one arena block per direction; all else is skipped by counting.
So what is known after a byte does not depend on how the bytes came.

Sources: RFC 5246 §6 and §7, RFC 8446 §5 and appendix D.4 (ChangeCipherSpec means nothing in TLS 1.3), RFC 6520.
"""

from __future__ import annotations

import numpy as np

from retina_jit import memory
from retina_jit.jit import kernel, leaf
from retina_jit.parsers.session.contract import NOT_OURS, READY, STOP
from retina_jit.parsers.tls import derived, ssl2
from retina_jit.parsers.tls.messages import (
    CLIENT_HELLO,
    SERVER_HELLO,
    cut_message,
    drop_message,
    take_handshake,
)
from retina_jit.parsers.tls.state import (
    BROKEN,
    CCS,
    DATA,
    ENDED,
    GAP,
    RETRY,
    SIDE_AT,
    STATE_AT,
    add_alert,
    has_session,
    is_complete,
    side_of,
    texts_of,
)
from retina_jit.parsers.wire import u8, u32
from retina_jit.state import arena as pool
from retina_jit.state.layout import INPUT

RECORD_LIMIT = 16384 + 2048
"""Longest record: RFC 5246, 6.2.3. TLS 1.3 allows less, SSL 3.0 as much."""

CHANGE_CIPHER_SPEC, ALERT, HANDSHAKE, APPLICATION_DATA, HEARTBEAT = 20, 21, 22, 23, 24
FATAL, CLOSE_NOTIFY = 2, 0

INPUT_AT = memory.at(INPUT)


@kernel
def _break_off(side):
    """These are no records, or not any more: this direction is not looked at again."""
    s = SIDE_AT(side)
    drop_message(side)
    s.left = 0
    s.have = 0
    s.flags |= BROKEN


@kernel
def _begin_record(state, side):
    """The header of a record is complete: note what comes. Returns False if it is no record."""
    s = SIDE_AT(side)
    head = s.head
    content, version, length = head >> 32, (head >> 16) & 0xFFFF, head & 0xFFFF
    s.head = 0
    s.have = 0
    if s.records == 0 and ssl2.is_hello(head):
        s.records = 1
        ssl2.begin(side, head)
        return True
    if content < CHANGE_CIPHER_SPEC or content > HEARTBEAT or version < 0x0300 or version > 0x0304:
        return False
    if length > RECORD_LIMIT:
        return False
    s.records = 1
    s.content = content
    s.left = length
    if content == APPLICATION_DATA:
        s.flags |= DATA
        s.veiled = min(np.int64(s.veiled) + length, 1 << 30)
    if content != HANDSHAKE and (s.rest or s.message_have):
        drop_message(side)
    s.tried = 1 if content == HANDSHAKE and s.flags & (CCS | DATA) else 0
    return True


@leaf
def _is_veiled(side):
    """Whether the body of the present record is only counted."""
    s = SIDE_AT(side)
    if s.content == HANDSHAKE:
        # TLS 1.3 hides its messages in records of application data, so after a retry a hello comes in clear.
        return s.flags & (CCS | DATA) != 0 and s.tried == 0
    return s.content == APPLICATION_DATA


@kernel
def _note_alert(state, side, direction):
    """Both bytes of an alert are here: file it, and see whether it ends the connection."""
    s = SIDE_AT(side)
    level, description = (s.message_head >> 8) & 0xFF, s.message_head & 0xFF
    s.message_head = 0
    s.message_have = 0
    if level == 0 or level > FATAL:
        return
    add_alert(state, direction, level, description)
    if level == FATAL or description == CLOSE_NOTIFY:
        s.flags |= ENDED


@kernel
def _take_record(state, side, direction, span, at, count):
    """Take up to `count` bytes of the present record. Returns how many, or -1: no TLS."""
    s = SIDE_AT(side)
    count = min(count, np.int64(s.left))
    if _is_veiled(side):
        used = count
    elif s.content == HANDSHAKE:
        if s.tried and s.message_have == 0 and s.rest == 0 and not _may_be_hello(side, direction, u8(span, at)):
            s.tried = 0
            used = count
        else:
            used = take_handshake(state, side, direction, span, at, count)
            if used < 0:
                return used
    elif s.content == ssl2.CONTENT:
        used = ssl2.take(state, side, span, at, count)
        if used < 0:
            return used
    elif s.content == ALERT and not s.flags & CCS:
        used = count
        for n in range(count):
            if s.message_have < 2:
                s.message_head = (s.message_head << 8) | u8(span, at + n)
            s.message_have = min(np.int64(s.message_have) + 1, 3)
    else:
        used = count
    s.left -= used
    if s.left == 0:
        if s.content == CHANGE_CIPHER_SPEC:
            s.flags |= CCS
        elif s.content == ssl2.CONTENT:
            if not ssl2.end(state, side, direction):
                return -1
        elif s.content == ALERT and not s.flags & CCS:
            if s.message_have == 2:
                _note_alert(state, side, direction)
            s.message_have = 0
            s.message_head = 0
    return used


@leaf
def _may_be_hello(side, direction, first):
    """Whether a handshake record after ChangeCipherSpec begins with the hello that may come then."""
    s = SIDE_AT(side)
    return (first == CLIENT_HELLO and s.hellos == 1) or (first == SERVER_HELLO and s.flags & RETRY != 0 and s.hellos == 0)


@kernel
def _skip_lost(side, lost):
    """Bytes are missing: if all of them belong to what is only counted, count them; else look for a record next."""
    s = SIDE_AT(side)
    if s.left >= lost and (_is_veiled(side) or (s.content == HANDSHAKE and s.rest >= lost and s.keep == 0)):
        s.left -= lost
        if s.content == HANDSHAKE and not _is_veiled(side):
            s.rest -= lost
        return
    drop_message(side)
    s.left = 0
    s.have = 0
    s.head = 0
    s.flags |= GAP


@kernel
def feed(state, input_at):
    """Take the bytes of one INPUT: the `parse` of the contract."""
    row, given = STATE_AT(state), INPUT_AT(input_at)
    row.arena = given.arena
    direction = given.direction
    side = side_of(state, direction)
    s = SIDE_AT(side)
    span = (given.address, given.length)
    at, length = given.at, given.length
    if row.delivered:
        given.at = length
        return STOP
    if given.lost > 0:
        _skip_lost(side, given.lost)
        given.lost = 0
    over = False
    while at < length and not over and not s.flags & BROKEN:
        if s.left == 0:
            if s.have == 0 and length - at >= 5:
                s.head = (u8(span, at) << 32) | u32(span, at + 1)
                s.have = 5
                at += 5
            else:
                s.head = (s.head << 8) | u8(span, at)
                s.have += 1
                at += 1
            if s.have < 5:
                continue
            if not _begin_record(state, side):
                _break_off(side)
            event = True
        else:
            used = _take_record(state, side, direction, span, at, length - at)
            if used < 0:
                _break_off(side)
            else:
                at += used
            event = s.left == 0 or s.rest == 0
        over = event and is_complete(state)
    if given.cut and at == length and s.content == HANDSHAKE and s.left and not over:
        cut_message(state, side, direction)
        over = is_complete(state)
    given.at = at
    if s.flags & BROKEN:
        given.at = length
        if s.records == 0 and SIDE_AT(side_of(state, 1 - direction)).records == 0:
            return NOT_OURS | STOP
        over = over or is_complete(state)
    if not over:
        return 0
    if not has_session(state):
        return STOP
    row.delivered = 1
    return READY | STOP


@kernel
def conclude(state):
    """The connection has ended: the `finish` of the contract."""
    row = STATE_AT(state)
    if row.delivered or not has_session(state):
        return 0
    row.delivered = 1
    return READY


@kernel
def free(state, arena):
    """Give back all that lies in the arena."""
    row = STATE_AT(state)
    for direction in range(2):
        s = SIDE_AT(side_of(state, direction))
        pool.release(arena, s.buffer, np.int64(s.room))
        s.buffer = 0
        s.room = 0
        s.held = 0
        s.hello_len = 0
        s.chain_len = 0
        s.key_len = 0
    derived.release(texts_of(state), arena)
    row.delivered = 1
