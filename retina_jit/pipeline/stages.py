"""Asking the generated filter stages, and what their answers do to a connection.

The stages get three bitsets at `sets`: alive (asked), matched and maybe (answered). `mine` holds the connection's own
two, alive and matched, while they change; `settle` then gives the connection the group of the result.
"""

from __future__ import annotations

from retina_jit.jit import kernel, leaf
from retina_jit.memory import call3, call4, call5, copy, fill, load64, shift_right, store64, trailing_zeros
from retina_jit.pipeline.access import (
    PACKET_AT,
    PACKET_SIZE,
    SUBSCRIPTION_AT,
    WORKER_AT,
    deliver,
    subscription_address,
)
from retina_jit.pipeline.formulas import combine, session_hits, static_hits
from retina_jit.pipeline.groups import GROUP_AT, GROUP_HEAD, group_address, intern_sets, load_sets
from retina_jit.pipeline.keeping import drop_stored, keep_session
from retina_jit.pipeline.layout import HAS_WAITING, SESSION_LEVEL, STATIC_LEVEL
from retina_jit.pipeline.waiting import deliver_waiting, drop_packets
from retina_jit.state.flowkey import high_port, is_ipv6, low_port, protocol_of
from retina_jit.state.layout import IPV4, IPV6, ORIG_IS_HIGH, TCP, UDP
from retina_jit.state.table import CONNECTION_AT, record_address, track_address


@kernel
def orient(w, index):
    """Fill the scratch row with what is known of a connection, originator to responder. Returns its address."""
    worker = WORKER_AT(w)
    c = CONNECTION_AT(record_address(worker.table, index))
    fill(worker.oriented, 0, PACKET_SIZE)
    r = PACKET_AT(worker.oriented)
    if c.flags & ORIG_IS_HIGH:
        r.src_hi, r.src_lo, r.dst_hi, r.dst_lo = c.c, c.d, c.a, c.b
        r.src_port, r.dst_port = high_port(c.key), low_port(c.key)
    else:
        r.src_hi, r.src_lo, r.dst_hi, r.dst_lo = c.a, c.b, c.c, c.d
        r.src_port, r.dst_port = low_port(c.key), high_port(c.key)
    r.protocol = protocol_of(c.key)
    r.layers = (IPV6 if is_ipv6(c.key) else IPV4) | (TCP if protocol_of(c.key) == 6 else UDP)
    r.ts = c.last
    r.connection = index
    return worker.oriented + 0


@leaf
def _alive(w):
    return WORKER_AT(w).sets + 0


@leaf
def _matched(w):
    return WORKER_AT(w).sets + 8 * WORKER_AT(w).words


@leaf
def _maybe(w):
    return WORKER_AT(w).sets + 16 * WORKER_AT(w).words


@kernel
def ask_alive(w):
    """Put the connection's alive set before the next stage; clear the answers."""
    worker = WORKER_AT(w)
    copy(_alive(w), worker.mine, 8 * worker.words)
    fill(_matched(w), 0, 16 * worker.words)


@kernel
def fire_static(w, index):
    """Deliver and take out of `mine` the static subscriptions that match: they fire once, at once."""
    worker = WORKER_AT(w)
    for n in range(worker.words):
        at = worker.mine + 8 * (worker.words + n)
        left = load64(at) + 0
        while left:
            bit = trailing_zeros(left)
            left &= left - 1
            number = 64 * n + bit
            if SUBSCRIPTION_AT(subscription_address(w, number)).level == STATIC_LEVEL:
                c = CONNECTION_AT(record_address(worker.table, index))
                deliver(
                    w, number, orient(w, index), c.last, record_address(worker.table, index),
                    track_address(worker.table, index), 0, 0, 0,
                )  # fmt: skip
                store64(at, load64(at) & ~(1 << bit))


@kernel
def take_answer(w):
    """Let the answers of a stage that decides for the whole connection become the connection's sets."""
    worker = WORKER_AT(w)
    for n in range(worker.words):
        store64(worker.mine + 8 * n, load64(_maybe(w) + 8 * n))
        at = worker.mine + 8 * (worker.words + n)
        store64(at, load64(at) | load64(_matched(w) + 8 * n))


@kernel
def settle(w, index):
    """Give the connection the group of what stands in `mine`; what waits for it is delivered, or given back."""
    worker = WORKER_AT(w)
    c = CONNECTION_AT(record_address(worker.table, index))
    if worker.conjunct_count:
        combine(w)
        fire_static(w, index)
    before = group_address(w, c.group)
    old = GROUP_AT(before)
    if old.packets & HAS_WAITING:
        deliver_waiting(w, index, before + GROUP_HEAD + 8 * worker.words, worker.mine + 8 * worker.words)
    c.group = intern_sets(w)
    new = GROUP_AT(group_address(w, c.group))
    if old.packets & ~new.packets & HAS_WAITING:
        drop_packets(w, index)
    if old.kept and new.kept == 0:
        drop_stored(w, index)


@kernel
def connection_stage(w, index):
    """The first packet of a connection: who may want it."""
    worker = WORKER_AT(w)
    load_sets(w, worker.first_group)
    ask_alive(w)
    if worker.connection_stage:
        call3(worker.connection_stage, worker.tables, orient(w, index), worker.sets)
    take_answer(w)
    fire_static(w, index)
    settle(w, index)


@kernel
def _put_off(w, turns):
    """Who asks for a protocol that this one may turn into is not refused yet, only left open."""
    worker = WORKER_AT(w)
    for n in range(worker.words):
        left = load64(worker.mine + 8 * n) & ~(load64(_maybe(w) + 8 * n) | load64(_matched(w) + 8 * n))
        while left:
            bit = trailing_zeros(left)
            left &= left - 1
            if SUBSCRIPTION_AT(subscription_address(w, 64 * n + bit)).filter_services & turns:
                store64(_maybe(w) + 8 * n, load64(_maybe(w) + 8 * n) | (1 << bit))


@kernel
def protocol_stage(w, index, service, turns):
    """Its session protocol is known (0: it has none that we know). Changes `mine`, which must be loaded.

    turns: protocols that it may turn into, a bit each.
    """
    worker = WORKER_AT(w)
    ask_alive(w)
    if worker.protocol_stage:
        call4(worker.protocol_stage, worker.tables, orient(w, index), service, worker.sets)
    if turns:
        _put_off(w, turns)
    take_answer(w)
    fire_static(w, index)


@kernel
def take_out_fired(w, index, service):
    """Take out of `mine`, which stands as before `protocol_stage`, the static subscriptions that it has fired for `service`."""
    worker = WORKER_AT(w)
    ask_alive(w)
    if worker.protocol_stage:
        call4(worker.protocol_stage, worker.tables, orient(w, index), service, worker.sets)
    if worker.conjunct_count:
        static_hits(w, _matched(w))
    for n in range(worker.words):
        left = load64(_matched(w) + 8 * n) + 0
        while left:
            bit = trailing_zeros(left)
            left &= left - 1
            if SUBSCRIPTION_AT(subscription_address(w, 64 * n + bit)).level == STATIC_LEVEL:
                at = worker.mine + 8 * n
                store64(at, load64(at) & ~(1 << bit))


@kernel
def end_stage(w, index):
    """The connection is over: who matched stays in `mine`, which must be loaded, if the whole of it is as asked for."""
    worker = WORKER_AT(w)
    matched = worker.mine + 8 * worker.words
    copy(_alive(w), matched, 8 * worker.words)
    call5(
        worker.end_stage, worker.tables, orient(w, index), record_address(worker.table, index),
        track_address(worker.table, index), worker.sets,
    )  # fmt: skip
    copy(matched, _matched(w), 8 * worker.words)


@kernel
def session_stage(w, index, service, session, ts):
    """A session is complete: deliver it where it matches. Changes `mine`, which must be loaded.

    A session-level subscription stays alive, for the next session may match as well; any other one that this session
    decides is matched from now on.
    """
    worker = WORKER_AT(w)
    ask_alive(w)
    row = orient(w, index)
    if worker.session_stage:
        call5(worker.session_stage, worker.tables, row, service, session, worker.sets)
    connection = record_address(worker.table, index)
    if worker.conjunct_count:
        session_hits(w, _matched(w))
    # From here on `matched` stands for those that this session may be for.
    for n in range(worker.words):
        hit = load64(_matched(w) + 8 * n)
        may_be_for = hit | load64(worker.mine + 8 * (worker.words + n))
        store64(_matched(w) + 8 * n, may_be_for | load64(_maybe(w) + 8 * n))
        left = may_be_for
        while left:
            bit = trailing_zeros(left)
            left &= left - 1
            s = SUBSCRIPTION_AT(subscription_address(w, 64 * n + bit))
            if s.level == SESSION_LEVEL:
                if shift_right(s.type_services, service) & 1:
                    # Static data types of the first packet stand beside the connection.
                    deliver(w, 64 * n + bit, row, ts, connection, track_address(worker.table, index), session, service, 0)
            elif shift_right(hit, bit) & 1:
                store64(worker.mine + 8 * n, load64(worker.mine + 8 * n) & ~(1 << bit))
                at = worker.mine + 8 * (worker.words + n)
                store64(at, load64(at) | (1 << bit))
    if shift_right(GROUP_AT(group_address(w, CONNECTION_AT(connection).group)).kept, service) & 1:
        keep_session(w, index, service, session, row, _matched(w), ts)
    fire_static(w, index)
