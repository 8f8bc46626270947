"""Packets with a long header: what stands in clear in them.

Sources: RFC 8999, RFC 9000 §16 and §17.2, RFC 9369 §3.2.
"""

from __future__ import annotations

from retina_jit.jit import kernel, leaf
from retina_jit.parsers.quic import versions
from retina_jit.parsers.wire import has, u8, u16, u32, u64

INITIAL, ZERO_RTT, HANDSHAKE, RETRY, NEGOTIATION, SHORT = range(6)
"""Kinds of packets; the first four are the codes of version 1."""
KINDS = ("Initial", "ZeroRTT", "Handshake", "Retry", "VersionNegotiation", "Short")

MAX_ID = 20
"""Longest connection id of the versions that are known (RFC 9000, 17.2)."""
SAMPLE_AT, SAMPLE, TAG = 4, 16, 16
SHORTEST_INITIAL = 1200
"""What a client pads datagrams with an Initial to (RFC 9000, 14.1)."""


@leaf
def varint_size(span, at):
    """Bytes of the variable-length integer at `at`; 0 if they do not lie inside."""
    if not has(span, at, 1):
        return 0
    size = 1 << (u8(span, at) >> 6)
    return size if has(span, at, size) else 0


@leaf
def varint(span, at):
    """The variable-length integer at `at`, which `varint_size` has found to lie inside."""
    kind = u8(span, at) >> 6
    if kind == 0:
        return u8(span, at)
    if kind == 1:
        return u16(span, at) & 0x3FFF
    if kind == 2:
        return u32(span, at) & 0x3FFFFFFF
    return u64(span, at) & 0x3FFFFFFFFFFFFFFF


@leaf
def is_long(first):
    """Whether the first byte is that of a long header."""
    return first & 0x80 != 0


@kernel
def read_long(span, at):
    """The parts of a long header packet at `at` of a datagram.

    Returns (kind, version, position and length of the destination and of the source connection id, position and length
    of the token, position of the packet number, end of the packet). Kind -1: it is none, of no known version or cut.
    """
    nothing = (-1, 0, 0, 0, 0, 0, 0, 0, 0, 0)
    if not has(span, at, 7) or not is_long(u8(span, at)):
        return nothing
    first, version = u8(span, at), u32(span, at + 1)
    scheme = versions.scheme_of(version)
    if version and (scheme == versions.UNKNOWN or first & 0x40 == 0):
        return nothing
    dcid, dcid_len = at + 6, u8(span, at + 5)
    if dcid_len > MAX_ID or not has(span, dcid + dcid_len, 1):
        return nothing
    scid, scid_len = dcid + dcid_len + 1, u8(span, dcid + dcid_len)
    token = scid + scid_len
    if scid_len > MAX_ID or not has(span, token, 1):
        return nothing
    if version == 0:
        # A list of versions, at least one.
        whole = (span[1] - token) & 3 == 0
        return (NEGOTIATION, 0, dcid, dcid_len, scid, scid_len, token, 0, 0, span[1]) if whole else nothing
    kind = (first >> 4) & 3
    if scheme & versions.NEW_TYPES:
        kind = (kind - 1) & 3
    token_len = 0
    if kind == RETRY:
        tag = 0 if scheme & versions.NO_RETRY_TAG else TAG
        if not has(span, token, tag + 1):
            return nothing
        return (RETRY, version, dcid, dcid_len, scid, scid_len, token, span[1] - token - tag, 0, span[1])
    if kind == INITIAL:
        size = varint_size(span, token)
        if size == 0:
            return nothing
        token_len = varint(span, token)
        token += size
        if not has(span, token, token_len):
            return nothing
    size = varint_size(span, token + token_len)
    if size == 0:
        return nothing
    number = token + token_len + size
    left = varint(span, token + token_len)
    if left < SAMPLE_AT + SAMPLE or not has(span, number, left):
        return nothing
    return (kind, version, dcid, dcid_len, scid, scid_len, token, token_len, number, number + left)


@leaf
def expand_number(short, size, expected):
    """The packet number that `size` bytes stand for when `expected` is the next one (RFC 9000, A.3)."""
    window = 1 << (8 * size)
    candidate = (expected & ~(window - 1)) | short
    if candidate <= expected - (window >> 1) and candidate < (1 << 62) - window:
        return candidate + window
    if candidate > expected + (window >> 1) and candidate >= window:
        return candidate - window
    return candidate
