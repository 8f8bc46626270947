"""Groups: which subscriptions a connection may still match (alive) and does match (matched).

Connections that stand alike share one group, so a connection holds one number, however many subscriptions there are, and
what follows from the sets (parse? count? keep?) is worked out once per group.
"""

from __future__ import annotations

from retina_jit import memory
from retina_jit.jit import kernel, leaf
from retina_jit.memory import copy, load32, load64, mix, shift_right, store32, store64, trailing_zeros
from retina_jit.pipeline.access import SUBSCRIPTION_AT, WORKER_AT, add, counter, subscription_address
from retina_jit.pipeline.formulas import lasting_address
from retina_jit.pipeline.layout import (
    CONNECTION_LEVEL,
    GROUP,
    HAS_OWN,
    HAS_PACKETS,
    HAS_STREAMS,
    HAS_WAITING,
    HAS_WATCHES,
    MOST_GROUPS,
    PACKET_LEVEL,
    SESSION_LEVEL,
    STREAMING_LEVEL,
)

GROUP_AT = memory.at(GROUP)
GROUP_HEAD = GROUP.itemsize
GROUPS_FULL = counter("groups_full")
NOBODY = 0
"""Number of the group that is empty."""


@leaf
def group_address(w, number):
    """Address of a GROUP; its two bitsets follow the head."""
    worker = WORKER_AT(w)
    return worker.groups + number * worker.group_size


@kernel
def load_sets(w, number):
    """Copy the sets of a group to the scratch place `mine`: alive, then matched."""
    worker = WORKER_AT(w)
    copy(worker.mine, group_address(w, number) + GROUP_HEAD, 16 * worker.words)


@kernel
def _describe(w, group):
    """Work out what the subscriptions of a group need together."""
    worker = WORKER_AT(w)
    g = GROUP_AT(group)
    for n in range(worker.words):
        alive = load64(group + GROUP_HEAD + 8 * n)
        matched = load64(group + GROUP_HEAD + 8 * (worker.words + n))
        left = alive | matched
        if left:
            g.any = 1
        if alive:
            g.undecided = 1
        while left:
            bit = trailing_zeros(left)
            left &= left - 1
            s = SUBSCRIPTION_AT(subscription_address(w, 64 * n + bit))
            g.track |= s.track
            g.owns |= s.owns
            if s.early or (s.watched and shift_right(alive, bit) & 1):
                g.packets |= HAS_WATCHES
            if s.owns:
                g.packets |= HAS_OWN
            g.services |= s.type_services
            if s.level == CONNECTION_LEVEL or s.level == STREAMING_LEVEL:
                g.kept |= s.type_services
                g.kinds |= s.kinds
            if shift_right(alive, bit) & 1:
                if not s.formula:  # its helpers ask for the protocols
                    g.services |= s.filter_services
                if s.level == PACKET_LEVEL:
                    g.packets |= HAS_WAITING
            elif s.level == PACKET_LEVEL:
                g.packets |= HAS_PACKETS
            elif s.level == STREAMING_LEVEL:
                g.packets |= HAS_STREAMS


@kernel
def intern_sets(w):
    """Number of the group whose sets stand in `mine`."""
    worker = WORKER_AT(w)
    h = 0x2D358DCCAA6C78A5
    any_ = 0
    for n in range(2 * worker.words):
        word = load64(worker.mine + 8 * n)
        any_ |= word
        h = mix(h ^ word, 0x1FC2F3A94D8B6E57)
    if any_ == 0:
        return NOBODY
    at = h & (2 * MOST_GROUPS - 1)
    while True:
        known = load32(worker.group_index + 4 * at)
        if known == 0:
            break
        group = group_address(w, known)
        if GROUP_AT(group).hash == h:
            same = True
            for n in range(2 * worker.words):
                if load64(group + GROUP_HEAD + 8 * n) != load64(worker.mine + 8 * n):
                    same = False
            if same:
                return known
        at = (at + 1) & (2 * MOST_GROUPS - 1)
    if worker.group_count >= MOST_GROUPS:
        add(w, GROUPS_FULL, 1)
        return NOBODY
    number = worker.group_count + 0
    worker.group_count += 1
    group = group_address(w, number)
    copy(group + GROUP_HEAD, worker.mine, 16 * worker.words)
    GROUP_AT(group).hash = h
    _describe(w, group)
    store32(worker.group_index + 4 * at, number)
    return number


@kernel
def keep_asking(w, services):
    """Take out of `mine` what is not decided and does not ask for one of these session protocols, but for what packets decide."""
    worker = WORKER_AT(w)
    lasting = lasting_address(w) if worker.conjunct_count else 0
    for n in range(worker.words):
        at = worker.mine + 8 * n
        left = load64(at) & ~(load64(lasting + 8 * n) if lasting else 0)
        while left:
            bit = trailing_zeros(left)
            left &= left - 1
            if SUBSCRIPTION_AT(subscription_address(w, 64 * n + bit)).filter_services & services == 0:
                store64(at, load64(at) & ~(1 << bit))


@kernel
def keep_only(w, allowed, session_level, undecided):
    """Take out of `mine` what can never be delivered any more.

    allowed: session protocols that this connection can still have or has had, a bit each. session_level 0: no further
    session will come. undecided 0: whatever is not decided by now never will be, unless packets decide it.
    """
    worker = WORKER_AT(w)
    lasting = lasting_address(w) if worker.conjunct_count else 0
    for n in range(worker.words):
        alive_at, matched_at = worker.mine + 8 * n, worker.mine + 8 * (worker.words + n)
        if undecided == 0:
            store64(alive_at, load64(alive_at) & load64(lasting + 8 * n) if lasting else 0)
        left = load64(alive_at) | load64(matched_at)
        gone = 0
        while left:
            bit = trailing_zeros(left)
            left &= left - 1
            s = SUBSCRIPTION_AT(subscription_address(w, 64 * n + bit))
            if s.must_services & ~allowed or (session_level == 0 and s.level == SESSION_LEVEL):
                gone |= 1 << bit
        store64(alive_at, load64(alive_at) & ~gone)
        store64(matched_at, load64(matched_at) & ~gone)
