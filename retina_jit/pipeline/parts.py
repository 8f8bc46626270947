"""Updating the parts of a connection that its live subscriptions need; see `retina_jit.state.parts`.

Entries of their own: a program that needs ConnRecord alone never comes here.
"""

from __future__ import annotations

from retina_jit import memory
from retina_jit.jit import entry, kernel
from retina_jit.memory import load64
from retina_jit.parsers.packet.tunnels import describe
from retina_jit.parsers.wire import has, u16, u32
from retina_jit.pipeline.access import PACKET_AT, PACKET_SIZE, WORKER_AT, add, connection_of, counter
from retina_jit.pipeline.groups import GROUP_AT, group_address
from retina_jit.pipeline.layout import WORKER
from retina_jit.state import parts
from retina_jit.state.layout import ETHERNET, INNER, IPV6, QINQ, REASSEMBLED, VLAN
from retina_jit.state.parts import (
    ARRIVALS,
    COUNTS,
    HAS_MACS,
    HAS_TAG,
    HISTORY,
    LINK,
    LINK_AT,
    ORIG_PACKETS,
    PART_TUNNEL,
    RECORD,
    TUNNEL,
)
from retina_jit.state.table import track_address
from retina_jit.state.track import TRACK_AT

TUNNEL_AT = memory.at(PART_TUNNEL)
OFFSETS = WORKER.fields["part0"][1]  # type: ignore[index]
LEFT_OUT = counter("left_out")


@kernel
def _count(w, track, needed, row, side):
    if needed & COUNTS:
        parts.count(track + load64(w + OFFSETS + 8), row, side)
    if needed & HISTORY:
        parts.history(track + load64(w + OFFSETS + 16), row, side)


@entry
def update(w, index, row_address, side):
    """Update what the connection's group needs beside RECORD."""
    worker = WORKER_AT(w)
    row = PACKET_AT(row_address)
    needed = GROUP_AT(group_address(w, connection_of(w, index).group)).track
    track = track_address(worker.table, index)
    _count(w, track, needed, row, side)
    missing = 0
    if needed & ARRIVALS:
        missing += parts.arrival(track + load64(w + OFFSETS + 24), row, side, worker.arena)
    if needed & (ORIG_PACKETS << side):
        missing += parts.keep_packet(track + load64(w + OFFSETS + 32), row, side, worker.arena, worker.most_listed)
    if missing:
        add(w, LEFT_OUT, missing)
    return 0


@entry
def note_first(w, index, row_address):
    """Keep what only the first packet tells: link addresses and tags."""
    worker = WORKER_AT(w)
    track = track_address(worker.table, index)
    row = PACKET_AT(row_address)
    if worker.parts & LINK:
        write_link(track + load64(w + OFFSETS + 48), row)
    if worker.parts & TUNNEL and row.layers & INNER:
        _write_tunnel(track + load64(w + OFFSETS + 56), _around(row_address))
    if worker.parts & RECORD and row.layers & QINQ:
        write_link(worker.link, row)
        t = TRACK_AT(track)
        t.tagged, t.inner_vlan_id = 2, LINK_AT(worker.link).inner_tci & 0xFFF
    return 0


@kernel
def _around(address):
    """The row of the packet around: the next one before that holds its bytes (several samples may stand behind one datagram)."""
    # A datagram put together has bytes of its own; the row before it is the fragment that made it whole.
    while PACKET_AT(address).layers & REASSEMBLED:
        address -= PACKET_SIZE
    frame = PACKET_AT(address).frame + 0
    while True:
        address -= PACKET_SIZE
        outer = PACKET_AT(address)
        if outer.frame < frame < outer.frame + outer.caplen:
            return address


@kernel
def _write_tunnel(out, outer):
    """Note the packet around."""
    t, row = TUNNEL_AT(out), PACKET_AT(outer)
    t.src_hi, t.src_lo, t.dst_hi, t.dst_lo = row.src_hi, row.src_lo, row.dst_hi, row.dst_lo
    t.src_port, t.dst_port, t.proto = row.src_port, row.dst_port, row.protocol
    t.is_ipv6 = 1 if row.layers & IPV6 else 0
    kind, ident = describe(outer)
    t.kind, t.ident = kind, ident


@kernel
def write_link(out, row):
    """Link addresses of a packet on Ethernet, and its tags."""
    link = LINK_AT(out)
    link.src, link.dst, link.tci, link.inner_tci, link.has = 0, 0, 0, 0, 0
    span = (row.frame, row.caplen + 0)
    if row.layers & ETHERNET and has(span, 0, 14):
        link.dst = (u32(span, 0) << 16) | u16(span, 4)
        link.src = (u32(span, 6) << 16) | u16(span, 10)
        link.has |= HAS_MACS
    if row.layers & VLAN:
        link.tci = row.vlan_tci
        link.has |= HAS_TAG
        if row.layers & QINQ and row.layers & ETHERNET and has(span, 18, 2):
            link.inner_tci = u16(span, 18)


@entry
def release(w, index):
    """Give back what the connection's parts hold."""
    worker = WORKER_AT(w)
    parts.release_parts(worker.parts, w + OFFSETS, track_address(worker.table, index), worker.arena)
    return 0
