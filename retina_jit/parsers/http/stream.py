"""HTTP over a byte stream: messages in each direction, which response answers which request, and what has been lost.

A body is counted, not kept: by Content-Length, by its chunks, or until the connection ends. A transaction is complete
with the body of its response. Responses answer the requests in their order (RFC 9112, 9.3.2). After a hole that may
have swallowed a response, the next one is taken to answer the last request: clients hardly ever send a request before
the answer to the one before.

Lines that should be start lines and are not are passed over until one is.

Sources: RFC 9112 §6, §7 and §9, RFC 9110 §9.3.2, §9.3.6, §15.2.
"""

from __future__ import annotations

import numpy as np

from retina_jit import memory
from retina_jit.jit import kernel, leaf
from retina_jit.parsers.http import head as heads
from retina_jit.parsers.http.scan import CR, LF, SEMICOLON, find_newline, is_space
from retina_jit.parsers.http.start import NO, begins_response, method_length
from retina_jit.parsers.http.state import (
    AFTER_DATA,
    ANSWER,
    BODY,
    CHUNKED,
    CODED,
    CUT,
    DATA,
    EXTENSION,
    GAP,
    HEAD,
    HEAD_AT,
    HEAD_LIMIT,
    IS_CONNECT,
    IS_HEAD,
    LINE,
    MESSAGE_AT,
    SIDE_AT,
    SIZE,
    SKIP,
    STATE_AT,
    TRAILER,
    UNTIL_CLOSE,
    drop,
    pop_request,
    push_request,
    show,
    side_of,
)
from retina_jit.parsers.session.contract import NOT_OURS, READY, STOP
from retina_jit.parsers.wire import copy_to, part, u8
from retina_jit.state import arena as pool
from retina_jit.state.layout import INPUT

INPUT_AT = memory.at(INPUT)
PATIENCE = 16 << 10
"""So many bytes without a start line, and it is not HTTP."""
CHUNK_DIGITS = 15


@leaf
def server_side(state):
    """Address of the SIDE of the responses."""
    return side_of(state, 1 - np.int64(STATE_AT(state).client))


@leaf
def _is_server(state, direction):
    row = STATE_AT(state)
    return row.roles != 0 and direction != np.int64(row.client)


@kernel
def _count_body(side, count, flag):
    """So many bytes belong to the body of the message that is open."""
    open_message = SIDE_AT(side).open + 0
    if open_message:
        MESSAGE_AT(open_message).body_len += count
        MESSAGE_AT(open_message).flags |= flag


@kernel
def _pass_over(state, side, count):
    """So many bytes are no start line: they are body if a message is open that ends with the connection."""
    _count_body(side, count, 0)
    row = STATE_AT(state)
    if row.roles == 0:
        row.skipped += count


@kernel
def _end_body(state, direction):
    """The body is complete, or given up. Returns READY if that completes a transaction."""
    side = side_of(state, direction)
    s, row = SIDE_AT(side), STATE_AT(state)
    s.phase = LINE
    s.opened = 0
    message = s.open + 0
    s.open = 0
    if direction == np.int64(row.client):
        return 0
    request = row.asked + 0
    row.asked = 0
    show(state, request, message)
    return READY if request or message else 0


# ----------------------------------------------------------------------------------------------------------------- heads


@kernel
def _begin_body(side, block):
    """Make a message open whose body is counted by length or by chunks; False if it has none of that kind."""
    s = SIDE_AT(side)
    s.open = block
    s.opened = 1
    if s.message.flags & CUT:
        return False
    if s.message.flags & CHUNKED:
        s.phase = SIZE
        s.left = 0
        s.digits = 0
        return True
    if s.message.flags & CODED == 0 and s.message.content_length > 0:
        s.phase = BODY
        s.left = s.message.content_length
        return True
    return False


@kernel
def _take_request(state, direction, span, length):
    """The head of a request is complete."""
    side = side_of(state, direction)
    s, row = SIDE_AT(side), STATE_AT(state)
    s.message.depth = row.requests
    row.requests += 1
    block = heads.keep(state, side, span, length)
    if block:
        push_request(state, block)
    else:
        row.owed += 1
    if not _begin_body(side, block):
        _end_body(state, direction)
    other = SIDE_AT(server_side(state))
    if other.phase == UNTIL_CLOSE:
        other.phase = LINE  # a client that asks again must have seen the end of the response


@kernel
def _take_head(state, direction, span, length):
    """The head of a message is complete, or cut."""
    side = side_of(state, direction)
    s, row = SIDE_AT(side), STATE_AT(state)
    code = np.int64(s.message.code)
    if row.roles == 0:
        row.roles = 1
        row.client = 1 - direction if code else direction
    if code == 0:
        _take_request(state, direction, span, length)
        return
    row.answer = heads.keep(state, side, span, length)
    s.phase = ANSWER


@kernel
def _answer(state, direction):
    """The head of a response is complete: find its request, and what its body is. Returns READY, STOP or 0."""
    side = side_of(state, direction)
    s, row = SIDE_AT(side), STATE_AT(state)
    if s.opened:
        ready = _end_body(state, direction)
        s.phase = ANSWER
        return ready
    code, block = np.int64(s.message.code), row.answer + 0
    if code < 200 and code != 101:
        row.answer = 0
        drop(state, block)
        s.phase = LINE
        return 0
    if s.gap:
        s.gap = 0
        if row.pending > 1:
            row.unanswered = row.pending - 1
            return 0
    row.answer = 0
    request = np.int64(0)
    if row.owed:
        row.owed -= 1
    else:
        request = pop_request(state)
        if request == 0:
            row.requests += 1
    if block:
        MESSAGE_AT(block).depth = MESSAGE_AT(request).depth if request else row.requests - 1
    row.asked = request
    asked = np.int64(MESSAGE_AT(request).flags) if request else np.int64(0)
    tunnel = code == 101 or (asked & IS_CONNECT != 0 and code < 300)
    bare = tunnel or asked & IS_HEAD != 0 or code == 204 or code == 304
    counted = _begin_body(side, block)
    if bare or (not counted and (s.message.content_length == 0 and s.message.flags & CODED == 0)):
        counted = False
    elif not counted and s.message.flags & CUT == 0:
        s.phase = UNTIL_CLOSE
        return 0
    if counted:
        return 0
    ready = _end_body(state, direction)
    if tunnel:
        row.over = 1
    return ready


@kernel
def _cut_head(state, direction):
    """A head has no end: file it as far as its lines are complete. The next start line is looked for."""
    side = side_of(state, direction)
    s = SIDE_AT(side)
    s.phase = LINE
    s.gap = 1
    if s.line_at and s.block:
        s.message.flags |= CUT
        _take_head(state, direction, (s.block + HEAD_AT, np.int64(s.held)), np.int64(s.line_at))
    elif s.block:
        pool.release(STATE_AT(state).arena, s.block, np.int64(s.room))
        s.block = 0


@kernel
def _gather(state, side, span, at, count):
    """Append bytes to the head that is gathered. Returns False if the arena is full."""
    s = SIDE_AT(side)
    need = HEAD_AT + np.int64(s.held) + count
    grown = pool.enlarge(STATE_AT(state).arena, s.block, HEAD_AT + np.int64(s.held), np.int64(s.room), need)
    if grown == 0:
        pool.release(STATE_AT(state).arena, s.block, np.int64(s.room))
        s.block = 0
        s.phase = SKIP
        s.gap = 1
        return False
    if grown != s.block:
        s.block = grown
        s.room = need
    s.held += copy_to(s.block + HEAD_AT + np.int64(s.held), span, at, count)
    return True


@kernel
def _read_head(state, direction, span, at):
    """Take bytes of a head. Returns where those end."""
    side = side_of(state, direction)
    s = SIDE_AT(side)
    if s.block == 0:
        whole = part(span, at, span[1] - at)
        found = heads.read_lines(side, whole)
        used = found
        if found == heads.MORE:
            _gather(state, side, span, at, whole[1])
            return span[1]
        if found == heads.OVER:
            used = HEAD_LIMIT
            if s.line_at and not _gather(state, side, span, at, np.int64(s.line_at)):
                return at + used
    else:
        end = find_newline(span, at)
        used = (span[1] if end < 0 else end + 1) - at
        used = min(used, HEAD_LIMIT - np.int64(s.held))
        if not _gather(state, side, span, at, used):
            return at + used
        whole = (s.block + HEAD_AT, np.int64(s.held))
        found = heads.MORE
        if used == 0 or u8(span, at + used - 1) == LF:
            found = heads.read_lines(side, whole)
        if found == heads.MORE:
            if s.held < HEAD_LIMIT:
                return at + used
            found = heads.OVER
    if found == heads.OVER:
        _cut_head(state, direction)
        if s.phase == LINE:
            s.phase = SKIP
    elif found == heads.NO_START:
        if s.block:
            pool.release(STATE_AT(state).arena, s.block, np.int64(s.room))
            s.block = 0
        else:
            used = np.int64(s.line_at)
        _pass_over(state, side, np.int64(s.line_at))
        s.phase = LINE
    else:
        _take_head(state, direction, whole, found)
    return at + used


# ---------------------------------------------------------------------------------------------------------------- chunks


@leaf
def _hex_digit(c):
    if 0x30 <= c <= 0x39:
        return c - 0x30
    c |= 0x20
    return c - 0x57 if 0x61 <= c <= 0x66 else -1


@kernel
def _read_chunk_line(side, span, at):
    """Take bytes of what stands between chunks. Returns where those end, -1 if they are none of that kind.

    At the end of the trailer it leaves `opened` at 2.
    """
    s = SIDE_AT(side)
    while at < span[1]:
        c = u8(span, at)
        at += 1
        if s.phase == SIZE:
            digit = _hex_digit(c)
            if digit >= 0:
                if s.digits == CHUNK_DIGITS:
                    return -1
                s.left = s.left * 16 + digit
                s.digits += 1
            elif c == LF or c == SEMICOLON or is_space(c):
                if s.digits == 0:
                    return -1
                s.phase = EXTENSION
                if c == LF:
                    at -= 1
            else:
                return -1
        elif s.phase == EXTENSION:
            if c == LF:
                s.digits = 0
                s.phase = DATA if s.left else TRAILER
                if s.left:
                    return at
            else:
                end = find_newline(span, at)
                at = span[1] if end < 0 else end
        elif s.phase == AFTER_DATA:
            if c == LF:
                s.phase = SIZE
                s.left = 0
                s.digits = 0
            elif c != CR:
                return -1
        elif c == LF:  # the trailer ends with an empty line
            if s.digits == 0:
                s.opened = 2
                return at
            s.digits = 0
        elif c != CR:
            s.digits = 1
            end = find_newline(span, at)
            at = span[1] if end < 0 else end
    return at


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
        _count_body(side, inside, GAP)
        if inside == lost and (phase == DATA or s.left > 0):
            if s.left == 0:
                s.phase = AFTER_DATA
            return 0
        s.gap = 1 if inside < lost else s.gap
        return _end_body(state, direction)
    if phase == UNTIL_CLOSE:
        _count_body(side, lost, GAP)
        return 0
    s.gap = 1
    if phase == HEAD:
        _cut_head(state, direction)
        return 0
    if phase == LINE or phase == SKIP:
        _count_body(side, lost, GAP)
        s.phase = LINE
        return 0
    _count_body(side, 0, GAP)
    return _end_body(state, direction)


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
        return _read_head(state, direction, span, at), 0
    if phase == SKIP:
        end = find_newline(span, at)
        if end >= 0:
            s.phase = LINE
            rest = end + 1 - at
        _pass_over(state, side, rest)
        return at + rest, 0
    if phase == UNTIL_CLOSE:
        _count_body(side, rest, 0)
        return at + rest, 0
    if phase == BODY or phase == DATA:
        used = min(rest, s.left + 0)
        s.left -= used
        _count_body(side, used, 0)
        if s.left > 0:
            return at + used, 0
        if phase == DATA:
            s.phase = AFTER_DATA
            return at + used, 0
        return at + used, _end_body(state, direction)
    after = _read_chunk_line(side, span, at)
    if after < 0:
        _count_body(side, 0, GAP)
        s.gap = 1
        return at, _end_body(state, direction)
    if s.opened == 2:
        return after, _end_body(state, direction)
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
        if row.unanswered or (row.over and row.pending):
            if row.unanswered:
                row.unanswered -= 1
            show(state, pop_request(state), 0)
            ready = READY
        elif row.over:
            given.at = given.length
            return STOP
        elif s.phase == ANSWER:
            ready = _answer(state, direction)
        elif at < span[1]:
            at, ready = _step(state, direction, span, at, given.ts)
        else:
            break
    given.at = at
    if ready == 0 and row.roles == 0 and row.skipped > PATIENCE:
        return NOT_OURS | STOP
    if ready and row.over and row.pending == 0:
        return READY | STOP
    return ready


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
    server = 1 - np.int64(row.client)
    s = SIDE_AT(side_of(state, server))
    if s.phase == HEAD:
        _cut_head(state, server)
    for _ in range(3):  # at most: the response before is closed, requests before it are given up, it is answered
        if s.phase == ANSWER and row.unanswered == 0:
            if _answer(state, server):
                return READY
    if s.opened and row.unanswered == 0:
        _end_body(state, server)
        return READY
    ours = np.int64(row.client)
    if row.pending == 0 and SIDE_AT(side_of(state, ours)).phase == HEAD:
        _cut_head(state, ours)
    if row.pending:
        if row.unanswered:
            row.unanswered -= 1
        show(state, pop_request(state), 0)
        return READY
    return 0
