"""The body of a message: never kept, only counted, by Content-Length, by its chunks, or until the connection ends.

Source: RFC 9112 §6 and §7.
"""

from __future__ import annotations

from retina_jit.jit import kernel, leaf
from retina_jit.parsers.http.scan import CR, LF, SEMICOLON, find_newline, is_space
from retina_jit.parsers.http.state import (
    AFTER_DATA,
    BODY,
    CHUNKED,
    CODED,
    CUT,
    DATA,
    EXTENSION,
    MESSAGE_AT,
    SIDE_AT,
    SIZE,
    TRAILER,
)
from retina_jit.parsers.wire import u8

CHUNK_DIGITS = 15


@kernel
def count_body(side, count, flag):
    """So many bytes belong to the body of the message that is open."""
    open_message = SIDE_AT(side).open + 0
    if open_message:
        MESSAGE_AT(open_message).body_len += count
        MESSAGE_AT(open_message).flags |= flag


@kernel
def begin_body(side, block):
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


@leaf
def _hex_digit(c):
    if 0x30 <= c <= 0x39:
        return c - 0x30
    c |= 0x20
    return c - 0x57 if 0x61 <= c <= 0x66 else -1


@kernel
def read_chunk_line(side, span, at):
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
