"""What data types keep per connection: a row of *parts*, of which a program has those that its live types need.

The row lies behind the CONNECTION (`table.track_address`). A part is a bit; a data type names its bits in
TRACK, a subscription and a group have the union, and a packet updates only the parts of its connection's group.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from retina_jit import memory
from retina_jit.jit import kernel
from retina_jit.memory import copy, load64, store64
from retina_jit.state.arena import capacity, enlarge, release
from retina_jit.state.layout import LETTERS, TCP, TRACK
from retina_jit.state.track import write_letters

RECORD, COUNTS, HISTORY, ARRIVALS, ORIG_PACKETS, RESP_PACKETS, LINK, TUNNEL = (1 << n for n in range(8))
"""RECORD is TRACK, and always first: see `retina_jit.state.track`."""
FIRST = LINK | TUNNEL
"""Written before the first filter is asked, for static subscriptions fire at once."""

_PER_SIDE = (("pkts", "i8"), ("bytes", "i8"), ("ip_bytes", "i8"), ("tcp_flags", "u4"))
PART_COUNTS = np.dtype([(f"{name}{side}", kind) for name, kind in _PER_SIDE for side in (0, 1)])
_SPAN = [("last", "i8"), ("list", "i8"), ("count", "u4"), ("size", "u4")]
PART_ARRIVALS = np.dtype([(f"{name}{side}", kind) for side in (0, 1) for name, kind in _SPAN])
ARRIVALS_SIDE = np.dtype(_SPAN)
"""`last`: time of the packet before, plus 1; 0: none. `list`: address of `count` words in the arena, in a block for `size` bytes: pauses before the packets of one side [ns]."""
PART_PACKETS = np.dtype([("list", "i8"), ("used", "i8"), ("size", "i8"), ("count", "u4"), ("left_out", "u4")])
PART_LINK = np.dtype([("src", "i8"), ("dst", "i8"), ("tci", "u2"), ("inner_tci", "u2"), ("has", "u4")])
HAS_MACS, HAS_TAG = 1, 2
PART_TUNNEL = np.dtype(
    [
        *[(name, "i8") for name in ("src_hi", "src_lo", "dst_hi", "dst_lo")],
        ("src_port", "u2"),
        ("dst_port", "u2"),
        ("proto", "u1"),
        ("is_ipv6", "u1"),
        ("kind", "u2"),
        ("ident", "i8"),
    ]
)
"""Of the packet that carried the first one; `kind`: a bit of `parsers.packet.tunnels.KINDS`, 0: it was in no tunnel."""

ENTRY = np.dtype(
    [
        ("ts", "i8"),
        ("length", "u4"),  # on the wire
        ("caplen", "u4"),
        ("seq", "u4"),
        ("payload_len", "u4"),
        ("direction", "u1"),
        ("tcp_flags", "u1"),
        ("tcp", "u1"),
        ("spare", "u1"),
        ("number", "u4"),  # position in the list, left out ones counted
    ]
)
"""Head of a packet that is kept; its captured bytes follow, then zeros up to a multiple of eight."""

SIZES: dict[int, int] = {
    RECORD: TRACK.itemsize,
    COUNTS: PART_COUNTS.itemsize,
    HISTORY: LETTERS.itemsize,
    ARRIVALS: PART_ARRIVALS.itemsize,
    ORIG_PACKETS: PART_PACKETS.itemsize,
    RESP_PACKETS: 0,  # one list for both
    LINK: PART_LINK.itemsize,
    TUNNEL: PART_TUNNEL.itemsize,
}

COUNTS_AT, LETTERS_AT, SIDE_AT, PACKETS_AT, LINK_AT, ENTRY_AT = (
    memory.at(t) for t in (PART_COUNTS, LETTERS, ARRIVALS_SIDE, PART_PACKETS, PART_LINK, ENTRY)
)  # fmt: skip
_SIDE_SIZE = ARRIVALS_SIDE.itemsize
ENTRY_SIZE = ENTRY.itemsize

MOST_ARRIVALS = 1 << 16
"""Pauses kept per side; further packets are counted as left out."""


def lay_out(parts: int) -> tuple[dict[int, int], int]:
    """Return where each part of a row stands, and the size of the row: whole cache lines, or a power of two below.

    Parameters
    ----------
    parts : int
        Bits of the parts that any live data type needs.
    """
    if parts & RESP_PACKETS:
        parts |= ORIG_PACKETS
    offsets: dict[int, int] = {}
    at = 0
    for bit, size in SIZES.items():
        if parts & bit:
            offsets[bit] = at
            at += size
    offsets[RESP_PACKETS] = offsets.get(ORIG_PACKETS, 0)
    row = -(-at // 64) * 64 if at > 64 else 1 << max(0, at - 1).bit_length()
    return offsets, row if at else 0


def write_offsets(worker: Any, parts: int) -> int:
    """Fill `part0` ... of the WORKER record, where each part stands. Returns the size of a row."""
    offsets, size = lay_out(parts)
    for n, bit in enumerate(SIZES):
        worker[f"part{n}"] = offsets.get(bit, 0)
    return size


@kernel
def count(part, row, side):
    """Packets, bytes of frames, bytes from the network header on, and which TCP flags there were, per side."""
    c = COUNTS_AT(part)
    ip_bytes = row.payload - row.l3 + row.payload_len
    if side:
        c.pkts1 += 1
        c.bytes1 += row.length
        c.ip_bytes1 += ip_bytes
        c.tcp_flags1 |= row.tcp_flags
    else:
        c.pkts0 += 1
        c.bytes0 += row.length
        c.ip_bytes0 += ip_bytes
        c.tcp_flags0 |= row.tcp_flags


@kernel
def history(part, row, side):
    """Letters of the packet."""
    write_letters(LETTERS_AT(part), row, side)


@kernel
def arrival(part, row, side, arena):
    """Note the pause since the packet before in this direction. Returns 1 if there is no room for it."""
    s = SIDE_AT(part + side * _SIDE_SIZE)
    if s.last == 0:
        s.last = row.ts + 1
        return 0
    pause = max(row.ts + 1 - s.last, 0)
    s.last = row.ts + 1
    if s.count >= MOST_ARRIVALS:
        return 1
    needed = 8 * (s.count + 1)
    if needed > s.size:
        found = enlarge(arena, s.list, s.size, s.size, needed)
        if found == 0:
            return 1
        s.list = found
        s.size = capacity(needed)
    store64(s.list + 8 * s.count, pause)
    s.count += 1
    return 0


@kernel
def keep_packet(part, row, side, arena, most):
    """Keep a copy of the frame, `most` bytes per connection. Returns 1 if there is no room for it."""
    p = PACKETS_AT(part)
    size = ENTRY_SIZE + ((row.caplen + 7) & ~7)
    needed = p.used + size
    if needed > p.size and needed <= most:
        found = enlarge(arena, p.list, p.used, p.size, needed)
        if found:
            p.list = found
            p.size = capacity(needed)
    if needed > p.size or needed > most:
        p.left_out += 1
        return 1
    at = p.list + p.used
    e = ENTRY_AT(at)
    e.ts, e.length, e.caplen, e.seq, e.payload_len = row.ts, row.length, row.caplen, row.seq, row.payload_len
    e.direction, e.tcp_flags, e.spare, e.number = side, row.tcp_flags, 0, p.count + p.left_out
    e.tcp = 1 if row.layers & TCP else 0
    store64(at + size - 8, 0)
    copy(at + ENTRY_SIZE, row.frame, row.caplen)
    p.used = needed
    p.count += 1
    return 0


@kernel
def release_parts(worker_parts, offsets, track, arena):
    """Give back what the parts of a row hold. `offsets`: address of the words with the places of the parts."""
    if worker_parts & ARRIVALS:
        for side in range(2):
            s = SIDE_AT(track + load64(offsets + 8 * 3) + side * _SIDE_SIZE)
            release(arena, s.list, s.size)
    if worker_parts & (ORIG_PACKETS | RESP_PACKETS):
        p = PACKETS_AT(track + load64(offsets + 8 * 4))
        release(arena, p.list, p.size)
