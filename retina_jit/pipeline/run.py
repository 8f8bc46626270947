"""The endless kernel: bursts in, events out, until the source ends or Python asks to stop.

Per burst of 64: walk and decode; packet filter; keys, hashes and slot prefetches for the survivors; record prefetches;
then each packet's connection; then the timer wheel, once.
"""

from __future__ import annotations

from retina_jit.ingest.burst import SOURCE_AT, fill
from retina_jit.ingest.noting import pass_time
from retina_jit.jit import entry, kernel
from retina_jit.memory import atomic_load, call1, call2, call4, load64, store64
from retina_jit.pipeline.access import PACKET_AT, PACKET_SIZE, WORKER_AT, add, counter
from retina_jit.pipeline.connections import packet
from retina_jit.pipeline.expiry import FOREVER, VISITS, VISITS_IDLE, VISITS_PER_PACKET, drain, expire
from retina_jit.pipeline.layout import WORKER
from retina_jit.pipeline.matches import FAILED, MATCHED, deliver_matches
from retina_jit.pipeline.share import NOT_SAMPLED, OTHERS, mark_others
from retina_jit.pipeline.volumes import count_volumes
from retina_jit.state import timers
from retina_jit.state.flowkey import set_key
from retina_jit.state.fragments import FRAGMENTS_AT
from retina_jit.state.layout import BURST, CONTINUE, FRAGMENT, INNER, NO_FRAME
from retina_jit.state.table import prefetch_record, prefetch_slot
from retina_jit.status import Status

STOPPED = int(Status.STOPPED)
MAIL_HEAD = WORKER.fields["mail_head"][1]  # type: ignore[index]
FRAMES, BYTES, FILTERED, DELIVERED = (counter(n) for n in ("frames", "bytes", "filtered", "delivered"))
TUNNELLED, LEFT_OUT = counter("tunnelled"), counter("not_sampled")


@kernel
def _sort_out(w, rows, count):
    """Count what ends here; set keys and prefetch slots for the rest. Returns how many go on."""
    worker = WORKER_AT(w)
    # Sums stay in registers: a store and a load of the same counter per packet would be a chain of their own.
    survivors, size, frames, delivered, filtered, tunnelled = 0, 0, 0, 0, 0, 0
    now = worker.now + 0
    # A fragment reaches its connection as a part of a whole datagram; `spread` has counted it.
    taken = FRAGMENT if worker.defrag else 0
    for n in range(count):
        address = rows + n * PACKET_SIZE
        row = PACKET_AT(address)
        now = max(now, row.ts)
        if row.verdict & OTHERS:
            continue
        # What stands in a tunnel is no frame of its own: it is not in the ledger.
        one = 0 if row.layers & NO_FRAME else 1
        tunnelled += row.layers & INNER
        size += row.length * one
        frames += one
        if row.layers & taken:
            continue
        verdict = row.verdict
        if verdict & NOT_SAMPLED:
            add(w, LEFT_OUT, one)
            continue
        if verdict & CONTINUE:
            set_key(row, worker.seed, worker.vlan_mask)
            prefetch_slot(worker.table, row.hash)
            store64(worker.survivors + 8 * survivors, address)
            survivors += 1
        elif verdict & MATCHED:
            delivered += one
        elif verdict:
            add(w, FAILED + 8 * verdict, one)
        else:
            filtered += one
    worker.now = now
    add(w, FRAMES, frames)
    add(w, BYTES, size)
    add(w, DELIVERED, delivered)
    add(w, FILTERED, filtered)
    add(w, TUNNELLED, tunnelled // INNER)
    return survivors


@kernel
def _any_fragment(rows, count):
    layers = 0
    for n in range(count):
        layers |= PACKET_AT(rows + n * PACKET_SIZE).layers
    return layers & FRAGMENT != 0


@entry
def run(w):
    """Process the source. Returns a Status: DONE, NEED_INPUT, SHRUNK, BROKEN from the source, or STOPPED."""
    worker = WORKER_AT(w)
    while True:
        if atomic_load(worker.control):
            return STOPPED
        if atomic_load(w + MAIL_HEAD) != worker.mail_tail:
            call1(worker.read_mail, w)
        count = fill(worker.walk, worker.source, worker.rows, BURST)
        if count <= 0:
            s = SOURCE_AT(worker.source)
            if s.left_out:
                pass_time(worker.source)
            if (s.more or s.left_out) and timers.TIMERS_AT(worker.timers).now:
                worker.now = max(worker.now, s.clock)
                # A live source may be silent for long; where it is polled, there are many of these.
                expire(w, VISITS if s.idle else VISITS_IDLE)
            if s.idle:
                continue
            return s.status + 0
        rows = worker.rows + 0
        if worker.decap or (worker.defrag and _any_fragment(rows, count)):
            count = call2(worker.spread_rows, w, count)
            rows = worker.spread + 0
        if worker.workers > 1 or worker.sample:
            mark_others(w, rows, count)
        if worker.packet_stage:
            matches = call4(worker.packet_stage, worker.tables, rows, count, worker.matches)
            if matches:
                deliver_matches(w, rows, matches)
        if SOURCE_AT(worker.source).left_out:
            # What is another's tells what time it is, too, when it has been passed over.
            worker.now = max(worker.now, SOURCE_AT(worker.source).clock)
        survivors = _sort_out(w, rows, count)
        if worker.monitored:
            count_volumes(w, rows, count, NO_FRAME | FRAGMENT if worker.defrag else NO_FRAME)
        t = timers.TIMERS_AT(worker.timers)
        if t.now == 0:
            # Of the first frame, whoever's it is: the wheel turns alike for all workers.
            s = SOURCE_AT(worker.source)
            t.now = (s.clock + 0 if s.left_out and s.clock else PACKET_AT(rows).ts) // t.resolution
        if survivors:
            for n in range(survivors):
                prefetch_record(worker.table, PACKET_AT(load64(worker.survivors + 8 * n)).hash)
            for n in range(survivors):
                packet(w, load64(worker.survivors + 8 * n))
        if t.now:
            expire(w, VISITS + VISITS_PER_PACKET * survivors)
        f = FRAGMENTS_AT(worker.fragments)
        if f.live or f.done:
            call2(worker.sweep_fragments, w, worker.now)


@entry
def finish(w):
    """End every connection that is still there: the input is over."""
    drain(w)
    call2(WORKER_AT(w).sweep_fragments, w, FOREVER)
    return 0
