"""Handshake messages: the bodies of the few that are reported are kept, all others are counted past.

Sources: RFC 5246 §7.4, RFC 8446 §4.
"""

from __future__ import annotations

import numpy as np

from retina_jit.jit import kernel, leaf
from retina_jit.parsers.tls import hello
from retina_jit.parsers.tls.state import (
    ASKED,
    CUT,
    DONE,
    GAP,
    RETRY,
    SIDE_AT,
    STATE_AT,
    STATUS,
    TICKET,
    TLS13,
    set_client,
)
from retina_jit.parsers.wire import copy_to, u8
from retina_jit.state import arena as pool

MESSAGE_LIMIT = 128 << 10
"""Longest handshake message that is believed; RFC 8446 allows 16 MiB, OpenSSL refuses chains above 100 KiB."""
HELLO_LIMIT = 32 << 10
"""Longest hello; post-quantum key shares make two KiB, twenty PSK identities about ten."""
HELD_LIMIT = 256 << 10
"""Most bytes kept of one direction."""

HELLO_REQUEST, CLIENT_HELLO, SERVER_HELLO, NEW_SESSION_TICKET, HELLO_RETRY_REQUEST = 0, 1, 2, 4, 6
CERTIFICATE, SERVER_KEY_EXCHANGE, CERTIFICATE_REQUEST, SERVER_HELLO_DONE = 11, 12, 13, 14
CLIENT_KEY_EXCHANGE, CERTIFICATE_STATUS = 16, 22

# Message types that may stand in clear: 0-6, 8, 11-16, 20-25, and 67 (next protocol), 254.
_KNOWN = 0b0011_1111_0001_1111_1001_0111_1111


@leaf
def is_message_type(kind):
    """Whether a handshake message of this type may stand in clear."""
    return (kind < 28 and (_KNOWN >> kind) & 1 != 0) or kind == 67 or kind == 254


@kernel
def wants(side, kind):
    """Whether the body of a message of this type is to be kept."""
    s = SIDE_AT(side)
    if kind == CLIENT_HELLO or kind == SERVER_HELLO:
        return 1 if s.hello_len == 0 else 0
    if kind == CERTIFICATE:
        return 1 if s.chain_len == 0 else 0
    if kind == SERVER_KEY_EXCHANGE or kind == CLIENT_KEY_EXCHANGE:
        return 1 if s.key_len == 0 else 0
    return 0


@kernel
def _begin_message(state, side):
    """The header of a message is complete: note what comes. Returns False if it is no message."""
    s = SIDE_AT(side)
    kind, length = s.message_head >> 24, s.message_head & 0xFFFFFF
    s.message_head = 0
    s.message_have = 0
    if not is_message_type(kind) or length > MESSAGE_LIMIT:
        return False
    is_hello = kind == CLIENT_HELLO or kind == SERVER_HELLO
    if is_hello and (length < hello.SHORTEST or length > HELLO_LIMIT):
        return False
    s.message = kind
    s.rest = length
    s.keep = wants(side, kind)
    s.begun = s.held
    if s.keep and np.int64(s.held) + length > HELD_LIMIT:
        return False
    return True


@kernel
def cut_message(state, side, direction):
    """The capture does not have the rest of this packet: a hello that has begun is filed as far as it goes."""
    s = SIDE_AT(side)
    is_hello = s.message == CLIENT_HELLO or s.message == SERVER_HELLO
    if s.keep and s.rest and is_hello and np.int64(s.held) - np.int64(s.begun) >= hello.SHORTEST:
        s.flags |= CUT | GAP
        end_message(state, side, direction)


@kernel
def end_message(state, side, direction):
    """A message is complete: file it."""
    s = SIDE_AT(side)
    kind = np.int64(s.message)
    body = (s.buffer + np.int64(s.begun), np.int64(s.held) - np.int64(s.begun))
    if kind == CLIENT_HELLO:
        set_client(state, direction)
        s.hellos = min(np.int64(s.hellos) + 1, 255)
        if s.keep:
            s.hello_at, s.hello_len = s.begun, body[1]
    elif kind == SERVER_HELLO:
        set_client(state, 1 - direction)
        if s.keep and hello.is_retry(body):
            share = hello.find(hello.server_extensions(body), hello.KEY_SHARE)
            s.retry_group = hello.number16(share, 0)
            s.flags |= RETRY
            s.held = s.begun
        else:
            s.hellos = min(np.int64(s.hellos) + 1, 255)
            if s.keep:
                s.hello_at, s.hello_len = s.begun, body[1]
                version = hello.selected_version(body)
                if hello.is_tls13(version if version else hello.legacy_version(body)):
                    s.flags |= TLS13
    elif kind == HELLO_RETRY_REQUEST:  # up to draft 21
        set_client(state, 1 - direction)
        s.flags |= RETRY
    elif kind == CERTIFICATE:
        if s.keep:
            s.chain_at, s.chain_len = s.begun, body[1]
    elif kind == SERVER_KEY_EXCHANGE or kind == CLIENT_KEY_EXCHANGE:
        if s.keep:
            s.key_at, s.key_len = s.begun, body[1]
    elif kind == SERVER_HELLO_DONE:
        s.flags |= DONE
    elif kind == NEW_SESSION_TICKET:
        s.flags |= TICKET
    elif kind == CERTIFICATE_REQUEST:
        s.flags |= ASKED
    elif kind == CERTIFICATE_STATUS:
        s.flags |= STATUS
    s.keep = 0


@leaf
def drop_message(side):
    """Forget a message that has begun."""
    s = SIDE_AT(side)
    if s.keep:
        s.held = s.begun
    s.keep = 0
    s.rest = 0
    s.message_have = 0
    s.message_head = 0


@kernel
def make_room(state, side, size):
    """See that the kept bytes may grow to `size`. Returns False if the arena is full."""
    s = SIDE_AT(side)
    if s.buffer == 0 or size > s.room:
        grown = pool.enlarge(STATE_AT(state).arena, s.buffer, np.int64(s.held), np.int64(s.room), size)
        if grown == 0:
            return False
        s.buffer = grown
        s.room = pool.capacity(size)
    return True


@kernel
def keep_bytes(state, side, span, at, count):
    """Append bytes to what is kept. Returns False if the arena is full."""
    s = SIDE_AT(side)
    if not make_room(state, side, np.int64(s.held) + count):
        return False
    s.held += copy_to(s.buffer + np.int64(s.held), span, at, count)
    return True


@kernel
def take_handshake(state, side, direction, span, at, count):
    """Take up to `count` bytes of a handshake record. Returns how many (up to the end of a message), or -1: no TLS."""
    s = SIDE_AT(side)
    used = np.int64(0)
    if s.rest == 0:
        while used < count and s.message_have < 4:
            s.message_head = (s.message_head << 8) | u8(span, at + used)
            s.message_have += 1
            used += 1
        if s.message_have < 4:
            return used
        if not _begin_message(state, side):
            return -1
        if s.rest:
            return used
    else:
        used = min(count, np.int64(s.rest))
        if s.keep and not keep_bytes(state, side, span, at, used):
            return -1
        s.rest -= used
    if s.rest == 0:
        end_message(state, side, direction)
    return used
