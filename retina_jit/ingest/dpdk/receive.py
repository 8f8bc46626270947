"""The receive loop: bursts of packet buffers, walked where they lie and given back when they are done.

A burst's buffers are ours until the next `more`, which is called only when all its rows are used; whatever lives longer has
been copied. So a slow program loses frames at the card, never buffers.
"""

from __future__ import annotations

from retina_jit import memory
from retina_jit.ingest.dpdk.layout import MBUF, MOST_BYTES, QUEUE, RECEIVE, RX_QINQ_STRIPPED, RX_VLAN_STRIPPED
from retina_jit.ingest.layout import SOURCE
from retina_jit.jit import entry, external, kernel, leaf
from retina_jit.memory import atomic_load, c_call2, c_call3, load64, prefetch_read, store16_be
from retina_jit.parsers.packet.link import EN10MB
from retina_jit.state.layout import BURST, PACKET
from retina_jit.status import Status

SOURCE_AT, ROW_AT, MBUF_AT, QUEUE_AT, RECEIVE_AT = (memory.at(t) for t in (SOURCE, PACKET, MBUF, QUEUE, RECEIVE))
ROW_LEN, QUEUE_LEN = PACKET.itemsize, QUEUE.itemsize
TIMESPEC = int(RECEIVE.fields["seconds"][1])  # type: ignore[index]
TICK = int(QUEUE.fields["tick"][1])  # type: ignore[index]
NEED_INPUT = int(Status.NEED_INPUT)
REALTIME = 0

TAG, ADDRESSES = 4, 12
POLLS = 256
"""Empty polls before the worker looks at its timers and its control word."""
AWAKE, NAP = 1_000_000, 50
"""After so long without a frame [ns] the worker sleeps between looks [us]: a ring of 1,000 descriptors bridges it at 10 Mpps."""
AHEAD = 16
"""How many frames ahead their first bytes are fetched from memory: they are where the device has put them, not in a cache."""
CLOCK_EVERY = 1_000_000_000
"""How often the card's clock is compared with the system's [ns]."""
LATE = 10_000_000
"""How long a frame may be on its way from the card's clock to a poll [ns]."""

clock_gettime = external("clock_gettime", "int32", "int32", "int64")
usleep = external("usleep", "int32", "uint32")


@leaf
def _time(receive):
    r = RECEIVE_AT(receive)
    clock_gettime(REALTIME, receive + TIMESPEC)
    return r.seconds * 1_000_000_000 + r.nanoseconds


@leaf
def _prefetch_frame(mbuf):
    m = MBUF_AT(mbuf)
    prefetch_read(m.data + m.data_off)
    prefetch_read(m.data + m.data_off + 64)


@kernel
def _set_clock(queue, now):
    """Compare the device's clock with the system's: they drift apart."""
    q = QUEUE_AT(queue)
    if c_call2(q.read_clock, q.port, queue + TICK) & 0xFFFFFFFF == 0:
        if q.tick > q.ticks and now > q.since:
            q.tick_ns = (now - q.since) / (q.tick - q.ticks)
        q.ticks, q.since = q.tick, now
    q.set_at = now + CLOCK_EVERY


@kernel
def give_back(receive):
    """Free the buffers of the burst at hand."""
    r = RECEIVE_AT(receive)
    if r.held:
        c_call2(r.free, r.mbufs, r.held)
        r.held = r.at = 0


@entry
def more(source):
    """Give the burst at hand back and ask the queues for the next. Returns 1, or 0 if nothing came: `idle` is 1 then."""
    s = SOURCE_AT(source)
    receive = s.device + 0
    r = RECEIVE_AT(receive)
    for _ in range(POLLS):
        address = r.queues + r.turn * QUEUE_LEN
        q = QUEUE_AT(address)
        r.turn = r.turn + 1 if r.turn + 1 < r.count else 0
        n = c_call3(q.burst, q.queue, r.coming, BURST) & 0xFFFF
        q.polls += 1
        for k in range(n):
            mbuf = load64(r.coming + 8 * k)
            prefetch_read(mbuf)
            prefetch_read(mbuf + r.next)
        # Meanwhile the new burst's buffers come from memory.
        give_back(receive)
        if n:
            r.mbufs, r.coming = r.coming + 0, r.mbufs + 0
            for k in range(min(n, AHEAD)):
                _prefetch_frame(load64(r.mbufs + 8 * k))
            q.frames += n
            r.held, r.at, r.queue = n, 0, address
            if q.clock:
                r.now = _time(receive)
                if q.read_clock and r.now >= q.set_at:
                    _set_clock(address, r.now)
            r.since_idle = 0
            s.idle = 0
            return 1
        q.empty += 1
    now = _time(receive)
    if r.since_idle == 0:
        r.since_idle = now
    elif now - r.since_idle > AWAKE:
        usleep(NAP)
    if QUEUE_AT(r.queues).clock:
        s.clock = now - LATE
    s.idle = 1
    return 0


@leaf
def _tagged(frame, type_, tci):
    """Put a tag that the card took out back in front of the EtherType. Returns where the frame begins then."""
    memory.move(frame - TAG, frame, ADDRESSES)
    store16_be(frame - TAG + ADDRESSES, type_)
    store16_be(frame - TAG + ADDRESSES + 2, tci)
    return frame - TAG


@kernel
def _join(receive, mbuf, slot):
    """Copy a frame of several segments into the scratch. Returns its length there."""
    r = RECEIVE_AT(receive)
    target = r.scratch + slot * MOST_BYTES
    done, segment = 0, mbuf
    # As many segments as the first one says, and no more: the chain is the driver's word.
    for _ in range(MBUF_AT(mbuf).nb_segs):
        if segment == 0 or done >= MOST_BYTES:
            break
        m = MBUF_AT(segment)
        n = min(m.data_len + 0, MOST_BYTES - done)
        memory.copy(target + done, m.data + m.data_off, n)
        done += n
        segment = load64(segment + r.next)
    r.joined += 1
    r.cut += MBUF_AT(mbuf).pkt_len > done
    return done


@leaf
def _stamp(r, q, mbuf):
    """When a frame was captured [ns], of a device that says so."""
    if MBUF_AT(mbuf).ol_flags & r.stamp_flag:
        ticks = load64(mbuf + r.stamp) - q.ticks
        return q.since + (ticks * q.whole_ns if q.whole_ns else int(ticks * q.tick_ns))
    return r.now + 0


@entry
def walk(source, rows, most):
    """Fill up to `most` rows with the next frames of the burst at hand. Returns how many; if none, `status` is NEED_INPUT."""
    s = SOURCE_AT(source)
    receive = s.device + 0
    r = RECEIVE_AT(receive)
    first, held = r.at + 0, r.held + 0
    n = min(most, held - first)
    if n <= 0:
        s.status = NEED_INPUT
        return 0
    q = QUEUE_AT(r.queue)
    # What does not change stays in registers: after each store to a row it would be loaded anew.
    mbufs, stamped, now, number = r.mbufs + 8 * first, q.stamped + 0, r.now + 0, s.number + 0
    wire, captured = 0, 0
    ahead = min(n, held - first - AHEAD)
    for k in range(n):
        mbuf = load64(mbufs + 8 * k)
        m = MBUF_AT(mbuf)
        frame, caplen, length, flags = m.data + m.data_off, m.data_len + 0, m.pkt_len + 0, m.ol_flags + 0
        if m.nb_segs > 1:
            caplen = _join(receive, mbuf, first + k)
            frame = r.scratch + (first + k) * MOST_BYTES
        elif flags & (RX_VLAN_STRIPPED | RX_QINQ_STRIPPED) and caplen >= ADDRESSES and m.data_off >= 2 * TAG:
            if flags & RX_VLAN_STRIPPED:
                frame = _tagged(frame, 0x8100, m.vlan_tci)
                caplen += TAG
                length += TAG
            if flags & RX_QINQ_STRIPPED:
                frame = _tagged(frame, 0x88A8, m.vlan_tci_outer)
                caplen += TAG
                length += TAG
        if k < ahead:
            _prefetch_frame(load64(mbufs + 8 * (k + AHEAD)))
        row = ROW_AT(rows + k * ROW_LEN)
        row.frame = frame
        row.ts = _stamp(r, q, mbuf) if stamped else now
        row.caplen = caplen
        row.length = length
        row.link = EN10MB
        row.hash = m.rss
        row.number = number + k + 1
        wire += length
        captured += caplen
    r.at = first + n
    s.bytes += wire
    s.captured += captured
    s.frames += n
    s.number += n
    return n


@entry
def drain(source, control):
    """Receive and throw away until the control word is set."""
    while atomic_load(control) == 0:
        more(source)
    return 0


@entry
def release(source):
    """Free what is held: nothing will be walked any more."""
    give_back(SOURCE_AT(source).device + 0)
    return 0
