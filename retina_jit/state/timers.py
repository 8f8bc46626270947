"""The timer wheel: lazy, on capture time.

A packet only writes `last` in the record that it holds anyway. The wheel keeps every connection once, under the tick at
which it was due when it was filed; when that tick comes it is looked at, and filed anew if it has been active since.
A connection knows the tick it is filed under (`filed`), so an entry left behind by an earlier use of the record, or by a
deadline that was moved forward, is recognised and ignored.

Ticks are `resolution` ns long. Slots hold chains of blocks of connection indices.
"""

from __future__ import annotations

import numpy as np

from retina_jit import memory
from retina_jit.jit import kernel
from retina_jit.memory import load32, load64, store32, store64
from retina_jit.state.table import CONNECTION_AT, TABLE_AT, record_address
from retina_jit.state.track import signed32

SLOTS = 4096
BLOCK = 256
PER_BLOCK = (BLOCK - 16) // 4

TIMERS = np.dtype(
    [
        ("resolution", "i8"),  # length of a tick [ns]
        ("now", "i8"),  # the tick up to which all is done
        ("slots", "i8"),  # address of SLOTS words: first block of each chain, 0: empty
        ("blocks", "i8"),  # address of the block pool
        ("unused", "i8"),  # blocks from here on were never used
        ("most", "i8"),  # size of the pool [block]
        ("free", "i8"),  # first freed block
        ("entries", "i8"),  # in all chains
        ("most_entries", "i8"),  # more of them than this: it is time for `rebuild`
    ]
)
TIMERS_AT = memory.at(TIMERS)


@kernel
def _new_block(timers, following):
    t = TIMERS_AT(timers)
    if t.free:
        block = t.free + 0
        t.free = load64(block)
    else:
        # Its end is not reached: every slot has one block that is not full at most, and `rebuild` keeps entries few.
        block = t.blocks + t.unused * BLOCK
        t.unused += 1
    store64(block, following)
    store64(block + 8, 0)
    return block


@kernel
def free_block(timers, block):
    """Give a block back."""
    t = TIMERS_AT(timers)
    store64(block, t.free)
    t.free = block


@kernel
def file(timers, table, index, due):
    """Keep a connection under the tick at which `due` [ns] has passed, at most one turn of the wheel ahead."""
    t = TIMERS_AT(timers)
    tick = due // t.resolution + 1
    if tick <= t.now:
        tick = t.now + 1
    if tick - t.now >= SLOTS:
        tick = t.now + SLOTS - 1
    file_at(timers, table, index, tick)


@kernel
def file_at(timers, table, index, tick):
    """Keep a connection under a tick that lies less than a turn ahead."""
    t = TIMERS_AT(timers)
    CONNECTION_AT(record_address(table, index)).filed = tick & 0xFFFFFFFF
    slot = t.slots + 8 * (tick & (SLOTS - 1))
    block = load64(slot)
    if block == 0 or load64(block + 8) == PER_BLOCK:
        block = _new_block(timers, block)
        store64(slot, block)
    count = load64(block + 8)
    store32(block + 16 + 4 * count, index)
    store64(block + 8, count + 1)
    t.entries += 1


@kernel
def count_of(block):
    """How many indices a block holds."""
    return load64(block + 8)


@kernel
def take_chain(timers, tick):
    """Unhook and return the first block filed under `tick`."""
    t = TIMERS_AT(timers)
    slot = t.slots + 8 * (tick & (SLOTS - 1))
    first = load64(slot)
    store64(slot, 0)
    block = first
    while block:
        t.entries -= count_of(block)
        block = load64(block)
    return first


@kernel
def rebuild(timers, table):
    """File every connection anew, each once: entries that are not valid any more have piled up.

    They do when connections come and go while capture time stands still.
    """
    t = TIMERS_AT(timers)
    for slot in range(SLOTS):
        block = take_chain(timers, slot)
        while block:
            following = load64(block)
            free_block(timers, block)
            block = following
    for index in range(TABLE_AT(table).unused):
        c = CONNECTION_AT(record_address(table, index))
        if c.life:
            ahead = signed32(c.filed - t.now)
            file_at(timers, table, index, t.now + min(max(ahead, 1), SLOTS - 1))


@kernel
def index_in(block, n):
    """The n-th index in a block."""
    return load32(block + 16 + 4 * n)
