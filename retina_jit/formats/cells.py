"""One column of an event as plain text: what stands in a cell of CSV, and in a column of text.

Numbers, names, addresses and text are written bare; the items of a list are joined by commas; what is made of objects, and
what only its own code can write, is JSON, a simple string among it without its quotes.
"""

from __future__ import annotations

from retina_jit import memory
from retina_jit.delivery.event import EVENT
from retina_jit.formats import address, number
from retina_jit.formats.json_lines import ROOM, load_number, put_name, put_objects
from retina_jit.formats.program import (
    ADDRESS,
    ARRAY,
    BYTES,
    CUSTOM,
    FIXED,
    FLAG,
    NAME,
    NUMBER,
    NUMBERS,
    OBJECTS,
    OP,
    SECONDS,
    SIGNED,
    TEXT,
    TEXTS,
)
from retina_jit.formats.text import put_hex_bare, put_text
from retina_jit.jit import entry, kernel
from retina_jit.memory import call4, load8, load64, move, store8, store32

EVENT_AT, OP_AT = memory.at(EVENT), memory.at(OP)


@kernel
def is_null(op, base):
    """Whether the value of a step is absent from the record at `base`."""
    o = OP_AT(op)
    return o.null_width != 0 and load_number(base + o.null_offset, o.null_width + 0, 0) & o.null_mask == 0


@kernel
def _bare_string(start, end):
    """Take the quotes off a JSON string in which nothing is escaped. Returns where it ends now."""
    if end == 0 or end - start < 2 or load8(start) != 34:
        return end
    for place in range(start + 1, end - 1):
        if load8(place) == 92:
            return end
    move(start, start + 1, end - start - 2)
    return end - 2


@kernel
def _put_list(out, limit, place, length, op):
    """Write the items of a list, joined by commas."""
    o = OP_AT(op)
    begin = out
    at = 0
    code, width = o.code, o.width + 0
    step = o.a if code == TEXTS else width
    while at + step <= length:
        if limit - out < ROOM:
            return 0
        if out > begin or at:
            store8(out, 44)
            out += 1
        if code == TEXTS:
            size = load_number(place + at, step, 1)
            at += step
            out = put_text(out, limit - ROOM, place + at, min(size, length - at), o.encoding)
            at += size
        else:
            value = load_number(place + at, width, o.a)
            at += width
            out = number.unsigned(out, value) if code == NUMBERS else put_name(out, limit, o.b, value)
        if out == 0:
            return 0
    return out


@kernel
def _put_variable(out, limit, event, word, op, json_run):
    o = OP_AT(op)
    at, length = word >> 32, word & 0xFFFFFFFF
    if at < 0 or at + length > EVENT_AT(event).size:
        at, length = 0, 0
    code = o.code
    if code == TEXT:
        return put_text(out, limit, event + at, length, o.encoding)
    if code == BYTES:
        start = min(o.a, length)
        return put_hex_bare(out, limit, event + at + start, max(min(o.b, length) - start, 0))
    if code == OBJECTS:
        return put_objects(out, limit, event + at, length // (o.b & 0xFFFFFFFF), op, event, json_run)
    return _put_list(out, limit, event + at, length, op)


@entry
def put_cell(op, base, event, out, limit, json_run):
    """Write the value of one step, which is not absent, from the record at `base`.

    Returns the address behind it, or 0 if it does not fit. `json_run` is the address of the entry that writes objects.
    """
    o = OP_AT(op)
    if limit - out < ROOM:
        return 0
    code = o.code
    place = base + o.offset
    if code >= TEXT:
        return _put_variable(out, limit, event, load64(place), op, json_run)
    if code == NUMBER:
        return number.unsigned(out, load_number(place, o.width + 0, 0))
    if code == SIGNED:
        top = 1 << (8 * o.width - 1)
        return number.signed(out, (load_number(place, o.width + 0, 0) ^ top) - top)
    if code == ADDRESS:
        low = load64(base + o.a)
        return address.ipv6(out, load64(place), low) if load8(base + o.b) else address.ipv4(out, low)
    if code == NAME:
        return put_name(out, limit, o.a, load_number(place, o.width + 0, 0))
    if code == SECONDS:
        return number.seconds(out, load64(place) - (load64(base + o.a) if o.a >= 0 else 0))
    if code == FLAG:
        if load_number(place, o.width + 0, 0) & o.a:
            store32(out, 0x65757274)  # true
            return out + 4
        store32(out, 0x736C6166)  # fals, e
        store8(out + 4, 101)
        return out + 5
    if code == FIXED:
        width = o.a + 0
        while width > 0 and load8(place + width - 1) == 0:
            width -= 1
        return put_text(out, limit, place, width, 0)
    if code == CUSTOM:
        return _bare_string(out, call4(o.a, place, event, out, limit))
    if code == ARRAY:
        used = load_number(base + (o.c >> 8), o.c & 0xFF, 0)
        return put_objects(out, limit, place, used, op, event, json_run)
    return out
