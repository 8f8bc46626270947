"""The connection table: open addressing over 64-bit slots, in front of a pool of CONNECTION records.

A slot is `hash32 << 32 | index + 1`, 0 when empty: the tag in the slot decides nearly every probe without touching the
pool, and the home place of an entry can be told from the slot alone, so removal shifts back and leaves no tombstones.
Pool indices are stable. The slots double when they are half full; the memory for the largest table is reserved
beforehand, so growing allocates nothing.

A look-up is batched by its caller: hash and `prefetch_slot` for a whole burst, `prefetch_record`, then `find`.
"""

from __future__ import annotations

import numpy as np

from retina_jit import memory
from retina_jit.jit import kernel, leaf
from retina_jit.memory import fill, load64, prefetch_read, prefetch_write, shift_right, store64
from retina_jit.state.layout import CONNECTION, FREE

TABLE = np.dtype(
    [
        ("slots", "i8"),  # address of the slots in use
        ("mask", "i8"),  # number of slots - 1
        ("spare", "i8"),  # address of the other slot range, for growing; the two swap
        ("most_slots", "i8"),  # how many slots a range can hold
        ("pool", "i8"),  # address of the CONNECTION records
        ("most", "i8"),  # how many connections it may hold
        ("unused", "i8"),  # records from here on were never used
        ("free", "i8"),  # index + 1 of the first freed record, linked through `last`
        ("live", "i8"),
        ("peak", "i8"),
        ("grown", "i8"),
        ("track", "i8"),  # address of the TRACK records, 0: not needed
        ("track_size", "i8"),
    ]
)
TABLE_AT = memory.at(TABLE)
CONNECTION_AT = memory.at(CONNECTION)
SIZE = CONNECTION.itemsize
NONE = -1
LOW = 0xFFFFFFFF


@leaf
def record_address(table, index):
    """Address of the record at a pool index."""
    return TABLE_AT(table).pool + index * SIZE


@leaf
def track_address(table, index):
    """Address of the TRACK of a connection, 0 when the program needs none."""
    t = TABLE_AT(table)
    if t.track:
        return t.track + index * t.track_size
    return 0


@leaf
def prefetch_slot(table, hash_):
    """Ask for the slot where a look-up will begin."""
    t = TABLE_AT(table)
    prefetch_read(t.slots + 8 * (hash_ & LOW & t.mask))


@leaf
def prefetch_record(table, hash_):
    """Ask for the record that the first slot with this tag leads to."""
    t = TABLE_AT(table)
    tag = hash_ & LOW
    at = tag & t.mask
    slot = load64(t.slots + 8 * at)
    while slot and shift_right(slot, 32) != tag:
        at = (at + 1) & t.mask
        slot = load64(t.slots + 8 * at)
    if slot:
        record = t.pool + ((slot & LOW) - 1) * SIZE
        prefetch_write(record)
        prefetch_write(record + 64)
        if t.track:
            prefetch_write(t.track + ((slot & LOW) - 1) * t.track_size)
            prefetch_write(t.track + ((slot & LOW) - 1) * t.track_size + 64)


@leaf
def prefetch_index(table, index):
    """Ask for the record at a pool index, and its TRACK."""
    t = TABLE_AT(table)
    prefetch_write(t.pool + index * SIZE)
    prefetch_write(t.pool + index * SIZE + 64)
    if t.track:
        prefetch_write(t.track + index * t.track_size)
        prefetch_write(t.track + index * t.track_size + 64)
        prefetch_write(t.track + index * t.track_size + 128)


@leaf
def find(table, row, high):
    """Index of the row's connection, or NONE. `high`: the row's source is the high endpoint."""
    t = TABLE_AT(table)
    tag = row.hash & LOW
    at = tag & t.mask
    while True:
        slot = load64(t.slots + 8 * at)
        if slot == 0:
            return NONE
        if shift_right(slot, 32) == tag:
            index = (slot & LOW) - 1
            c = CONNECTION_AT(t.pool + index * SIZE)
            if c.key == row.key:
                if high:
                    same = (c.a == row.dst_hi) & (c.b == row.dst_lo) & (c.c == row.src_hi) & (c.d == row.src_lo)
                else:
                    same = (c.a == row.src_hi) & (c.b == row.src_lo) & (c.c == row.dst_hi) & (c.d == row.dst_lo)
                if same:
                    return index
        at = (at + 1) & t.mask


@kernel
def _place(slots, mask, slot):
    at = shift_right(slot, 32) & mask
    while load64(slots + 8 * at):
        at = (at + 1) & mask
    store64(slots + 8 * at, slot)


@kernel
def _grow(table):
    """Move every slot to a range of twice the size."""
    t = TABLE_AT(table)
    count = t.mask + 1
    fill(t.spare, 0, 16 * count)
    for n in range(count):
        slot = load64(t.slots + 8 * n)
        if slot:
            _place(t.spare, 2 * count - 1, slot)
    old = t.slots + 0
    t.slots = t.spare
    t.spare = old
    t.mask = 2 * count - 1
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
    at = record_address(table, index)
    fill(at, 0, SIZE)
    if t.track:
        fill(t.track + index * t.track_size, 0, t.track_size)
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
    mask = t.mask
    hole = c.hash & mask
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
    c.life = FREE
    c.filed = 0
    c.last = t.free
    t.free = index + 1
    t.live -= 1
