"""HMAC-SHA-256 and HKDF for short inputs: every key, message and result fits into one block.

Sources: RFC 2104, RFC 5869, RFC 8446 §7.1 (HKDF-Expand-Label).
"""

from __future__ import annotations

from retina_jit.jit import kernel
from retina_jit.memory import copy, fill, load8, store8, store64_be
from retina_jit.parsers import digest
from retina_jit.parsers.crypto import provider

LONGEST = 55
"""Most bytes of a message: the bit behind it and its length end the block."""
KEYED = 64
"""Bytes of a prepared key: the inner and the outer state."""
WORK = provider.WORK + 64


def label_bytes(label: bytes, length: int) -> bytes:
    """Return the message that HKDF-Expand-Label without a context hashes for a result of up to 32 bytes."""
    full = b"tls13 " + label
    return length.to_bytes(2, "big") + bytes([len(full)]) + full + b"\0\x01"


@kernel
def prepare(crypto, key, length, keyed, work):
    """Make the two states of an HMAC key of up to 64 bytes: KEYED bytes."""
    block = work + provider.WORK
    for side in range(2):
        pad = 0x5C if side else 0x36
        fill(block, pad, 64)
        for n in range(length):
            store8(block + n, load8(key + n) ^ pad)
        digest.sha256_begin(keyed + 32 * side)
        provider.compress(crypto, keyed + 32 * side, block, work)


@kernel
def hmac(crypto, keyed, message, length, target, work):
    """Write the HMAC, 32 bytes, of a message of up to LONGEST bytes under a prepared key."""
    block = work + provider.WORK
    fill(block, 0, 64)
    copy(block, message, length)
    store8(block + length, 0x80)
    store64_be(block + 56, (64 + length) << 3)
    copy(target, keyed, 32)
    provider.compress(crypto, target, block, work)
    digest.sha256_end(target, block)
    fill(block + 32, 0, 24)
    store8(block + 32, 0x80)
    store64_be(block + 56, 96 << 3)
    copy(target, keyed + 32, 32)
    provider.compress(crypto, target, block, work)
    digest.sha256_end(target, target)
