"""A packet meets its connection: find or create it, count, follow TCP, feed the parser.

A connection that nobody wants is kept as an entry that only absorbs its packets (life DROPPED).
"""

from __future__ import annotations

from retina_jit.jit import kernel
from retina_jit.memory import call1
from retina_jit.pipeline.access import (
    PACKET_AT,
    WORKER_AT,
    add,
    admit,
    connection_of,
    counter,
    feed,
    note_first,
    packet_delivery,
    segment,
    terminate,
    update_parts,
    watch,
)
from retina_jit.pipeline.expiry import CLOSED, EXPIRED, note_attempt, window
from retina_jit.pipeline.groups import GROUP_AT, group_address
from retina_jit.pipeline.layout import HAS_WATCHES
from retina_jit.pipeline.segments import count_dropped
from retina_jit.state import reassembly, tcp, timers, track
from retina_jit.state.layout import (
    DROPPED,
    MIDSTREAM,
    NO_FRAME,
    OPEN,
    ORIG_IS_HIGH,
    OVER,
    PARSING,
    PROBING,
    QINQ,
    SEEN_TWO,
    TCP,
)
from retina_jit.state.parts import FIRST, RECORD
from retina_jit.state.table import NONE, find, insert, track_address

SYN, RST, ACK = 2, 4, 16
NOT_SYN, TABLE_FULL, UNWANTED, TRACKED = (counter(n) for n in ("not_syn", "table_full", "unwanted", "tracked"))
NOT_SYN_BYTES = counter("not_syn_bytes")
CONNECTIONS, CONNECTIONS_TCP, CONNECTIONS_UDP = (counter(n) for n in ("connections", "connections_tcp", "connections_udp"))
RST_IGNORED, ACKS, ACKS_UNSEEN, UNPARSED = (counter(n) for n in ("rst_ignored", "acks", "acks_unseen", "payload_unparsed"))
CONNECTIONS_MIDSTREAM, REUSED, PAYLOAD_CUT = (counter(n) for n in ("connections_midstream", "ended_reused", "payload_cut"))


@kernel
def _create(w, row_address, high):
    """A packet without connection. Returns the index of a new one, or NONE after counting why not."""
    worker = WORKER_AT(w)
    row = PACKET_AT(row_address)
    is_tcp = row.layers & TCP != 0
    one = 0 if row.layers & NO_FRAME else 1
    flags = row.tcp_flags
    opening = flags & SYN and not flags & (ACK | RST)
    if is_tcp and not opening and not worker.midstream:
        add(w, NOT_SYN, one)
        if worker.monitored:
            add(w, NOT_SYN_BYTES, row.length * one)
        return NONE
    index = insert(worker.table, row, high)
    if index == NONE and call1(worker.make_room, w):
        index = insert(worker.table, row, high)
    if index == NONE:
        add(w, TABLE_FULL, one)
        return NONE
    add(w, CONNECTIONS, 1)
    add(w, CONNECTIONS_TCP if is_tcp else CONNECTIONS_UDP, 1)
    c = connection_of(w, index)
    c.life = OPEN
    c.first = row.ts
    c.last = row.ts
    from_high = high
    if is_tcp and not opening:
        add(w, CONNECTIONS_MIDSTREAM, 1)
        c.flags |= MIDSTREAM
        # Picked up in the middle: a SYN/ACK comes from the responder, and servers sit on low ports.
        if flags & SYN or (row.src_port < 1024 and row.dst_port >= 1024):
            from_high = not high
        # What its SYN should have had.
        c.isn0 = ((row.seq if from_high == high else row.ack) - 1) & 0xFFFFFFFF
    if from_high:
        c.flags |= ORIG_IS_HIGH
    if worker.parts & FIRST or (worker.parts and row.layers & QINQ):
        note_first(w, index, row_address)
    admit(w, index)
    if GROUP_AT(group_address(w, c.group)).any == 0:
        c.life = DROPPED
    timers.file(worker.timers, worker.table, index, row.ts + window(w, c))
    if is_tcp and opening:
        note_attempt(w, index)
    return index


@kernel
def packet(w, row_address):
    """Take one TCP or UDP packet whose key is set."""
    worker = WORKER_AT(w)
    row = PACKET_AT(row_address)
    high = row.direction != 0
    is_tcp = row.layers & TCP != 0
    one = 0 if row.layers & NO_FRAME else 1
    index = find(worker.table, row, high)
    first = False
    if index != NONE:
        c = connection_of(w, index)
        side = 1 if high != (c.flags & ORIG_IS_HIGH != 0) else 0
        if row.ts - c.last > window(w, c):
            terminate(w, index, CLOSED if c.flags & OVER else EXPIRED)
            index = NONE
        elif is_tcp and tcp.is_new_connection(c, row, side):
            terminate(w, index, CLOSED if c.flags & OVER else REUSED)
            index = NONE
    if index == NONE:
        index = _create(w, row_address, high)
        if index == NONE:
            return
        first = True
    c = connection_of(w, index)
    side = 1 if high != (c.flags & ORIG_IS_HIGH != 0) else 0
    row.direction = side
    row.connection = index
    last = c.last + 0
    if row.ts > c.last:
        c.last = row.ts
    if not first:
        c.flags |= SEEN_TWO
    told = tcp.update(c, row, side) if is_tcp else 0
    if told & tcp.ENDED and not c.flags & OVER:
        c.flags |= OVER
        timers.file(worker.timers, worker.table, index, c.last + worker.tcp_close)
    elif told & tcp.IGNORED:
        add(w, RST_IGNORED, 1)
    if c.life == DROPPED:
        add(w, UNWANTED, one)
        return
    add(w, TRACKED, one)
    t = track_address(worker.table, index)
    if t:
        needed = GROUP_AT(group_address(w, c.group)).track
        if needed & RECORD:
            track.update(t, row, side, last, first, worker.arena, c)
            if told & tcp.ACKED:
                add(w, ACKS, 1)
                if track.acknowledges_unseen(t, row, side):
                    add(w, ACKS_UNSEEN, 1)
        if needed & ~RECORD:
            update_parts(w, index, row_address, side)
    if worker.watching and GROUP_AT(group_address(w, c.group)).packets & HAS_WATCHES:
        watch(w, index, row_address)
    if c.phase == PROBING or c.phase == PARSING:
        if row.captured_len < row.payload_len:
            add(w, PAYLOAD_CUT, row.payload_len - row.captured_len)
        if is_tcp:
            segment(w, index, row_address, side)
        elif row.payload_len:
            feed(w, index, side, row.frame + row.payload, row.captured_len, 0, row.payload_len - row.captured_len, row.ts)
        if c.phase != PROBING and c.phase != PARSING:
            if c.held:
                count_dropped(w, reassembly.drop_all(c, worker.arena))
            if GROUP_AT(group_address(w, c.group)).any == 0:
                c.life = DROPPED
    elif row.payload_len:
        add(w, UNPARSED, row.captured_len)
        if row.captured_len < row.payload_len:
            add(w, PAYLOAD_CUT, row.payload_len - row.captured_len)
    if GROUP_AT(group_address(w, c.group)).packets:
        packet_delivery(w, index, row_address)
