"""The worker's byte pool: blocks whose sizes are powers of two, under one cap.

What must survive a burst (out-of-order segments, messages that span segments, packet lists) lives here. A block that is
freed goes to the list of its size class, so allocating and freeing are a few instructions. When the cap is reached
`allocate` gives 0 and counts it: the caller has a declared policy for that.
"""

from __future__ import annotations

import numpy as np

from retina_jit import memory
from retina_jit.jit import kernel, leaf
from retina_jit.memory import load64, store64

SMALLEST = 8  # 256 bytes
CLASSES = 16  # up to 8 MiB

ARENA = np.dtype(
    [
        ("top", "i8"),  # next byte never used yet
        ("end", "i8"),  # the cap
        ("used", "i8"),  # bytes in blocks that are out
        ("peak", "i8"),
        ("refused", "i8"),  # allocations that the cap did not allow
        *[(f"free{n}", "i8") for n in range(CLASSES)],  # first free block of each class, linked through their first word
    ]
)
ARENA_AT = memory.at(ARENA)
_FREE = ARENA.fields["free0"][1]  # type: ignore[index]


@leaf
def size_class(size):
    """Class of the smallest block that holds `size` bytes; CLASSES if none does."""
    n = 0
    while n < CLASSES and (1 << (n + SMALLEST)) < size:
        n += 1
    return n


@kernel
def allocate(arena, size):
    """Address of a block of at least `size` bytes, not cleared, or 0 if the cap does not allow it."""
    pool = ARENA_AT(arena)
    n = size_class(size)
    if n >= CLASSES:
        pool.refused += 1
        return 0
    block = 1 << (n + SMALLEST)
    slot = arena + _FREE + 8 * n
    found = load64(slot)
    if found:
        store64(slot, load64(found))
    elif pool.top + block <= pool.end:
        found = pool.top
        pool.top += block
    else:
        pool.refused += 1
        return 0
    pool.used += block
    if pool.used > pool.peak:
        pool.peak = pool.used
    return found


@kernel
def release(arena, address, size):
    """Give back the block at `address` that was allocated for `size` bytes; 0 is ignored."""
    if address:
        pool = ARENA_AT(arena)
        n = size_class(size)
        slot = arena + _FREE + 8 * n
        store64(address, load64(slot))
        store64(slot, address)
        pool.used -= 1 << (n + SMALLEST)


@kernel
def capacity(size):
    """How many bytes the block for `size` bytes really holds."""
    return 1 << (size_class(size) + SMALLEST)


@kernel
def enlarge(arena, address, held, old, new):
    """Move the `held` first bytes of a block for `old` bytes to one for `new` bytes.

    Returns the new address (the old one when the block is large enough), or 0: the old block is then untouched.
    An `address` of 0 is an empty block of size 0.
    """
    if address and new <= capacity(old):
        return address
    fresh = allocate(arena, new)
    if fresh and address:
        memory.copy(fresh, address, held)
        release(arena, address, old)
    return fresh
