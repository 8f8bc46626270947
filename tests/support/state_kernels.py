"""The state structures one step at a time, for tests: each entry runs a list of operations."""

from __future__ import annotations

from retina_jit import memory
from retina_jit.jit import entry
from retina_jit.memory import copy, load64, store64
from retina_jit.state import fragments
from retina_jit.state.arena import allocate, enlarge, release
from retina_jit.state.flowkey import set_key
from retina_jit.state.layout import PACKET
from retina_jit.state.table import CONNECTION_AT, find, insert, record_address, remove
from retina_jit.state.timers import (
    TIMERS_AT,
    count_of,
    entry_number,
    file,
    file_block,
    free_block,
    index_in,
    stale_tick,
    take_block,
    take_stale,
)

PACKET_AT = memory.at(PACKET)
SIZE = PACKET.itemsize


@entry
def set_keys(rows, count, seed):
    for n in range(count):
        set_key(PACKET_AT(rows + n * SIZE), seed, 0)
    return 0


@entry
def table(tables, rows, operations, count, answers):
    """Operations are pairs (what, row number): 0 find, 1 insert, 2 remove what find gives."""
    for n in range(count):
        what = load64(operations + 16 * n)
        row = PACKET_AT(rows + load64(operations + 16 * n + 8) * SIZE)
        high = row.direction != 0
        index = find(tables, row, high)
        if what == 1 and index < 0:
            index = insert(tables, row, high)
            if index >= 0:
                CONNECTION_AT(record_address(tables, index)).life = 1
        elif what == 2 and index >= 0:
            remove(tables, index)
        store64(answers + 8 * n, index)
    return 0


@entry
def blocks(arena, operations, count, answers):
    """Operations are triples: (0, size, 0) allocate, (1, address, size) release, (2, address, old size << 32 | new size) enlarge."""
    for n in range(count):
        at = operations + 24 * n
        what, a, b = load64(at), load64(at + 8), load64(at + 16)
        if what == 0:
            a = allocate(arena, a)
        elif what == 1:
            release(arena, a, b)
        else:
            old = b >> 32
            a = enlarge(arena, a, old, old, b & 0xFFFFFFFF)
        store64(answers + 8 * n, a)
    return 0


@entry
def file_timer(timers, tables, index, due):
    file(timers, tables, index, due)
    return 0


@entry
def take(timers, tables, tick, out):
    """Advance to a tick. Lists the indices filed under it that are valid there; returns how many."""
    t = TIMERS_AT(timers)
    t.now = tick
    block = take_block(timers, tick)
    found = 0
    while block:
        for n in range(count_of(block)):
            index = index_in(block, n)
            if CONNECTION_AT(record_address(tables, index)).filed == entry_number(timers, block, n):
                store64(out + 8 * found, index)
                found += 1
        free_block(timers, block)
        block = take_block(timers, tick)
    return found


@entry
def sweep_block(timers, tables):
    """Sweep the next block. Returns whether there was one."""
    block = take_stale(timers)
    if block == 0:
        return 0
    file_block(timers, tables, block, stale_tick(timers))
    return 1


@entry
def fragment_table(table, arena, operations, count, answers, out):
    """Operations are words (key, ts, offset, more, address, length, captured, sweep); answers (what, length, captured) triples.

    The bytes of whole datagrams are put one behind the other at `out`.
    """
    for n in range(count):
        at = operations + 64 * n
        key, ts, offset, more = load64(at), load64(at + 8), load64(at + 16), load64(at + 24)
        source, length, captured = load64(at + 32), load64(at + 40), load64(at + 48)
        found = fragments.take(table, arena, key, 1, 2, 3, 4, ts, offset, more, source, length, captured, 1)
        d = fragments.datagram_at(table, found >> 2)
        total, there = 0, 0
        if found & 3 == fragments.WHOLE:
            total, there = d.total + 0, min(d.total, d.cut) + 0
            copy(out, d.block + fragments.DATA, there)
            out += there
        store64(answers + 24 * n, found & 3)
        store64(answers + 24 * n + 8, total)
        store64(answers + 24 * n + 16, there)
        if load64(at + 56):
            fragments.sweep(table, arena, ts)
    return 0
