"""The endless kernel of programs that want frames only: every subscription is decided by the packet stage.

There is no connection, no timer and no key; of a row only what such a program can read is decoded (`NARROW`). It counts
and delivers just as `retina_jit.pipeline.run` does.
"""

from __future__ import annotations

from retina_jit.ingest.burst import SOURCE_AT, fill_narrow
from retina_jit.jit import entry, kernel
from retina_jit.memory import atomic_load, call2, call4, load64
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
from retina_jit.pipeline.layout import ROW_TIER
from retina_jit.pipeline.matches import FAILED, MATCHED
from retina_jit.pipeline.volumes import count_volumes
from retina_jit.state.layout import BURST
from retina_jit.status import Status

STOPPED = int(Status.STOPPED)
FRAMES, BYTES, FILTERED, DELIVERED, EVENTS = (counter(n) for n in ("frames", "bytes", "filtered", "delivered", "events"))


@kernel
def _deliver(w, rows, count):
    """Deliver the matches. Returns how many frames have one."""
    worker = WORKER_AT(w)
    handed = delivered = 0
    for n in range(count):
        match = load64(worker.matches + 8 * n)
        address = rows + (match >> 32) * PACKET_SIZE
        row = PACKET_AT(address)
        verdict = row.verdict
        if not verdict & MATCHED:
            delivered += 1
            if verdict:
                # It is delivered: that counts, and no longer what its headers are not.
                add(w, FAILED + 8 * verdict, -1)
            row.verdict = verdict | MATCHED
        number = match & 0xFFFFFFFF
        s = SUBSCRIPTION_AT(subscription_address(w, number))
        if s.tier == ROW_TIER:
            call2(s.callback, address, s.state)
            handed += 1
        else:
            deliver(w, number, address, row.ts, 0, 0, 0, 0, 0)
    add(w, EVENTS, handed)
    return delivered


@kernel
def _failed(w):
    """How many frames have failed so far, of any kind."""
    at = WORKER_AT(w).stats + FAILED
    return load64(at + 8) + load64(at + 16) + load64(at + 24) + load64(at + 32)


@kernel
def _bytes(rows, count):
    """How long the frames were on the wire."""
    size = 0
    for n in range(count):
        size += PACKET_AT(rows + n * PACKET_SIZE).length
    return size


@entry
def run(w):
    """Process the source. Returns a Status: DONE, NEED_INPUT, SHRUNK, BROKEN from the source, or STOPPED."""
    worker = WORKER_AT(w)
    s = SOURCE_AT(worker.source)
    rows = worker.rows + 0
    while True:
        if atomic_load(worker.control):
            return STOPPED
        size, failed = s.bytes + 0, _failed(w)
        count = fill_narrow(worker.walk, worker.source, rows, BURST, worker.stats + FAILED)
        if count <= 0:
            if s.idle:
                continue
            return s.status + 0
        worker.now = max(worker.now, PACKET_AT(rows + (count - 1) * PACKET_SIZE).ts)
        matches = call4(worker.packet_stage, worker.tables, rows, count, worker.matches)
        delivered = _deliver(w, rows, matches) if matches else 0
        add(w, FRAMES, count)
        add(w, BYTES, s.bytes - size if worker.workers <= 1 else _bytes(rows, count))
        add(w, DELIVERED, delivered)
        add(w, FILTERED, count - delivered - (_failed(w) - failed))
        if worker.monitored:
            count_volumes(w, rows, count, 0)


@entry
def finish(w):
    """There is nothing to end."""
    return 0
