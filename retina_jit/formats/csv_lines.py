"""Events as CSV (RFC 4180): cells with commas between, quoted where they must be."""

from __future__ import annotations

import numpy as np

from retina_jit import memory
from retina_jit.delivery.event import EVENT
from retina_jit.formats.cells import is_null
from retina_jit.formats.program import OBJECT, OP
from retina_jit.jit import entry, kernel
from retina_jit.memory import call6, load8, load64, store8, store64

EVENT_AT, OP_AT = memory.at(EVENT), memory.at(OP)
HEAD = EVENT.itemsize
OP_SIZE = OP.itemsize


@kernel
def _quoted(start, end, limit):
    """Put a cell in quotes if it needs them, in place. Returns where it ends then, or 0 if there is no room."""
    quotes = 0
    needed = 0
    for place in range(start, end):
        byte = load8(place)
        if byte == 34:
            quotes += 1
        elif byte == 44 or byte == 10 or byte == 13:
            needed = 1
    if quotes == 0 and needed == 0:
        return end
    if end + quotes + 2 > limit:
        return 0
    # From the end, so that nothing is overwritten before it was read.
    at = end + quotes + 1
    store8(at, 34)
    last = at + 1
    while end > start:
        end -= 1
        byte = load8(end)
        at -= 1
        store8(at, byte)
        if byte == 34:
            at -= 1
            store8(at, 34)
    store8(start, 34)
    return last


@kernel
def _line(ops, steps, event, out, limit, put_cell, json_run):
    n = cells = 0
    while n < steps:
        op = ops + n * OP_SIZE
        o = OP_AT(op)
        n += 1
        absent = is_null(op, event)
        if o.code == OBJECT:
            if absent:
                if limit - out < o.b:
                    return 0
                for _ in range(o.b if cells else o.b - 1):
                    store8(out, 44)
                    out += 1
                n += o.skip
                cells += o.b
            continue
        if limit - out < 8:
            return 0
        if cells:
            store8(out, 44)
            out += 1
        cells += 1
        if not absent:
            end = call6(put_cell, op, event, event, out, limit, json_run)
            if end == 0:
                return 0
            out = _quoted(out, end, limit)
            if out == 0:
                return 0
    if limit - out < 2:
        return 0
    store8(out, 13)
    store8(out + 1, 10)
    return out + 2


@entry
def csv_lines(start, length, programs, out, limit, runners, counts):
    """As `json_lines`; `runners`: two words, the addresses of `put_cell` and of the entry that writes JSON."""
    at = 0
    lines = 0
    full = 0
    while at + HEAD <= length:
        event = start + at
        e = EVENT_AT(event)
        if at + e.size > length:
            break
        program = programs + 16 * np.int64(e.subscription)
        steps = load64(program + 8)
        if steps:
            end = _line(load64(program), steps, event, out, limit, load64(runners), load64(runners + 8))
            if end == 0:
                full = 1
                break
            out = end
            lines += 1
        at += e.size
    store64(counts, out)
    store64(counts + 8, lines)
    store64(counts + 16, full)
    return at
