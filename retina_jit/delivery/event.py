"""Events: how a match leaves the kernels.

An event is one run of bytes in the worker's ring::

    EVENT header | record of the 1st data type | record of the 2nd | ... | variable bytes

The records stand at places that the subscription fixes when it is loaded; text, lists and other variable parts follow
them, and a record refers to them by a packed word, `offset << 32 | length`, the offset being from the event's start.
So a drained chunk of the ring needs no fixing up: views read from it, and columns are gathered from it.

A data type's `project` entry writes its part: it gets the address of a `CONTEXT`, finds there what matched, fills its
record at `out` and puts variable bytes with `put_bytes`. It returns 0, or SKIP when there is nothing to deliver.
"""

from __future__ import annotations

import numpy as np

from retina_jit import memory
from retina_jit.jit import kernel
from retina_jit.memory import copy, store16_be

EVENT = np.dtype(
    [
        ("size", "u4"),  # of the whole event, a multiple of 8 [byte]
        ("subscription", "u4"),
        ("ts", "i8"),  # capture time of the packet that caused it [ns]
        ("worker", "u4"),
        ("cut", "u4"),  # 1: variable parts were left out because the event is too long
    ]
)
assert EVENT.itemsize == 24

STREAM_ID = 8
"""Bytes behind the header of an event at streaming level: which stream it is of, for the answer."""

MAX_EVENT = 4 << 20
"""Longest event [byte]; a longer one is delivered without the variable parts that do not fit, and counted."""

SKIP = 1

CONTEXT = np.dtype(
    [
        ("out", "i8"),  # where this data type's record goes
        ("event", "i8"),  # where the event begins
        ("cursor", "i8"),  # where the next variable bytes go
        ("limit", "i8"),  # first address that may not be written
        ("overflow", "i8"),  # 1: something did not fit
        ("session", "i8"),  # address of the session parser's state (connection level: of the image that is kept), 0: none
        ("service", "i8"),  # number of the session protocol
        ("connection", "i8"),  # address of the CONNECTION, 0: none
        ("track", "i8"),  # address of its TRACK, 0: none
        ("row", "i8"),  # address of the PACKET row; oriented originator to responder where there is no packet
        ("subscription", "i8"),
        ("worker", "i8"),
        ("end", "i8"),  # why the connection has ended, one of the END_...; 0: it lives
        ("stream", "i8"),  # streaming level: address of the STREAM
        ("position", "i8"),  # of the data type in the subscription
    ]
)
CONTEXT_AT = memory.at(CONTEXT)

END_IDLE, END_CLOSED, END_OF_INPUT, END_NO_ROOM = 1, 3, 4, 5
"""As IPFIX numbers them (flowEndReason, RFC 5102, 5.11.3): idle timeout, end of flow detected, forced end, lack of resources."""


@kernel
def put_bytes(context, address, length):
    """Append variable bytes to the event. Returns the packed word for the record."""
    c = CONTEXT_AT(context)
    if length <= 0:
        return 0
    if length > c.limit - c.cursor:
        c.overflow = 1
        return 0
    offset = c.cursor - c.event
    copy(c.cursor, address, length)
    c.cursor += length
    return (offset << 32) | length


@kernel
def reserve_bytes(context, length):
    """Room for `length` variable bytes that the caller writes itself. Returns its address, or 0 if it does not fit."""
    c = CONTEXT_AT(context)
    if length < 0 or length > c.limit - c.cursor:
        c.overflow = 1
        return 0
    start = c.cursor
    c.cursor += length
    return start


@kernel
def packed(context, address, length):
    """The packed word for bytes that stand in the event already (see `reserve_bytes`)."""
    return ((address - CONTEXT_AT(context).event) << 32) | length


@kernel
def put_item(context, address, length):
    """Append an item of a list of texts: its length in two bytes, network order, then its bytes, cut to 65535."""
    length = min(length, 0xFFFF)
    start = reserve_bytes(context, 2 + length)
    if start:
        store16_be(start, length)
        copy(start + 2, address, length)
