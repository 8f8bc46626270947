"""CommunityId: one name for a flow in all tools that know it. Source: the Community ID specification, version 1, seed 0.

The SHA-1 (FIPS 180-4) of both endpoints, the lower one first, in base64: no secret, a mere fingerprint.
"""

from __future__ import annotations

import numpy as np

from retina_jit import memory
from retina_jit.datatypes import five_tuple
from retina_jit.datatypes.base import DataType, register
from retina_jit.datatypes.column import text
from retina_jit.delivery.event import CONTEXT_AT, reserve_bytes
from retina_jit.jit import entry, kernel, leaf
from retina_jit.memory import (
    below,
    constant,
    fill,
    load8,
    load32,
    load32_be,
    store8,
    store16,
    store16_be,
    store32,
    store32_be,
    store64_be,
)

RECORD = np.dtype([("community_id", "S32")])
TUPLE_AT = memory.at(five_tuple.RECORD)
TUPLE_SIZE = five_tuple.RECORD.itemsize
_WORD = 0xFFFFFFFF
_ALPHABET = constant("base64_alphabet", b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/")
WORK = TUPLE_SIZE + 64 + 320 + 24


@leaf
def _left(x, n):
    return ((x << n) | (x >> (32 - n))) & _WORD


@kernel
def sha1_block(block, work, target):
    """Write the SHA-1 of one padded block; `work`: 320 bytes."""
    for n in range(80):
        if n < 16:
            word = load32_be(block + 4 * n)
        else:
            at = work + 4 * n
            word = _left(load32(at - 12) ^ load32(at - 32) ^ load32(at - 56) ^ load32(at - 64), 1)
        store32(work + 4 * n, word)
    a, b, c, d, e = 0x67452301, 0xEFCDAB89, 0x98BADCFE, 0x10325476, 0xC3D2E1F0
    for n in range(80):
        if n < 20:
            mixed, added = (b & c) | (~b & d), 0x5A827999
        elif n < 40:
            mixed, added = b ^ c ^ d, 0x6ED9EBA1
        elif n < 60:
            mixed, added = (b & c) | (b & d) | (c & d), 0x8F1BBCDC
        else:
            mixed, added = b ^ c ^ d, 0xCA62C1D6
        total = (_left(a, 5) + (mixed & _WORD) + e + added + load32(work + 4 * n)) & _WORD
        e, d, c, b, a = d, c, _left(b, 30), a, total
    store32_be(target, 0x67452301 + a)
    store32_be(target + 4, 0xEFCDAB89 + b)
    store32_be(target + 8, 0x98BADCFE + c)
    store32_be(target + 12, 0x10325476 + d)
    store32_be(target + 16, 0xC3D2E1F0 + e)


@kernel
def _base64(out, source):
    """Write 20 bytes as 28 characters."""
    for n in range(7):
        at = source + 3 * n
        word = (load8(at) << 16) | (load8(at + 1) << 8) | (load8(at + 2) if n < 6 else 0)
        for k in range(4):
            store8(out + 4 * n + k, load8(_ALPHABET() + ((word >> (18 - 6 * k)) & 63)))
    store8(out + 27, 61)


@leaf
def _is_lower(a_hi, a_lo, a_port, b_hi, b_lo, b_port):
    if a_hi != b_hi:
        return below(a_hi, b_hi)
    if a_lo != b_lo:
        return below(a_lo, b_lo)
    return a_port <= b_port


@kernel
def _message(t, block):
    """Write the padded message."""
    fill(block, 0, 64)
    a_hi, a_lo, a_port, b_hi, b_lo, b_port = t.orig_hi, t.orig_lo, t.orig_port + 0, t.resp_hi, t.resp_lo, t.resp_port + 0
    if not _is_lower(a_hi, a_lo, a_port, b_hi, b_lo, b_port):
        a_hi, a_lo, a_port, b_hi, b_lo, b_port = b_hi, b_lo, b_port, a_hi, a_lo, a_port
    at = block + 2
    if t.is_ipv6:
        store64_be(at, a_hi)
        store64_be(at + 8, a_lo)
        store64_be(at + 16, b_hi)
        store64_be(at + 24, b_lo)
        at += 32
    else:
        store32_be(at, a_lo)
        store32_be(at + 4, b_lo)
        at += 8
    store8(at, t.proto)
    store16_be(at + 2, a_port)
    store16_be(at + 4, b_port)
    store8(at + 6, 0x80)
    store64_be(block + 56, 8 * (at + 6 - block))


@entry
def project(context):
    """Write the id of the connection, or of the packet where no connection is."""
    c = CONTEXT_AT(context)
    fill(c.out, 0, 32)
    work = reserve_bytes(context, WORK)
    if work == 0:
        return 0
    c.cursor = work  # scratch only
    five_tuple.write(context, work)
    block = work + TUPLE_SIZE
    _message(TUPLE_AT(work), block)
    sha1_block(block, block + 64, block + 384)
    store16(c.out, 0x3A31)
    _base64(c.out + 2, block + 384)
    return 0


@register
class CommunityId(DataType):
    """Community ID, version 1: the same text in Zeek, Suricata, Arkime and others for the same flow."""

    __slots__ = ()
    LEVEL = "static"
    RECORD = RECORD
    PROJECT = f"{__name__}:project"

    community_id = text(RECORD, "community_id", "1: and 28 characters of base64.")

    def __str__(self) -> str:
        return str(self.community_id)
