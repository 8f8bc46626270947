"""Reaching what hangs on the worker from kernels: counters, subscriptions, and the entries that it calls by address.

The entries are compile firewalls: a change behind one recompiles nothing in front of it, and each is optimised once.
"""

from __future__ import annotations

from retina_jit import memory
from retina_jit.jit import leaf
from retina_jit.memory import call2, call3, call4, call8, call9, load64, store64
from retina_jit.pipeline.layout import SUBSCRIPTION, WORKER
from retina_jit.state.layout import PACKET
from retina_jit.state.table import CONNECTION_AT, record_address
from retina_jit.stats import INDEX

WORKER_AT = memory.at(WORKER)
SUBSCRIPTION_AT = memory.at(SUBSCRIPTION)
PACKET_AT = memory.at(PACKET)
PACKET_SIZE = PACKET.itemsize
SUBSCRIPTION_SIZE = SUBSCRIPTION.itemsize


def counter(name):
    """Byte position of a counter in the array."""
    return 8 * INDEX[name]


@leaf
def add(w, at, amount):
    """Add to the counter at byte position `at` (see `counter`)."""
    address = WORKER_AT(w).stats + at
    store64(address, load64(address) + amount)


@leaf
def subscription_address(w, number):
    """Address of a SUBSCRIPTION record."""
    return WORKER_AT(w).subscriptions + number * SUBSCRIPTION_SIZE


@leaf
def connection_of(w, index):
    """The CONNECTION record at a pool index."""
    return CONNECTION_AT(record_address(WORKER_AT(w).table, index))


@leaf
def deliver(w, number, row, ts, connection, track, session, service, end):
    """See `retina_jit.delivery.write.deliver`."""
    return call9(WORKER_AT(w).deliver, w, number, row, ts, connection, track, session, service, end)


@leaf
def admit(w, index):
    """See `retina_jit.pipeline.sessions.admit`."""
    call2(WORKER_AT(w).admit, w, index)


@leaf
def feed(w, index, side, address, length, lost, cut, ts):
    """See `retina_jit.pipeline.sessions.feed`."""
    call8(WORKER_AT(w).feed, w, index, side, address, length, lost, cut, ts)


@leaf
def terminate(w, index, why):
    """See `retina_jit.pipeline.ending.terminate`."""
    call3(WORKER_AT(w).terminate, w, index, why)


@leaf
def segment(w, index, row, side):
    """See `retina_jit.pipeline.segments.segment`."""
    call4(WORKER_AT(w).segment, w, index, row, side)


@leaf
def update_parts(w, index, row, side):
    """See `retina_jit.pipeline.parts.update`."""
    call4(WORKER_AT(w).update_parts, w, index, row, side)


@leaf
def note_first(w, index, row):
    """See `retina_jit.pipeline.parts.note_first`."""
    call3(WORKER_AT(w).note_first, w, index, row)


@leaf
def watch(w, index, row):
    """See `retina_jit.pipeline.watching.watch`."""
    call3(WORKER_AT(w).watch, w, index, row)


@leaf
def packet_delivery(w, index, row):
    """See `retina_jit.pipeline.following.packet_delivery`."""
    call3(WORKER_AT(w).packet_delivery, w, index, row)
