"""Streaming subscriptions: called again and again while a connection lives.

The first call is made with the packet that completes the match, that packet included. From then on packets and bytes are
counted (whole frames, both directions), and a call is made with the packet that brings the count to N; what is over N counts
towards the next call. With seconds, calls are due at the first one's capture time + N, + 2 N, ...; a call is made with the
first packet at or after that. If several are due at once, one call is made.

A callback that returns False is not called again for that connection. A compiled one says so at once; Python writes a MAIL,
which the worker reads between two bursts, and itself leaves out what is in the ring by then.
"""

from __future__ import annotations

from retina_jit import memory
from retina_jit.delivery.event import CONTEXT_AT
from retina_jit.jit import entry, kernel
from retina_jit.memory import atomic_load, atomic_store, load64, store64, trailing_zeros
from retina_jit.pipeline.access import (
    PACKET_AT,
    SUBSCRIPTION_AT,
    WORKER_AT,
    add,
    connection_of,
    counter,
    deliver,
    subscription_address,
)
from retina_jit.pipeline.groups import GROUP_AT, GROUP_HEAD, group_address, load_sets
from retina_jit.pipeline.keeping import NOTE_AT, find_stored, note_address, own_kind
from retina_jit.pipeline.layout import (
    EVERY_BYTES,
    EVERY_PACKETS,
    MAIL,
    MOST_MAIL,
    STREAM,
    STREAMING_LEVEL,
    WORKER,
)
from retina_jit.pipeline.parsing import release_parser
from retina_jit.pipeline.segments import count_dropped
from retina_jit.pipeline.stages import orient, settle
from retina_jit.pipeline.user import clear_own
from retina_jit.state import reassembly
from retina_jit.state.arena import allocate, release
from retina_jit.state.layout import DROPPED
from retina_jit.state.table import record_address, track_address

STREAM_AT, MAIL_AT = memory.at(STREAM), memory.at(MAIL)
STREAM_SIZE, MAIL_SIZE = STREAM.itemsize, MAIL.itemsize
MAIL_HEAD, MAIL_TAIL = WORKER.fields["mail_head"][1], WORKER.fields["mail_tail"][1]  # type: ignore[index]
UNSUBSCRIBED, STREAMS_REFUSED = counter("unsubscribed"), counter("streams_refused")
UNSUBSCRIBE = 1
"""What `deliver` gives when a compiled callback wants no more calls."""


@kernel
def _find(w, index, number):
    """Address of the STREAM of a subscription on a connection, or 0."""
    at = NOTE_AT(note_address(w, index)).streams + 0
    while at and STREAM_AT(at).subscription != number:
        at = STREAM_AT(at).following + 0
    return at


@kernel
def _begin(w, index, number):
    """Address of a new STREAM, or 0."""
    worker = WORKER_AT(w)
    made = allocate(worker.arena, STREAM_SIZE)
    if made == 0:
        add(w, STREAMS_REFUSED, 1)
        return 0
    note = NOTE_AT(note_address(w, index))
    worker.serial = (worker.serial + 1) & 0xFFFFFFFF
    s = STREAM_AT(made)
    s.following, s.subscription, s.count, s.calls = note.streams, number, 0, 0
    s.id = (index << 32) | worker.serial
    note.streams = made
    return made


@kernel
def drop_streams(w, index):
    """Give back what is counted for the streams of a connection."""
    address = note_address(w, index)
    if address:
        note = NOTE_AT(address)
        while note.streams:
            at = note.streams + 0
            note.streams = STREAM_AT(at).following
            release(WORKER_AT(w).arena, at, STREAM_SIZE)


@kernel
def unsubscribe(w, index, number):
    """A subscription wants no more of a connection."""
    c = connection_of(w, index)
    worker = WORKER_AT(w)
    add(w, UNSUBSCRIBED, 1)
    load_sets(w, c.group)
    at = worker.mine + 8 * (worker.words + number // 64)
    store64(at, load64(at) & ~(1 << (number % 64)))
    settle(w, index)
    if GROUP_AT(group_address(w, c.group)).any == 0:
        release_parser(w, index)
        if c.held:
            count_dropped(w, reassembly.drop_all(c, worker.arena))
        c.life = DROPPED
        drop_streams(w, index)


@kernel
def _call(w, index, number, stream, ts, image, end):
    """Make one call. Returns whether the callback wants no more."""
    c = connection_of(w, index)
    s = STREAM_AT(stream)
    s.calls += 1
    CONTEXT_AT(WORKER_AT(w).context).stream = stream
    connection, track = record_address(WORKER_AT(w).table, index), track_address(WORKER_AT(w).table, index)
    return deliver(w, number, orient(w, index), ts, connection, track, image, c.service, end) == UNSUBSCRIBE


@kernel
def _image(w, index, number):
    """Address of the session that is kept for a subscription with a plain session type, or 0."""
    s = SUBSCRIPTION_AT(subscription_address(w, number))
    return find_stored(note_address(w, index), own_kind(number, s.image - 1)) if s.image else 0


@kernel
def _is_due(stream, sub, row):
    """Count a packet. Returns whether a call is due."""
    s = STREAM_AT(stream)
    if sub.every == EVERY_PACKETS:
        s.count += 1
    elif sub.every == EVERY_BYTES:
        s.count += row.length
    elif row.ts >= s.count:
        s.count += ((row.ts - s.count) // sub.interval + 1) * sub.interval
        return True
    else:
        return False
    if s.count < sub.interval:
        return False
    s.count %= sub.interval
    return True


@kernel
def stream_packet(w, index, row_address):
    """A packet of a connection that streaming subscriptions match."""
    worker = WORKER_AT(w)
    row = PACKET_AT(row_address)
    # The group's own sets: those in `mine` change when a callback has had enough.
    matched = group_address(w, connection_of(w, index).group) + GROUP_HEAD + 8 * worker.words
    for n in range(worker.words):
        left = load64(matched + 8 * n) + 0
        while left:
            number = 64 * n + trailing_zeros(left)
            left &= left - 1
            sub = SUBSCRIPTION_AT(subscription_address(w, number))
            if sub.level == STREAMING_LEVEL:
                image = _image(w, index, number)
                if sub.image == 0 or image:
                    stream = _find(w, index, number)
                    due = stream == 0
                    if stream:
                        due = _is_due(stream, sub, row)
                    else:
                        stream = _begin(w, index, number)
                        if stream and sub.every != EVERY_PACKETS and sub.every != EVERY_BYTES:
                            STREAM_AT(stream).count = row.ts + sub.interval
                    if due and stream:
                        enough = _call(w, index, number, stream, row.ts, image, 0)
                        if sub.owns:
                            clear_own(w, index, subscription_address(w, number))
                        if enough:
                            unsubscribe(w, index, number)


@kernel
def end_streams(w, index, matched, reason):
    """The connection is over: a last call for those that asked for it."""
    worker = WORKER_AT(w)
    for n in range(worker.words):
        left = load64(matched + 8 * n) + 0
        while left:
            number = 64 * n + trailing_zeros(left)
            left &= left - 1
            sub = SUBSCRIPTION_AT(subscription_address(w, number))
            if sub.level == STREAMING_LEVEL and sub.at_end:
                image = _image(w, index, number)
                if sub.image == 0 or image:
                    stream = _find(w, index, number)
                    if stream == 0:
                        stream = _begin(w, index, number)
                    if stream:
                        _call(w, index, number, stream, connection_of(w, index).last, image, reason)


@entry
def read_mail(w):
    """Take out what Python has unsubscribed."""
    worker = WORKER_AT(w)
    while worker.mail_tail != atomic_load(w + MAIL_HEAD):
        mail = MAIL_AT(worker.mail + (worker.mail_tail & (MOST_MAIL - 1)) * MAIL_SIZE)
        index, number = mail.id >> 32, mail.subscription + 0
        if connection_of(w, index).life:
            stream = _find(w, index, number)
            # Another connection may stand in the same record by now.
            if stream and STREAM_AT(stream).id == mail.id:
                unsubscribe(w, index, number)
        atomic_store(w + MAIL_TAIL, worker.mail_tail + 1)
    return 0
