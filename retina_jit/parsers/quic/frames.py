"""Frames of an Initial packet: what may stand there, and the CRYPTO frames taken.

Source: RFC 9000 §12.4 and §19; Google's Q050 and T050 number the CRYPTO frame as 8.
"""

from __future__ import annotations

import numpy as np

from retina_jit.jit import kernel
from retina_jit.parsers.quic import stream
from retina_jit.parsers.quic.packet import varint, varint_size
from retina_jit.parsers.quic.state import CLOSED, SERVER_CLOSED, STATE_AT, client_side
from retina_jit.parsers.wire import has, u8, u64

PADDING, PING, ACK, ACK_ECN, CRYPTO, GOOGLE_CRYPTO, CLOSE, CLOSE_APPLICATION = 0, 1, 2, 3, 6, 8, 0x1C, 0x1D
NAMES = {PADDING: "Padding", PING: "Ping", ACK: "Ack", ACK_ECN: "AckEcn", CRYPTO: "Crypto", CLOSE: "ConnectionClose"}


@kernel
def _skip_padding(span, at):
    """Where a run of zeros that includes the byte before `at` ends."""
    while has(span, at, 8) and u64(span, at) == 0:
        at += 8
    while has(span, at, 1) and u8(span, at) == 0:
        at += 1
    return at


@kernel
def _skip_numbers(span, at, count):
    """Where `count` variable-length integers from `at` on end; -1 if they do not lie inside."""
    for _ in range(count):
        size = varint_size(span, at)
        if size == 0:
            return -1
        at += size
    return at


@kernel
def _skip_ack(span, at, has_ecn):
    """Where the ACK frame whose type is before `at` ends; -1 if it does not lie inside."""
    at = _skip_numbers(span, at, 2)
    size = varint_size(span, at) if at >= 0 else 0
    if size == 0:
        return -1
    ranges = varint(span, at)
    if ranges > span[1]:
        return -1
    return _skip_numbers(span, at + size, 1 + 2 * ranges + (3 if has_ecn else 0))


@kernel
def _take_crypto(state, side, span, at):
    """Take the CRYPTO frame whose type is before `at`. Returns where it ends, or -1 if it does not lie inside."""
    data = _skip_numbers(span, at, 2)
    if data < 0:
        return -1
    offset = varint(span, at)
    length = varint(span, at + varint_size(span, at))
    if not has(span, data, length):
        return -1
    stream.add(state, side, offset, span[0] + data, length)
    return data + length


@kernel
def _take_close(state, side, span, at, with_type):
    """Take the CONNECTION_CLOSE frame whose type is before `at`. Returns where it ends, or -1."""
    reason = _skip_numbers(span, at, 3 if with_type else 2)
    if reason < 0:
        return -1
    row = STATE_AT(state)
    if row.flags & (CLOSED | SERVER_CLOSED) == 0:
        row.error = varint(span, at)
    row.flags |= CLOSED if side == client_side(state) else SERVER_CLOSED
    return span[1]  # nothing that follows means anything


@kernel
def take(state, side, address, length, google):
    """Walk over the frames of a packet, own memory. Returns the types that occur, a bit each; stops at one that may not."""
    span = (address, length)
    at, seen = np.int64(0), np.int64(0)
    while has(span, at, 1):
        kind = u8(span, at)
        at += 1
        if kind == PADDING:
            at = _skip_padding(span, at)
        elif kind == CRYPTO or (google and kind == GOOGLE_CRYPTO):
            kind = CRYPTO
            at = _take_crypto(state, side, span, at)
        elif kind == ACK or kind == ACK_ECN:
            at = _skip_ack(span, at, kind == ACK_ECN)
        elif kind == CLOSE or kind == CLOSE_APPLICATION:
            at = _take_close(state, side, span, at, kind == CLOSE)
        elif kind != PING:
            break
        seen |= 1 << kind
        if at < 0:
            break
    return seen
