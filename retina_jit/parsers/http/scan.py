"""Searching text on the wire: line ends, colons, names without case, eight bytes at a time.

Eight bytes are one word; a byte of it that is sought becomes zero by an exclusive or, and zero bytes are found with
the classic carry trick. Its lowest mark is exact, marks above may be false, so only the lowest is used.
"""

from __future__ import annotations

from retina_jit.jit import kernel, leaf
from retina_jit.memory import shift_right, trailing_zeros
from retina_jit.parsers.wire import has, part, u8, u64_le

ONES, HIGHS = 0x0101010101010101, -0x7F7F7F7F7F7F7F80
NEWLINES, COLONS = 0x0A * ONES, 0x3A * ONES
CASE = 0x20 * ONES

SP, HT, CR, LF, COLON, COMMA, SEMICOLON = 0x20, 0x09, 0x0D, 0x0A, 0x3A, 0x2C, 0x3B


def word_of(text: bytes) -> int:
    """Return the first eight bytes of `text` as `first_word` gives them: zeros behind it, letters in lower case."""
    return int.from_bytes(bytes(c | 0x20 for c in text[:8]).ljust(8, b"\0"), "little", signed=True)


@leaf
def _marks(word):
    return (word - ONES) & ~word & HIGHS


@kernel
def find_newline(span, at):
    """Where the next LF is, from `at`; -1 if there is none."""
    end = span[1]
    while at + 8 <= end:
        found = _marks(u64_le(span, at) ^ NEWLINES)
        if found:
            return at + (trailing_zeros(found) >> 3)
        at += 8
    while at < end:
        if u8(span, at) == LF:
            return at
        at += 1
    return -1


@kernel
def find_colon(span, at):
    """Where the next colon or LF is, from `at`; -1 if there is neither."""
    end = span[1]
    while at + 8 <= end:
        word = u64_le(span, at)
        found = _marks(word ^ NEWLINES) | _marks(word ^ COLONS)
        if found:
            return at + (trailing_zeros(found) >> 3)
        at += 8
    while at < end:
        c = u8(span, at)
        if c == LF or c == COLON:
            return at
        at += 1
    return -1


@leaf
def first_word(span, at, length):
    """Up to eight of `length` bytes at `at`, which lie inside, in lower case; zeros behind them."""
    if has(span, at, 8):
        word = u64_le(span, at) | CASE
        return word if length >= 8 else word & ((1 << (8 * length)) - 1)
    word = 0
    for n in range(min(length, 8)):
        word |= (u8(span, at + n) | 0x20) << (8 * n)
    return word


@leaf
def is_space(c):
    """Whether a byte is optional white space (RFC 9110, 5.6.3), or the CR of a line end."""
    return c == SP or c == HT or c == CR


@kernel
def trimmed(span, at, end):
    """Bounds of what stands between `at` and `end` without white space around it."""
    while at < end and is_space(u8(span, at)):
        at += 1
    while end > at and is_space(u8(span, end - 1)):
        end -= 1
    return at, end


@leaf
def lower(c):
    """A byte, an ASCII capital as its small letter."""
    return c | 0x20 if 0x41 <= c <= 0x5A else c


@kernel
def same_text(a, b):
    """Whether two spans hold the same text, ASCII letters compared without case."""
    if a[1] != b[1]:
        return False
    for n in range(a[1]):
        if lower(u8(a, n)) != lower(u8(b, n)):
            return False
    return True


@kernel
def ends_with(span, text):
    """Whether a span ends with `text`, without case."""
    return span[1] >= text[1] and same_text(part(span, span[1] - text[1], text[1]), text)


@kernel
def is_token_char(c):
    """Whether a byte may stand in a method or a header name (RFC 9110, 5.6.2)."""
    if 0x30 <= c <= 0x39 or 0x41 <= (c & ~0x20) <= 0x5A:
        return True
    # ! # $ % & ' * + - . and ^ _ ` | ~
    if c < 0x40:
        return (shift_right(0x0000_6CFA_0000_0000, c) & 1) != 0
    return c == 0x5E or c == 0x5F or c == 0x60 or c == 0x7C or c == 0x7E
