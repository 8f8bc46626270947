"""Bringing TCP segments into order for the parser; what `state.reassembly` decides is carried out here."""

from __future__ import annotations

from retina_jit.jit import entry, kernel
from retina_jit.memory import load64
from retina_jit.pipeline.access import PACKET_AT, WORKER_AT, add, connection_of, counter, feed
from retina_jit.state import reassembly, tcp
from retina_jit.state.layout import MIDSTREAM, NEXT_KNOWN, PARSING, PROBING
from retina_jit.state.parts import RECORD
from retina_jit.state.reassembly import HEAD, MOST_EARLY, NO_ROOM, SEGMENT_AT
from retina_jit.state.table import track_address
from retina_jit.state.track import GAP, TRACK_AT, mark, signed32

SYN = 2
SEGMENTS_HELD, SEGMENTS_OLD, HELD_REFUSED = (counter(n) for n in ("segments_held", "segments_old", "held_refused"))
PAYLOAD_HELD, PAYLOAD_PARSED, PAYLOAD_UNPARSED, PAYLOAD_OLD, PAYLOAD_DROPPED = (
    counter(f"payload_{n}") for n in ("held", "parsed", "unparsed", "old", "dropped")
)  # fmt: skip
HOLES, HOLE_BYTES, OVERLAP = (counter(n) for n in ("holes", "hole_bytes", "overlap"))


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
        add(w, PAYLOAD_HELD, -s.length)
        add(w, PAYLOAD_OLD, max(0, min(skip, s.length)))
        reassembly.drop_segment(segment, arena)


@kernel
def _count_hole(w, index, side, lost):
    add(w, HOLES, 1)
    add(w, HOLE_BYTES, lost)
    if WORKER_AT(w).parts & RECORD:
        t = TRACK_AT(track_address(WORKER_AT(w).table, index))
        t.lost = min(t.lost + lost, 0xFFFFFFFF)
        mark(t, GAP, side)


@kernel
def _note_overlaps(w, index, overlaps, inconsistent):
    """Count for the connection what reassembly has counted since the counters had these values."""
    stats = WORKER_AT(w).stats
    more = load64(stats + OVERLAP) - overlaps
    if more and WORKER_AT(w).parts & RECORD:
        t = TRACK_AT(track_address(WORKER_AT(w).table, index))
        t.nb_overlaps = min(t.nb_overlaps + more, 0xFFFF)
        t.nb_inconsistent = min(t.nb_inconsistent + load64(stats + OVERLAP + 8) - inconsistent, 0xFFFF)


@kernel
def _skip_hole(w, index, side):
    """Give up the bytes in front of the first held segment and pass on what follows them."""
    c = connection_of(w, index)
    lost = reassembly.hole(c, side)
    _count_hole(w, index, side, lost)
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
    add(w, PAYLOAD_HELD, -s.length)
    reassembly.drop_segment(segment, WORKER_AT(w).arena)
    _pass_held(w, index, side)


@kernel
def flush(w, index):
    """Pass on everything that is held, over its holes."""
    c = connection_of(w, index)
    for side in range(2):
        while reassembly.held_of(c, side):
            if reassembly.is_wild(c, side):
                count_dropped(w, reassembly.drop_side(c, side, WORKER_AT(w).arena))
            else:
                _skip_hole(w, index, side)


@kernel
def count_dropped(w, dropped):
    """Bytes that were held are not any more."""
    add(w, PAYLOAD_HELD, -dropped)
    add(w, PAYLOAD_DROPPED, dropped)


@kernel
def _accounted(w):
    """Bytes of payload that have been given somewhere, or are held."""
    stats = WORKER_AT(w).stats
    return (
        load64(stats + PAYLOAD_PARSED) + load64(stats + PAYLOAD_UNPARSED) + load64(stats + PAYLOAD_HELD)
        + load64(stats + PAYLOAD_DROPPED) + load64(stats + PAYLOAD_OLD)
    )  # fmt: skip


@entry
def segment(w, index, row_address, side):
    """Bring the payload of a TCP segment into order and pass on what is in order."""
    worker = WORKER_AT(w)
    row = PACKET_AT(row_address)
    c = connection_of(w, index)
    syn = 1 if row.tcp_flags & SYN else 0
    seq = (row.seq + syn) & 0xFFFFFFFF
    if not tcp.sent(c, side, NEXT_KNOWN):
        if not syn and row.payload_len == 0 and not c.flags & MIDSTREAM:
            # Behind a lost SYN/ACK, or the answer of an old connection to this SYN (RFC 9293, 3.5.1): says nothing of ours.
            return 0
        if c.held:
            # Of an attempt with other numbers, which nobody has answered.
            count_dropped(w, reassembly.drop_side(c, side, worker.arena))
        reassembly.set_next(c, side, seq)
    if row.payload_len == 0:
        return 0
    length = row.captured_len + 0
    cut = row.payload_len - length
    address = row.frame + row.payload
    early = signed32(seq - reassembly.next_of(c, side))
    if early + length + cut <= 0:
        add(w, SEGMENTS_OLD, 1)
        add(w, PAYLOAD_OLD, length)
        return 0
    if early > MOST_EARLY:
        add(w, PAYLOAD_DROPPED, length)
        return 0
    before = _accounted(w)
    overlaps, inconsistent = load64(worker.stats + OVERLAP), load64(worker.stats + OVERLAP + 8)
    if early > 0:
        add(w, SEGMENTS_HELD, 1)
        while reassembly.acknowledged(c, side):
            _skip_hole(w, index, side)
    elif c.held:
        reassembly.compare(c, side, seq, address, length, worker.stats + OVERLAP)
    _place(w, index, side, seq, address, length, cut, row.ts)
    _note_overlaps(w, index, overlaps, inconsistent)
    # Whatever of it went nowhere was there before.
    left = length - (_accounted(w) - before)
    add(w, PAYLOAD_OLD if c.phase == PROBING or c.phase == PARSING else PAYLOAD_UNPARSED, left)
    return 0


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
                if reassembly.is_wild(c, side):
                    count_dropped(w, reassembly.drop_side(c, side, worker.arena))
                else:
                    _skip_hole(w, index, side)
            else:
                lost = early
                _count_hole(w, index, side, lost)
                reassembly.set_next(c, side, seq)
