"""Which packets of a capture are this worker's, where several workers read it.

Each worker walks everything, and keeps time by it, but counts, tracks and delivers only its share; so nothing is shared
between workers, and together they do what one alone does. Both directions of a connection are the same worker's, whatever
brought them: fragments are put together by all, and what is in tunnels goes by its own addresses. Frames of no connection
go round in blocks.
"""

from __future__ import annotations

import numpy as np

from retina_jit.ingest.burst import turn
from retina_jit.jit import kernel, leaf
from retina_jit.memory import mix, shift_right
from retina_jit.pipeline.access import PACKET_AT, PACKET_SIZE, WORKER_AT
from retina_jit.state.layout import FRAGMENT, TCP, UDP

OTHERS = 0x20
"""PACKET.verdict: another worker counts and delivers it."""

K1, K2 = 0x6A09E667F3BCC909, 0x3B67AE8584CAA73B
HALF = 0xFFFFFFFF


@leaf
def owner(row, seed, workers):
    """Number of the worker of a connection, the same for both directions (sums commute)."""
    ends = mix((row.src_hi + row.dst_hi) ^ seed, (row.src_lo + row.dst_lo) ^ K1)
    ports = np.int64(row.src_port) + np.int64(row.dst_port)
    spread = mix(ends ^ K2, (ports << 8 | row.protocol) ^ seed)
    return shift_right((spread & HALF) * workers, 32)


@kernel
def mark_others(w, rows, count):
    """Mark the decoded rows that are not this worker's."""
    worker = WORKER_AT(w)
    for n in range(count):
        row = PACKET_AT(rows + n * PACKET_SIZE)
        if row.layers & (TCP | UDP) and not row.layers & FRAGMENT:
            mine = owner(row, worker.seed, worker.workers) == worker.id
        else:
            mine = turn(row.number, worker.workers) == worker.id
        if not mine:
            row.verdict |= OTHERS
