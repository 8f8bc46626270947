"""Packets that wait: those of a connection that a packet-level subscription may come to want, until its filter is decided.

They are copied into the arena in the order of their arrival, up to a cap per connection; what comes when the cap is reached is
not kept, and counted. When the filter matches they are delivered, each by its own packet predicates, before the packet that
has decided it; when nobody can want them any more they are given back.
"""

from __future__ import annotations

from retina_jit import memory
from retina_jit.jit import kernel
from retina_jit.memory import call3, copy, load64, store64, trailing_zeros
from retina_jit.pipeline.access import (
    PACKET_AT,
    PACKET_SIZE,
    SUBSCRIPTION_AT,
    WORKER_AT,
    add,
    counter,
    deliver,
    subscription_address,
)
from retina_jit.pipeline.groups import GROUP_HEAD, group_address
from retina_jit.pipeline.keeping import NOTE_AT, note_address
from retina_jit.pipeline.layout import PACKET_LEVEL, WAITING
from retina_jit.state.arena import allocate, release
from retina_jit.state.table import CONNECTION_AT, record_address

WAITING_AT = memory.at(WAITING)
HEAD = WAITING.itemsize
PACKETS_KEPT, PACKETS_NOT_KEPT = counter("packets_kept"), counter("packets_not_kept")


@kernel
def keep_packet(w, index, row):
    """Let a packet wait, unless a cap forbids it."""
    worker = WORKER_AT(w)
    note = NOTE_AT(note_address(w, index))
    r = PACKET_AT(row)
    if note.packet_count >= worker.most_waiting or note.packet_bytes + r.caplen > worker.most_waiting_bytes:
        add(w, PACKETS_NOT_KEPT, 1)
        return
    made = allocate(worker.arena, HEAD + PACKET_SIZE + r.caplen)
    if made == 0:
        add(w, PACKETS_NOT_KEPT, 1)
        return
    add(w, PACKETS_KEPT, 1)
    kept = WAITING_AT(made)
    kept.following, kept.size = 0, HEAD + PACKET_SIZE + r.caplen
    copy(made + HEAD, row, PACKET_SIZE)
    copy(made + HEAD + PACKET_SIZE, r.frame, r.caplen)
    PACKET_AT(made + HEAD).frame = made + HEAD + PACKET_SIZE
    if note.packets_last:
        WAITING_AT(note.packets_last).following = made
    else:
        note.packets = made
    note.packets_last = made
    note.packet_count += 1
    note.packet_bytes += r.caplen


@kernel
def drop_packets(w, index):
    """Give back the packets that wait."""
    address = note_address(w, index)
    if address:
        note = NOTE_AT(address)
        at = note.packets + 0
        while at:
            following, size = WAITING_AT(at).following + 0, WAITING_AT(at).size + 0
            release(WORKER_AT(w).arena, at, size)
            at = following
        note.packets, note.packets_last, note.packet_count, note.packet_bytes = 0, 0, 0, 0


@kernel
def who_gets(w, row, matched, out):
    """Write the set of packet-level subscriptions that get a packet of a connection with these matched ones to `out`."""
    worker = WORKER_AT(w)
    if worker.packet_deliver_stage == 0:
        copy(out, matched, 8 * worker.words)
        return
    copy(worker.sets, matched, 8 * worker.words)
    call3(worker.packet_deliver_stage, worker.tables, row, worker.sets)
    copy(out, worker.sets + 8 * worker.words, 8 * worker.words)


@kernel
def hand_over(w, index, row, wanted):
    """Deliver a packet to the packet-level subscriptions in a set."""
    worker = WORKER_AT(w)
    connection = record_address(worker.table, index)
    for n in range(worker.words):
        left = load64(wanted + 8 * n) + 0
        while left:
            bit = trailing_zeros(left)
            left &= left - 1
            if SUBSCRIPTION_AT(subscription_address(w, 64 * n + bit)).level == PACKET_LEVEL:
                deliver(w, 64 * n + bit, row, PACKET_AT(row).ts, connection, 0, 0, 0, 0)


@kernel
def deliver_packet(w, index, row):
    """Give one packet to the packet-level subscriptions that its connection matches."""
    worker = WORKER_AT(w)
    group = group_address(w, CONNECTION_AT(record_address(worker.table, index)).group)
    who_gets(w, row, group + GROUP_HEAD + 8 * worker.words, worker.getting)
    hand_over(w, index, row, worker.getting)


@kernel
def deliver_waiting(w, index, before, after):
    """Deliver what waits to the subscriptions that get it with the matched set `after` and did not with `before`."""
    worker = WORKER_AT(w)
    words = worker.words + 0
    news = 0
    for n in range(words):
        news |= load64(after + 8 * n) & ~load64(before + 8 * n)
    at = NOTE_AT(note_address(w, index)).packets if news else 0
    while at:
        row = at + HEAD
        who_gets(w, row, before, worker.got)
        who_gets(w, row, after, worker.getting)
        for n in range(words):
            place = worker.getting + 8 * n
            store64(place, load64(place) & ~load64(worker.got + 8 * n))
        hand_over(w, index, row, worker.getting)
        at = WAITING_AT(at).following + 0
