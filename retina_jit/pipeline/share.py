"""Which packets of a capture are this worker's, where several workers read it; which connections are in the sample.

Each worker keeps time by everything, but counts, tracks and delivers only its share; so nothing is shared
between workers, and together they do what one alone does. What was noted as another's when it was read does not even come here
(`retina_jit.ingest.owned`). Both directions of a connection are the same worker's, whatever
brought them: fragments are put together by all, and what is in tunnels goes by its own addresses. Frames of no connection
go round in blocks.

A run may go over from a program of frames only, which shares all frames by turns, to another. How far the workers have come is not
the same; up to where the first one is all go on by turns, so that no frame is lost or seen twice.

A sample is of whole connections, too: by a hash of their own that is the same in every run and for any number of workers.
Frames of no connection, fragments among them, are not sampled; a datagram put together from fragments is.
"""

from __future__ import annotations

from retina_jit.ingest.burst import SOURCE_AT
from retina_jit.ingest.layout import BY_CONNECTION
from retina_jit.jit import kernel
from retina_jit.pipeline.access import PACKET_AT, PACKET_SIZE, WORKER_AT
from retina_jit.state.layout import NO_FRAME
from retina_jit.state.owner import OURS, connection_hash, has_connection, owner_of, turn

OTHERS = 0x20
"""PACKET.verdict: another worker counts and delivers it."""
NOT_SAMPLED = 0x10
"""PACKET.verdict: of a connection outside the sample."""

SAMPLE = 0x3C6EF372FE94F82B
"""Seed of the hash that says what is in the sample."""


@kernel
def mark_others(w, rows, count):
    """Mark the decoded rows that are not this worker's, and of its own those that are not in the sample.

    Whoever read the frames may have said in `hash` of which ones it is known that they are ours.
    """
    worker = WORKER_AT(w)
    s = SOURCE_AT(worker.source)
    by_hints = s.left_out == BY_CONNECTION
    if by_hints and s.unsure == 0 and worker.sample == 0:
        return
    s.unsure = 0
    for n in range(count):
        row = PACKET_AT(rows + n * PACKET_SIZE)
        if row.number <= worker.turns_until:
            if turn(row.number, worker.workers) != worker.id:
                row.verdict |= OTHERS
        elif by_hints and row.hash == OURS and not row.layers & NO_FRAME:
            if worker.sample and has_connection(row) and connection_hash(row, SAMPLE) >= worker.sample:
                row.verdict |= NOT_SAMPLED
        elif has_connection(row):
            if worker.workers > 1 and owner_of(connection_hash(row, worker.seed), worker.workers) != worker.id:
                row.verdict |= OTHERS
            elif worker.sample and connection_hash(row, SAMPLE) >= worker.sample:
                row.verdict |= NOT_SAMPLED
        elif worker.workers > 1 and turn(row.number, worker.workers) != worker.id:
            row.verdict |= OTHERS
