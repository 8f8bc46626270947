"""The head of a message: start line and header lines.

What is known after a line does not depend on how the bytes came: lines are read one by one, each when it is complete,
in the packet if the whole head stands in one piece, else in the block in which it is gathered. A line may end in LF
alone; of several headers with one name the last counts.

Sources: RFC 9112 §2.2, §5 and §6, RFC 9110 §5 and §8.
"""

from __future__ import annotations

import numpy as np

from retina_jit import memory
from retina_jit.jit import kernel, leaf
from retina_jit.parsers.http.scan import (
    COLON,
    COMMA,
    CR,
    HT,
    LF,
    SP,
    ends_with,
    find_colon,
    find_newline,
    first_word,
    is_space,
    lower,
    trimmed,
    word_of,
)
from retina_jit.parsers.http.start import YES, begins_response, read_request_line, read_status_line
from retina_jit.parsers.http.state import (
    CHUNKED,
    CODED,
    CONTENT_ENCODING,
    CONTENT_TYPE,
    COOKIE,
    CUT,
    FOLDED,
    HEAD_AT,
    HEAD_LIMIT,
    HOST,
    LOCATION,
    MESSAGE_AT,
    ORIGIN,
    PLACES,
    REFERER,
    SERVER,
    SET_COOKIE,
    SIDE_AT,
    STATE_AT,
    TRANSFER_ENCODING,
    USER_AGENT,
    place,
    set_place,
)
from retina_jit.parsers.wire import copy_to, has, part, u8
from retina_jit.state import arena as pool

MORE, NO_START, OVER = 0, -1, -2

_CHUNKED = memory.constant("http_chunked", b"chunked")

W_HOST, W_COOKIE, W_ORIGIN, W_SERVER = (word_of(n) for n in (b"host", b"cookie", b"origin", b"server"))
W_REFERER, W_LOCATION, W_CONTENT, W_TRANSFER = (word_of(n) for n in (b"referer", b"location", b"content-", b"transfer"))
W_USER_AGENT, E_USER_AGENT = word_of(b"user-agent"), word_of(b"er-agent")
W_SET_COOKIE, E_SET_COOKIE = word_of(b"set-cookie"), word_of(b"t-cookie")
E_TYPE, E_LENGTH, E_ENCODING = word_of(b"ent-type"), word_of(b"t-length"), word_of(b"encoding")

@kernel
def _number(span, at, end):
    """The decimal number of a Content-Length; -1 if it is none. A list of the same number counts as one (RFC 9110, 8.6)."""
    value = digits = 0
    while at < end and 0x30 <= u8(span, at) <= 0x39 and digits < 18:
        value = value * 10 + u8(span, at) - 0x30
        digits += 1
        at += 1
    if digits == 0 or (at < end and u8(span, at) != COMMA and not is_space(u8(span, at))):
        return -1
    return value


@kernel
def _known(span, at, n, response):
    """Which place a header of this name fills; -1: none, PLACES: it is Content-Length."""
    found = -1
    if n < 4 or n > 17:
        return found
    first = first_word(span, at, n)
    if n == 4:
        if first == W_HOST and response == 0:
            found = HOST
    elif n == 6:
        if response:
            found = SERVER if first == W_SERVER else -1
        elif first == W_COOKIE:
            found = COOKIE
        elif first == W_ORIGIN:
            found = ORIGIN
    elif n == 7:
        if first == W_REFERER and response == 0:
            found = REFERER
    elif n == 8:
        if first == W_LOCATION and response:
            found = LOCATION
    elif n == 10:
        last = first_word(span, at + 2, 8)
        if response:
            found = SET_COOKIE if first == W_SET_COOKIE and last == E_SET_COOKIE else -1
        elif first == W_USER_AGENT and last == E_USER_AGENT:
            found = USER_AGENT
    elif first == W_CONTENT:
        last = first_word(span, at + n - 8, 8)
        if n == 12 and last == E_TYPE:
            found = CONTENT_TYPE
        elif n == 14 and last == E_LENGTH:
            found = PLACES
        elif n == 16 and last == E_ENCODING:
            found = CONTENT_ENCODING
    elif n == 17 and first == W_TRANSFER and first_word(span, at + 9, 8) == E_ENCODING and u8(span, at + 8) | 0x20 == 0x2D:
        found = TRANSFER_ENCODING
    return found


@kernel
def _read_header(message, span, at, colon, end):
    """Note a header line if it is one of the known; of several with one name the last counts."""
    m = MESSAGE_AT(message)
    stop = colon
    while stop > at and is_space(u8(span, stop - 1)):  # RFC 9112, 5.1 forbids it, some write it
        stop -= 1
    which = _known(span, at, stop - at, np.int64(m.code))
    if which < 0:
        return
    start, stop = trimmed(span, colon + 1, end)
    if which == PLACES:
        m.content_length = _number(span, start, stop)
        return
    set_place(message, which, start, stop - start)
    if which == TRANSFER_ENCODING:
        m.flags |= CODED
        if ends_with(part(span, start, stop - start), (_CHUNKED(), 7)):
            m.flags |= CHUNKED
        else:
            m.flags &= ~CHUNKED


@kernel
def read_lines(side, span):
    """Read the complete lines of a head that begins at 0 of `span`, from the side's `line_at` on.

    Returns its length if it is complete, MORE if it goes on, NO_START if its first line is no start line (`line_at` is
    then behind that), OVER if it is longer than HEAD_LIMIT.
    """
    s = SIDE_AT(side)
    at = np.int64(s.line_at)
    while has(span, at, 1):
        c = u8(span, at)
        if at == 0:
            end = find_newline(span, 0)
            if end < 0:
                break
        elif c == LF or (c == CR and has(span, at + 1, 1) and u8(span, at + 1) == LF):
            after = at + 1 if c == LF else at + 2
            return after if after <= HEAD_LIMIT else OVER
        elif c == SP or c == HT:
            end = find_newline(span, at)
            if end < 0:
                break
            if end < HEAD_LIMIT:
                s.message.flags |= FOLDED
        else:
            colon = find_colon(span, at)
            if colon < 0:
                break
            end = colon
            if u8(span, colon) == COLON:
                end = find_newline(span, colon)
                if end < 0:
                    break
                if end < HEAD_LIMIT:
                    _read_header(side, span, at, colon, end)
        if end >= HEAD_LIMIT:
            return OVER
        if at == 0:
            line = part(span, 0, end)
            fine = read_status_line(side, line) if begins_response(part(span, 0, end + 1)) == YES else read_request_line(side, line)
            if not fine:
                s.line_at = end + 1
                return NO_START
        at = end + 1
        s.line_at = at
    return MORE if span[1] < HEAD_LIMIT else OVER


# --------------------------------------------------------------------------------------------------------- keeping a head


@leaf
def clear(side):
    """Forget the head that was read."""
    memory.fill(side, 0, HEAD_AT)
    s = SIDE_AT(side)
    s.message.content_length = -1
    s.line_at = 0
    s.held = 0


@kernel
def discard(state, side):
    """Give back the block in which a head is gathered."""
    s = SIDE_AT(side)
    pool.release(STATE_AT(state).arena, s.block, np.int64(s.room))
    s.block = 0


@kernel
def _unfold(message, head):
    """Put spaces where a line was folded (RFC 9112, 5.2): in our copy, each byte of the line end."""
    for at in range(find_newline(head, 0) + 2, head[1]):
        c = u8(head, at)
        if (c == SP or c == HT) and u8(head, at - 1) == LF:
            memory.store8(head[0] + at - 1, SP)
            if at > 1 and u8(head, at - 2) == CR:
                memory.store8(head[0] + at - 2, SP)


@kernel
def keep(state, side, span, length):
    """Make a block of the head that was read, `length` bytes of `span`. Returns its address, 0 if the arena is full.

    Transfer-Encoding stands behind it once more, in lower case.
    """
    s = SIDE_AT(side)
    arena = STATE_AT(state).arena
    size = HEAD_AT + length + (length if s.message.flags & FOLDED else place(side, TRANSFER_ENCODING) & 0xFFFF)
    if s.block:
        block = pool.enlarge(arena, s.block, HEAD_AT + length, np.int64(s.room), size)
        if block == 0:
            pool.release(arena, s.block, np.int64(s.room))
        elif block == s.block:
            size = max(np.int64(s.room), size)
        s.block = 0
    else:
        block = pool.allocate(arena, size)
        if block:
            copy_to(block + HEAD_AT, span, 0, length)
    s.message.head_len = length
    if block == 0:
        return 0
    head = (block + HEAD_AT, length)
    if s.message.flags & FOLDED:
        _unfold(side, head)
        ts, depth, cut = s.message.ts + 0, np.int64(s.message.depth), np.int64(s.message.flags) & CUT
        clear(side)
        read_lines(side, head)
        s.message.ts, s.message.depth, s.message.head_len = ts, depth, length
        s.message.flags |= cut
    s.message.size = size
    word = place(side, TRANSFER_ENCODING)
    if word:
        coding = part(head, word >> 16, word & 0xFFFF)
        for n in range(coding[1]):
            memory.store8(block + HEAD_AT + length + n, lower(u8(coding, n)))
        set_place(side, TRANSFER_ENCODING, length, coding[1])
    memory.copy(block, side, HEAD_AT)
    return block
