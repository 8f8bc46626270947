"""AES-128-GCM in nopython mode: open a message, tag and all. Works on own memory; slow beside a crypto library.

Multiplication in GF(2^128) goes four bits at a time with a table of sixteen multiples of the hash key (Shoup).

Source: NIST SP 800-38D.
"""

from __future__ import annotations

import numpy as np

from retina_jit.jit import kernel
from retina_jit.memory import (
    constant,
    copy,
    fill,
    load64,
    load64_be,
    shift_right,
    store32_be,
    store64,
    store64_be,
)
from retina_jit.parsers.crypto.aes import ROUND_KEYS, apply_counter, encrypt_block, expand_key

TAG = 16
_TABLE = ROUND_KEYS  # sixteen multiples of the hash key, high word first
_HASH, _COUNTER, _STREAM, _FIRST = (_TABLE + 256 + 16 * n for n in range(4))
WORK = _FIRST + 16
"""Bytes that `open_message` needs."""


def _reductions() -> list[int]:
    """What the four bits that fall off at the low end come back as, at the high end of the high word."""
    found = []
    for bits in range(16):
        word = bits
        for _ in range(4):
            word = word >> 1 ^ (0xE1 << 120 if word & 1 else 0)
        found.append(word >> 64)
    return found


_reduction = constant("ghash_reduction", np.array(_reductions(), "<u8").tobytes())
_POLYNOMIAL = (0xE1 << 56) - (1 << 64)  # as a signed word


@kernel
def _fill_table(table):
    """Make the sixteen multiples from the hash key, which is the eighth entry: bits are in reflected order."""
    high, low = load64(table + 128), load64(table + 136)
    store64(table, 0)
    store64(table + 8, 0)
    step = 4
    while step > 0:
        carry = low & 1
        low = shift_right(low, 1) | (high << 63)
        high = shift_right(high, 1) ^ (_POLYNOMIAL if carry else 0)
        store64(table + 16 * step, high)
        store64(table + 16 * step + 8, low)
        step >>= 1
    step = 2
    while step < 16:
        for n in range(1, step):
            store64(table + 16 * (step + n), load64(table + 16 * step) ^ load64(table + 16 * n))
            store64(table + 16 * (step + n) + 8, load64(table + 16 * step + 8) ^ load64(table + 16 * n + 8))
        step <<= 1


@kernel
def _multiply(table, x_high, x_low):
    """The product with the hash key: (high word, low word)."""
    high = low = np.int64(0)
    for n in range(32):
        word = x_low if n < 16 else x_high
        digit = shift_right(word, 4 * (n & 15)) & 15
        lost = low & 15
        low = shift_right(low, 4) | (high << 60)
        high = shift_right(high, 4) ^ load64(_reduction() + 8 * lost)
        high ^= load64(table + 16 * digit)
        low ^= load64(table + 16 * digit + 8)
    return high, low


@kernel
def _hash(table, high, low, data, length):
    """GHASH of whole blocks, the last one padded with zeros: (high word, low word)."""
    at = 0
    while at + 16 <= length:
        high, low = _multiply(table, high ^ load64_be(data + at), low ^ load64_be(data + at + 8))
        at += 16
    if at < length:
        scratch = table + 256  # _HASH
        store64(scratch, 0)
        store64(scratch + 8, 0)
        copy(scratch, data + at, length - at)
        high, low = _multiply(table, high ^ load64_be(scratch), low ^ load64_be(scratch + 8))
    return high, low


@kernel
def open_message(key, nonce, associated, associated_length, data, length, work):
    """Check the tag behind `length` bytes, then decrypt them in place. Returns whether the tag is right.

    If it is not, the bytes are left as they are.
    """
    table = work + _TABLE
    expand_key(key, work)
    fill(work + _HASH, 0, 16)
    encrypt_block(work, work + _HASH, work + _HASH)
    store64(table + 128, load64_be(work + _HASH))
    store64(table + 136, load64_be(work + _HASH + 8))
    _fill_table(table)
    high, low = _hash(table, np.int64(0), np.int64(0), associated, associated_length)
    high, low = _hash(table, high, low, data, length)
    high, low = _multiply(table, high ^ (associated_length << 3), low ^ (length << 3))
    counter = work + _COUNTER
    copy(counter, nonce, 12)
    store32_be(counter + 12, 1)
    encrypt_block(work, counter, work + _FIRST)
    store64_be(work + _HASH, high)
    store64_be(work + _HASH + 8, low)
    for n in range(0, 16, 8):
        if load64(work + _HASH + n) ^ load64(work + _FIRST + n) != load64(data + length + n):
            return False
    apply_counter(work, counter, np.int64(2), data, length, work + _STREAM)
    return True
