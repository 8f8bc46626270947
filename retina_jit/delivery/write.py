"""Delivering one match: into the ring for Python, or straight to a compiled callback.

Contract of the ring: the kernel writes `head` (bytes ever written) after the event is complete, Python writes `tail`
after it has copied. An event is contiguous: one that reaches past the ring's end runs into the slack of MAX_EVENT bytes
behind it, `lap_end` then says where that lap stopped, and the next event begins at the front.
"""

from __future__ import annotations

from retina_jit import memory
from retina_jit.delivery.event import CONTEXT_AT, EVENT, MAX_EVENT, SKIP
from retina_jit.jit import entry, external, kernel
from retina_jit.memory import atomic_load, atomic_store, call1, call2, copy, load64, store64
from retina_jit.pipeline.access import SUBSCRIPTION_AT, WORKER_AT, add, counter, subscription_address
from retina_jit.pipeline.layout import JIT_TIER, STORED, STREAM, STREAMING_LEVEL, SUBSCRIPTION, WORKER

EVENT_AT, STORED_AT, STREAM_AT = memory.at(EVENT), memory.at(STORED), memory.at(STREAM)
STORED_HEAD = STORED.itemsize
PROJECTS = SUBSCRIPTION.fields["project0"][1]  # type: ignore[index]
OFFSETS = SUBSCRIPTION.fields["offset0"][1]  # type: ignore[index]
HEAD, TAIL = WORKER.fields["head"][1], WORKER.fields["tail"][1]  # type: ignore[index]
EVENT_SIZE = EVENT.itemsize
ABANDON = 2
PAUSE_US = 20
EVENTS, EVENTS_CUT, EVENTS_LOST = counter("events"), counter("events_cut"), counter("events_lost")

usleep = external("usleep", "int32", "uint32")


@kernel
def _project(context, sub, event, limit):
    """Let every data type write its part of the event. Returns SKIP when one of them has nothing to deliver."""
    c = CONTEXT_AT(context)
    s = SUBSCRIPTION_AT(sub)
    c.event = event
    c.cursor = event + EVENT_SIZE + s.size
    c.limit = limit
    c.overflow = 0
    image = c.session if s.image else 0
    if image:
        # Its session was written when it was complete; the event goes on behind it.
        size = STORED_AT(image).size + 0
        if size > limit - event:
            c.overflow = 1
            return 0
        copy(event, image + STORED_HEAD, size)
        c.cursor = event + size
    for n in range(s.types):
        if image and s.image == n + 1:
            continue
        c.position = n
        c.out = event + load64(sub + OFFSETS + 8 * n)
        if call1(load64(sub + PROJECTS + 8 * n), context) == SKIP:
            return SKIP
    return 0


@kernel
def _head(event, size, number, ts, w):
    e = EVENT_AT(event)
    c = CONTEXT_AT(WORKER_AT(w).context)
    e.size, e.subscription, e.ts, e.worker, e.cut = size, number, ts, WORKER_AT(w).id, c.overflow
    if SUBSCRIPTION_AT(c.subscription).level == STREAMING_LEVEL:
        store64(event + EVENT_SIZE, STREAM_AT(c.stream).id)


@entry
def deliver(w, number, row, ts, connection, track, session, service, end):
    """Deliver one match of subscription `number`. Returns what a compiled callback has given, else 0.

    row, connection, track, session: addresses, 0 where there is none; at connection level `session` is the image that is
    kept of it (see `retina_jit.pipeline.keeping`). ts: capture time [ns]. end: why the connection is over, or 0.
    """
    worker = WORKER_AT(w)
    sub = subscription_address(w, number)
    s = SUBSCRIPTION_AT(sub)
    context = worker.context
    c = CONTEXT_AT(context)
    c.session, c.service, c.connection, c.track = session, service, connection, track
    c.row, c.subscription, c.worker, c.end = row, sub, w, end
    if s.tier == JIT_TIER:
        event = worker.scratch + 0
        if _project(context, sub, event, event + MAX_EVENT) == 0:
            _head(event, c.cursor - event, number, ts, w)
            add(w, EVENTS, 1)
            return call2(s.callback, event, s.state)
        return 0
    least = EVENT_SIZE + s.size
    while True:
        head = worker.head + 0
        room = worker.ring_size - (head - atomic_load(w + TAIL))
        if room > least:
            event = worker.ring + (head & (worker.ring_size - 1))
            if _project(context, sub, event, event + min(room, MAX_EVENT)) == SKIP:
                return 0
            # What did not fit although nothing more could ever be free is left out of the event.
            if c.overflow == 0 or room >= MAX_EVENT:
                break
        if worker.wait == 0:
            add(w, EVENTS_LOST, 1)
            return 0
        if atomic_load(worker.control) == ABANDON:
            add(w, EVENTS_LOST, 1)
            return 0
        usleep(PAUSE_US)
    size = (c.cursor - event + 7) & ~7
    _head(event, size, number, ts, w)
    add(w, EVENTS, 1)
    if c.overflow:
        add(w, EVENTS_CUT, 1)
    place = head & (worker.ring_size - 1)
    if place + size >= worker.ring_size:
        worker.lap_end = place + size
        atomic_store(w + HEAD, head - place + worker.ring_size)
    else:
        atomic_store(w + HEAD, head + size)
    return 0
