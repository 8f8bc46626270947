"""Which of many runs of bytes are the same."""

from __future__ import annotations

from retina_jit.jit import entry, leaf
from retina_jit.memory import load8, load64, mix, store64

SEED, PRIME = 0x2545F4914F6CDD1D, 0x1B873593CC9E2D51
LOOKS = 16
"""Where a run of bytes is looked for; then it counts as another one, so that no input makes this slow."""


@leaf
def same(a, b, length):
    """Return whether so many bytes are the same at two places."""
    n = 0
    while n + 8 <= length:
        if load64(a + n) != load64(b + n):
            return False
        n += 8
    while n < length:
        if load8(a + n) != load8(b + n):
            return False
        n += 1
    return True


@leaf
def digest(at, length):
    """Return a number that tells runs of bytes from one another, mostly."""
    word = mix(length ^ PRIME, SEED)
    n = 0
    while n + 8 <= length:
        word = mix(word ^ SEED, load64(at + n) ^ PRIME)
        n += 8
    tail = length + 0
    while n < length:
        tail = (tail << 8) | load8(at + n)
        n += 1
    return mix(word ^ SEED, tail ^ PRIME)


@entry
def distinct(data, offsets, count, table, mask, which, firsts):
    """Say for each of `count` runs of bytes, of which `offsets` says where they begin in `data`, which distinct one it is:
    words at `which`; at `firsts` the first run that is like that. `table`: mask + 1 words, all 0. Returns how many there are.
    """
    found = 0
    for n in range(count):
        begin = load64(offsets + 8 * n)
        length = load64(offsets + 8 * (n + 1)) - begin
        slot = digest(data + begin, length) & mask
        like = -1
        for _ in range(LOOKS):
            word = load64(table + 8 * slot)
            if word == 0:
                break
            first = load64(firsts + 8 * (word - 1))
            at = load64(offsets + 8 * first)
            if load64(offsets + 8 * (first + 1)) - at == length and same(data + at, data + begin, length):
                like = word - 1
                break
            slot = (slot + 1) & mask
        if like < 0:
            like = found + 0
            store64(firsts + 8 * like, n)
            found += 1
            if load64(table + 8 * slot) == 0:
                store64(table + 8 * slot, found)
        store64(which + 8 * n, like)
    return found
