"""AES-128 in nopython mode: key expansion, one block, counter mode. Works on own memory.

With tables, so its time depends on the key: for keys that anybody can derive (QUIC Initial), never for secrets.

Source: FIPS 197; counter mode as in NIST SP 800-38D, 6.5.
"""

from __future__ import annotations

import numpy as np

from retina_jit.jit import kernel, leaf
from retina_jit.memory import constant, load8, load32, load32_be, load64, store8, store32, store32_be, store64

KEY, BLOCK, ROUND_KEYS = 16, 16, 176


def _times2(a: int) -> int:
    return ((a << 1) ^ 0x11B) & 0xFF if a & 0x80 else a << 1


def _s_box() -> list[int]:
    """The inverse in GF(2^8), then the affine map (FIPS 197, 5.1.1)."""
    power, log = [1] * 256, [0] * 256
    for n in range(1, 256):
        power[n] = power[n - 1] ^ _times2(power[n - 1])  # powers of 3, which generates the field
    for n in range(255):
        log[power[n]] = n
    box = []
    for a in range(256):
        inverse = power[255 - log[a]] if a else 0
        turned = [(inverse << k | inverse >> (8 - k)) & 0xFF for k in range(5)]
        box.append(turned[0] ^ turned[1] ^ turned[2] ^ turned[3] ^ turned[4] ^ 0x63)
    return box


_BOX = _s_box()
# SubBytes, ShiftRows and MixColumns of one byte as a word; the four tables differ by a rotation.
_COLUMN = [_times2(s) << 24 | s << 16 | s << 8 | (_times2(s) ^ s) for s in _BOX]
_ROTATED = [[(w >> (8 * k) | w << (32 - 8 * k)) & 0xFFFFFFFF for w in _COLUMN] for k in range(4)]
_columns = constant("aes_columns", np.array(_ROTATED, "<u4").tobytes())
_box = constant("aes_box", bytes(_BOX))
_round = constant("aes_round", bytes([1, 2, 4, 8, 16, 32, 64, 128, 0x1B, 0x36]))


@kernel
def expand_key(key, round_keys):
    """Write the eleven round keys, ROUND_KEYS bytes, as words in host order."""
    for n in range(4):
        store32(round_keys + 4 * n, load32_be(key + 4 * n))
    for n in range(4, 44):
        word = load32(round_keys + 4 * (n - 1))
        if n & 3 == 0:
            word = (
                (load8(_box() + ((word >> 16) & 0xFF)) << 24)
                | (load8(_box() + ((word >> 8) & 0xFF)) << 16)
                | (load8(_box() + (word & 0xFF)) << 8)
                | load8(_box() + (word >> 24))
            ) ^ (load8(_round() + (n >> 2) - 1) << 24)
        store32(round_keys + 4 * n, load32(round_keys + 4 * (n - 4)) ^ word)


@leaf
def _mixed(a, b, c, d):
    """A column of the next state from the four columns that ShiftRows takes it from."""
    table = _columns()
    return (
        load32(table + 4 * (a >> 24))
        ^ load32(table + 1024 + 4 * ((b >> 16) & 0xFF))
        ^ load32(table + 2048 + 4 * ((c >> 8) & 0xFF))
        ^ load32(table + 3072 + 4 * (d & 0xFF))
    )


@leaf
def _last(a, b, c, d):
    """The same for the last round, which does not mix."""
    box = _box()
    return (
        (load8(box + (a >> 24)) << 24)
        | (load8(box + ((b >> 16) & 0xFF)) << 16)
        | (load8(box + ((c >> 8) & 0xFF)) << 8)
        | load8(box + (d & 0xFF))
    )


@kernel
def encrypt_block(round_keys, source, target):
    """Encrypt 16 bytes; source and target may be the same."""
    a = load32_be(source) ^ load32(round_keys)
    b = load32_be(source + 4) ^ load32(round_keys + 4)
    c = load32_be(source + 8) ^ load32(round_keys + 8)
    d = load32_be(source + 12) ^ load32(round_keys + 12)
    for n in range(1, 10):
        k = round_keys + 16 * n
        a, b, c, d = (
            _mixed(a, b, c, d) ^ load32(k),
            _mixed(b, c, d, a) ^ load32(k + 4),
            _mixed(c, d, a, b) ^ load32(k + 8),
            _mixed(d, a, b, c) ^ load32(k + 12),
        )
    store32_be(target, _last(a, b, c, d) ^ load32(round_keys + 160))
    store32_be(target + 4, _last(b, c, d, a) ^ load32(round_keys + 164))
    store32_be(target + 8, _last(c, d, a, b) ^ load32(round_keys + 168))
    store32_be(target + 12, _last(d, a, b, c) ^ load32(round_keys + 172))


@kernel
def apply_counter(round_keys, counter, first, data, length, stream):
    """Encrypt or decrypt in place in counter mode.

    `counter` are 16 bytes whose last four are the number of the block, which is overwritten from `first` on; `stream`
    has 16 bytes.
    """
    at = 0
    number = first
    while at < length:
        store32_be(counter + 12, number)
        number += 1
        encrypt_block(round_keys, counter, stream)
        if length - at >= 16:
            store64(data + at, load64(data + at) ^ load64(stream))
            store64(data + at + 8, load64(data + at + 8) ^ load64(stream + 8))
        else:
            for n in range(length - at):
                store8(data + at + n, load8(data + at + n) ^ load8(stream + n))
        at += 16
