"""From payload to messages: datagrams, and TCP's stream of messages with a length of two bytes before each (RFC 1035, 4.2.2).

A message that lies whole in one segment is read where it is; else its parts are gathered. Of a message that was captured
in part (short snapshots, lost segments) the part is read. Where bytes are missing beyond the message at hand, the next
message is taken to begin right behind the hole; if what stands there is none, the rest of the direction is passed over.
"""

from __future__ import annotations

import numpy as np

from retina_jit import memory
from retina_jit.jit import kernel
from retina_jit.parsers.dns.message import HEADER, QR, check, flags_of
from retina_jit.parsers.dns.state import (
    CUT,
    DOUBT,
    LOST,
    STATE_AT,
    STREAM_AT,
    STREAM_SIZE,
    is_full,
    take_message,
    take_oldest,
    take_overdue,
)
from retina_jit.parsers.session.contract import NOT_OURS, READY, STOP
from retina_jit.parsers.wire import copy_to, u8, u16
from retina_jit.state import arena as pool
from retina_jit.state.layout import INPUT

INPUT_AT = memory.at(INPUT)


@kernel
def _datagram(state, given_at):
    i = INPUT_AT(given_at)
    i.lost = 0
    message = (i.address + i.at, i.length - i.at)
    if message[1] == 0:
        return 0
    if check(message, 0 if i.cut else 1) != 1:
        i.at = i.length
        return 0 if STATE_AT(state).accepted else NOT_OURS | STOP
    if is_full(state, message[1]) and not flags_of(message) & QR:
        return take_oldest(state, i.arena)
    i.at = i.length
    return take_message(state, i.arena, message, i.ts, i.direction)


@kernel
def _skip_hole(stream, lost):
    """Bytes are missing."""
    s = STREAM_AT(stream)
    if s.have < 2:
        used = min(lost, np.int64(s.skip))
        s.skip -= used
        if lost > used:
            s.have = 0
            s.flags |= DOUBT
        return
    rest = np.int64(s.need) - np.int64(s.held)
    s.need = s.held
    s.flags |= CUT
    if lost > rest:
        s.flags |= DOUBT
    else:
        s.skip = rest - lost


@kernel
def _read_length(stream, span, at):
    """Take bytes of a length prefix. Returns the position behind them."""
    s = STREAM_AT(stream)
    if s.have == 0 and span[1] - at >= 2:
        s.need = u16(span, at)
        s.have = 2
        return at + 2
    if s.have == 0:
        s.head = u8(span, at)
    else:
        s.need = (np.int64(s.head) << 8) | u8(span, at)
    s.have += 1
    return at + 1


@kernel
def _gather(stream, span, at, arena):
    """Keep bytes of the message at hand. Returns how many were taken; without memory the message is passed over."""
    s = STREAM_AT(stream)
    held, need = np.int64(s.held), np.int64(s.need)
    taken = min(span[1] - at, need - held)
    buffer = pool.enlarge(arena, s.buffer, held, np.int64(s.room), held + taken)
    if buffer == 0:
        s.skip = need - held
        s.have = 0
        s.held = 0
        return 0
    if buffer != s.buffer:
        s.buffer = buffer
        s.room = held + taken
    copy_to(buffer + held, span, at, taken)
    s.held += taken
    return taken


@kernel
def _segment(state, given_at):
    i = INPUT_AT(given_at)
    row = STATE_AT(state)
    stream = state + STREAM_SIZE * i.direction
    s = STREAM_AT(stream)
    if i.lost > 0:
        _skip_hole(stream, i.lost + 0)
        i.lost = 0
    span = (i.address, i.length)
    while not s.flags & LOST:
        at = i.at + 0
        left = i.length - at
        if s.have < 2:
            skip = min(left, np.int64(s.skip))
            s.skip -= skip
            i.at += skip
            if skip == left:
                return 0
            i.at = _read_length(stream, span, at + skip)
            if s.have == 2 and s.need < HEADER:
                break
            continue
        need, held = np.int64(s.need), np.int64(s.held)
        if held == 0 and left >= need:
            message = (i.address + at, need)
            in_place = True
        elif held < need:
            if left == 0:
                return 0
            i.at += _gather(stream, span, at, i.arena)
            continue
        else:
            message = (s.buffer + 0, held)
            in_place = False
        cut = s.flags & CUT
        answer = 0
        if check(message, 0 if cut else 1) == 1:
            if is_full(state, message[1]) and not flags_of(message) & QR:
                return take_oldest(state, i.arena)
            answer = take_message(state, i.arena, message, i.ts, i.direction)
        elif not cut and (row.accepted == 0 or s.flags & DOUBT):
            break
        s.flags &= ~CUT if cut else ~DOUBT
        s.have = 0
        s.held = 0
        if in_place:
            i.at += need
        if answer:
            return answer
    s.flags |= LOST
    i.at = i.length
    return 0 if row.accepted else NOT_OURS | STOP


@kernel
def feed(state, given_at):
    """Take the bytes of one INPUT: the `parse` of the contract."""
    i = INPUT_AT(given_at)
    STATE_AT(state).arena = i.arena
    if take_overdue(state, i.arena, i.ts):
        return READY
    if i.transport == 17:
        return _datagram(state, given_at)
    return _segment(state, given_at)
