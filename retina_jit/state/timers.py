"""The timer wheel: lazy, on capture time.

A packet only writes `last` in the record that it holds anyway. The wheel keeps every connection once, under the tick at
which it was due when it was filed; when that tick comes it is looked at, and filed anew if it has been active since.
A connection knows its entry's number (`filed`), so one left behind by an earlier use of the record, or by a deadline that
was moved forward, is recognised and ignored.

Ticks are `resolution` ns long. Slots hold chains of blocks of connection indices. Blocks are unhooked one by one, so that
whoever works on the wheel may stop at any block and let packets go first.
"""

from __future__ import annotations

import numpy as np

from retina_jit import memory
from retina_jit.jit import kernel, leaf
from retina_jit.memory import load32, load64, prefetch_write, store32, store64
from retina_jit.state.table import CONNECTION_AT, record_address

SLOTS = 4096
BLOCK = 256
PER_BLOCK = (BLOCK - 16) // 4
NUMBERS = 64
"""Numbers of entries per block, PER_BLOCK of them in use."""
AHEAD = 16
"""How many connections ahead memory is asked for."""

TIMERS = np.dtype(
    [
        ("resolution", "i8"),  # length of a tick [ns]
        ("now", "i8"),  # the tick that is being done; of those before it nothing is left
        ("slots", "i8"),  # address of SLOTS words: first block of each chain, 0: empty
        ("blocks", "i8"),  # address of the block pool
        ("unused", "i8"),  # blocks from here on were never used
        ("most", "i8"),  # size of the pool [block]
        ("free", "i8"),  # first freed block
        ("entries", "i8"),  # in all chains
        ("most_entries", "i8"),  # more of them than this: it is time to sweep
        ("sweep", "i8"),  # slots still to be swept
        ("swept_tick", "i8"),  # under which that chain was filed
        ("swept", "i8"),  # first block of the chain that is being swept, unhooked from its slot
    ]
)
TIMERS_AT = memory.at(TIMERS)


@leaf
def entry_number(timers, block, n):
    """Number of the n-th entry of a block, never 0."""
    return (block - TIMERS_AT(timers).blocks) // BLOCK * NUMBERS + n + 1


@kernel
def _new_block(timers, following):
    t = TIMERS_AT(timers)
    if t.free:
        block = t.free + 0
        t.free = load64(block)
    else:
        # Its end is not reached: every slot has one block that is not full at most, and sweeping keeps entries few.
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
    slot = t.slots + 8 * (tick & (SLOTS - 1))
    block = load64(slot)
    if block == 0 or load64(block + 8) == PER_BLOCK:
        block = _new_block(timers, block)
        store64(slot, block)
    count = load64(block + 8)
    store32(block + 16 + 4 * count, index)
    store64(block + 8, count + 1)
    CONNECTION_AT(record_address(table, index)).filed = entry_number(timers, block, count)
    t.entries += 1


@kernel
def count_of(block):
    """How many indices a block holds."""
    return load64(block + 8)


@kernel
def take_block(timers, tick):
    """Unhook and return the first block filed under `tick`, 0: there is none."""
    t = TIMERS_AT(timers)
    slot = t.slots + 8 * (tick & (SLOTS - 1))
    block = load64(slot)
    if block:
        store64(slot, load64(block))
        t.entries -= count_of(block)
    return block


@kernel
def take_stale(timers):
    """Unhook and return the next block to be swept, 0: the sweep is over. It is of the slot `sweep`.

    What of it is still valid is to be filed there anew; so a slot's chain is unhooked as a whole.
    """
    t = TIMERS_AT(timers)
    while t.swept == 0 and t.sweep:
        t.sweep -= 1
        t.swept_tick = t.now + ((t.sweep - t.now) & (SLOTS - 1))
        slot = t.slots + 8 * t.sweep
        t.swept = load64(slot)
        store64(slot, 0)
    block = t.swept + 0
    if block:
        t.swept = load64(block)
        t.entries -= count_of(block)
    return block


@kernel
def stale_tick(timers):
    """Where what was stale and is still valid is to be filed: where it stood, or now, if time has gone past that meanwhile."""
    t = TIMERS_AT(timers)
    return max(t.swept_tick, t.now)


@kernel
def file_block(timers, table, block, tick):
    """File what is valid in an unhooked block under `tick`, and give the block back. Returns how many entries there were."""
    count = count_of(block)
    for n in range(min(count, AHEAD)):
        prefetch_write(record_address(table, index_in(block, n)))
    for n in range(count):
        if n + AHEAD < count:
            prefetch_write(record_address(table, index_in(block, n + AHEAD)))
        index = index_in(block, n)
        if CONNECTION_AT(record_address(table, index)).filed == entry_number(timers, block, n):
            file_at(timers, table, index, tick)
    free_block(timers, block)
    return count


@kernel
def index_in(block, n):
    """The n-th index in a block."""
    return load32(block + 16 + 4 * n)
