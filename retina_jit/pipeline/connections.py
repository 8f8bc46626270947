"""A packet meets its connection: find or create it, count, follow TCP, feed the parser; and how a connection ends."""

from __future__ import annotations

from retina_jit.delivery.write import SUBSCRIPTION_AT, deliver, subscription_address
from retina_jit.jit import kernel, leaf
from retina_jit.memory import load64, shift_right, trailing_zeros
from retina_jit.pipeline.counters import WORKER_AT, add, counter
from retina_jit.pipeline.groups import GROUP_AT, group_address, load_sets
from retina_jit.pipeline.layout import CONNECTION_LEVEL
from retina_jit.pipeline.sessions import begin, connection_of, feed, finish, release_parser
from retina_jit.pipeline.stages import PACKET_AT, connection_stage, deliver_packet, end_stage, orient
from retina_jit.state import reassembly, tcp, timers, track
from retina_jit.state.arena import release
from retina_jit.state.layout import (
    CHUNKS_SIZE,
    DROPPED,
    MIDSTREAM,
    NEXT_KNOWN,
    OPEN,
    ORIG_IS_HIGH,
    OVER,
    PARSED,
    PARSING,
    PROBING,
    SEEN_TWO,
    SESSION_READY,
    TCP,
)
from retina_jit.state.reassembly import HEAD, NO_ROOM, SEGMENT_AT
from retina_jit.state.table import NONE, TABLE_AT, find, insert, record_address, remove, track_address
from retina_jit.state.track import SIDE_AT, TRACK_AT, side_address, signed32

FIN, SYN, RST, ACK = 1, 2, 4, 16
NOT_SYN, TABLE_FULL, UNWANTED, TRACKED = (counter(n) for n in ("not_syn", "table_full", "unwanted", "tracked"))
CONNECTIONS, CONNECTIONS_TCP, CONNECTIONS_UDP = (counter(n) for n in ("connections", "connections_tcp", "connections_udp"))
CONNECTIONS_MIDSTREAM = counter("connections_midstream")
REUSED, EXPIRED, DRAINED, CLOSED = (counter(f"ended_{n}") for n in ("reused", "expired", "drained", "closed"))
SEGMENTS_HELD, SEGMENTS_OLD, HELD_REFUSED = (counter(n) for n in ("segments_held", "segments_old", "held_refused"))
HOLES, HOLE_BYTES, OVERLAP, PAYLOAD_CUT = (counter(n) for n in ("holes", "hole_bytes", "overlap", "payload_cut"))


@leaf
def window(w, c):
    """How long a connection may be silent [ns]."""
    worker = WORKER_AT(w)
    if c.flags & OVER:
        return worker.tcp_close + 0
    if shift_right(c.key, 32) & 0xFF != 6:
        return worker.udp_inactivity + 0
    return worker.tcp_inactivity + 0 if c.flags & SEEN_TWO else worker.tcp_establish + 0


# ----------------------------------------------------------------------------------------------------- reassembly


@kernel
def _pass_held(w, index, side):
    """Pass on the held segments that are in order now."""
    c = connection_of(w, index)
    arena = WORKER_AT(w).arena
    while True:
        segment = reassembly.take_ready(c, side)
        if segment == 0:
            return
        s = SEGMENT_AT(segment)
        skip = -signed32(s.seq - reassembly.next_of(c, side))
        if skip < s.length:
            reassembly.set_next(c, side, s.seq + s.length + s.cut)
            feed(w, index, side, segment + HEAD + skip, s.length - skip, 0, s.cut, s.ts)
        reassembly.drop_segment(segment, arena)


@kernel
def _count_hole(w, index, lost):
    add(w, HOLES, 1)
    add(w, HOLE_BYTES, lost)
    t = track_address(WORKER_AT(w).table, index)
    if t:
        TRACK_AT(t).lost += lost


@kernel
def _skip_hole(w, index, side):
    """Give up the bytes in front of the first held segment and pass on what follows them."""
    c = connection_of(w, index)
    lost = reassembly.hole(c, side)
    _count_hole(w, index, lost)
    segment = reassembly.held_of(c, side)
    s = SEGMENT_AT(segment)
    reassembly.set_next(c, side, s.seq + s.length + s.cut)
    # Unhook it by hand: it is the first one, and no longer behind a hole.
    following = s.following + 0
    if side:
        c.held1 = following
    else:
        c.held0 = following
    c.held -= 1
    feed(w, index, side, segment + HEAD, s.length, lost, s.cut, s.ts)
    reassembly.drop_segment(segment, WORKER_AT(w).arena)
    _pass_held(w, index, side)


@kernel
def _flush(w, index):
    """Pass on everything that is held, over its holes."""
    c = connection_of(w, index)
    for side in range(2):
        while reassembly.held_of(c, side):
            _skip_hole(w, index, side)


@kernel
def _segment(w, index, row, side):
    """Bring the payload of a TCP segment into order and pass on what is in order."""
    worker = WORKER_AT(w)
    c = connection_of(w, index)
    syn = 1 if row.tcp_flags & SYN else 0
    seq = (row.seq + syn) & 0xFFFFFFFF
    if not tcp.sent(c, side, NEXT_KNOWN):
        if not syn and row.payload_len == 0 and not c.flags & MIDSTREAM:
            # Behind a lost SYN/ACK, or the answer of an old connection to this SYN (RFC 9293, 3.5.1): says nothing of ours.
            return
        reassembly.set_next(c, side, seq)
    if row.payload_len == 0:
        return
    length = row.captured_len + 0
    cut = row.payload_len - length
    address = row.frame + row.payload
    early = signed32(seq - reassembly.next_of(c, side))
    if early + length + cut <= 0:
        add(w, SEGMENTS_OLD, 1)
        return
    if early > 0:
        add(w, SEGMENTS_HELD, 1)
        while reassembly.acknowledged(c, side):
            _skip_hole(w, index, side)
    elif c.held:
        reassembly.compare(c, side, seq, address, length, worker.stats + OVERLAP)
    _place(w, index, side, seq, address, length, cut, row.ts)


@kernel
def _place(w, index, side, seq, address, length, cut, ts):
    """Pass on a segment, around what is held already, or hold it; holes that no cap leaves room to wait for are skipped."""
    worker = WORKER_AT(w)
    c = connection_of(w, index)
    lost = 0
    while c.phase == PROBING or c.phase == PARSING:
        early = signed32(seq - reassembly.next_of(c, side))
        if early + length + cut <= 0:
            return
        if early <= 0:
            skip = min(-early, length)
            cut += early + skip
            seq = reassembly.next_of(c, side)
            address += skip
            length -= skip
            # The first copy wins: what is held stands before what comes now.
            room = reassembly.hole(c, side) if reassembly.held_of(c, side) else length + cut
            taken = min(length, room)
            missing = min(cut, room - taken) if taken == length else 0
            reassembly.set_next(c, side, seq + taken + missing)
            feed(w, index, side, address, taken, lost, missing, ts)
            lost = 0
            if c.held:
                _pass_held(w, index, side)
        elif reassembly.hold(c, side, seq, address, length, ts, cut, worker.arena, worker.most_held, worker.stats + OVERLAP) != NO_ROOM:
            return
        else:
            add(w, HELD_REFUSED, 1)
            if reassembly.held_of(c, side):
                _skip_hole(w, index, side)
            else:
                lost = early
                _count_hole(w, index, lost)
                reassembly.set_next(c, side, seq)


# ------------------------------------------------------------------------------------------------- begin and end


@kernel
def _drop_if_unwanted(w, index):
    """Keep a connection that nobody wants only as an entry that absorbs its packets."""
    c = connection_of(w, index)
    if GROUP_AT(group_address(w, c.group)).any == 0:
        release_parser(w, index)
        if c.held:
            reassembly.drop_all(c, WORKER_AT(w).arena)
        c.life = DROPPED


@kernel
def _create(w, row, high):
    """A packet without connection. Returns the index of a new one, or NONE after counting why not."""
    worker = WORKER_AT(w)
    is_tcp = row.layers & TCP != 0
    flags = row.tcp_flags
    opening = flags & SYN and not flags & (ACK | RST)
    if is_tcp and not opening and not worker.midstream:
        add(w, NOT_SYN, 1)
        return NONE
    index = insert(worker.table, row, high)
    if index == NONE:
        add(w, TABLE_FULL, 1)
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
    if from_high:
        c.flags |= ORIG_IS_HIGH
    connection_stage(w, index)
    begin(w, index)
    _drop_if_unwanted(w, index)
    timers.file(worker.timers, worker.table, index, row.ts + window(w, c))
    return index


@kernel
def terminate(w, index, why):
    """End a connection: the rest of its sessions, its connection-level subscriptions, its memory."""
    worker = WORKER_AT(w)
    c = connection_of(w, index)
    if c.life != DROPPED:
        if c.held and (c.phase == PARSING or c.phase == PROBING):
            _flush(w, index)
        finish(w, index, c.last)
        load_sets(w, c.group)
        if GROUP_AT(group_address(w, c.group)).undecided:
            end_stage(w, index)
        connection = record_address(worker.table, index)
        session = c.parser if c.flags & SESSION_READY and (c.phase == PARSED or c.phase == PARSING) else 0
        for n in range(worker.words):
            left = load64(worker.mine + 8 * (worker.words + n)) + 0
            while left:
                bit = trailing_zeros(left)
                left &= left - 1
                s = SUBSCRIPTION_AT(subscription_address(w, 64 * n + bit))
                if s.level == CONNECTION_LEVEL:
                    has_session = session != 0 and (s.type_services >> c.service) & 1
                    if s.type_services == 0 or has_session:
                        deliver(
                            w, 64 * n + bit, orient(w, index), c.last, connection,
                            track_address(worker.table, index), session, c.service, 1,
                        )  # fmt: skip
    add(w, why, 1)
    release_parser(w, index)
    if c.held:
        reassembly.drop_all(c, worker.arena)
    t = track_address(worker.table, index)
    if t:
        for side in range(2):
            chunks = SIDE_AT(side_address(t, side)).chunks
            if chunks:
                release(worker.arena, chunks, CHUNKS_SIZE)
    remove(worker.table, index)


@kernel
def packet(w, row_address):
    """Take one TCP or UDP packet whose key is set."""
    worker = WORKER_AT(w)
    row = PACKET_AT(row_address)
    high = row.direction != 0
    is_tcp = row.layers & TCP != 0
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
        index = _create(w, row, high)
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
    if is_tcp and tcp.update(c, row, side) and not c.flags & OVER:
        c.flags |= OVER
        timers.file(worker.timers, worker.table, index, c.last + worker.tcp_close)
    if c.life == DROPPED:
        add(w, UNWANTED, 1)
        return
    add(w, TRACKED, 1)
    t = track_address(worker.table, index)
    if t and GROUP_AT(group_address(w, c.group)).track:
        track.update(t, row, side, last, first, worker.arena)
    if c.phase == PROBING or c.phase == PARSING:
        if row.captured_len < row.payload_len:
            add(w, PAYLOAD_CUT, row.payload_len - row.captured_len)
        if is_tcp:
            _segment(w, index, row, side)
        elif row.payload_len:
            feed(w, index, side, row.frame + row.payload, row.captured_len, 0, row.payload_len - row.captured_len, row.ts)
        if c.phase != PROBING and c.phase != PARSING and c.held:
            reassembly.drop_all(c, worker.arena)
        _drop_if_unwanted(w, index)
    if GROUP_AT(group_address(w, c.group)).packets:
        deliver_packet(w, index, row_address)


@kernel
def _visit(w, tick):
    """Look at every connection filed under the slot of `tick`: end it, or file it anew."""
    worker = WORKER_AT(w)
    t = timers.TIMERS_AT(worker.timers)
    slot = tick & (timers.SLOTS - 1)
    block = timers.take_chain(worker.timers, tick)
    while block:
        for n in range(timers.count_of(block)):
            index = timers.index_in(block, n)
            c = connection_of(w, index)
            # Filed elsewhere by now, or another connection in the same record: not this entry's business.
            if c.life and c.filed & (timers.SLOTS - 1) == slot:
                if signed32(t.now - c.filed) < 0:
                    timers.file_at(worker.timers, worker.table, index, t.now - signed32(t.now - c.filed))
                elif worker.now - c.last > window(w, c):
                    terminate(w, index, CLOSED if c.flags & OVER else EXPIRED)
                else:
                    timers.file(worker.timers, worker.table, index, c.last + window(w, c))
        following = load64(block)
        timers.free_block(worker.timers, block)
        block = following


@kernel
def expire(w):
    """Turn the wheel to the latest capture time; end what has been silent for too long."""
    worker = WORKER_AT(w)
    t = timers.TIMERS_AT(worker.timers)
    if t.entries > t.most_entries:
        timers.rebuild(worker.timers, worker.table)
    tick = worker.now // t.resolution
    if tick - t.now > timers.SLOTS:
        # A pause longer than a turn of the wheel: look at every slot once.
        t.now = tick
        for slot in range(timers.SLOTS):
            _visit(w, slot)
    else:
        while t.now < tick:
            t.now += 1
            _visit(w, t.now)


@kernel
def drain(w):
    """The input is over: end every connection."""
    worker = WORKER_AT(w)
    for index in range(TABLE_AT(worker.table).unused):
        c = connection_of(w, index)
        if c.life:
            terminate(w, index, CLOSED if c.flags & OVER else DRAINED)

