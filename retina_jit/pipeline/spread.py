"""Rows that are no frames: datagrams put together from fragments, and what stands in tunnels.

Both stand in the burst where the frame stood that brought them, each behind the row that it came from. Everything here is
off the fast path: it runs for bursts that hold a fragment, or when tunnels are to be looked into.
"""

from __future__ import annotations

from retina_jit import memory
from retina_jit.jit import entry, kernel
from retina_jit.memory import copy
from retina_jit.parsers.packet import extensions, ipv4, ipv6
from retina_jit.parsers.packet.decode import decode
from retina_jit.parsers.packet.sflow import NO_SAMPLE, sample
from retina_jit.parsers.packet.tunnels import DEEPEST, inner, samples, virtual_network
from retina_jit.parsers.wire import copy_to, has, u8, u16, u32
from retina_jit.pipeline.access import PACKET_AT, PACKET_SIZE, WORKER_AT, add, counter
from retina_jit.pipeline.layout import MOST_ROWS
from retina_jit.state import fragments, layout
from retina_jit.state.flowkey import NETWORK, NETWORK_BITS, SAMPLED, network_of, set_network
from retina_jit.state.fragments import DATA, FRAGMENTS_AT, HEADER_ROOM, HELD, REFUSED, datagram_at
from retina_jit.state.layout import BURST, FRAGMENT, INNER, NO_FRAME, NOT_TRANSPORT, PENDING, REASSEMBLED

ROOM = 2 * (DEEPEST + 1)
"""Rows that a frame may become: itself, what is in its tunnels, and the datagram that each of these may complete."""
assert MOST_ROWS >= BURST * ROOM
L_IPV4 = layout.IPV4
RAW_LINK = 101
LONGEST_LINK = HEADER_ROOM - 60
FRAGMENT_HELD, FRAGMENT_USED, FRAGMENT_TIMEOUT, FRAGMENT_REFUSED = (
    counter(f"fragment_{n}") for n in ("held", "used", "timeout", "refused")
)  # fmt: skip
DATAGRAMS, FRAGMENT_OVERLAP, FRAGMENT_INCONSISTENT = (counter(n) for n in ("datagrams", "fragment_overlap", "fragment_inconsistent"))
SAMPLES_REFUSED = counter("samples_refused")


@kernel
def _settle(w):
    """Move what the table has told into the counters."""
    f = FRAGMENTS_AT(WORKER_AT(w).fragments)
    add(w, FRAGMENT_HELD, -f.given_up)
    add(w, FRAGMENT_TIMEOUT, f.given_up)
    add(w, FRAGMENT_OVERLAP, f.overlap)
    add(w, FRAGMENT_INCONSISTENT, f.inconsistent)
    f.given_up, f.overlap, f.inconsistent = 0, 0, 0


@kernel
def _take(w, row, span):
    """Give a fragment to the table. Returns what `fragments.take` does."""
    worker = WORKER_AT(w)
    l3 = row.l3 + 0
    wire_end = max(row.length, row.caplen) + 0
    if row.layers & L_IPV4:
        at = ipv4.check(span, l3)
        total = ipv4.total_length(span, l3)
        word = ipv4.flags_to_fragment_offset(span, l3)
        offset, more = (word & 0x1FFF) << 3, (word >> 13) & 1
        ident = ipv4.identification(span, l3) | (ipv4.protocol(span, l3) << 16)
        end = l3 + total if total else wire_end
        next_header = 0
    else:
        at = extensions.find_fragment(span, l3 + ipv6.HEADER_LEN, ipv6.next_header(span, l3))
        if at < 0:
            return REFUSED
        next_header = u8(span, at)
        word = u16(span, at + 2)
        offset, more = word & 0xFFF8, word & 1
        ident = u32(span, at + 4) | (1 << 32)
        at += 8
        total = ipv6.payload_length(span, l3)
        end = l3 + ipv6.HEADER_LEN + total if total else wire_end
    if at < 0:
        return REFUSED
    # Datagrams of two networks may have the same addresses and numbers.
    if row.layers & INNER:
        ident |= row.key & NETWORK_BITS
    else:
        ident |= (row.vlan_tci & worker.vlan_mask) << NETWORK
    captured = max(0, min(end, span[1]) - at)
    frames = 0 if row.layers & NO_FRAME else 1
    found = fragments.take(
        worker.fragments, worker.arena, row.src_hi, row.src_lo, row.dst_hi, row.dst_lo, ident, row.ts, offset, more,
        row.frame + at, end - at, captured, frames,
    )  # fmt: skip
    if offset == 0 and found & 3 != REFUSED:
        d = datagram_at(worker.fragments, found >> 2)
        if d.header == 0:
            _set_header(d, span, l3, at if row.layers & L_IPV4 else l3 + ipv6.HEADER_LEN, next_header)
    return found


@kernel
def _set_header(d, span, l3, header_end, next_header):
    """Keep the first fragment's link and IP header in front of the data."""
    start = 0 if l3 <= LONGEST_LINK else l3
    d.header = header_end - start
    to = d.block + DATA - d.header
    copy_to(to, span, start, d.header)
    if next_header:
        memory.store8(to + (l3 - start) + 6, next_header)


@kernel
def _whole(w, row, index, made_address):
    """Fill and decode the row of a whole datagram. Returns its verdict."""
    d = datagram_at(WORKER_AT(w).fragments, index)
    made = PACKET_AT(made_address)
    front = d.header + 0
    start = d.block + DATA - front
    made.frame, made.ts, made.number = start, row.ts, row.number
    made.caplen, made.length = front + min(d.total, d.cut), front + d.total
    made.link = row.link
    if row.l3 > LONGEST_LINK:
        made.link = RAW_LINK
        l3 = 0
    else:
        l3 = row.l3 + 0
    if row.layers & L_IPV4:
        memory.store16_be(start + l3 + 2, front - l3 + d.total)
        memory.store16_be(start + l3 + 6, 0)
    else:
        memory.store16_be(start + l3 + 4, d.total)
    verdict = decode(made_address)
    made.layers |= REASSEMBLED | (row.layers & INNER)
    made.key = row.key
    return verdict


@kernel
def _reassemble(w, address, made):
    """Take the fragment at `address` and count it. Returns True if the row at `made` now holds a whole datagram."""
    row = PACKET_AT(address)
    one = 0 if row.layers & NO_FRAME else 1
    found = _take(w, row, (row.frame, row.caplen + 0))
    _settle(w)
    what = found & 3
    if what == REFUSED:
        add(w, FRAGMENT_REFUSED, one)
        return False
    add(w, FRAGMENT_HELD, one)
    if what == HELD:
        return False
    frames = datagram_at(WORKER_AT(w).fragments, found >> 2).frames
    add(w, FRAGMENT_HELD, -frames)
    add(w, FRAGMENT_USED, frames)
    add(w, DATAGRAMS, 1)
    verdict = _whole(w, row, found >> 2, made)
    return verdict == PENDING or verdict == NOT_TRANSPORT


@kernel
def _note_network(w, outer, made, sampled):
    """In which network the row at `made` stands: that of the tunnel, or else that of the packet that carries it."""
    worker = WORKER_AT(w)
    row = PACKET_AT(outer)
    around = network_of(row) if row.layers & INNER else 0
    network = virtual_network(outer) if worker.vni_in_key else 0
    network = network | (around & SAMPLED) if network else around
    set_network(PACKET_AT(made), network | sampled, worker.vlan_mask)


@kernel
def _make(w, outer, made, sampled):
    """Decode the row at `made`, which the one at `outer` carries; sampled: SAMPLED or 0. Returns False if it is nothing to go on with."""
    verdict = decode(made)
    if verdict != PENDING and verdict != NOT_TRANSPORT and not PACKET_AT(made).layers & FRAGMENT:
        return False
    PACKET_AT(made).layers |= INNER
    _note_network(w, outer, made, sampled)
    return True


@kernel
def _chain(w, outer, filled, depth, end):
    """Put behind the row at `outer`, the last of `filled`, what it completes and carries, and so on. Returns (last row, filled)."""
    worker = WORKER_AT(w)
    while filled < end:
        made = worker.spread + filled * PACKET_SIZE
        if worker.defrag and PACKET_AT(outer).layers & FRAGMENT:
            if not _reassemble(w, outer, made):
                break
        elif worker.decap == 0 or depth == DEEPEST or not inner(outer, made, worker.decap) or not _make(w, outer, made, 0):
            break
        else:
            depth += 1
        filled += 1
        outer = made
    return outer, filled


@kernel
def _sampled(w, outer, filled, end):
    """Put the packets that the sFlow datagram at `outer` samples behind it, with what they carry. Returns how many rows are filled."""
    worker = WORKER_AT(w)
    if worker.defrag and PACKET_AT(outer).layers & FRAGMENT:
        # Its samples are looked into when the datagram is whole.
        return filled
    at = samples(outer, worker.decap)
    while at != NO_SAMPLE:
        if filled == end:
            add(w, SAMPLES_REFUSED, 1 if has((0, PACKET_AT(outer).caplen + 0), at, 8) else 0)
            break
        made = worker.spread + filled * PACKET_SIZE
        following = sample(outer, made, at)
        if following == 0:
            break
        if following > 0 and _make(w, outer, made, SAMPLED):
            _, filled = _chain(w, made, filled + 1, 1, end)
        at = abs(following)
    return filled


@entry
def spread(w, count):
    """Copy the burst to `spread`, each row followed by what it completes and carries, tunnels within tunnels included.

    Returns how many rows there are then. What is inside stands where its frame stood, for the other direction of the same
    connection may come without a tunnel.
    """
    worker = WORKER_AT(w)
    filled = 0
    for n in range(count):
        outer = worker.spread + filled * PACKET_SIZE
        copy(outer, worker.rows + n * PACKET_SIZE, PACKET_SIZE)
        # The room that the frames after this one may need is theirs.
        end = MOST_ROWS - (count - n - 1) * ROOM
        last, filled = _chain(w, outer, filled + 1, 0, end)
        filled = _sampled(w, last, filled, end)
    return filled


@entry
def sweep(w, now):
    """Release the datagrams of the last burst; give up those that are too old at `now`."""
    worker = WORKER_AT(w)
    fragments.sweep(worker.fragments, worker.arena, now)
    _settle(w)
    return 0
