"""How a connection ends."""

from __future__ import annotations

from retina_jit.delivery.event import END_CLOSED, END_IDLE, END_NO_ROOM, END_OF_INPUT
from retina_jit.jit import entry, leaf
from retina_jit.memory import call2, load64, trailing_zeros
from retina_jit.pipeline.access import (
    SUBSCRIPTION_AT,
    WORKER_AT,
    add,
    connection_of,
    counter,
    deliver,
    subscription_address,
)
from retina_jit.pipeline.groups import load_sets
from retina_jit.pipeline.keeping import drop_stored, find_stored, note_address, own_kind
from retina_jit.pipeline.layout import CONNECTION_LEVEL
from retina_jit.pipeline.parsing import release_parser
from retina_jit.pipeline.segments import count_dropped, flush
from retina_jit.pipeline.sessions import finish
from retina_jit.pipeline.stages import end_stage, orient, settle
from retina_jit.pipeline.streaming import drop_streams, end_streams
from retina_jit.pipeline.waiting import drop_packets
from retina_jit.pipeline.watching import end_watches
from retina_jit.state import reassembly
from retina_jit.state.layout import DROPPED, PARSING, PROBING
from retina_jit.state.parts import ARRIVALS, ORIG_PACKETS, RECORD, RESP_PACKETS
from retina_jit.state.table import record_address, remove, track_address
from retina_jit.state.track import SIDE_AT, release_chunks, side_address

EXPIRED, DRAINED, CLOSED, REUSED = (counter(f"ended_{n}") for n in ("expired", "drained", "closed", "reused"))


@leaf
def _reason(why):
    """Why a connection has ended, from the counter of it."""
    if why == CLOSED or why == REUSED:
        return END_CLOSED
    if why == EXPIRED:
        return END_IDLE
    return END_OF_INPUT if why == DRAINED else END_NO_ROOM


@entry
def terminate(w, index, why):
    """End a connection: the rest of its sessions, its connection-level subscriptions, its memory."""
    worker = WORKER_AT(w)
    c = connection_of(w, index)
    if c.life != DROPPED:
        if c.held and (c.phase == PARSING or c.phase == PROBING):
            flush(w, index)
        finish(w, index, c.last)
        if worker.conjunct_count:
            load_sets(w, c.group)
            end_watches(w, index)
            settle(w, index)
        load_sets(w, c.group)
        if worker.end_stage:
            end_stage(w, index)
        connection = record_address(worker.table, index)
        for n in range(worker.words):
            left = load64(worker.mine + 8 * (worker.words + n)) + 0
            while left:
                bit = trailing_zeros(left)
                left &= left - 1
                s = SUBSCRIPTION_AT(subscription_address(w, 64 * n + bit))
                if s.level == CONNECTION_LEVEL:
                    image = find_stored(note_address(w, index), own_kind(64 * n + bit, s.image - 1)) if s.image else 0
                    if image or s.image == 0:
                        deliver(
                            w, 64 * n + bit, orient(w, index), c.last, connection,
                            track_address(worker.table, index), image, c.service, _reason(why),
                        )  # fmt: skip
        if worker.notes:
            end_streams(w, index, worker.mine + 8 * worker.words, _reason(why))
    add(w, why, 1)
    release_parser(w, index)
    drop_stored(w, index)
    drop_packets(w, index)
    drop_streams(w, index)
    if c.held:
        count_dropped(w, reassembly.drop_all(c, worker.arena))
    t = track_address(worker.table, index)
    if t and worker.parts & (ARRIVALS | ORIG_PACKETS | RESP_PACKETS):
        call2(worker.release_parts, w, index)
    if t and worker.parts & RECORD:
        for side in range(2):
            release_chunks(SIDE_AT(side_address(t, side)), worker.arena)
    remove(worker.table, index)
    return 0
