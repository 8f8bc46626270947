"""What parsers of text protocols share: a store of texts, and lines gathered across segments. All of it capped.

A `STORE` is one arena block that texts are appended to; a stored text is a packed word, `offset << 32 | length`, 0 for
none. A `LINES` puts together the lines of one direction: a line that stands whole in the bytes at hand is not copied.
"""

from __future__ import annotations

import numpy as np

from retina_jit import memory
from retina_jit.jit import kernel, leaf
from retina_jit.parsers.wire import copy_to, has, part, u8
from retina_jit.state import arena as pool

STORE = np.dtype([("address", "i8"), ("room", "i4"), ("held", "i4")])
LINES = np.dtype([*STORE.descr, ("used", "i4"), ("again", "u1"), ("pad", "u1", 3)])
"""used: 1 when the line that is held was given out; again: 1 when it is to be given out once more."""
STORE_AT, LINES_AT = memory.at(STORE), memory.at(LINES)


# ---------------------------------------------------------------------------------------------------------- the store


@kernel
def append(arena, store, span, limit):
    """Append bytes as far as `limit` bytes in all and the arena allow. Returns how many."""
    s = STORE_AT(store)
    held, room = np.int64(s.held), np.int64(s.room)
    count = min(span[1], limit - held)
    if count <= 0:
        return 0
    if held + count > room:
        size = max(held + count, 2 * room)
        block = pool.enlarge(arena, s.address + 0, held, room, size)
        if block == 0:
            return 0
        if block != s.address:
            s.address = block
            s.room = size
    copy_to(s.address + held, span, 0, count)
    s.held = held + count
    return count


@kernel
def keep(arena, store, span, most, limit):
    """Store up to `most` bytes of a text, `limit` bytes in the whole store. Returns its word, 0 if it is empty or does not fit."""
    at = np.int64(STORE_AT(store).held)
    length = min(span[1], most)
    if at + length > limit:
        return 0
    count = append(arena, store, part(span, 0, length), limit)
    return (at << 32) | count if count else 0


@leaf
def kept(store, word):
    """The text of a word; (0, 0) for none."""
    return (STORE_AT(store).address + (word >> 32), word & 0xFFFFFFFF) if word else (0, 0)


@kernel
def free(arena, store):
    """Give back the block of a store or of lines."""
    s = STORE_AT(store)
    pool.release(arena, s.address + 0, np.int64(s.room))
    s.address = 0
    s.room = 0
    s.held = 0


# ------------------------------------------------------------------------------------------------------------- lines


@leaf
def _without_end(line):
    """A line without LF and the CR before it."""
    n = line[1]
    if n and u8(line, n - 1) == 10:
        n -= 1
    if n and u8(line, n - 1) == 13:
        n -= 1
    return (line[0], n)


@kernel
def next_line(arena, lines, span, at, limit):
    """Where the next line ends, and the line without its end, of which `limit` bytes are kept where it must be copied.

    The address is 0 if the line is not complete: then all bytes were taken. The line is valid until the next call.
    """
    s = LINES_AT(lines)
    if s.again:
        s.again = 0
        return at, s.address + 0, np.int64(s.held)
    if s.used:
        s.used = 0
        s.held = 0
    end = at
    while end < span[1] and u8(span, end) != 10:
        end += 1
    if end == span[1]:
        append(arena, lines, part(span, at, end - at), limit)
        return end, 0, 0
    if s.held == 0:
        line = _without_end(part(span, at, end + 1 - at))
        return end + 1, line[0], min(line[1], limit)
    append(arena, lines, part(span, at, end + 1 - at), limit)
    line = _without_end((s.address + 0, np.int64(s.held)))
    s.used = 1
    return end + 1, line[0], line[1]


@kernel
def take_back(arena, lines, line, limit):
    """Have `next_line` give this line once more: the parser has to deliver a session first."""
    s = LINES_AT(lines)
    if s.used == 0:
        s.held = 0
        append(arena, lines, line, limit)
    else:
        s.held = line[1]
    s.used = 1
    s.again = 1


@leaf
def drop_line(lines):
    """Forget what is gathered of a line: bytes are missing."""
    s = LINES_AT(lines)
    s.held = 0
    s.used = 0
    s.again = 0


@leaf
def is_in_line(lines):
    """Whether the beginning of a line is held."""
    s = LINES_AT(lines)
    return s.held > 0 and s.used == 0


# ------------------------------------------------------------------------------------------------------------- words


@kernel
def starts(span, word, length):
    """Whether a span begins with the ASCII characters of `word`, capital letters in network order; small ones count as such."""
    if not has(span, 0, length):
        return False
    for n in range(length):
        byte = u8(span, n)
        if 97 <= byte <= 122:
            byte -= 32
        if byte != (word >> (8 * (length - 1 - n))) & 0xFF:
            return False
    return True


@kernel
def find(span, byte, at):
    """Where a byte stands from `at` on; the end if it does not."""
    while at < span[1] and u8(span, at) != byte:
        at += 1
    return at


@kernel
def trimmed(span):
    """A span without blanks and tabs at both ends."""
    at, end = 0, span[1]
    while at < end and (u8(span, at) == 32 or u8(span, at) == 9):
        at += 1
    while end > at and (u8(span, end - 1) == 32 or u8(span, end - 1) == 9):
        end -= 1
    return part(span, at, end - at)


@kernel
def decimal(span, at, most):
    """The number of up to `most` decimal digits at `at`; -1 if there is none."""
    value = -1
    for n in range(at, min(at + most, span[1])):
        digit = u8(span, n) - 48
        if digit < 0 or digit > 9:
            break
        value = 10 * max(value, 0) + digit
    return value
