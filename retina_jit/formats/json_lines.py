"""Events as JSON lines: the loop that follows format programs."""

from __future__ import annotations

import numpy as np

from retina_jit import memory
from retina_jit.delivery.event import EVENT
from retina_jit.formats import address, number
from retina_jit.formats.json import put_hex, put_string
from retina_jit.formats.program import (
    ADDRESS,
    ARRAY,
    BYTES,
    CUSTOM,
    FIXED,
    FLAG,
    ITEM_HEAD,
    NAME,
    NAMES,
    NUMBER,
    NUMBERS,
    OBJECTS,
    OP,
    SECONDS,
    SESSIONS,
    SIGNED,
    TEXT,
    TEXTS,
)
from retina_jit.jit import entry, kernel, leaf
from retina_jit.memory import (
    call4,
    call7,
    load8,
    load16,
    load16_be,
    load32,
    load32_be,
    load64,
    load64_be,
    store8,
    store32,
    store64,
)

EVENT_AT, OP_AT, NAMES_AT = memory.at(EVENT), memory.at(OP), memory.at(NAMES)
OP_SIZE = OP.itemsize
HEAD = EVENT.itemsize
ROOM = 64
"""What may be written without asking: any number, any address, and eight bytes too many of a copy [byte]."""


@leaf
def _copy(out, source, length):
    """Copy whole words, so up to seven bytes too many on both sides. Returns the address behind the wanted ones."""
    n = 0
    while n < length:
        store64(out + n, load64(source + n))
        n += 8
    return out + length


@kernel
def load_number(place, width, big):
    """An unsigned number of 1, 2, 4 or 8 bytes."""
    if width == 1:
        return load8(place)
    if width == 2:
        return load16_be(place) if big else load16(place)
    if width == 4:
        return load32_be(place) if big else load32(place)
    return load64_be(place) if big else load64(place)


@kernel
def _hexadecimal(out, value):
    """Write 0x and the number, as short as it goes."""
    store8(out, 48)
    store8(out + 1, 120)
    out += 2
    shift = 60
    while shift > 0 and memory.shift_right(value, shift) == 0:
        shift -= 4
    while shift >= 0:
        digit = memory.shift_right(value, shift) & 15
        store8(out, digit + (48 if digit < 10 else 87))
        out += 1
        shift -= 4
    return out


@kernel
def _entry(out, names, n):
    t = NAMES_AT(names)
    place = t.entries + 8 * n
    return _copy(out, t.text + load32(place), load32(place + 4))


@kernel
def put_name(out, limit, names, value):
    """Write the name of a number, in quotes."""
    t = NAMES_AT(names)
    if 3 * t.longest + ROOM > limit - out:
        return 0
    if 0 <= value < t.count:
        n = load16(t.index + 2 * value)
        if n:
            return _entry(out, names, n)
    out = _entry(out, names, 0)
    if t.style:
        out = _entry(number.unsigned(out, value), names, 1)
        if t.style == 2:
            out = _entry(_hexadecimal(out, value), names, 2)
    return out


@kernel
def _list(out, limit, place, length, op):
    """Write a list of texts, numbers or names."""
    o = OP_AT(op)
    store8(out, 91)
    out += 1
    at = 0
    width = o.width + 0
    code = o.code
    while at < length:
        if at:
            store8(out, 44)
            out += 1
        if code == TEXTS:
            if at + o.a > length:
                out -= 1 if at else 0
                break
            size = load_number(place + at, o.a + 0, 1)
            at += o.a
            out = put_string(out, limit - ROOM, place + at, min(size, length - at), o.encoding)
            at += size
        elif at + width > length:
            out -= 1 if at else 0
            break
        elif code == NUMBERS:
            out = number.unsigned(out, load_number(place + at, width, o.a))
            at += width
        else:
            out = put_name(out, limit, o.b, load_number(place + at, width, o.a))
            at += width
        if out == 0 or limit - out < ROOM:
            return 0
    store8(out, 93)
    return out + 1


@kernel
def put_objects(out, limit, place, count, op, event, run):
    """Write a list of objects, each by the program of its own."""
    o = OP_AT(op)
    steps, size = o.b >> 32, o.b & 0xFFFFFFFF
    store8(out, 91)
    out += 1
    for n in range(count):
        if n:
            store8(out, 44)
            out += 1
        out = call7(run, o.a, steps, place + n * size, event, out, limit, run)
        if out == 0 or limit - out < ROOM:
            return 0
    store8(out, 93)
    return out + 1


@kernel
def _sessions(out, limit, place, length, op, run):
    """Write kept sessions, each by the program of its kind; packed words count from its own head."""
    o = OP_AT(op)
    if o.b and length == 0:
        store32(out, 0x6C6C756E)  # null
        return out + 4
    if not o.b:
        store8(out, 91)
        out += 1
    at = 0
    while at + ITEM_HEAD <= length:
        item = place + at
        size = load32(item)
        if size < ITEM_HEAD or at + size > length:
            break
        if at:
            store8(out, 44)
            out += 1
        of_kind = o.a + 16 * load32(item + 4)
        out = call7(run, load64(of_kind), load64(of_kind + 8), item + ITEM_HEAD, item, out, limit, run)
        if out == 0 or limit - out < ROOM:
            return 0
        at += size
    if not o.b:
        store8(out, 93)
        out += 1
    return out


@kernel
def _variable(out, limit, event, word, op, run):
    """Write what a packed word points to; one that points out of its event is taken as empty."""
    o = OP_AT(op)
    code = o.code
    at, length = word >> 32, word & 0xFFFFFFFF
    if at < 0 or at + length > EVENT_AT(event).size:
        at, length = 0, 0
    place = event + at
    if code == TEXT:
        return put_string(out, limit, place, length, o.encoding)
    if code == BYTES:
        start = min(o.a, length)
        return put_hex(out, limit, place + start, max(min(o.b, length) - start, 0))
    if code == SESSIONS:
        return _sessions(out, limit, place, length, op, run)
    if code == OBJECTS:
        return put_objects(out, limit, place, length // (o.b & 0xFFFFFFFF), op, event, run)
    return _list(out, limit, place, length, op)


@kernel
def _fixed(out, limit, place, width):
    while width > 0 and load8(place + width - 1) == 0:
        width -= 1
    return put_string(out, limit, place, width, 0)


@entry
def run(ops, count, base, event, out, limit, own):
    """Follow a program over the record at `base` of an event; `own` is the address of this entry.

    Returns the address behind what was written, or 0 if it does not fit.
    """
    n = 0
    while n < count:
        op = ops + n * OP_SIZE
        o = OP_AT(op)
        n += 1
        if o.key_len + ROOM + 8 > limit - out:
            return 0
        out = _copy(out, o.key, o.key_len)
        if o.null_width and load_number(base + o.null_offset, o.null_width + 0, 0) & o.null_mask == 0:
            store32(out, 0x6C6C756E)  # null
            out += 4
            n += o.skip
            continue
        code = o.code
        place = base + o.offset
        if code >= TEXT:
            out = _variable(out, limit, event, load64(place), op, own)
        elif code == NUMBER:
            out = number.unsigned(out, load_number(place, o.width + 0, 0))
        elif code == SIGNED:
            value = load_number(place, o.width + 0, 0)
            top = 1 << (8 * o.width - 1)
            out = number.signed(out, (value ^ top) - top)
        elif code == ADDRESS:
            store8(out, 34)
            low = load64(base + o.a)
            if load8(base + o.b):
                out = address.ipv6(out + 1, load64(place), low)
            else:
                out = address.ipv4(out + 1, low)
            store8(out, 34)
            out += 1
        elif code == NAME:
            out = put_name(out, limit, o.a, load_number(place, o.width + 0, 0))
        elif code == SECONDS:
            out = number.seconds(out, load64(place) - (load64(base + o.a) if o.a >= 0 else 0))
        elif code == FLAG:
            if load_number(place, o.width + 0, 0) & o.a:
                store32(out, 0x65757274)  # true
                out += 4
            else:
                store32(out, 0x736C6166)  # fals, e
                store8(out + 4, 101)
                out += 5
        elif code == FIXED:
            out = _fixed(out, limit, place, o.a)
        elif code == CUSTOM:
            out = call4(o.a, place, event, out, limit)
        elif code == ARRAY:
            used = load_number(base + (o.c >> 8), o.c & 0xFF, 0)
            out = put_objects(out, limit, place, used, op, event, own)
        if out == 0:
            return 0
    return out


@entry
def json_lines(start, length, programs, out, limit, runner, counts):
    """Write a line for each whole event in `length` bytes from `start` on; returns how many bytes of events are done.

    programs: per subscription the address and the number of its steps, (0, 0) for events that are passed over. counts: three
    words, which get the address behind what was written, the number of lines, and whether the next event did not fit.
    """
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
            end = call7(runner, load64(program), steps, event, event, out, limit, runner)
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
