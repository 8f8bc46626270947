"""Texts in Arrow's layout of views: 16 bytes per text, its length and the text itself or where it is found."""

from __future__ import annotations

from retina_jit.jit import entry, leaf
from retina_jit.memory import copy, load32, load64, mix, shift_right, store32, store64

WITHIN = 12
"""A text of so many bytes stands in its view; of a longer one its first four bytes do."""
KNOWN_BITS = 10
"""2^n longer texts are remembered, so that those that come again and again are kept once."""
SEED, PRIME = 0x2545F4914F6CDD1D, 0x1B873593CC9E2D51


@leaf
def same(a, b, length):
    """Return whether so many bytes, 8 or more, are the same at two places."""
    for n in range(0, length - 7, 8):
        if load64(a + n) != load64(b + n):
            return False
    return load64(a + length - 8) == load64(b + length - 8)


@leaf
def digest(text, length):
    """Return a number that tells texts of 8 bytes or more from one another, mostly."""
    word = length ^ load64(text + length - 8)
    for n in range(0, length - 7, 8):
        word = mix(word ^ SEED, load64(text + n) ^ PRIME)
    return word


@entry
def views_of(offsets, count, data, out, kept, known):
    """Write the views of `count` texts at `out`, and what longer ones have one behind the other at `kept`, as far as it is not
    there already. `known`: 2^KNOWN_BITS words, all 0. Returns how many bytes are at `kept`, at most as many as all texts have.
    """
    begin = load64(offsets)
    used = 0
    for n in range(count):
        end = load64(offsets + 8 * (n + 1))
        view, length, text = out + 16 * n, end - begin, data + begin
        begin = end
        store32(view, length)
        if length <= WITHIN:
            store32(view + 4, 0)
            store64(view + 8, 0)
            copy(view + 4, text, length)
            continue
        word = digest(text, length)
        # Where a text is kept, and above it how long it is: never 0.
        place = known + 8 * shift_right(word, 64 - KNOWN_BITS)
        found = load64(place)
        at = found & 0xFFFFFFFF
        if found >> 32 != length or not same(kept + at, text, length):
            at = used + 0
            copy(kept + at, text, length)
            store64(place, (length << 32) | at)
            used += length
        store32(view + 4, load32(text))
        store32(view + 8, 0)
        store32(view + 12, at)
    return used
