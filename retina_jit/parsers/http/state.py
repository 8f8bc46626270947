"""What is remembered of an HTTP connection.

A message lies in one arena block: a MESSAGE, then the bytes of its head (start line and header lines with their ends).
Requests wait in a list, oldest first, for their responses; the body of a message is never kept, only counted.

Parts of the head are noted as *places*, position << 16 | length within the head; 0 is "absent". So a head has at most
HEAD_LIMIT bytes; more than MOST_PENDING requests do not wait, the oldest is then delivered without its response.
"""

from __future__ import annotations

import numpy as np

from retina_jit import memory
from retina_jit.jit import kernel, leaf
from retina_jit.memory import load32, store32
from retina_jit.parsers.session.contract import LIMITED
from retina_jit.parsers.wire import part
from retina_jit.state import arena as pool

HEAD_LIMIT = 60_000
"""Longest head that is kept; of a longer one the first part is, and the next start line is looked for."""
MOST_PENDING = 64

# Places in a head. Both kinds of message:
VERSION, CONTENT_TYPE, TRANSFER_ENCODING, CONTENT_ENCODING = range(4)
# Requests:
METHOD, URI, HOST, USER_AGENT, COOKIE, REFERER, ORIGIN = range(4, 11)
# Responses:
REASON, SERVER, LOCATION, SET_COOKIE = range(4, 8)
PLACES = 11

# MESSAGE.flags
CHUNKED, CODED, CUT, GAP, FOLDED, IS_HEAD, IS_CONNECT = (1 << n for n in range(7))
"""CODED: it has a Transfer-Encoding. CUT: its head has no end. GAP: bytes of its body are missing."""

MESSAGE = np.dtype(
    [
        ("next", "i8"),  # the request behind it in the list of those that wait
        ("ts", "i8"),  # capture time of the packet in which it begins [ns]
        ("body_len", "i8"),  # bytes of the body so far, without chunk sizes; those that are missing count
        ("content_length", "i8"),  # what its header says; -1: nothing
        ("size", "i4"),  # of the block, as asked for
        ("head_len", "i4"),  # with the empty line
        ("depth", "u4"),  # number of the request on its connection, from 0
        ("code", "u2"),  # status code; 0: a request
        ("flags", "u2"),
        *((f"place{n}", "u4") for n in range(PLACES)),
        ("pad", "u4"),
    ]
)
HEAD_AT = MESSAGE.itemsize
"""Where the head begins in a block."""

# SIDE.phase: what the next byte is
LINE, SKIP, HEAD, BODY, SIZE, EXTENSION, DATA, AFTER_DATA, TRAILER, UNTIL_CLOSE, ANSWER = range(11)
"""LINE: begins a line that may be a start line. SKIP: in a line that is none. ANSWER: no byte; a response's head is
complete, and its request has to be found first."""

SIDE = np.dtype(
    [
        ("message", MESSAGE),  # the one whose head is being read
        ("block", "i8"),  # arena block in which that head is gathered, if it did not come in one piece
        ("room", "i4"),  # its size as asked for
        ("held", "i4"),  # bytes of the head in it
        ("line_at", "i4"),  # where in the head the line begins that is not complete
        ("searched", "i4"),  # no LF before this place
        ("open", "i8"),  # block of the message whose body is being read; 0 if it is not kept
        ("left", "i8"),  # bytes of body or chunk that are still to come
        ("phase", "u1"),
        ("digits", "u1"),  # of the chunk size; in a trailer: 1 if the line is not empty
        ("gap", "u1"),  # 1: start lines may have been missed
        ("opened", "u1"),  # 1: a message is open, whether it is kept or not
        ("owing", "u1"),  # 1: the request of the response that is open was delivered without it, or not kept
        ("pad", "u1", 3),
    ]
)

STATE = np.dtype(
    [
        ("side0", SIDE),  # from the originator
        ("side1", SIDE),
        ("arena", "i8"),
        ("first", "i8"),  # requests that wait
        ("last", "i8"),
        ("asked", "i8"),  # request of the response that is open
        ("answer", "i8"),  # response whose request is being found
        ("orphan", "i8"),  # response, complete, whose request has not come
        ("request", "i8"),  # the session that was delivered last
        ("response", "i8"),
        ("skipped", "i8"),  # bytes of lines that were no start lines, before the first message
        ("pending", "u4"),  # length of the list
        ("requests", "u4"),
        ("unanswered", "u4"),  # how many of those that wait are to be delivered without response, now
        ("owed", "u4"),  # responses whose requests were delivered without them, or not kept
        ("depth", "u4"),  # of the session that was delivered last
        ("client", "u1"),  # direction of the requests
        ("roles", "u1"),  # 1: a start line has told it
        ("over", "u1"),  # 1: what follows is no HTTP
        ("flush", "u1"),  # 1: the orphan is to be delivered now
        ("notes", "u1"),  # LIMITED and LOST_PLACE of the contract, to be told with the next answer
        ("pad", "u1", 3),
        ("walk_head", "i8"),  # message of which a header line was asked for by number last
        ("walk_n", "i4"),
        ("walk_at", "i4"),
    ]
)
assert STATE.itemsize <= 512

MESSAGE_AT, SIDE_AT, STATE_AT = memory.at(MESSAGE), memory.at(SIDE), memory.at(STATE)
_SIDE = SIDE.itemsize
_PLACES = MESSAGE.fields["place0"][1]  # type: ignore[index]


@leaf
def side_of(state, direction):
    """Address of the SIDE of a direction; its MESSAGE is at the same address."""
    return state + _SIDE * direction


@leaf
def place(message, n):
    """The `n`-th place of a message."""
    return load32(message + _PLACES + 4 * n)


@leaf
def set_place(message, n, at, length):
    """Note a part of the head."""
    store32(message + _PLACES + 4 * n, (at << 16) | length)


@leaf
def head_of(message):
    """The bytes of the head of a message in its block; (0, 0) if there is no message."""
    if message == 0:
        return (0, 0)
    return (message + HEAD_AT, np.int64(MESSAGE_AT(message).head_len))


@leaf
def part_of(message, n):
    """The span of the `n`-th place; (0, 0) if it is absent."""
    if message == 0:
        return (0, 0)
    word = place(message, n)
    if word == 0:
        return (0, 0)
    return part((message + HEAD_AT, np.int64(MESSAGE_AT(message).size) - HEAD_AT), word >> 16, word & 0xFFFF)


@kernel
def drop(state, message):
    """Free the block of a message; 0 is ignored."""
    if message:
        pool.release(STATE_AT(state).arena, message, np.int64(MESSAGE_AT(message).size))


@kernel
def push_request(state, message):
    """Let a request wait for its response."""
    row = STATE_AT(state)
    MESSAGE_AT(message).next = 0
    if row.last:
        MESSAGE_AT(row.last).next = message
    else:
        row.first = message
    row.last = message
    row.pending += 1
    if row.pending > MOST_PENDING:
        row.unanswered = 1
        row.owed += 1
        row.notes |= LIMITED


@kernel
def pop_request(state):
    """Take the request that waits longest; 0 if none does."""
    row = STATE_AT(state)
    message = row.first + 0
    if message:
        row.first = MESSAGE_AT(message).next
        row.pending -= 1
        if row.first == 0:
            row.last = 0
    return message


@kernel
def show(state, request, response):
    """Make these two the session that readers see; the one before is freed."""
    row = STATE_AT(state)
    drop(state, row.request + 0)
    drop(state, row.response + 0)
    row.request = request
    row.response = response
    row.walk_head = 0
    if request:
        row.depth = MESSAGE_AT(request).depth
        for direction in range(2):  # its body may go on, but nobody is interested any more
            side = SIDE_AT(side_of(state, direction))
            if side.open == request:
                side.open = 0
    elif response:
        row.depth = MESSAGE_AT(response).depth


@kernel
def free(state, arena):
    """Give back all that lies in the arena."""
    row = STATE_AT(state)
    row.arena = arena
    show(state, 0, 0)
    while row.first:
        drop(state, pop_request(state))
    drop(state, row.asked + 0)
    drop(state, row.answer + 0)
    drop(state, row.orphan + 0)
    row.asked = row.answer = row.orphan = 0
    for direction in range(2):
        side = SIDE_AT(side_of(state, direction))
        pool.release(arena, side.block, np.int64(side.room))
        side.block = 0
        if direction != np.int64(row.client):
            drop(state, side.open + 0)
        side.open = 0
