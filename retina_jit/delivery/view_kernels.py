"""Texts in Arrow's layout of views: 16 bytes per text, its length and the text itself or where it is found."""

from __future__ import annotations

from retina_jit.delivery.distinct import digest, same
from retina_jit.jit import entry
from retina_jit.memory import copy, load32, load64, shift_right, store32, store64

WITHIN = 12
"""A text of so many bytes stands in its view; of a longer one its first four bytes do."""
KNOWN_BITS, LOOKS = 12, 4
"""2^n longer texts are remembered, so that those that come again and again are kept once."""


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
        slot = digest(text, length)
        at = used + 0
        for _ in range(LOOKS):
            # Where a text is kept, and above it how long it is: never 0.
            place = known + 8 * shift_right(slot, 64 - KNOWN_BITS)
            found = load64(place)
            if found == 0:
                break
            if found >> 32 == length and same(kept + (found & 0xFFFFFFFF), text, length):
                at = found & 0xFFFFFFFF
                break
            slot += 1 << (64 - KNOWN_BITS)
        if at == used:
            copy(kept + at, text, length)
            store64(place, (length << 32) | at)
            used += length
        store32(view + 4, load32(text))
        store32(view + 8, 0)
        store32(view + 12, at)
    return used
