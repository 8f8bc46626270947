"""Which packets of a capture are this worker's, where several workers read it; which connections are in the sample.

Each worker walks everything, and keeps time by it, but counts, tracks and delivers only its share; so nothing is shared
between workers, and together they do what one alone does. Both directions of a connection are the same worker's, whatever
brought them: fragments are put together by all, and what is in tunnels goes by its own addresses. Frames of no connection
go round in blocks.

A sample is of whole connections, too: by a hash of their own that is the same in every run and for any number of workers.
Frames of no connection, fragments among them, are not sampled; a datagram put together from fragments is.
"""

from __future__ import annotations

import numpy as np

from retina_jit.ingest.burst import turn
from retina_jit.jit import kernel, leaf
from retina_jit.memory import mix
from retina_jit.pipeline.access import PACKET_AT, PACKET_SIZE, WORKER_AT
from retina_jit.state.layout import FRAGMENT, TCP, UDP

OTHERS = 0x20
"""PACKET.verdict: another worker counts and delivers it."""
NOT_SAMPLED = 0x10
"""PACKET.verdict: of a connection outside the sample."""

K1, K2, SAMPLE = 0x6A09E667F3BCC909, 0x3B67AE8584CAA73B, 0x3C6EF372FE94F82B
HALF = 0xFFFFFFFF


@leaf
def connection_hash(row, seed):
    """32 bits, the same for both directions of a connection (sums commute)."""
    ends = mix((row.src_hi + row.dst_hi) ^ seed, (row.src_lo + row.dst_lo) ^ K1)
    ports = np.int64(row.src_port) + np.int64(row.dst_port)
    return mix(ends ^ K2, (ports << 8 | row.protocol) ^ seed) & HALF


@leaf
def owner(row, seed, workers):
    """Number of the worker of a connection."""
    return (connection_hash(row, seed) * workers) >> 32


@kernel
def mark_others(w, rows, count):
    """Mark the decoded rows that are not this worker's, and of its own those that are not in the sample."""
    worker = WORKER_AT(w)
    for n in range(count):
        row = PACKET_AT(rows + n * PACKET_SIZE)
        if row.layers & (TCP | UDP) and not row.layers & FRAGMENT:
            if worker.workers > 1 and owner(row, worker.seed, worker.workers) != worker.id:
                row.verdict |= OTHERS
            elif worker.sample and connection_hash(row, SAMPLE) >= worker.sample:
                row.verdict |= NOT_SAMPLED
        elif worker.workers > 1 and turn(row.number, worker.workers) != worker.id:
            row.verdict |= OTHERS
