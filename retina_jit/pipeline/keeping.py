"""Sessions that wait for the end of their connection: what a connection-level callback is given of them is written once.

A session's projection (see `retina_jit.delivery.event`) is written when the session is complete, and lies in the arena until
the connection is delivered; the parser is free for the next session, or gone. Two shapes are kept:

image
    The event as it will be, up to and with the projection, for the subscription's one plain session type: `deliver` copies
    it into the ring and lets the other data types write behind it, so its packed words hold as they are.
item
    `ITEM` head, record, variable bytes, packed words relative to the head: for `list[...]` (shared by all subscriptions) and
    `... | None` (the first that matches). Items are copied into the event whole; views read from where they stand.
"""

from __future__ import annotations

from retina_jit import memory
from retina_jit.delivery.event import CONTEXT_AT, EVENT, MAX_EVENT, SKIP
from retina_jit.jit import entry, kernel, leaf
from retina_jit.memory import call1, copy, fill, load64, shift_right, trailing_zeros
from retina_jit.pipeline.access import SUBSCRIPTION_AT, WORKER_AT, add, counter, subscription_address
from retina_jit.pipeline.groups import GROUP_AT, group_address
from retina_jit.pipeline.layout import (
    CONNECTION_LEVEL,
    ITEM,
    KIND,
    LISTED,
    MOST_TYPES,
    NOTE,
    STORED,
    STREAMING_LEVEL,
    SUBSCRIPTION,
)
from retina_jit.state.arena import allocate, release
from retina_jit.state.table import CONNECTION_AT, index_of, record_address

NOTE_AT, STORED_AT, KIND_AT, ITEM_AT, LISTED_AT = (memory.at(t) for t in (NOTE, STORED, KIND, ITEM, LISTED))
NOTE_SIZE, STORED_HEAD, KIND_SIZE, ITEM_HEAD, EVENT_HEAD = (t.itemsize for t in (NOTE, STORED, KIND, ITEM, EVENT))
PROJECTS, OFFSETS, SERVICES, KEPT = (SUBSCRIPTION.fields[f"{n}0"][1] for n in ("project", "offset", "service", "kept"))  # type: ignore[index]
SUBSCRIPTION_SIZE = SUBSCRIPTION.itemsize
NOTHING = -(1 << 40)
"""A kind that nothing is of."""
SESSIONS_KEPT, SESSIONS_LEFT_OUT = counter("sessions_kept"), counter("sessions_left_out")


@leaf
def note_address(w, index):
    """Address of the NOTE of a connection; 0 if the program needs none."""
    notes = WORKER_AT(w).notes
    return notes + index * NOTE_SIZE if notes else 0


@kernel
def clear_note(w, index):
    """Begin the note of a new connection."""
    note = note_address(w, index)
    if note:
        fill(note, 0, NOTE_SIZE)


@leaf
def own_kind(number, position):
    """Kind of what is kept for one subscription alone: its data type at `position`."""
    return -1 - (number * MOST_TYPES + position)


@kernel
def find_stored(note, kind):
    """Address of the first STORED of a kind, or 0."""
    at = NOTE_AT(note).stored
    while at and STORED_AT(at).kind != kind:
        at = STORED_AT(at).following
    return at


@kernel
def drop_stored(w, index):
    """Give back the sessions that are kept."""
    note = note_address(w, index)
    if note:
        at = NOTE_AT(note).stored
        while at:
            following, size = STORED_AT(at).following + 0, STORED_AT(at).size + 0
            release(WORKER_AT(w).arena, at, STORED_HEAD + size)
            at = following
        n = NOTE_AT(note)
        n.stored, n.stored_last, n.stored_count = 0, 0, 0


@kernel
def _append(w, note, kind, address, size):
    """Keep `size` bytes, unless a cap forbids it."""
    worker = WORKER_AT(w)
    n = NOTE_AT(note)
    if n.stored_count >= worker.most_sessions:
        add(w, SESSIONS_LEFT_OUT, 1)
        return
    made = allocate(worker.arena, STORED_HEAD + size)
    if made == 0:
        add(w, SESSIONS_LEFT_OUT, 1)
        return
    s = STORED_AT(made)
    s.following, s.size, s.kind = 0, size, kind
    copy(made + STORED_HEAD, address, size)
    if n.stored_last:
        STORED_AT(n.stored_last).following = made
    else:
        n.stored = made
    n.stored_last = made
    n.stored_count += 1
    add(w, SESSIONS_KEPT, 1)


@kernel
def _project(w, entry, base, head, offset):
    """Write a projection into scratch: `head` bytes of fixed part, the record at `offset`. Returns the end, or 0 for none."""
    c = CONTEXT_AT(WORKER_AT(w).context)
    c.event, c.out, c.cursor, c.limit, c.overflow = base, base + offset, base + head, base + MAX_EVENT, 0
    if call1(entry, WORKER_AT(w).context) == SKIP:
        return 0
    return c.cursor + 0


@kernel
def _keep_item(w, note, kind, tag, entry, size, ts):
    """Keep an item: kind to find it by, tag to tell its type, entry and size of its record."""
    base = WORKER_AT(w).scratch + 0
    end = _project(w, entry, base, ITEM_HEAD + size, ITEM_HEAD)
    if end:
        length = (end - base + 7) & ~7
        item = ITEM_AT(base)
        item.size, item.kind, item.ts = length, tag, ts
        _append(w, note, kind, base, length)


@kernel
def _keep_for(w, note, number, service, ts):
    """Keep a session for one subscription, if it is the first for it."""
    sub = subscription_address(w, number)
    s = SUBSCRIPTION_AT(sub)
    CONTEXT_AT(WORKER_AT(w).context).subscription = sub
    base = WORKER_AT(w).scratch + 0
    for position in range(s.types):
        if load64(sub + SERVICES + 8 * position) == service:
            kind = own_kind(s.owner, position)
            if find_stored(note, kind) == 0:
                if s.image == position + 1:
                    head = EVENT_HEAD + s.size
                    end = _project(w, load64(sub + PROJECTS + 8 * position), base, head, load64(sub + OFFSETS + 8 * position))
                    if end:
                        _append(w, note, kind, base, (end - base + 7) & ~7)
                else:
                    tag = load64(sub + KEPT + 8 * position)
                    k = KIND_AT(WORKER_AT(w).kinds + tag * KIND_SIZE)
                    _keep_item(w, note, kind, tag, k.project + 0, k.size + 0, ts)


@kernel
def keep_session(w, index, service, session, row, candidates, ts):
    """A session is complete: keep what connection-level subscriptions want of it.

    candidates: set of the subscriptions for which it may be the session that matches. row: the oriented one.
    """
    worker = WORKER_AT(w)
    note = note_address(w, index)
    connection = record_address(worker.table, index)
    g = GROUP_AT(group_address(w, CONNECTION_AT(connection).group))
    c = CONTEXT_AT(worker.context)
    c.session, c.service, c.connection, c.track, c.row, c.worker, c.end = session, service, connection, 0, row, w, 0
    left = g.kinds + 0
    while left:
        number = trailing_zeros(left)
        left &= left - 1
        k = KIND_AT(worker.kinds + number * KIND_SIZE)
        if k.service == service:
            c.subscription = worker.subscriptions
            _keep_item(w, note, number, number, k.project + 0, k.size + 0, ts)
    for n in range(worker.words):
        left = load64(candidates + 8 * n) + 0
        while left:
            bit = trailing_zeros(left)
            left &= left - 1
            s = SUBSCRIPTION_AT(subscription_address(w, 64 * n + bit))
            if (s.level == CONNECTION_LEVEL or s.level == STREAMING_LEVEL) and shift_right(s.own_services, service) & 1:
                _keep_for(w, note, 64 * n + bit, service, ts)


@leaf
def _is_wanted(kind, kinds, own):
    return kind == own or (kind >= 0 and shift_right(kinds, kind) & 1)


@kernel
def _put_items(context, kinds, own):
    """Write a list of items into the event, those of the shared `kinds` (a bit each) and of the kind `own`."""
    c = CONTEXT_AT(context)
    worker = WORKER_AT(c.worker)
    index = index_of(worker.table, c.connection)
    size, count = 0, 0
    first = NOTE_AT(note_address(c.worker, index)).stored + 0
    at = first
    while at:
        s = STORED_AT(at)
        if _is_wanted(s.kind, kinds, own):
            size += s.size
            count += 1
        at = s.following + 0
    out = LISTED_AT(c.out)
    out.items, out.count = 0, count
    if size > c.limit - c.cursor:
        c.overflow = 1
        return
    out.items = ((c.cursor - c.event) << 32) | size
    at = first
    while at and size:
        s = STORED_AT(at)
        if _is_wanted(s.kind, kinds, own):
            copy(c.cursor, at + STORED_HEAD, s.size)
            c.cursor += s.size
        at = s.following + 0


@entry
def project_list(context):
    """Write the sessions of the connection that are kept for all."""
    c = CONTEXT_AT(context)
    _put_items(context, load64(c.subscription + KEPT + 8 * c.position), NOTHING)
    return 0


@entry
def project_optional(context):
    """Write the session that is kept for this subscription, if there is one."""
    c = CONTEXT_AT(context)
    number = (c.subscription - WORKER_AT(c.worker).subscriptions) // SUBSCRIPTION_SIZE
    _put_items(context, 0, own_kind(number, c.position))
    return 0
