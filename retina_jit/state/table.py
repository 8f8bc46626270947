"""The connection table: open addressing over 64-bit slots, in front of a pool of rows: a CONNECTION and its parts behind it.

A slot is `hash32 << 32 | index + 1`, 0 when empty: the tag in the slot decides nearly every probe without touching the
pool, and the home place of an entry can be told from the slot alone, so removal shifts back and leaves no tombstones.
Pool indices are stable.

The slots double when they are half full, without a pause: new entries go to the new range, a look-up that fails there goes
on in the old one, and each insertion moves STEP slots over, so that the old range is empty long before the next doubling.
Entries that have been moved stay where they were, behind the line that `moved` draws, so the chains of the old range hold.
Every size has a range of its own in memory that is reserved beforehand and zero when it is first touched: growing
allocates and clears nothing, and gives the old range back to the system.

A look-up is batched by its caller: hash and `prefetch_slot` for a whole burst, `prefetch_record`, then `find`.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from retina_jit import memory
from retina_jit.jit import external, kernel, leaf
from retina_jit.memory import fill, load64, prefetch_read, prefetch_write, shift_right, store64
from retina_jit.state.layout import CONNECTION, FREE

TABLE = np.dtype(
    [
        ("slots", "i8"),  # address of the slots in use
        ("mask", "i8"),  # number of slots - 1
        ("pool", "i8"),  # address of the rows
        ("stride", "i8"),  # size of a row: whole cache lines
        ("old", "i8"),  # address of the slots that are being left, 0: none
        ("track", "i8"),  # where a connection's parts begin in its row (state.parts), 0: it has none
        ("old_mask", "i8"),
        ("moved", "i8"),  # slots before this one of the old range have been moved
        ("ranges", "i8"),  # n slots stand at ranges + 8 * n
        ("most_slots", "i8"),
        ("most", "i8"),  # how many connections it may hold
        ("unused", "i8"),  # records from here on were never used
        ("free", "i8"),  # index + 1 of the first freed record, linked through `last`
        ("live", "i8"),
        ("peak", "i8"),
        ("grown", "i8"),
    ]
)
TABLE_AT = memory.at(TABLE)
CONNECTION_AT = memory.at(CONNECTION)
SIZE = CONNECTION.itemsize
NONE = -1
LOW = 0xFFFFFFFF
STEP = 8
"""Slots moved with an insertion; 2 would do."""
GONE = 1 << 32
"""A slot of the old range whose connection has ended."""
WORTH_RETURNING = 1 << 16
"""Slots: smaller ranges are not whole pages."""
LARGE = 1 << 19
"""Slots: in a larger table the line of a row that few packets touch is asked for as well, for no cache has it."""
MADV_DONTNEED = 4

madvise = external("madvise", "int32", "int64", "int64", "int32")


@leaf
def record_address(table, index):
    """Address of the record at a pool index."""
    t = TABLE_AT(table)
    return t.pool + index * t.stride


@leaf
def index_of(table, record):
    """Pool index of the record at an address."""
    t = TABLE_AT(table)
    return (record - t.pool) // t.stride


@leaf
def track_address(table, index):
    """Address of the parts of a connection, 0 when the program needs none."""
    t = TABLE_AT(table)
    if t.track:
        return t.pool + index * t.stride + t.track
    return 0


@leaf
def prefetch_slot(table, hash_):
    """Ask for the slot where a look-up will begin."""
    t = TABLE_AT(table)
    prefetch_read(t.slots + 8 * (hash_ & LOW & t.mask))
    if t.old:
        prefetch_read(t.old + 8 * (hash_ & LOW & t.old_mask))


@leaf
def _tagged(slots, mask, tag):
    """The first slot with this tag, or 0."""
    at = tag & mask
    slot = load64(slots + 8 * at)
    while slot and shift_right(slot, 32) != tag:
        at = (at + 1) & mask
        slot = load64(slots + 8 * at)
    return slot


@kernel
def _tagged_old(table, tag):
    t = TABLE_AT(table)
    return _tagged(t.old, t.old_mask, tag)


@leaf
def prefetch_record(table, hash_):
    """Ask for the record that the first slot with this tag leads to."""
    t = TABLE_AT(table)
    slot = _tagged(t.slots, t.mask, hash_ & LOW)
    if slot == 0 and t.old:
        slot = _tagged_old(table, hash_ & LOW)
    if slot & LOW:
        record = t.pool + ((slot & LOW) - 1) * t.stride
        prefetch_write(record)
        prefetch_write(record + 64)
        if t.stride > 128:
            prefetch_write(record + 128)
            prefetch_write(record + 192)
            if t.mask >= LARGE:
                prefetch_write(record + 256)


@leaf
def prefetch_index(table, index):
    """Ask for the row at a pool index."""
    t = TABLE_AT(table)
    for at in range(0, t.stride, 64):
        prefetch_write(t.pool + index * t.stride + at)


@leaf
def _is(table, index, row, high):
    """Whether the record at a pool index is that of the row's connection."""
    c = CONNECTION_AT(record_address(table, index))
    if c.key != row.key:
        return False
    if high:
        return (c.a == row.dst_hi) & (c.b == row.dst_lo) & (c.c == row.src_hi) & (c.d == row.src_lo)
    return (c.a == row.src_hi) & (c.b == row.src_lo) & (c.c == row.dst_hi) & (c.d == row.dst_lo)


@leaf
def find(table, row, high):
    """Index of the row's connection, or NONE. `high`: the row's source is the high endpoint."""
    t = TABLE_AT(table)
    tag = row.hash & LOW
    at = tag & t.mask
    while True:
        slot = load64(t.slots + 8 * at)
        if slot == 0:
            break
        if shift_right(slot, 32) == tag:
            index = (slot & LOW) - 1
            if _is(table, index, row, high):
                return index
        at = (at + 1) & t.mask
    if t.old:
        return _find_old(table, row, high)
    return NONE


@kernel
def _find_old(table, row, high):
    """`find` among what has not been moved yet."""
    t = TABLE_AT(table)
    tag = row.hash & LOW
    at = tag & t.old_mask
    while True:
        slot = load64(t.old + 8 * at)
        if slot == 0:
            return NONE
        if shift_right(slot, 32) == tag and slot & LOW and at >= t.moved:
            index = (slot & LOW) - 1
            if _is(table, index, row, high):
                return index
        at = (at + 1) & t.old_mask


@kernel
def _place(slots, mask, slot):
    at = shift_right(slot, 32) & mask
    while load64(slots + 8 * at):
        at = (at + 1) & mask
    store64(slots + 8 * at, slot)


@kernel
def move_slots(table, count):
    """While it grows: move the next `count` slots of the old range, and at last leave it."""
    t = TABLE_AT(table)
    end = min(t.moved + count, t.old_mask + 1)
    for n in range(t.moved, end):
        slot = load64(t.old + 8 * n)
        if slot & LOW:
            _place(t.slots, t.mask, slot)
    t.moved = end
    if end > t.old_mask:
        if end >= WORTH_RETURNING:
            madvise(t.old, 8 * end, MADV_DONTNEED)
        t.old = 0


@kernel
def _grow(table):
    """Begin to move to a range of twice the size."""
    t = TABLE_AT(table)
    if t.old:
        move_slots(table, t.old_mask + 1)
    count = t.mask + 1
    t.old, t.old_mask, t.moved = t.slots, t.mask, 0
    t.slots, t.mask = t.ranges + 16 * count, 2 * count - 1
    t.grown += 1


@kernel
def insert(table, row, high):
    """Index of a new, cleared record for the row's connection, or NONE when the table is full."""
    t = TABLE_AT(table)
    if t.live >= t.most:
        return NONE
    if t.free:
        index = t.free - 1
        t.free = CONNECTION_AT(record_address(table, index)).last
    else:
        index = t.unused + 0
        t.unused += 1
    t.live += 1
    if t.live > t.peak:
        t.peak = t.live
    if 2 * t.live > t.mask and 2 * (t.mask + 1) <= t.most_slots:
        _grow(table)
    if t.old:
        move_slots(table, STEP)
    at = record_address(table, index)
    fill(at, 0, t.stride)
    c = CONNECTION_AT(at)
    c.key = row.key
    c.hash = row.hash & LOW
    if high:
        c.a, c.b, c.c, c.d = row.dst_hi, row.dst_lo, row.src_hi, row.src_lo
    else:
        c.a, c.b, c.c, c.d = row.src_hi, row.src_lo, row.dst_hi, row.dst_lo
    _place(t.slots, t.mask, ((row.hash & LOW) << 32) | (index + 1))
    return index


@kernel
def remove(table, index):
    """Take a connection out; its record may be used anew at once."""
    t = TABLE_AT(table)
    c = CONNECTION_AT(record_address(table, index))
    if not t.old or not _remove_old(table, index, c.hash + 0):
        _remove_slot(table, index, c.hash + 0)
    c.life = FREE
    c.filed = 0
    c.last = t.free
    t.free = index + 1
    t.live -= 1


@kernel
def _remove_old(table, index, tag):
    """Strike out the slot of a connection that has not been moved yet. Returns whether it was one."""
    t = TABLE_AT(table)
    at = tag & t.old_mask
    while True:
        slot = load64(t.old + 8 * at)
        if slot == 0:
            return False
        if slot & LOW == index + 1 and at >= t.moved:
            store64(t.old + 8 * at, GONE)
            return True
        at = (at + 1) & t.old_mask


@kernel
def _remove_slot(table, index, tag):
    t = TABLE_AT(table)
    mask = t.mask
    hole = tag & mask
    while (load64(t.slots + 8 * hole) & LOW) != index + 1:
        hole = (hole + 1) & mask
    # Close the gap: an entry moves back when its home does not lie behind the hole.
    at = hole
    while True:
        at = (at + 1) & mask
        slot = load64(t.slots + 8 * at)
        if slot == 0:
            break
        home = shift_right(slot, 32) & mask
        if ((at - home) & mask) >= ((at - hole) & mask):
            store64(t.slots + 8 * hole, slot)
            hole = at
    store64(t.slots + 8 * hole, 0)


# ------------------------------------------------------------------------------------------------ seen by Python


def set_up(words: Any, ranges: int, first: int, most: int, parts: int = 0) -> int:
    """Make a TABLE record of no connections; `pool` and `most` are the caller's. Returns the size of a row.

    Parameters
    ----------
    words : numpy record
        The TABLE.
    ranges : int
        Address of `16 * most` bytes, all zero.
    first, most : int
        Slots to begin with and at most, powers of two.
    parts : int
        Size of what stands behind a CONNECTION [byte].
    """
    words["ranges"], words["most_slots"] = ranges, most
    words["slots"], words["mask"] = ranges + 8 * first, first - 1
    words["track"], words["stride"] = SIZE if parts else 0, SIZE + -(-parts // 64) * 64
    return int(words["stride"])


def end_of_slots(words: Any) -> int:
    """Return where the slots end, from `ranges` on [byte], that a table uses or will use soon: when it has to grow."""
    slots = int(words["mask"]) + 1
    return 32 * slots if 8 * int(words["live"]) > 3 * slots else 16 * slots
