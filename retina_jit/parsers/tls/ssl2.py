"""ClientHello in the format of SSL 2.0, which old clients begin with although they want SSL 3.0 or TLS.

It is turned into the body of an ordinary ClientHello, so that nothing else knows of it: the challenge becomes the
random, right-justified, and of the three-byte ciphers those that begin with 0 are SSL 3.0's. JA3 and JA4 are not
defined for it.

Sources: RFC 6101 appendix E, RFC 5246 appendix E.2.
"""

from __future__ import annotations

import numpy as np

from retina_jit.jit import kernel, leaf
from retina_jit.memory import copy, fill, move, store16_be
from retina_jit.parsers.tls.messages import HELLO_LIMIT, keep_bytes, make_room
from retina_jit.parsers.tls.state import OLD_HELLO, SIDE_AT, set_client
from retina_jit.parsers.wire import has, part, u8, u16

CONTENT = 128
"""Stands for the type of this record, which has none."""

_LENGTHS = 6  # of ciphers, session id, challenge: two bytes each
_FIXED = 2 + 32 + 1 + 2 + 2  # version, random, empty session id, length of ciphers, compression methods


@leaf
def is_hello(head):
    """Whether the first five bytes of a direction begin such a hello: two of length, 1, version 3.x."""
    length = (head >> 24) & 0x7FFF
    return (head >> 39) & 1 == 1 and (head >> 16) & 0xFF == 1 and head & 0xFFFF <= 0x0304 and head & 0xFF00 == 0x0300 and 3 + _LENGTHS < length < HELLO_LIMIT


@leaf
def body_length(head):
    """Bytes that follow the five."""
    return ((head >> 24) & 0x7FFF) - 3


@kernel
def begin(side, head):
    """Note what comes."""
    s = SIDE_AT(side)
    s.content = CONTENT
    s.left = body_length(head)
    s.begun = s.held
    s.keep = 1
    s.message_head = head & 0xFFFF


@kernel
def take(state, side, span, at, count):
    """Take bytes of it. Returns how many, or -1."""
    return count if keep_bytes(state, side, span, at, count) else -1


@kernel
def end(state, side, direction):
    """All of it is here: put an ordinary body in its place. Returns False if it is no hello."""
    s = SIDE_AT(side)
    version = s.message_head
    s.message_head = 0
    s.keep = 0
    length = np.int64(s.held) - np.int64(s.begun)
    if not make_room(state, side, np.int64(s.held) + _FIXED + length):
        return False
    start = s.buffer + np.int64(s.begun)
    old = (start, length)
    ciphers = part(old, _LENGTHS, u16(old, 0))
    challenge = part(old, _LENGTHS + u16(old, 0) + u16(old, 2), u16(old, 4))
    new = start + length
    store16_be(new, version)
    fill(new + 2, 0, 33)
    random = min(challenge[1], 32)
    copy(new + 34 - random, challenge[0], random)
    at = new + 37
    for n in range(0, ciphers[1], 3):
        if has(ciphers, n, 3) and u8(ciphers, n) == 0:
            store16_be(at, u16(ciphers, n + 1))
            at += 2
    store16_be(new + 35, at - new - 37)
    store16_be(at, 0x0100)
    move(start, new, at + 2 - new)
    set_client(state, direction)
    s.hello_at, s.hello_len = s.begun, at + 2 - new
    s.held = np.int64(s.begun) + (at + 2 - new)
    s.hellos = 1
    s.flags |= OLD_HELLO
    return True
