"""What is remembered of a DNS connection: queries that wait for their answers, and the transaction at hand.

A response belongs to the oldest waiting query of the other side with the same id and question; one without a question
(an error) to the one with the same id; one without id and question (multicast DNS) to the one that asked for its first
record. A repeated query is a query of its own: the answer belongs to the first of them.

Queries wait until PATIENCE of capture time has passed, MOST_WAITING wait, or MOST_BYTES of them are kept; then the oldest
one is delivered without an answer. So it is when the connection ends, and when there is no memory to keep a query.
"""

from __future__ import annotations

import numpy as np

from retina_jit import memory
from retina_jit.jit import kernel, leaf
from retina_jit.memory import copy, load64, move, store64
from retina_jit.parsers.dns.message import NAME_ROOM, QR, count_of, flags_of, question_hash, transaction_id_of
from retina_jit.parsers.session.contract import READY
from retina_jit.state import arena as pool

PATIENCE = 30_000_000_000
"""How long a query waits for its answer [ns]."""
MOST_WAITING = 256
MOST_BYTES = 256 << 10

SLOT = 16
"""A waiting query: its key and the address of its block."""
_INLINE = 4

STREAM = np.dtype(
    [
        ("buffer", "i8"),  # arena block with the part of a message that came in earlier segments
        ("room", "i4"),  # its size as asked for
        ("held", "i4"),  # bytes in it
        ("need", "i4"),  # length of the message; 0: not known yet
        ("skip", "i4"),  # bytes of a message that are passed over
        ("have", "u1"),  # bytes of the length prefix that have come
        ("head", "u1"),  # its first byte
        ("flags", "u2"),
        ("pad", "u4"),
    ]
)
"""One direction of a TCP connection."""
assert STREAM.itemsize == 32
LOST, DOUBT, CUT = 1, 2, 4  # STREAM.flags: framing is lost; to be seen whether it is; message at hand was cut

STATE = np.dtype(
    [
        ("stream0", STREAM),
        ("stream1", STREAM),
        # -- the transaction at hand; spans of length 0 for what there is not
        ("query", "i8"),
        ("response", "i8"),
        ("query_len", "i4"),
        ("response_len", "i4"),
        ("query_ts", "i8"),
        ("response_ts", "i8"),
        ("taken", "i8"),  # block of the query at hand
        ("arena", "i8"),
        ("slots", "i8"),  # arena block with the slots once they are more than _INLINE
        ("domain", "i8"),  # arena blocks for text that fields give, see retina_jit.parsers.dns.text
        ("text", "i8"),
        ("waiting_bytes", "i4"),  # of blocks that wait
        ("waiting", "u2"),
        ("room", "u2"),  # slots in the block
        ("repeated", "u2"),  # of the transaction at hand: equal queries that were waiting when it was sent
        ("accepted", "u1"),  # 1: a message was seen
        ("asker", "u1"),  # of the transaction at hand: direction of the query, or the other one than the response's
        ("domain_len", "i4"),  # 0: not made yet
        ("text_room", "i4"),
        ("walk_at", "i4"),  # record of the response, or question, that was asked for last; 0: none
        ("walk_n", "u2"),
        ("walk_section", "u2"),  # 0: a question
        ("inline", "i8", 2 * _INLINE),
    ]
)
assert STATE.itemsize <= 256
STATE_AT, STREAM_AT = memory.at(STATE), memory.at(STREAM)
STREAM_SIZE = STREAM.itemsize
_SLOTS = STATE.fields["inline"][1]  # type: ignore[index]

QUERY = np.dtype([("ts", "i8"), ("length", "i4"), ("repeated", "u2"), ("direction", "u2")])
"""Head of the block of a waiting query; the message follows."""
assert QUERY.itemsize == 16
QUERY_AT = memory.at(QUERY)
_HEAD = QUERY.itemsize


@leaf
def _slots(state):
    row = STATE_AT(state)
    return row.slots if row.slots else state + _SLOTS


@kernel
def _let_go(state, arena):
    """Forget the transaction at hand."""
    row = STATE_AT(state)
    if row.taken:
        pool.release(arena, row.taken, _HEAD + np.int64(row.query_len))
        row.taken = 0
    row.query_len = 0
    row.response_len = 0
    row.domain_len = 0
    row.walk_at = 0


@kernel
def _take(state, n):
    """Take the `n`-th waiting query out as the transaction at hand."""
    row = STATE_AT(state)
    slots = _slots(state)
    block = load64(slots + SLOT * n + 8)
    q = QUERY_AT(block)
    row.taken = block
    row.query, row.query_len, row.query_ts = block + _HEAD, q.length, q.ts
    row.repeated, row.asker = q.repeated, q.direction
    row.waiting -= 1
    row.waiting_bytes -= _HEAD + q.length
    move(slots + SLOT * n, slots + SLOT * (n + 1), SLOT * (np.int64(row.waiting) - n))


@kernel
def _wait(state, arena, key, message, ts, direction, repeated):
    """Let a query wait. Returns whether there was memory for it."""
    row = STATE_AT(state)
    room = np.int64(row.room) if row.slots else _INLINE
    if row.waiting == room:
        fresh = pool.enlarge(arena, row.slots, SLOT * room, SLOT * room, 2 * SLOT * room)
        if fresh == 0:
            return False
        if row.slots == 0:
            copy(fresh, state + _SLOTS, SLOT * room)
        row.slots = fresh
        row.room = 2 * room
    block = pool.allocate(arena, _HEAD + message[1])
    if block == 0:
        return False
    q = QUERY_AT(block)
    q.ts, q.length, q.repeated, q.direction = ts, message[1], repeated, direction
    copy(block + _HEAD, message[0], message[1])
    at = _slots(state) + SLOT * np.int64(row.waiting)
    store64(at, key)
    store64(at + 8, block)
    row.waiting += 1
    row.waiting_bytes += _HEAD + message[1]
    return True


_HASH = 0xFFFFFFFF


@leaf
def _key(message, asker):
    """Direction of the query, id and question."""
    return (asker << 48) | (transaction_id_of(message) << 32) | question_hash(message)


@kernel
def _find(state, key, mask):
    """The oldest waiting query with this key, or -1."""
    slots = _slots(state)
    for n in range(np.int64(STATE_AT(state).waiting)):
        if (load64(slots + SLOT * n) ^ key) & mask == 0:
            return n
    return -1


@kernel
def take_overdue(state, arena, now):
    """Make the oldest query the transaction at hand if it has waited too long. Returns READY or 0."""
    row = STATE_AT(state)
    _let_go(state, arena)
    if row.waiting and now - QUERY_AT(load64(_slots(state) + 8)).ts > PATIENCE:
        _take(state, 0)
        return READY
    return 0


@kernel
def take_oldest(state, arena):
    """Make the oldest waiting query the transaction at hand. Returns READY, or 0 if there is none."""
    if STATE_AT(state).waiting == 0:
        return 0
    _let_go(state, arena)
    _take(state, 0)
    return READY


@leaf
def is_full(state, length):
    """Whether the oldest waiting query has to go before one of `length` bytes can wait."""
    row = STATE_AT(state)
    return row.waiting > 0 and (row.waiting == MOST_WAITING or row.waiting_bytes + length > MOST_BYTES)


@kernel
def take_message(state, arena, message, ts, direction):
    """Take a message. Returns READY if that makes a transaction complete, which is then the one at hand, else 0.

    The transaction at hand must have been let go (`take_overdue`).
    """
    row = STATE_AT(state)
    row.accepted = 1
    if flags_of(message) & QR:
        key = _key(message, 1 - direction)
        mask = -1 if count_of(message, 0) else ~_HASH
        if count_of(message, 0) == 0 and transaction_id_of(message) == 0:
            mask = -1
        n = _find(state, key, mask)
        row.repeated = 0
        row.asker = 1 - direction
        if n >= 0:
            _take(state, n)
        row.response, row.response_len, row.response_ts = message[0], message[1], ts
        return READY
    key = _key(message, direction)
    repeated = 0
    slots = _slots(state)
    for n in range(np.int64(row.waiting)):
        repeated += load64(slots + SLOT * n) == key
    if _wait(state, arena, key, message, ts, direction, repeated):
        return 0
    row.query, row.query_len, row.query_ts = message[0], message[1], ts
    row.repeated, row.asker = repeated, direction
    return READY


@kernel
def free(state, arena):
    """Give back all that lies in the arena."""
    row = STATE_AT(state)
    _let_go(state, arena)
    for n in range(np.int64(row.waiting)):
        block = load64(_slots(state) + SLOT * n + 8)
        pool.release(arena, block, _HEAD + np.int64(QUERY_AT(block).length))
    row.waiting = 0
    row.waiting_bytes = 0
    if row.slots:
        pool.release(arena, row.slots, SLOT * np.int64(row.room))
        row.slots = 0
    for direction in range(2):
        s = STREAM_AT(state + STREAM_SIZE * direction)
        pool.release(arena, s.buffer, np.int64(s.room))
        s.buffer = 0
        s.held = 0
    pool.release(arena, row.domain, NAME_ROOM)
    pool.release(arena, row.text, np.int64(row.text_room))
    row.domain = 0
    row.text = 0
    row.text_room = 0
