"""SSH over a byte stream: lines, then packets, in each direction, for any cut of the stream.

The identification and the few messages that are reported are copied into one arena block per direction; all else is
skipped by counting. Headers are gathered byte by byte where they are cut.

Sources: RFC 4253 §4.2 and §6; RFC 4419 (group exchange), RFC 5656 (elliptic curves), RFC 8731.
"""

from __future__ import annotations

import numpy as np

from retina_jit import memory
from retina_jit.jit import kernel, leaf
from retina_jit.parsers.session.contract import NOT_OURS, READY, STOP
from retina_jit.parsers.ssh import names
from retina_jit.parsers.ssh.state import (
    BROKEN,
    CUT,
    FIRST_KEX,
    GAP,
    KEX_TYPES,
    LINES,
    NEW_KEYS,
    PACKETS,
    REFUSED,
    SIDE_AT,
    STATE_AT,
    VEILED,
    banner_of,
    has_session,
    is_complete,
    kexinit_of,
    note_kex_message,
    set_client,
    side_of,
)
from retina_jit.parsers.wire import copy_to, part, u8, u16, u32
from retina_jit.state import arena as pool
from retina_jit.state.layout import INPUT

DISCONNECT, KEXINIT, NEWKEYS = 1, 20, 21

LINE_LIMIT = 1024
"""What is longer is cut; RFC 4253, 4.2 allows 255."""
BEFORE_LIMIT = 16 << 10
"""Bytes of lines before the identification: a server's greeting."""
PACKET_LIMIT = 256 << 10
"""Longest packet: as OpenSSH; RFC 4253, 6.1 asks for 35000."""
KEEP_LIMIT = 32 << 10
"""Longest payload that is kept."""
KEPT = 8
"""Most messages of the key exchange that are kept per side."""

INPUT_AT = memory.at(INPUT)


@kernel
def _keep(state, side, span, at, count):
    """Append bytes to what the side keeps. Returns False if there is no memory for them."""
    s = SIDE_AT(side)
    held, room = np.int64(s.held), np.int64(s.room)
    if held + count > room:
        size = max(held + count, 2 * room)
        block = pool.enlarge(STATE_AT(state).arena, s.buffer, held, room, size)
        if block == 0:
            s.flags |= REFUSED
            return False
        if block != s.buffer:
            s.buffer = block
            s.room = size
    s.held += copy_to(s.buffer + held, span, at, count)
    return True


@leaf
def _break_off(side):
    """This direction is not looked at again."""
    s = SIDE_AT(side)
    s.phase = BROKEN
    s.left, s.rest, s.keep, s.have = 0, 0, 0, 0


@leaf
def _starts_with_ssh(span):
    return span[1] >= 4 and u32(span, 0) == 0x5353482D


@leaf
def is_version1(banner):
    """Whether an identification allows SSH 1 only: "1.99" stands for both (RFC 4253, 5.1)."""
    return banner[1] >= 8 and u16(banner, 4) == 0x312E and u16(banner, 6) != 0x3939


@kernel
def _end_line(state, side, direction):
    """A line is complete: is it the identification?"""
    s = SIDE_AT(side)
    length = np.int64(s.held)
    line = (s.buffer + 0, length)
    if length and u8(line, length - 1) == 13:
        length -= 1
    if not _starts_with_ssh(part(line, 0, length)):
        s.held = 0
        return
    s.banner_len = length
    s.phase = PACKETS
    other = SIDE_AT(side_of(state, 1 - direction))
    row = STATE_AT(state)
    if is_version1(banner_of(side)):
        row.version1 = 1
    if row.version1:
        s.phase = VEILED
        if other.phase == PACKETS:
            other.phase = VEILED


@kernel
def _take_line(state, side, direction, span, at):
    """Take bytes up to the end of a line or of the span. Returns where the next ones begin."""
    s = SIDE_AT(side)
    if s.held == 0 and s.before == 0 and u8(span, at) == 0:
        # The identification was not captured: a packet's length begins with a zero.
        s.phase = PACKETS
        s.wary = 1
        return at
    end = at
    stop = min(span[1], at + BEFORE_LIMIT - np.int64(s.before))
    while end < stop and u8(span, end) != 10:
        end += 1
    fits = min(end - at, LINE_LIMIT - np.int64(s.held))
    if fits > 0 and not _keep(state, side, span, at, fits):
        _break_off(side)
        return end
    s.before += end - at
    if end == span[1]:
        return end
    if u8(span, end) != 10:
        _break_off(side)
        return end
    s.before += 1
    _end_line(state, side, direction)
    return end + 1


@leaf
def _is_kept(side, kind, payload):
    """Whether a message is worth keeping: the first KEXINIT, and what the key exchange method says."""
    s = SIDE_AT(side)
    if payload > KEEP_LIMIT or payload < 1 or s.kept >= KEPT:
        return False
    return (kind == KEXINIT and s.kexinit_len == 0) or (kind >= FIRST_KEX and kind < FIRST_KEX + KEX_TYPES)


@kernel
def _begin_packet(state, side):
    """The header of a packet and the type of its message are here. Returns False if it is no packet."""
    s = SIDE_AT(side)
    head = s.head
    length, padding, kind = head >> 16, (head >> 8) & 0xFF, head & 0xFF
    s.head = 0
    s.have = 0
    if length < 2 or length > PACKET_LIMIT or padding + 2 > length:
        return False
    if s.wary:
        known = kind == KEXINIT or kind == NEWKEYS or (kind >= FIRST_KEX and kind < FIRST_KEX + KEX_TYPES)
        if (length + 4) & 7 or padding < 4 or not known:
            return False
        s.wary = 0
    s.message = kind
    s.left = length - 2
    s.rest = length - padding - 2
    s.keep = 1 if _is_kept(side, kind, np.int64(s.rest)) else 0
    s.begun = s.held
    return True


@kernel
def _note_roles(state, side, direction, kind):
    """See whether a message tells who is the client."""
    if kind == KEXINIT:
        marks = names.markers(names.name_list(kexinit_of(side), names.KEX)) & 3
        if marks == 1:
            set_client(state, direction)
        elif marks == 2:
            set_client(state, 1 - direction)
    elif kind >= FIRST_KEX and kind < FIRST_KEX + KEX_TYPES:
        # Even types are the client's, odd ones the server's, but with RSA key exchange (RFC 4432), which nobody uses.
        set_client(state, direction if kind & 1 == 0 else 1 - direction)


@kernel
def _end_message(state, side, direction):
    """The payload of a message is complete, or all that the capture has of it."""
    s = SIDE_AT(side)
    kind = np.int64(s.message)
    if s.keep:
        s.keep = 0
        s.kept += 1
        if kind == KEXINIT:
            s.kexinit_at = s.begun
            s.kexinit_len = s.held - s.begun
        else:
            note_kex_message(side, kind, np.int64(s.begun), np.int64(s.held) - np.int64(s.begun))
    _note_roles(state, side, direction, kind)


@kernel
def _end_packet(state, side, direction):
    s = SIDE_AT(side)
    kind = np.int64(s.message)
    _end_message(state, side, direction)
    if kind == NEWKEYS:
        s.flags |= NEW_KEYS
        s.phase = VEILED
    elif kind == DISCONNECT:
        STATE_AT(state).ended = 1


@kernel
def _take_packet(state, side, direction, span, at):
    """Take bytes of the present packet. Returns where the next ones begin."""
    s = SIDE_AT(side)
    count = min(span[1] - at, np.int64(s.left))
    payload = min(count, np.int64(s.rest))
    if s.keep and payload and not _keep(state, side, span, at, payload):
        s.keep = 0
        s.held = s.begun
    s.rest -= payload
    s.left -= count
    if s.left == 0:
        _end_packet(state, side, direction)
    return at + count


@kernel
def _skip_lost(state, side, direction, lost):
    """Bytes are missing: count them if they belong to what is skipped, else look for a packet next."""
    s = SIDE_AT(side)
    if s.phase >= VEILED:
        return
    s.flags |= GAP
    if s.phase == LINES:
        s.held = 0
        s.before = 0
        return
    if s.left >= lost and s.have == 0 and s.keep == 0:
        s.rest = max(np.int64(s.rest) - lost, 0)
        s.left -= lost
        if s.left == 0:
            _end_packet(state, side, direction)
        return
    if s.keep and s.message == KEXINIT and s.held > s.begun:
        s.flags |= CUT
        _end_message(state, side, direction)
    elif s.keep:
        s.held = s.begun
    s.keep, s.left, s.rest, s.have, s.head = 0, 0, 0, 0, 0
    s.wary = 1


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
    over = False
    if given.lost > 0:
        _skip_lost(state, side, direction, given.lost)
        given.lost = 0
        over = is_complete(state)
    while at < length and not over:
        event = True
        if s.phase == LINES:
            at = _take_line(state, side, direction, span, at)
        elif s.phase == PACKETS and s.left == 0:
            if s.have == 0 and length - at >= 6:
                s.head = (u32(span, at) << 16) | u16(span, at + 4)
                s.have = 6
                at += 6
            else:
                s.head = (s.head << 8) | u8(span, at)
                s.have += 1
                at += 1
            if s.have < 6:
                continue
            if not _begin_packet(state, side):
                _break_off(side)
            elif s.left == 0:
                _end_packet(state, side, direction)
        elif s.phase == PACKETS:
            at = _take_packet(state, side, direction, span, at)
            event = s.left == 0
        else:
            s.veiled = min(np.int64(s.veiled) + length - at, 1 << 30)
            at = length
        over = event and is_complete(state)
    given.at = at
    if not over:
        return 0
    if not has_session(state):
        given.at = length
        return NOT_OURS | STOP
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
        s.room, s.held, s.banner_len, s.kexinit_len = 0, 0, 0, 0
        for kind in range(FIRST_KEX, FIRST_KEX + KEX_TYPES):
            note_kex_message(side_of(state, direction), kind, 0, 0)
    pool.release(arena, row.derived, np.int64(row.derived_len))
    row.derived = 0
    row.made = 0
    row.delivered = 1
