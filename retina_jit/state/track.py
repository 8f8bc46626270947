"""What is counted per connection for ConnRecord: per side packets, bytes, payload, and which bytes were seen.

Counted for every packet as it arrives, before reassembly, whether or not the payload is parsed. Retina's definitions
(`datatypes/src/connection.rs`), but for its faults: an empty segment adds no interval, datagrams have no intervals, and
sequence numbers are followed past 4 GiB.
"""

from __future__ import annotations

import numpy as np

from retina_jit import memory
from retina_jit.jit import kernel, leaf
from retina_jit.memory import copy, load64, move, store64
from retina_jit.state.arena import allocate, release
from retina_jit.state.layout import (
    ACK_KNOWN,
    CHUNKS,
    FEW_CHUNKS,
    MOST_CHUNKS,
    RESP,
    SIDE,
    TCP,
    TRACK,
    VLAN,
    ZEEK_LETTERS,
)

TRACK_AT = memory.at(TRACK)
CHUNKS_AT = memory.at(CHUNKS)

SIDE_AT = memory.at(np.dtype(SIDE))
_SIDES = TRACK.fields["nb_pkts0"][1]  # type: ignore[index]
_SIDE_SIZE = np.dtype(SIDE).itemsize
CHUNK_LIST = CHUNKS.itemsize
FIN, SYN, RST, ACK = 1, 2, 4, 16

MOST_AHEAD = 64 << 20
"""Further in front of what was seen [byte] nothing is believed unless the other side acknowledges it."""
ORDER = (0, 1, 2, 4, 5, 3)
ZEEK_SIDE = len(ZEEK_LETTERS)
RETRANSMITTED, GAP, ZERO_WINDOW, INCONSISTENT, MULTI_FLAG = (1 << ZEEK_LETTERS.index(c) for c in "TGWIQ")


@leaf
def side_address(track, side):
    """Address of one side's counters."""
    return track + _SIDES + side * _SIDE_SIZE


@leaf
def signed32(value):
    """The difference of two sequence numbers as a signed number (RFC 1982)."""
    v = value & 0xFFFFFFFF
    return v - ((v >> 31) << 32)


@leaf
def packet_letters(row):
    """Bits of the letters that a packet is worth, by their places in ZEEK_LETTERS."""
    bits = 8 if row.payload_len else 0
    if row.layers & TCP:
        flags = row.tcp_flags & (FIN | SYN | RST | ACK)
        if flags & SYN:
            bits |= 2 if flags & ACK else 1
            if flags & (FIN | RST):
                bits |= MULTI_FLAG
        elif flags == ACK and row.payload_len == 0:
            bits |= 4
        if flags & FIN:
            bits |= 16
        if flags & RST:
            bits |= 32
            if flags & FIN:
                bits |= INCONSISTENT
        elif row.window == 0:
            bits |= ZERO_WINDOW
    return bits


@kernel
def _append(t, new, side):
    """Write new letters of a packet in Retina's order: S, H or A; then F, R, D."""
    for which in ORDER:
        if (new >> which) & 1 and t.history_len < 15:
            t.history |= (which + 7 * side + 1) << (4 * t.history_len)
            t.history_len += 1


@leaf
def write_letters(t, row, side):
    """Write the packet's letters, each once per side. Returns the bits of the new ones."""
    new = packet_letters(row) & ~(t.seen >> (ZEEK_SIDE * side))
    if new:
        t.seen |= new << (ZEEK_SIDE * side)
        _append(t, new, side)
    return new


@kernel
def write_zeek(t, new, side):
    """Write Zeek's letters, in the order S, H, A, F, R, D and then what is said about them."""
    for n in range(ZEEK_SIDE):
        which = n
        if n >= 3 and n < 6:
            which = 3 if n == 5 else n + 1
        if (new >> which) & 1 and t.zeek_len < 24:
            code = which + 1 + ZEEK_SIDE * side
            if t.zeek_len < 12:
                t.zeek0 |= code << (5 * t.zeek_len)
            else:
                t.zeek1 |= code << (5 * (t.zeek_len - 12))
            t.zeek_len += 1


@kernel
def mark(t, bit, side):
    """Write a letter of Zeek's that is not told by the packet alone."""
    if not (t.seen >> (ZEEK_SIDE * side)) & bit:
        t.seen |= bit << (ZEEK_SIDE * side)
        write_zeek(t, bit, side)


@leaf
def _tenths_of_us(ns):
    return min(max(ns, 0) // 100, 0xFFFFFFFF)


@kernel
def _handshake(t, row, side):
    """Times of the handshake; of a SYN that was repeated the last one counts (Karn)."""
    if side == 0 and t.stage <= 1 and not row.tcp_flags & ACK:
        t.handshake = row.ts
        t.stage = 1
    elif side == 1 and t.stage == 1 and row.tcp_flags & ACK:
        t.rtt_resp = _tenths_of_us(row.ts - t.handshake)
        t.handshake = row.ts
        t.stage = 2


@leaf
def chunks_size(room):
    """How many bytes a CHUNKS block for `room` intervals and as many gaps takes."""
    return CHUNK_LIST + 32 * room


@leaf
def gap_list(block):
    """Address of a block's (gap start, packets) pairs."""
    return block + CHUNK_LIST + 16 * CHUNKS_AT(block).room


@kernel
def _spill(s, arena):
    """Give a side a CHUNKS block that holds the single interval seen so far. Returns its address or 0."""
    block = allocate(arena, chunks_size(FEW_CHUNKS))
    if block:
        h = CHUNKS_AT(block)
        h.gaps, h.max_gaps, h.full, h.count, h.seen, h.open, h.room = 0, 0, 0, 0, 0, 0, FEW_CHUNKS
        if s.reach:
            store64(block + CHUNK_LIST, 0)
            store64(block + CHUNK_LIST + 8, s.reach)
            h.count = 1
        s.chunks = block
    return block


@kernel
def _enlarge(s, arena):
    """Twice the room, and what fills the arena's next larger block. Returns the address of the block, the old one if that is not to be had."""
    old = s.chunks + 0
    h = CHUNKS_AT(old)
    room = min(2 * h.room + 2, MOST_CHUNKS)
    if room <= h.room:
        return old
    block = allocate(arena, chunks_size(room))
    if block == 0:
        return old
    copy(block, old, CHUNK_LIST + 16 * h.count)
    CHUNKS_AT(block).room = room
    copy(gap_list(block), gap_list(old), 16 * h.gaps)
    release(arena, old, chunks_size(h.room))
    s.chunks = block
    return block


@kernel
def release_chunks(s, arena):
    """Give back what a side has in the arena."""
    block = s.chunks + 0
    if block:
        release(arena, block, chunks_size(CHUNKS_AT(block).room))


@leaf
def _is_open(block, start):
    """Whether a gap begins at `start`: behind an interval that is not the last, or at 0 if nothing is seen there."""
    h = CHUNKS_AT(block)
    if h.count and start == 0 and load64(block + CHUNK_LIST) > 0:
        return True
    for n in range(h.count - 1):
        if load64(block + CHUNK_LIST + 16 * n + 8) == start:
            return True
    return False


@kernel
def _open_gap(block, start):
    h = CHUNKS_AT(block)
    gaps = gap_list(block)
    at = 0
    while at < h.gaps and load64(gaps + 16 * at) != start:
        at += 1
    if at == h.room:
        return
    value = gaps + 16 * at + 8
    if at == h.gaps:
        h.gaps += 1
        store64(value - 8, start)
        store64(value, 0)
    if load64(value) >= 0:
        store64(value, load64(value) - h.seen - 1)


@kernel
def _settle_gaps(block):
    """The intervals have changed: close the gaps that are filled, open the new ones."""
    h = CHUNKS_AT(block)
    gaps = gap_list(block)
    for n in range(h.gaps):
        value = gaps + 16 * n + 8
        if load64(value) < 0 and not _is_open(block, load64(value - 8)):
            store64(value, gap_packets(block, load64(value)))
    h.open = 0
    start = 0
    for n in range(h.count):
        if load64(block + CHUNK_LIST + 16 * n) > start:
            h.open += 1
            _open_gap(block, start)
        start = load64(block + CHUNK_LIST + 16 * n + 8)
    if h.open > h.max_gaps:
        h.max_gaps = h.open


@leaf
def gap_packets(block, value):
    """How many packets were seen while a gap was open. An open gap holds how many were seen before it, as -1 - n."""
    return value + CHUNKS_AT(block).seen + 1 if value < 0 else value


@kernel
def _note_packet(block):
    """Count this packet for every gap that is open, without looking at them."""
    h = CHUNKS_AT(block)
    if h.open:
        h.seen += 1


@kernel
def _insert(s, arena, start, end):
    """Merge an interval into the sorted, disjoint list; touching intervals become one."""
    block = s.chunks + 0
    h = CHUNKS_AT(block)
    newest = block + CHUNK_LIST + 16 * (h.count - 1)
    if h.count and start >= load64(newest) and start <= load64(newest + 8):
        # The usual case: the stream goes on. No gap begins or ends.
        store64(newest + 8, max(load64(newest + 8), end))
        return
    # One interval and one gap more at most.
    if h.count == h.room or h.gaps == h.room:
        block = _enlarge(s, arena)
        h = CHUNKS_AT(block)
    first = 0
    while first < h.count and load64(block + CHUNK_LIST + 16 * first + 8) < start:
        first += 1
    last = first
    low, high = start, end
    while last < h.count and load64(block + CHUNK_LIST + 16 * last) <= end:
        low = min(low, load64(block + CHUNK_LIST + 16 * last))
        high = max(high, load64(block + CHUNK_LIST + 16 * last + 8))
        last += 1
    at = block + CHUNK_LIST + 16 * first
    if last == first:
        if h.count == h.room:
            h.full = 1
            return
        move(at + 16, at, 16 * (h.count - first))
        h.count += 1
    else:
        move(at + 16, at + 16 * (last - first), 16 * (h.count - last))
        h.count -= last - first - 1
    store64(at, low)
    store64(at + 8, high)
    _settle_gaps(block)


@kernel
def _note_repeated(t, row, side, new):
    """A segment that brings nothing from beyond the furthest byte: sent again, or late."""
    if new:
        if side:
            t.nb_out_of_order1 += 1
        else:
            t.nb_out_of_order0 += 1
        return
    if side:
        t.nb_retransmits1 += 1
    else:
        t.nb_retransmits0 += 1
    mark(t, RETRANSMITTED, side)


@kernel
def _is_seen(block, start, end):
    """Whether one interval holds all of it."""
    h = CHUNKS_AT(block)
    for n in range(h.count):
        if load64(block + CHUNK_LIST + 16 * n) <= start and end <= load64(block + CHUNK_LIST + 16 * n + 8):
            return True
    return False


@kernel
def _is_far(c, row, side, ahead):
    """Whether a segment lies beyond any window: far in front of all that was seen, and nobody has acknowledged it."""
    if ahead <= MOST_AHEAD:
        return False
    known = c.tcp & (ACK_KNOWN << (RESP * (1 - side)))
    return known == 0 or signed32((c.ack0 if side else c.ack1) - row.seq) < 0


@kernel
def acknowledges_unseen(track, row, side):
    """Whether an acknowledgement goes beyond what was seen of the other side: the capture has lost it (Zeek's estimate)."""
    t = TRACK_AT(track)
    if not (t.started >> (1 - side)) & 1:
        return False
    s = SIDE_AT(side_address(track, 1 - side))
    reach = s.reach + 0
    block = s.chunks + 0
    if block:
        h = CHUNKS_AT(block)
        reach = load64(block + CHUNK_LIST + 16 * (h.count - 1) + 8) if h.count else 0
    # The FIN takes a number behind the last byte.
    return signed32(row.ack - s.data_start - reach) > 1


@kernel
def _follow(t, s, row, side, arena, c):
    """Note which bytes of the stream this segment covers."""
    syn = 1 if row.tcp_flags & SYN else 0
    if not (t.started >> side) & 1:
        t.started |= 1 << side
        s.data_start = (row.seq + syn) & 0xFFFFFFFF
    block = s.chunks + 0
    reach = s.reach + 0
    if block:
        h = CHUNKS_AT(block)
        reach = load64(block + CHUNK_LIST + 16 * (h.count - 1) + 8) if h.count else 0
    # Unwrap around the furthest byte seen, so that a stream may be longer than 4 GiB.
    start = reach + signed32(row.seq + syn - s.data_start - reach)
    if start < 0:
        s.nb_late_start_pkts += 1
        return
    if _is_far(c, row, side, start - reach):
        # A wild number would stretch the stream by up to 2 GiB.
        return
    if row.payload_len == 0:
        if block:
            _note_packet(block)
        return
    end = start + row.payload_len
    # One byte that was sent before is how some stacks keep alive (RFC 9293, 3.8.4).
    if start < reach and not (row.payload_len == 1 and end == reach):
        _note_repeated(t, row, side, block != 0 and not _is_seen(block, start, min(end, reach)))
    if block == 0:
        if start <= reach:
            s.reach = max(reach, end)
            return
        block = _spill(s, arena)
        if block == 0:
            return
    _insert(s, arena, start, end)
    _note_packet(s.chunks)


@kernel
def _note_tags(t, row):
    """VLAN id of the first packet; an inner one is there already (see `pipeline.parts.note_first`)."""
    if row.layers & VLAN:
        t.tagged = max(t.tagged + 0, 1)
        t.vlan_id = row.vlan_tci & 0xFFF


@kernel
def update(track, row, side, last, first, arena, c):
    """Count one packet. `last`: time of the previous packet of the connection `c`; `first`: this is the first one."""
    t = TRACK_AT(track)
    s = SIDE_AT(side_address(track, side))
    if not first:
        if t.second == 0:
            t.second = row.ts
        pause = row.ts - last
        if pause > t.max_inactivity:
            t.max_inactivity = pause
    s.nb_pkts += 1
    s.nb_pkt_bytes += row.length
    new = write_letters(t, row, side)
    if new:
        write_zeek(t, new, side)
        if side == 0 and t.stage == 2 and new & (4 | 8):
            t.rtt_orig = _tenths_of_us(row.ts - t.handshake)
            t.stage = 3
    if row.tcp_flags & SYN:
        _handshake(t, row, side)
    if first:
        _note_tags(t, row)
    if row.captured_len < row.payload_len:
        s.nb_malformed_pkts += 1
        return
    s.nb_payload_bytes += row.payload_len
    if row.layers & TCP:
        _follow(t, s, row, side, arena, c)
