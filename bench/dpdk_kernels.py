"""Loops over a queue of a DPDK port that stay inside one kernel call."""

from __future__ import annotations

from retina_jit.ingest.dpdk.receive import MBUF_AT, SOURCE_AT, more
from retina_jit.jit import entry, external
from retina_jit.memory import c_call2, c_call3, copy, load64

BURST = 64
sched_yield = external("sched_yield", "int32")


@entry
def receive_and_free(burst, queue, mbufs, free, most):
    """Receive `most` packets and give them back at once. Returns how many came."""
    count = 0
    while count < most:
        n = c_call3(burst, queue, mbufs, BURST) & 0xFFFF
        if n:
            c_call2(free, mbufs, n)
        count += n
    return count


@entry
def receive_read_and_free(burst, queue, mbufs, free, most):
    """The same, reading six fields of each. Returns a number made of them."""
    count, total = 0, 0
    while count < most:
        n = c_call3(burst, queue, mbufs, BURST) & 0xFFFF
        for k in range(n):
            m = MBUF_AT(load64(mbufs + 8 * k))
            # A chain, which keeps the compiler from gathering the fields of several packets: a quarter slower here.
            total = 3 * total + ((m.data + m.data_off) ^ m.pkt_len ^ m.ol_flags ^ m.rss ^ m.vlan_tci)
        if n:
            c_call2(free, mbufs, n)
        count += n
    return total


@entry
def once(source):
    """`more`, but the worker comes back to Python when nothing is there, and after `end` frames."""
    s = SOURCE_AT(source)
    if s.end and s.frames >= s.end:
        return 0
    n = more(source)
    s.idle = 0
    return n


@entry
def feed(frames, count, take, taken_from, send, sent_to, mbufs):
    """Put frames into buffers and send them, as fast as there are free buffers. `frames`: address and length of each."""
    done = 0
    while done < count:
        n = c_call3(take, taken_from, mbufs, min(BURST, count - done)) & 0xFFFF
        if n == 0:
            sched_yield()
            continue
        for k in range(n):
            m = MBUF_AT(load64(mbufs + 8 * k))
            at = frames + 16 * (done + k)
            length = load64(at + 8)
            copy(m.data + m.data_off, load64(at), length)
            m.pkt_len = length
            m.data_len = length
        sent = 0
        while sent < n:
            sent += c_call3(send, sent_to, mbufs + 8 * sent, n - sent) & 0xFFFF
        done += n
    return done
