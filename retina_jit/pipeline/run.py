"""The endless kernel: bursts in, events out, until the source ends or Python asks to stop.

Per burst of 64: walk and decode; packet filter; keys, hashes and slot prefetches for the survivors; record prefetches;
then each packet's connection; then the timer wheel, once.
"""

from __future__ import annotations

from retina_jit.ingest.guard import SOURCE_AT, is_gone
from retina_jit.jit import entry, kernel
from retina_jit.memory import atomic_load, call2, call3, call4, load64, store64
from retina_jit.parsers.packet.decode import decode_burst
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
from retina_jit.pipeline.connections import packet
from retina_jit.pipeline.expiry import drain, expire
from retina_jit.pipeline.layout import ROW_TIER
from retina_jit.state import timers
from retina_jit.state.flowkey import set_key
from retina_jit.state.layout import BURST, CONTINUE
from retina_jit.state.table import prefetch_record, prefetch_slot
from retina_jit.stats import INDEX
from retina_jit.status import Status

STOPPED, SHRUNK = int(Status.STOPPED), int(Status.SHRUNK)
MATCHED = 0x40
"""PACKET.verdict: given to a packet subscription."""
FRAMES, BYTES, FILTERED, DELIVERED, EVENTS = (counter(n) for n in ("frames", "bytes", "filtered", "delivered", "events"))
FAILED = 8 * (INDEX["malformed"] - 1)
"""The counters of verdicts 1 to 4 follow one another in the ledger: malformed is 1."""
assert [INDEX[n] - INDEX["malformed"] for n in ("malformed", "truncated_header", "not_ip", "not_transport")] == [0, 1, 2, 3]


@kernel
def _deliver_matches(w, count):
    """Deliver what the packet stage found for packet subscriptions."""
    worker = WORKER_AT(w)
    handed = 0
    for n in range(count):
        match = load64(worker.matches + 8 * n)
        address = worker.rows + (match >> 32) * PACKET_SIZE
        row = PACKET_AT(address)
        row.verdict |= MATCHED
        number = match & 0xFFFFFFFF
        s = SUBSCRIPTION_AT(subscription_address(w, number))
        if s.tier == ROW_TIER:
            call2(s.callback, address, s.state)
            handed += 1
        else:
            deliver(w, number, address, row.ts, 0, 0, 0, 0, 0)
    add(w, EVENTS, handed)


@kernel
def _sort_out(w, count):
    """Count what ends here; set keys and prefetch slots for the rest. Returns how many go on."""
    worker = WORKER_AT(w)
    survivors = 0
    size = 0
    for n in range(count):
        address = worker.rows + n * PACKET_SIZE
        row = PACKET_AT(address)
        size += row.length
        if row.ts > worker.now:
            worker.now = row.ts
        verdict = row.verdict
        if verdict & CONTINUE:
            set_key(row, worker.seed)
            prefetch_slot(worker.table, row.hash)
            store64(worker.survivors + 8 * survivors, address)
            survivors += 1
        elif verdict & MATCHED:
            add(w, DELIVERED, 1)
        elif verdict:
            add(w, FAILED + 8 * verdict, 1)
        else:
            add(w, FILTERED, 1)
    add(w, FRAMES, count)
    add(w, BYTES, size)
    return survivors


@entry
def run(w):
    """Process the source. Returns a Status: DONE, NEED_INPUT, SHRUNK, BROKEN from the source, or STOPPED."""
    worker = WORKER_AT(w)
    while True:
        if atomic_load(worker.control):
            return STOPPED
        count = call3(worker.walk, worker.source, worker.rows, BURST)
        if count <= 0:
            return SOURCE_AT(worker.source).status + 0
        decode_burst(worker.rows, count)
        if is_gone(worker.source):
            # What was decoded may be zeros where the file ended: forget the burst, Python sets the new end.
            return SHRUNK
        if worker.packet_stage:
            matches = call4(worker.packet_stage, worker.tables, worker.rows, count, worker.matches)
            if matches:
                _deliver_matches(w, matches)
        survivors = _sort_out(w, count)
        if survivors:
            t = timers.TIMERS_AT(worker.timers)
            if t.now == 0:
                t.now = PACKET_AT(load64(worker.survivors)).ts // t.resolution
            for n in range(survivors):
                prefetch_record(worker.table, PACKET_AT(load64(worker.survivors + 8 * n)).hash)
            for n in range(survivors):
                packet(w, load64(worker.survivors + 8 * n))
        if timers.TIMERS_AT(worker.timers).now:
            expire(w)


@entry
def finish(w):
    """End every connection that is still there: the input is over."""
    drain(w)
    return 0
