"""MD5 and SHA-256 of own memory, for fingerprints (JA3, JA4, HASSH) and for keys that are public (QUIC Initial).

Both pad the message where it stands: `SPARE` bytes behind it must be writable, and are overwritten.

Sources: RFC 1321, FIPS 180-4.
"""

from __future__ import annotations

import math

import numpy as np

from retina_jit.jit import kernel, leaf
from retina_jit.memory import (
    constant,
    copy,
    fill,
    load8,
    load32,
    load32_be,
    store8,
    store32,
    store32_be,
    store64,
    store64_be,
)

SPARE = 72
SHA256_WORK = 256
"""Bytes that `sha256` needs for its message schedule."""

_WORD = 0xFFFFFFFF


def _root_bits(prime: int, root: int) -> int:
    """First 32 bits of the fraction of a square or cube root (FIPS 180-4, 4.2.2 and 5.3.3)."""
    scaled = prime << (32 * root)
    low, high = 0, 1 << 40
    while high - low > 1:  # the whole root of the scaled number, by bisection: floats are not exact enough
        middle = (low + high) // 2
        low, high = (middle, high) if middle**root <= scaled else (low, middle)
    return low & _WORD


_PRIMES = [n for n in range(2, 312) if all(n % d for d in range(2, math.isqrt(n) + 1))]
assert len(_PRIMES) == 64
_ROUND = constant("sha256_round", np.array([_root_bits(p, 3) for p in _PRIMES], "<u4").tobytes())
_START = constant("sha256_start", np.array([_root_bits(p, 2) for p in _PRIMES[:8]], "<u4").tobytes())

# RFC 1321, 3.4: T[i] is the whole part of 2^32 |sin(i)|, i in radians.
_SINE = constant("md5_sine", np.array([int(abs(math.sin(n)) * 2**32) for n in range(1, 65)], "<u4").tobytes())
_TURN = constant("md5_turn", bytes([7, 12, 17, 22] * 4 + [5, 9, 14, 20] * 4 + [4, 11, 16, 23] * 4 + [6, 10, 15, 21] * 4))


@leaf
def _left(x, n):
    return ((x << n) | (x >> (32 - n))) & _WORD


@leaf
def _twice(x):
    """A word beside itself: shifted right by n < 32, its low half is the word rotated right by n."""
    return x | (x << 32)


@leaf
def _pad(address, length):
    """Append the bit 1 and zeros up to eight bytes before a block's end. Returns the padded length."""
    padded = (length + 9 + 63) & ~63
    fill(address + length, 0, padded - length)
    store8(address + length, 0x80)
    return padded


@kernel
def md5(address, length, target):
    """Write the MD5 of a message, 16 bytes, to `target`."""
    padded = _pad(address, length)
    store64(address + padded - 8, length << 3)
    a0, b0, c0, d0 = 0x67452301, 0xEFCDAB89, 0x98BADCFE, 0x10325476
    for block in range(address, address + padded, 64):
        a, b, c, d = a0, b0, c0, d0
        for n in range(64):
            if n < 16:
                mixed, word = (b & c) | (~b & d), n
            elif n < 32:
                mixed, word = (d & b) | (~d & c), (5 * n + 1) & 15
            elif n < 48:
                mixed, word = b ^ c ^ d, (3 * n + 5) & 15
            else:
                mixed, word = c ^ (b | (~d & _WORD)), (7 * n) & 15
            total = (a + mixed + load32(_SINE() + 4 * n) + load32(block + 4 * word)) & _WORD
            a, d, c, b = d, c, b, (b + _left(total, load8(_TURN() + n))) & _WORD
        a0, b0, c0, d0 = (a0 + a) & _WORD, (b0 + b) & _WORD, (c0 + c) & _WORD, (d0 + d) & _WORD
    store32(target, a0)
    store32(target + 4, b0)
    store32(target + 8, c0)
    store32(target + 12, d0)


@kernel
def sha256_begin(state):
    """Write the initial state, eight words in host order."""
    copy(state, _START(), 32)


@kernel
def sha256_block(state, block, work):
    """Take 64 bytes into a state of eight words in host order; `work` has SHA256_WORK bytes."""
    for n in range(16):
        store32(work + 4 * n, load32_be(block + 4 * n))
    for n in range(16, 64):
        old, late = load32(work + 4 * (n - 15)), load32(work + 4 * (n - 2))
        old2, late2 = _twice(old), _twice(late)
        s0 = (old2 >> 7) ^ (old2 >> 18) ^ (old >> 3)
        s1 = (late2 >> 17) ^ (late2 >> 19) ^ (late >> 10)
        store32(work + 4 * n, load32(work + 4 * (n - 16)) + s0 + load32(work + 4 * (n - 7)) + s1)
    a, b, c, d = load32(state), load32(state + 4), load32(state + 8), load32(state + 12)
    e, f, g, h = load32(state + 16), load32(state + 20), load32(state + 24), load32(state + 28)
    for n in range(64):
        e2, a2 = _twice(e), _twice(a)
        s1 = ((e2 >> 6) ^ (e2 >> 11) ^ (e2 >> 25)) & _WORD
        choice = (e & f) ^ (~e & g)
        t1 = h + s1 + choice + load32(_ROUND() + 4 * n) + load32(work + 4 * n)
        s0 = ((a2 >> 2) ^ (a2 >> 13) ^ (a2 >> 22)) & _WORD
        majority = (a & b) ^ (a & c) ^ (b & c)
        h, g, f, e, d, c, b, a = g, f, e, (d + t1) & _WORD, c, b, a, (t1 + s0 + majority) & _WORD
    store32(state, load32(state) + a)
    store32(state + 4, load32(state + 4) + b)
    store32(state + 8, load32(state + 8) + c)
    store32(state + 12, load32(state + 12) + d)
    store32(state + 16, load32(state + 16) + e)
    store32(state + 20, load32(state + 20) + f)
    store32(state + 24, load32(state + 24) + g)
    store32(state + 28, load32(state + 28) + h)


@kernel
def sha256_end(state, target):
    """Write a state as the 32 bytes of a digest; the two may be the same memory."""
    for n in range(8):
        store32_be(target + 4 * n, load32(state + 4 * n))


@kernel
def sha256(address, length, target, work):
    """Write the SHA-256 of a message, 32 bytes, to `target`; `work` has SHA256_WORK bytes."""
    padded = _pad(address, length)
    store64_be(address + padded - 8, length << 3)
    sha256_begin(target)
    for block in range(address, address + padded, 64):
        sha256_block(target, block, work)
    sha256_end(target, target)


@kernel
def write_hex(target, address, length):
    """Write bytes as lower-case hexadecimal digits to other memory. Returns where they end."""
    for n in range(length):
        byte = load8(address + n)
        high, low = byte >> 4, byte & 15
        store8(target + 2 * n, high + (48 if high < 10 else 87))
        store8(target + 2 * n + 1, low + (48 if low < 10 else 87))
    return target + 2 * length
