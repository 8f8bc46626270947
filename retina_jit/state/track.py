"""What is counted per connection for ConnRecord: per side packets, bytes, payload, and which bytes were seen.

Counted for every packet as it arrives, before reassembly, whether or not the payload is parsed. Retina's definitions
(`datatypes/src/connection.rs`), but for its faults: an empty segment adds no interval, datagrams have no intervals, and
sequence numbers are followed past 4 GiB.
"""

from __future__ import annotations

import numpy as np

from retina_jit import memory
from retina_jit.jit import kernel, leaf
from retina_jit.memory import load64, move, store64
from retina_jit.state.arena import allocate
from retina_jit.state.layout import CHUNKS, CHUNKS_SIZE, MOST_CHUNKS, SIDE, TCP, TRACK

TRACK_AT = memory.at(TRACK)
CHUNKS_AT = memory.at(CHUNKS)

SIDE_AT = memory.at(np.dtype(SIDE))
_SIDES = TRACK.fields["nb_pkts0"][1]  # type: ignore[index]
_SIDE_SIZE = np.dtype(SIDE).itemsize
_LIST = CHUNKS.itemsize
_GAPS = _LIST + 16 * MOST_CHUNKS
FIN, SYN, RST, ACK = 1, 2, 4, 16


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
def _letter(t, which, side):
    """Write a history letter, once per side."""
    n = which + 7 * side
    if not (t.seen >> n) & 1:
        t.seen |= 1 << n
        if t.history_len < 15:
            t.history |= (n + 1) << (4 * t.history_len)
            t.history_len += 1


@kernel
def _history(t, row, side):
    """Letters in Retina's order: S, H or A; then F, R, D."""
    if row.layers & TCP:
        flags = row.tcp_flags & (FIN | SYN | RST | ACK)
        if flags & SYN:
            _letter(t, 1 if flags & ACK else 0, side)
        elif flags == ACK and row.payload_len == 0:
            _letter(t, 2, side)
        if flags & FIN:
            _letter(t, 4, side)
        if flags & RST:
            _letter(t, 5, side)
    if row.payload_len:
        _letter(t, 3, side)


@kernel
def _spill(s, arena):
    """Give a side a CHUNKS block that holds the single interval seen so far. Returns its address or 0."""
    block = allocate(arena, CHUNKS_SIZE)
    if block:
        h = CHUNKS_AT(block)
        h.gaps, h.max_gaps, h.full, h.count, h.seen, h.open = 0, 0, 0, 0, 0, 0
        if s.reach:
            store64(block + _LIST, 0)
            store64(block + _LIST + 8, s.reach)
            h.count = 1
        s.chunks = block
    return block


@leaf
def _is_open(block, start):
    """Whether a gap begins at `start`: behind an interval that is not the last, or at 0 if nothing is seen there."""
    h = CHUNKS_AT(block)
    if h.count and start == 0 and load64(block + _LIST) > 0:
        return True
    for n in range(h.count - 1):
        if load64(block + _LIST + 16 * n + 8) == start:
            return True
    return False


@kernel
def _open_gap(block, start):
    h = CHUNKS_AT(block)
    at = 0
    while at < h.gaps and load64(block + _GAPS + 16 * at) != start:
        at += 1
    if at == MOST_CHUNKS:
        return
    value = block + _GAPS + 16 * at + 8
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
    for n in range(h.gaps):
        value = block + _GAPS + 16 * n + 8
        if load64(value) < 0 and not _is_open(block, load64(value - 8)):
            store64(value, gap_packets(block, load64(value)))
    h.open = 0
    start = 0
    for n in range(h.count):
        if load64(block + _LIST + 16 * n) > start:
            h.open += 1
            _open_gap(block, start)
        start = load64(block + _LIST + 16 * n + 8)
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
def _insert(block, start, end):
    """Merge an interval into the sorted, disjoint list; touching intervals become one."""
    h = CHUNKS_AT(block)
    newest = block + _LIST + 16 * (h.count - 1)
    if h.count and start >= load64(newest) and start <= load64(newest + 8):
        # The usual case: the stream goes on. No gap begins or ends.
        store64(newest + 8, max(load64(newest + 8), end))
        return
    first = 0
    while first < h.count and load64(block + _LIST + 16 * first + 8) < start:
        first += 1
    last = first
    low, high = start, end
    while last < h.count and load64(block + _LIST + 16 * last) <= end:
        low = min(low, load64(block + _LIST + 16 * last))
        high = max(high, load64(block + _LIST + 16 * last + 8))
        last += 1
    at = block + _LIST + 16 * first
    if last == first:
        if h.count >= MOST_CHUNKS:
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
def _follow(t, s, row, side, arena):
    """Note which bytes of the stream this segment covers."""
    syn = 1 if row.tcp_flags & SYN else 0
    if not (t.started >> side) & 1:
        t.started |= 1 << side
        s.data_start = (row.seq + syn) & 0xFFFFFFFF
    block = s.chunks + 0
    reach = s.reach + 0
    if block:
        h = CHUNKS_AT(block)
        reach = load64(block + _LIST + 16 * (h.count - 1) + 8) if h.count else 0
    # Unwrap around the furthest byte seen, so that a stream may be longer than 4 GiB.
    start = reach + signed32(row.seq + syn - s.data_start - reach)
    if start < 0:
        s.nb_late_start_pkts += 1
        return
    if row.payload_len == 0:
        if block:
            _note_packet(block)
        return
    end = start + row.payload_len
    if block == 0:
        if start <= reach:
            s.reach = max(reach, end)
            return
        block = _spill(s, arena)
        if block == 0:
            return
    _insert(block, start, end)
    _note_packet(block)


@kernel
def update(track, row, side, last, first, arena):
    """Count one packet. `last`: time of the previous packet of the connection; `first`: this is the first one."""
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
    _history(t, row, side)
    if row.captured_len < row.payload_len:
        s.nb_malformed_pkts += 1
        return
    s.nb_payload_bytes += row.payload_len
    if row.layers & TCP:
        _follow(t, s, row, side, arena)
