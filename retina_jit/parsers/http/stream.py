"""HTTP over a byte stream: start lines, heads and bodies in each direction, for any cut of the stream.

A message may be followed at once by the next one, and a body is passed over by counting, so a hole inside it does no
harm. Where the place in the stream is lost, lines that should be start lines and are not are passed over until one is.

Sources: RFC 9112 §2.2, §6, §7 and §9.
"""

from __future__ import annotations

import numpy as np

from retina_jit import memory
from retina_jit.jit import kernel, leaf
from retina_jit.parsers.http import head as heads
from retina_jit.parsers.http.body import count_body, read_chunk_line
from retina_jit.parsers.http.scan import LF, find_newline
from retina_jit.parsers.http.start import NO, begins_response, method_length
from retina_jit.parsers.http.state import (
    AFTER_DATA,
    ANSWER,
    BODY,
    CUT,
    DATA,
    GAP,
    HEAD,
    HEAD_AT,
    HEAD_LIMIT,
    LINE,
    SIDE_AT,
    SKIP,
    STATE_AT,
    UNTIL_CLOSE,
    show,
    side_of,
)
from retina_jit.parsers.http.transactions import answer, end_body, show_orphan, show_unanswered, take_head
from retina_jit.parsers.session.contract import LIMITED, NOT_OURS, RESYNCED, STOP
from retina_jit.parsers.wire import copy_to, part, u8
from retina_jit.state import arena as pool
from retina_jit.state.layout import INPUT

INPUT_AT = memory.at(INPUT)
PATIENCE = 16 << 10
"""So many bytes without a start line, and it is not HTTP."""


@leaf
def _is_server(state, direction):
    row = STATE_AT(state)
    return row.roles != 0 and direction != np.int64(row.client)


@kernel
def _pass_over(state, side, count):
    """So many bytes are no start line: they are body if a message is open that ends with the connection."""
    count_body(side, count, 0)
    row = STATE_AT(state)
    if row.roles == 0:
        row.skipped += count


# ----------------------------------------------------------------------------------------------------------------- heads


@kernel
def _cut_head(state, direction):
    """A head has no end: file it as far as its lines are complete. The next start line is looked for.

    Returns READY if that completes a transaction.
    """
    side = side_of(state, direction)
    s = SIDE_AT(side)
    s.phase = LINE
    s.gap = 1
    if s.line_at and s.block:
        s.message.flags |= CUT
        return take_head(state, direction, (s.block + HEAD_AT, np.int64(s.held)), np.int64(s.line_at))
    heads.discard(state, side)
    return 0


@kernel
def _gather(state, side, span, at, count):
    """Append bytes to the head that is gathered. Returns False if the arena is full."""
    s = SIDE_AT(side)
    need = HEAD_AT + np.int64(s.held) + count
    grown = pool.enlarge(STATE_AT(state).arena, s.block, HEAD_AT + np.int64(s.held), np.int64(s.room), need)
    if grown == 0:
        heads.discard(state, side)
        s.phase = SKIP
        s.gap = 1
        STATE_AT(state).notes |= LIMITED
        return False
    if grown != s.block:
        s.block = grown
        s.room = need
    s.held += copy_to(s.block + HEAD_AT + np.int64(s.held), span, at, count)
    return True


@kernel
def _read_head(state, direction, span, at):
    """Take bytes of a head. Returns where those end, and READY if that completes a transaction."""
    side = side_of(state, direction)
    s = SIDE_AT(side)
    if s.block == 0:
        whole = part(span, at, span[1] - at)
        found = heads.read_lines(side, whole)
        used = found
        if found == heads.MORE:
            _gather(state, side, span, at, whole[1])
            return span[1], 0
        if found == heads.OVER:
            used = HEAD_LIMIT
            if s.line_at and not _gather(state, side, span, at, np.int64(s.line_at)):
                return at + used, 0
    else:
        end = find_newline(span, at)
        used = (span[1] if end < 0 else end + 1) - at
        used = min(used, HEAD_LIMIT - np.int64(s.held))
        if not _gather(state, side, span, at, used):
            return at + used, 0
        whole = (s.block + HEAD_AT, np.int64(s.held))
        found = heads.MORE
        if used == 0 or u8(span, at + used - 1) == LF:
            found = heads.read_lines(side, whole)
        if found == heads.MORE:
            if s.held < HEAD_LIMIT:
                return at + used, 0
            found = heads.OVER
    ready = 0
    if found == heads.OVER:
        STATE_AT(state).notes |= LIMITED
        ready = _cut_head(state, direction)
        if s.phase == LINE:
            s.phase = SKIP
    elif found == heads.NO_START:
        used = used if s.block else np.int64(s.line_at)
        heads.discard(state, side)
        _pass_over(state, side, np.int64(s.line_at))
        s.phase = LINE
    else:
        ready = take_head(state, direction, whole, found)
    return at + used, ready


# ---------------------------------------------------------------------------------------------------------------- stream


@kernel
def _lose(state, direction, lost):
    """Bytes are missing. Returns READY if that ends a transaction."""
    side = side_of(state, direction)
    s = SIDE_AT(side)
    phase = np.int64(s.phase)
    if phase == BODY or phase == DATA:
        inside = min(lost, s.left + 0)
        s.left -= inside
        count_body(side, inside, GAP)
        if inside == lost and (phase == DATA or s.left > 0):
            if s.left == 0:
                s.phase = AFTER_DATA
            return 0
        if inside < lost:
            s.gap = 1
            STATE_AT(state).notes |= RESYNCED
        return end_body(state, direction)
    if phase == UNTIL_CLOSE:
        count_body(side, lost, GAP)
        return 0
    s.gap = 1
    STATE_AT(state).notes |= RESYNCED
    if phase == HEAD:
        return _cut_head(state, direction)
    if phase == LINE or phase == SKIP:
        count_body(side, lost, GAP)
        s.phase = LINE
        return 0
    count_body(side, 0, GAP)
    return end_body(state, direction)


@kernel
def _may_begin(state, direction, span):
    """Whether a line that begins so may be a start line of this direction."""
    row = STATE_AT(state)
    if not _is_server(state, direction) and method_length(span) != 0:
        return True
    return (row.roles == 0 or _is_server(state, direction)) and begins_response(span) != NO


@kernel
def _step(state, direction, span, at, ts):
    """Take some bytes. Returns where those end, and READY if that completes a transaction."""
    side = side_of(state, direction)
    s = SIDE_AT(side)
    phase, rest = np.int64(s.phase), span[1] - at
    if phase == LINE:
        if _may_begin(state, direction, part(span, at, rest)):
            heads.clear(side)
            s.message.ts = ts
            s.phase = HEAD
        else:
            s.phase = SKIP
        return at, 0
    if phase == HEAD:
        return _read_head(state, direction, span, at)
    if phase == SKIP:
        end = find_newline(span, at)
        if end >= 0:
            s.phase = LINE
            rest = end + 1 - at
        _pass_over(state, side, rest)
        return at + rest, 0
    if phase == UNTIL_CLOSE:
        count_body(side, rest, 0)
        return at + rest, 0
    if phase == BODY or phase == DATA:
        used = min(rest, s.left + 0)
        s.left -= used
        count_body(side, used, 0)
        if s.left > 0:
            return at + used, 0
        if phase == DATA:
            s.phase = AFTER_DATA
            return at + used, 0
        return at + used, end_body(state, direction)
    after = read_chunk_line(side, span, at)
    if after < 0:
        count_body(side, 0, GAP)
        s.gap = 1
        STATE_AT(state).notes |= RESYNCED
        return at, end_body(state, direction)
    if s.opened == 2:
        return after, end_body(state, direction)
    return after, 0


@kernel
def feed(state, input_at):
    """Take the bytes of one INPUT: the `parse` of the contract."""
    row, given = STATE_AT(state), INPUT_AT(input_at)
    row.arena = given.arena
    direction = given.direction
    side = side_of(state, direction)
    s = SIDE_AT(side)
    span = (given.address, given.length)
    if row.request or row.response:
        show(state, 0, 0)
    ready = 0
    if given.lost > 0:
        ready = _lose(state, direction, given.lost)
        given.lost = 0
    at = given.at + 0
    while ready == 0:
        if row.flush:
            ready = show_orphan(state)
        elif row.unanswered or (row.over and row.pending):
            ready = show_unanswered(state)
        elif row.over:
            at = given.length
            break
        elif s.phase == ANSWER:
            ready = answer(state, direction)
        elif at < span[1]:
            at, ready = _step(state, direction, span, at, given.ts)
        else:
            break
    given.at = at
    flags = ready | np.int64(row.notes)
    row.notes = 0
    if row.over and row.pending == 0:
        flags |= STOP
    elif ready == 0 and row.roles == 0 and row.skipped > PATIENCE:
        flags |= NOT_OURS | STOP
    return flags


@kernel
def conclude(state, arena):
    """The connection has ended: the `finish` of the contract."""
    row = STATE_AT(state)
    row.arena = arena
    show(state, 0, 0)
    if row.roles == 0:
        for direction in range(2):
            if SIDE_AT(side_of(state, direction)).phase == HEAD:
                _cut_head(state, direction)
    ours = np.int64(row.client)
    server = 1 - ours
    s, c = SIDE_AT(side_of(state, server)), SIDE_AT(side_of(state, ours))
    ready = 0
    while ready == 0:
        if row.unanswered:
            ready = show_unanswered(state)
        elif s.phase == HEAD:
            ready = _cut_head(state, server)
        elif s.phase == ANSWER:
            ready = answer(state, server)
        elif s.opened:
            ready = end_body(state, server)
        elif row.orphan:
            ready = show_orphan(state)
        elif row.pending:
            ready = show_unanswered(state)
        elif c.phase == HEAD:
            ready = _cut_head(state, ours)
        else:
            break
    return ready
