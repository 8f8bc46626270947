"""What is noted of the records of a chunk by whoever reads it, while they are in its own cache: lists of hints.

Where records begin serves the walkers' prefetches. They are a chain, and to a worker each link may be in the cache of
another core: without hints 104 ns per packet where the two cores share no cache, and a third of the worker's time where they do.

Where several workers share the frames there is a list for each, of its own frames and of those of which it is not noted
whose they are (frames of no connection, where they are shared by connection): each worker finds out about these by itself.
The others' it passes over without a look (`retina_jit.ingest.owned`).

Only records are noted that are in their chunk as a whole. A hint is a word: where the record begins, from the beginning of the
chunk on [byte] (32 bits), how many noted ones stand before it (30), and OWN if it is this worker's. In front of a list is a word
that says how many there are.
"""

from __future__ import annotations

from retina_jit import memory
from retina_jit.ingest.layout import (
    AHEAD_CHUNK,
    BY_CONNECTION,
    BY_TURN,
    HINTS,
    MAX_CAPLEN,
    NONE,
    OWNED_AHEAD,
    READAHEAD,
    SOURCE,
)
from retina_jit.jit import external, kernel, leaf
from retina_jit.memory import (
    atomic_load,
    atomic_store,
    compare_and_swap,
    load64,
    prefetch_read,
    shift_right,
    store64,
)
from retina_jit.parsers.packet import ethernet, ipv4, tcp, udp
from retina_jit.parsers.packet.decode import P_TCP, P_UDP, decode
from retina_jit.parsers.packet.link import EN10MB
from retina_jit.parsers.wire import has, u8, u32, u32_le, u64, u64_le
from retina_jit.state.layout import PACKET
from retina_jit.state.owner import connection_hash, has_connection, hash_of, owner_of, turn

AHEAD_AT, SOURCE_AT, ROW_AT = memory.at(READAHEAD), memory.at(SOURCE), memory.at(PACKET)
CLAIMED, NOTING, WALKED, READY, WHOSE, COUNT, FIRST, AFTER, BEFORE, LATEST, NEXT = (
    int(READAHEAD.fields[n][1])  # type: ignore[index]
    for n in ("claimed", "noting", "walked", "ready0", "whose0", "count0", "first0", "after0", "before0", "latest0", "next0")
)
LENGTH_AT, HEAD = 8, 16
NO_RECORD = 1 << 62
WORD = 0xFFFFFFFF
PLACE, OWN = 32, 1 << 62
"""How far up in a hint the number of those before it stands; the bit of this worker's own."""
EVERYONE = -1
ANYONE = -2
PLAIN = 0x080045
"""EtherType of IPv4, and its first byte where there are no options."""
L4 = ethernet.HEADER_LEN + ipv4.HEADER_LEN
PORTS_END = L4 + 4
BACK = 100_000_000
"""How far time may go back [ns] before it matters that a worker knows the time of others' frames a little later than theirs:
connections may be over by it. From there on everyone walks everything.
"""
WAITS = 256
"""How often a core is offered to whoever is noting, before a worker goes on without hints."""

sched_yield = external("sched_yield", "int32")


@leaf
def list_of(ahead, slot, n):
    """Address of a list of a slot."""
    a = AHEAD_AT(ahead)
    return a.hints + (slot * a.lists + n) * (HINTS * 8)


@kernel
def _caplen(ahead, at):
    """The captured length that the record at `at` of the file claims; its chunk is in the ring."""
    a = AHEAD_AT(ahead)
    size = a.slots * AHEAD_CHUNK
    ring, place = (a.ring, size), (at + LENGTH_AT) & (size - 1)
    if place + 4 <= size:
        return u32(ring, place) if a.swap else u32_le(ring, place)
    value = 0
    for n in range(4):  # the end of the ring cuts it
        byte = u8(ring, (place + n) & (size - 1))
        value |= byte << (24 - 8 * n if a.swap else 8 * n)
    return value


@leaf
def _plain_owner(span, seed, workers):
    """The worker whose a frame is, if it is TCP or UDP over IPv4 over Ethernet, whole and nothing else; otherwise EVERYONE.

    What it says a worker would find out by decoding, too: one that comes before the notes does that.
    """
    if not has(span, 0, PORTS_END) or u32(span, ethernet.HEADER_LEN - 2) >> 8 != PLAIN:
        return EVERYONE
    protocol = ipv4.protocol(span, ethernet.HEADER_LEN)
    # Without a jump for each: which of the two it is nobody can foresee.
    other = (protocol ^ P_TCP) * (protocol ^ P_UDP)
    if other | (ipv4.flags_to_fragment_offset(span, ethernet.HEADER_LEN) & 0x3FFF) != 0:
        return EVERYONE
    total = ipv4.total_length(span, ethernet.HEADER_LEN)
    inner = (span[0], min(ethernet.HEADER_LEN + total, span[1]))
    if total < ipv4.HEADER_LEN or (tcp.check(inner, L4) if protocol == P_TCP else udp.check(inner, L4)) < 0:
        return EVERYONE
    ends = ipv4.src_addr(span, ethernet.HEADER_LEN) + ipv4.dst_addr(span, ethernet.HEADER_LEN)
    ports = u32(span, PORTS_END - 4)
    return owner_of(hash_of(0, ends, (ports >> 16) + (ports & 0xFFFF), protocol, seed), workers)


@kernel
def _owner(ahead, frame, caplen):
    """The worker of whose connections a frame is, or EVERYONE."""
    a = AHEAD_AT(ahead)
    if a.link == EN10MB:
        found = _plain_owner((frame, caplen), a.seed, a.lists)
        if found != EVERYONE:
            return found
    row = ROW_AT(a.row)
    row.frame, row.caplen, row.length, row.link = frame, caplen, caplen, a.link
    decode(a.row)
    return owner_of(connection_hash(row, a.seed), a.lists) if has_connection(row) else EVERYONE


@leaf
def _append(tails, n, hint):
    tail = load64(tails + 8 * n)
    store64(tail, hint)
    store64(tails + 8 * n, tail + 8)


@kernel
def _note_chunk(ahead, chunk, length):
    """Note the records that are within a chunk of so many bytes; `record` goes on to the first one that begins behind it.

    Returns whether that is done: not if another chunk may have been read over what is looked at here, for whoever notes may have
    been without a core until all readers had gone on without the notes.
    """
    a = AHEAD_AT(ahead)
    oldest = min(a.record // AHEAD_CHUNK, chunk)
    if atomic_load(ahead + CLAIMED) > oldest + a.slots:
        return False
    slot, begin = chunk & (a.slots - 1), chunk * AHEAD_CHUNK
    base, end, at, n = a.ring + slot * AHEAD_CHUNK, length + 0, a.record - begin, 0
    swap, unit, header, by, lists, tails = a.swap + 0, a.unit + 0, a.header + 0, a.by + 0, a.lists + 0, a.tails + 0
    number, latest, back = a.number + 0, a.latest + 0, False
    for k in range(lists):
        store64(tails + 8 * k, list_of(ahead, slot, k) + 8)
    if at < 0:
        # The end of the chunk before cuts its header: it is walked with that one's rest.
        caplen = _caplen(ahead, a.record) if at + HEAD <= end else MAX_CAPLEN + 1
        at = at + header + caplen if caplen <= MAX_CAPLEN else NO_RECORD
        number += 1
    store64(ahead + FIRST + 8 * slot, at)
    store64(ahead + BEFORE + 8 * slot, number)
    while at + HEAD <= end and n < HINTS - 2:
        span = (base + at, end - at)
        if swap:
            time, lengths = u64(span, 0), u64(span, LENGTH_AT)
            seconds, fraction, caplen = shift_right(time, 32), time & WORD, shift_right(lengths, 32)
        else:
            time, lengths = u64_le(span, 0), u64_le(span, LENGTH_AT)
            seconds, fraction, caplen = time & WORD, shift_right(time, 32), lengths & WORD
        following = at + header + caplen
        if caplen > MAX_CAPLEN or time | lengths == 0 or following > end:
            break
        hint = at | n << PLACE
        if by == NONE:
            _append(tails, 0, hint)
        else:
            ts = seconds * 1_000_000_000 + fraction * unit
            if by == BY_CONNECTION and ts < latest - BACK:
                # What was written of this chunk's lists is not used.
                back = True
                break
            latest = max(latest, ts)
            whose = turn(number + n + 1, lists) if by == BY_TURN else _owner(ahead, base + at + header, caplen)
            if whose != EVERYONE:
                _append(tails, whose, hint | OWN)
            else:
                for k in range(lists):
                    _append(tails, k, hint)
        n += 1
        at = following
    store64(ahead + AFTER + 8 * slot, at)
    store64(ahead + LATEST + 8 * slot, latest)
    for k in range(lists):
        start = list_of(ahead, slot, k)
        store64(start, (load64(tails + 8 * k) - start) // 8 - 1)
    noted = n + 0
    number += n
    # What is not noted of it: the record that its end cuts, or, where they are very short, more than there is room for.
    while at + HEAD <= end:
        caplen = _caplen(ahead, begin + at)
        if caplen > MAX_CAPLEN:
            at = NO_RECORD
            break
        at += header + caplen
        number += 1
    if atomic_load(ahead + CLAIMED) > oldest + a.slots:
        return False
    if back:
        a.by = NONE
    a.record, a.number, a.latest = at + begin, number, latest
    atomic_store(ahead + COUNT + 8 * slot, 0 if back else ((chunk + 1) << 32) | noted)
    return True


@kernel
def _note(ahead, reader):
    """Note what was read one behind the other, only as far as this reader has read it; ANYONE: all. Nobody waits: if
    another thread is at it, it or the next to come sees these chunks, too.
    """
    a = AHEAD_AT(ahead)
    if not compare_and_swap(ahead + NOTING, 0, 1):
        return
    chunk = a.walked + 0
    while chunk < a.chunks:
        slot = chunk & (a.slots - 1)
        word = atomic_load(ahead + READY + 8 * slot)
        if word >> 32 != chunk + 1 or (reader != ANYONE and load64(ahead + WHOSE + 8 * slot) != reader):
            break
        if not _note_chunk(ahead, chunk, word & WORD):
            break
        chunk += 1
        atomic_store(ahead + WALKED, chunk)
    atomic_store(ahead + NOTING, 0)


@kernel
def note_records(ahead):
    """Note all that was read one behind the other."""
    _note(ahead, ANYONE)


@kernel
def note_own(ahead, reader):
    """Note what is in this reader's caches: in those of another core each link of the chain would be waited for."""
    _note(ahead, reader)


@kernel
def use_hints(source, chunk):
    """Let the walker use what is noted about its next chunk; if that is late, begin with the chunk anew."""
    s = SOURCE_AT(source)
    ahead = s.readahead
    a = AHEAD_AT(ahead)
    slot = chunk & (a.slots - 1)
    base = a.ring + slot * AHEAD_CHUNK
    s.hints = s.hints_end = s.noted = 0
    s.hints_base = s.ahead = base
    waits = 0
    if s.left_out:
        # To walk what is not ours costs more than to wait.
        while atomic_load(ahead + WALKED) <= chunk and waits < WAITS:
            note_records(ahead)
            sched_yield()
            waits += 1
    if atomic_load(ahead + WALKED) > chunk:
        word = atomic_load(ahead + COUNT + 8 * slot)
        # Not noted if somebody else was late, and noting began anew behind it.
        if word >> 32 == chunk + 1 and (a.by == NONE or a.by == s.left_out):
            own = list_of(ahead, slot, 0 if a.by == NONE else s.worker)
            s.hints, s.hints_end = own + 8, own + 8 + 8 * load64(own)
            if a.by != NONE:
                s.noted, s.noted_count = 1, word & WORD
                s.noted_first, s.noted_after = base + load64(ahead + FIRST + 8 * slot), base + load64(ahead + AFTER + 8 * slot)
                s.noted_number = load64(ahead + BEFORE + 8 * slot)
                for n in range(OWNED_AHEAD):
                    prefetch_read(base + (load64(own + 8 + 8 * n) & WORD))
                    prefetch_read(base + (load64(own + 8 + 8 * n) & WORD) + 64)
    elif atomic_load(ahead + WALKED) < chunk and compare_and_swap(ahead + NOTING, 0, 1):
        # Unless another one has just come so far: lists that are in use are not written again.
        if atomic_load(ahead + WALKED) < chunk:
            a.record, a.number = s.passed + s.at - s.base, s.number
            atomic_store(ahead + WALKED, chunk)
        atomic_store(ahead + NOTING, 0)


@kernel
def pass_time(source):
    """A worker is done with all the frames that it has taken, but what was another's: that, too, tells what time it is."""
    s = SOURCE_AT(source)
    a = AHEAD_AT(s.readahead)
    chunk = load64(s.readahead + NEXT + 8 * s.reader) - 1
    slot = chunk & (a.slots - 1)
    if s.left_out and chunk >= 0 and atomic_load(s.readahead + COUNT + 8 * slot) >> 32 == chunk + 1:
        latest = load64(s.readahead + LATEST + 8 * slot)
        # A worker that waits for the next chunk gives this one's slot away: then it knows its time already.
        if atomic_load(s.readahead + READY + 8 * slot) >> 32 == chunk + 1:
            s.clock = max(s.clock + 0, latest)
