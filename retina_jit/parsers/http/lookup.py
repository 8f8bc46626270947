"""Header lines by name or by number, in a head that is kept; what the parser has not noted itself."""

from __future__ import annotations

import numpy as np

from retina_jit.jit import kernel, leaf
from retina_jit.parsers.http.scan import LF, find_colon, find_newline, is_space, same_text, trimmed
from retina_jit.parsers.http.state import STATE_AT
from retina_jit.parsers.wire import has, part, u8


@kernel
def header_line(head, at):
    """The header line at `at`: (name's end, value's start, value's end, next line); next is 0 at the end of the head."""
    if at <= 0 or not has(head, at, 1):
        return at, at, at, 0
    colon = find_colon(head, at)
    if colon < 0:
        return at, at, at, 0
    if u8(head, colon) == LF:
        return at, at, at, colon + 1
    end = find_newline(head, colon)
    if end < 0:
        return at, at, at, 0
    stop = colon
    while stop > at and is_space(u8(head, stop - 1)):
        stop -= 1
    start, finish = trimmed(head, colon + 1, end)
    return stop, start, finish, end + 1


@leaf
def first_header(head):
    """Where the first header line begins."""
    return find_newline(head, 0) + 1


@kernel
def find_header(head, key):
    """The value of the last header line with this name, compared without case; (0, 0) if there is none."""
    found = (np.int64(0), np.int64(0))
    if head[1] == 0:
        return found
    at = first_header(head)
    while at > 0:
        stop, start, finish, after = header_line(head, at)
        if stop > at and stop - at == key[1] and same_text(part(head, at, stop - at), key):
            found = part(head, start, finish - start)
        at = after
    return found


@kernel
def count_headers(head):
    """How many header lines there are."""
    count, at = 0, 0
    if head[1]:
        at = first_header(head)
    while at > 0:
        stop, _, _, after = header_line(head, at)
        count += 1 if stop > at else 0
        at = after
    return count


@kernel
def header_name(state, head, n):
    """The name of the `n`-th header line, as it was written; (0, 0) if there are fewer.

    The state remembers where the last one stood: going through all of them is linear.
    """
    row = STATE_AT(state)
    at, k = first_header(head) if head[1] else 0, 0
    if row.walk_head == head[0] and row.walk_n <= n:
        at, k = np.int64(row.walk_at), np.int64(row.walk_n)
    while at > 0:
        stop, _, _, after = header_line(head, at)
        if stop > at:
            if k == n:
                row.walk_head, row.walk_n, row.walk_at = head[0], n, at
                return part(head, at, stop - at)
            k += 1
        at = after
    return (0, 0)
