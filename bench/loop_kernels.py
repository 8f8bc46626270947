"""Loops around what is measured: stages over rows, table operations by the million, handshakes one after the other."""

from __future__ import annotations

from retina_jit import memory
from retina_jit.jit import entry, kernel
from retina_jit.memory import call1, call2, call4, call5, fill, load64
from retina_jit.state.flowkey import set_key
from retina_jit.state.layout import BURST, INPUT, PACKET, TCP
from retina_jit.state.table import NONE, find, insert, prefetch_record, prefetch_slot, remove

ROW_AT, INPUT_AT = memory.at(PACKET), memory.at(INPUT)
ROW_SIZE = PACKET.itemsize


@entry
def ask_stage(stage, tables, rows, bursts, matches, times):
    """Ask a packet stage about the same rows many times, 64 at once. Returns the number of matches."""
    found = 0
    for _ in range(times):
        for burst in range(bursts):
            found += call4(stage, tables, rows + burst * BURST * ROW_SIZE, BURST, matches)
    return found


@entry
def run_patterns_on(code, tables, spans, n, found, times):
    """Run a field's automata over many texts."""
    for _ in range(times):
        for k in range(n):
            call5(code, tables, 0, load64(spans + 16 * k), load64(spans + 16 * k + 8), found)
    return 0


@entry
def ask_nothing(tables, rows, n, matches):
    """A packet stage that wants nothing: the cost of asking."""
    return 0


@kernel
def _burst(rows, first, below, spread):
    """Rows of 64 of the `below` connections; an odd `spread` goes through all of them in an order of its own."""
    for n in range(BURST):
        row = ROW_AT(rows + n * ROW_SIZE)
        which = ((first + n) * spread) & (below - 1)
        row.layers = TCP
        row.protocol = 6
        row.src_hi, row.dst_hi = 0, 0
        row.src_lo = 0x0A000000 + which
        row.dst_lo = 0xC6120001
        row.src_port = 1024 + (which & 0x7FFF)
        row.dst_port = 443
        set_key(row, 77, 0)


@entry
def make_bursts(table, rows, below, spread):
    """What the others do beside their work: make rows and hash them."""
    found = 0
    for first in range(0, below, BURST):
        _burst(rows, first, below, spread)
        found += ROW_AT(rows).hash & 1
    return found


@entry
def insert_all(table, rows, below, spread):
    """Insert connections that are not there. Returns how many did not fit."""
    refused = 0
    for first in range(0, below, BURST):
        _burst(rows, first, below, spread)
        for n in range(BURST):
            prefetch_slot(table, ROW_AT(rows + n * ROW_SIZE).hash)
        for n in range(BURST):
            row = ROW_AT(rows + n * ROW_SIZE)
            if insert(table, row, row.direction != 0) == NONE:
                refused += 1
    return refused


@entry
def find_all(table, rows, below, spread):
    """Look connections up as the pipeline does: slots prefetched, records prefetched, then found. Returns how many."""
    found = 0
    for first in range(0, below, BURST):
        _burst(rows, first, below, spread)
        for n in range(BURST):
            prefetch_slot(table, ROW_AT(rows + n * ROW_SIZE).hash)
        for n in range(BURST):
            prefetch_record(table, ROW_AT(rows + n * ROW_SIZE).hash)
        for n in range(BURST):
            row = ROW_AT(rows + n * ROW_SIZE)
            if find(table, row, row.direction != 0) != NONE:
                found += 1
    return found


@entry
def find_one_by_one(table, rows, below, spread):
    """Look connections up without prefetching. Returns how many were found."""
    found = 0
    for first in range(0, below, BURST):
        _burst(rows, first, below, spread)
        for n in range(BURST):
            row = ROW_AT(rows + n * ROW_SIZE)
            if find(table, row, row.direction != 0) != NONE:
                found += 1
    return found


@entry
def remove_all(table, rows, below, spread):
    """Look connections up and take them out. Returns how many."""
    found = 0
    for first in range(0, below, BURST):
        _burst(rows, first, below, spread)
        for n in range(BURST):
            prefetch_slot(table, ROW_AT(rows + n * ROW_SIZE).hash)
        for n in range(BURST):
            prefetch_record(table, ROW_AT(rows + n * ROW_SIZE).hash)
        for n in range(BURST):
            row = ROW_AT(rows + n * ROW_SIZE)
            index = find(table, row, row.direction != 0)
            if index != NONE:
                remove(table, index)
                found += 1
    return found


@entry
def parse_handshakes(job, times):
    """Parse the same conversation many times, a connection each. Returns how many sessions were ready.

    job: addresses of the parser's state, its size, an INPUT, parse, project (0: not wanted), release, a CONTEXT, where
    its cursor begins, number of segments; then direction, address and length of each.
    """
    state, size, given = load64(job), load64(job + 8), load64(job + 16)
    parse, project, release, context = load64(job + 24), load64(job + 32), load64(job + 40), load64(job + 48)
    segments = load64(job + 64)
    ready = 0
    for _ in range(times):
        fill(state, 0, size)
        i = INPUT_AT(given)
        for n in range(segments):
            segment = job + 72 + 24 * n
            i.direction, i.address, i.length = load64(segment), load64(segment + 8), load64(segment + 16)
            i.at, i.lost, i.cut = 0, 0, 0
            answer = 1
            while answer & 7 == 1:  # READY alone: another session may be complete
                answer = call2(parse, state, given)
                if answer & 1:
                    ready += 1
                    if project:
                        memory.store64(context + 16, load64(job + 56))
                        call1(project, context)
            if answer & 6:
                break
        call2(release, state, i.arena)
    return ready


@entry
def write_json(write, record, event, out, limit, times):
    """Let the entry of a custom column write the same value many times. Returns its length."""
    end = out
    for _ in range(times):
        end = call4(write, record, event, out, limit)
    return end - out
