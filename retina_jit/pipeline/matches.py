"""What the packet stage has found, delivered to the packet subscriptions that it decides."""

from __future__ import annotations

from retina_jit.jit import kernel
from retina_jit.memory import call2, load64
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
from retina_jit.pipeline.share import NOT_SAMPLED, OTHERS
from retina_jit.state.layout import REASSEMBLED
from retina_jit.stats import INDEX

MATCHED = 0x40
"""PACKET.verdict: given to a packet subscription."""
EVENTS = counter("events")
FAILED = 8 * (INDEX["malformed"] - 1)
"""The counters of verdicts 1 to 4 follow one another in the ledger: malformed is 1."""
assert [INDEX[n] - INDEX["malformed"] for n in ("malformed", "truncated_header", "not_ip", "not_transport")] == [0, 1, 2, 3]


@kernel
def deliver_matches(w, rows, count):
    """Deliver what the packet stage found for packet subscriptions."""
    worker = WORKER_AT(w)
    handed = 0
    for n in range(count):
        match = load64(worker.matches + 8 * n)
        address = rows + (match >> 32) * PACKET_SIZE
        row = PACKET_AT(address)
        if row.layers & REASSEMBLED or row.verdict & (OTHERS | NOT_SAMPLED):
            # Packet subscriptions get the frames as they were captured: its fragments.
            continue
        row.verdict |= MATCHED
        number = match & 0xFFFFFFFF
        s = SUBSCRIPTION_AT(subscription_address(w, number))
        if s.tier == ROW_TIER:
            call2(s.callback, address, s.state)
            handed += 1
        else:
            deliver(w, number, address, row.ts, 0, 0, 0, 0, 0)
    add(w, EVENTS, handed)
