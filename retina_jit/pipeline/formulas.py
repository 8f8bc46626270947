"""Formulas: what subscriptions ask about a connection beyond one stage's answer (see `retina_jit.filters.watching`).

A formula is a list of CONJUNCTs: slots that must hold (matched), and slots that must fail (neither alive nor matched). Where
its slot is alive it becomes matched with the first conjunct that is true, and falls away with the last that can be.
"""

from __future__ import annotations

from retina_jit.jit import kernel, leaf
from retina_jit.memory import fill, load64, shift_right, store64
from retina_jit.pipeline.access import SUBSCRIPTION_AT, WORKER_AT, subscription_address
from retina_jit.pipeline.layout import SESSION_LEVEL, STATIC_LEVEL

HOLDS, OPEN, FAILS = range(3)


@leaf
def _conjunct(w, n):
    """Address of the n-th conjunct: its slot, then the set of those that must hold, then of those that must fail."""
    worker = WORKER_AT(w)
    return worker.conjuncts + n * (8 + 16 * worker.words)


@leaf
def helpers_address(w):
    """Address of the set of helpers; that of the slots that outlast the sessions follows, see `lasting_address`."""
    return _conjunct(w, WORKER_AT(w).conjunct_count + 0)


@leaf
def lasting_address(w):
    """Address of the set of slots that are not decided with the last session: what is watched, and formulas."""
    return helpers_address(w) + 8 * WORKER_AT(w).words


@kernel
def _judge(w, at, alive, matched):
    """What is known of the conjunct at `at`, given two sets."""
    words = WORKER_AT(w).words + 0
    answer = HOLDS
    for n in range(words):
        a, m = load64(alive + 8 * n), load64(matched + 8 * n)
        holding, failing = load64(at + 8 + 8 * n), load64(at + 8 + 8 * (words + n))
        if holding & ~(a | m) or failing & m:
            return FAILS
        if holding & ~m or failing & a:
            answer = OPEN
    return answer


@leaf
def _has(bits, slot):
    return shift_right(load64(bits + 8 * (slot >> 6)), slot & 63) & 1


@kernel
def _put(bits, slot, value):
    place = bits + 8 * (slot >> 6)
    store64(place, load64(place) & ~(1 << (slot & 63)) | (value << (slot & 63)))


@kernel
def combine(w):
    """Decide in `mine` the slots whose formulas are decided, and take out helpers that nobody needs any more."""
    worker = WORKER_AT(w)
    words = worker.words + 0
    alive, matched = worker.mine + 0, worker.mine + 8 * words
    # A helper is followed as long as it may decide something; what holds is remembered while any formula names it, for a
    # conjunct that has failed because of it must not come back.
    needed, named = worker.getting + 0, worker.got + 0
    fill(needed, 0, 8 * words)
    fill(named, 0, 8 * words)
    n, count = 0, worker.conjunct_count + 0
    while n < count:
        slot = load64(_conjunct(w, n))
        best, first = FAILS, n
        while n < count and load64(_conjunct(w, n)) == slot:
            best = min(best, _judge(w, _conjunct(w, n), alive, matched))
            n += 1
        if _has(alive, slot):
            if best == OPEN:
                for k in range(first, n):
                    at = _conjunct(w, k)
                    may = _judge(w, at, alive, matched) != FAILS
                    for m in range(words):
                        both = load64(at + 8 + 8 * m) | load64(at + 8 + 8 * (words + m))
                        store64(named + 8 * m, load64(named + 8 * m) | both)
                        if may:
                            store64(needed + 8 * m, load64(needed + 8 * m) | both)
            else:
                _put(alive, slot, 0)
                if best == HOLDS:
                    _put(matched, slot, 1)
    helpers = helpers_address(w)
    for m in range(words):
        own = load64(helpers + 8 * m)
        store64(alive + 8 * m, load64(alive + 8 * m) & ~(own & ~load64(needed + 8 * m)))
        store64(matched + 8 * m, load64(matched + 8 * m) & ~(own & ~load64(named + 8 * m)))


@kernel
def session_hits(w, hits):
    """Add to `hits`, the slots that a session fulfils, those of session level whose formulas hold for this session.

    `mine` holds the connection's sets.
    """
    worker = WORKER_AT(w)
    words = worker.words + 0
    alive, matched = worker.mine + 0, worker.got + 0
    for n in range(words):
        store64(matched + 8 * n, load64(hits + 8 * n) | load64(worker.mine + 8 * (words + n)))
    for n in range(worker.conjunct_count):
        at = _conjunct(w, n)
        slot = load64(at)
        if _has(alive, slot) and SUBSCRIPTION_AT(subscription_address(w, slot)).level == SESSION_LEVEL:
            if _judge(w, at, alive, matched) == HOLDS:
                _put(hits, slot, 1)


@kernel
def static_hits(w, hits):
    """Add to `hits` the static slots whose formulas hold with what has been matched, and with `hits`."""
    worker = WORKER_AT(w)
    words = worker.words + 0
    matched = worker.got + 0
    for n in range(words):
        store64(matched + 8 * n, load64(hits + 8 * n) | load64(worker.mine + 8 * (words + n)))
    for n in range(worker.conjunct_count):
        at = _conjunct(w, n)
        slot = load64(at)
        if SUBSCRIPTION_AT(subscription_address(w, slot)).level == STATIC_LEVEL and _judge(w, at, worker.mine, matched) == HOLDS:
            _put(hits, slot, 1)


@kernel
def keep_watched(w, group):
    """Let `mine`, sets of an earlier time, know what holds by now of what is watched; `group`: the sets of today."""
    worker = WORKER_AT(w)
    words = worker.words + 0
    helpers, lasting = helpers_address(w), lasting_address(w)
    for n in range(words):
        watched = load64(helpers + 8 * n) & load64(lasting + 8 * n)
        holds = load64(group + 8 * (words + n)) & watched
        store64(worker.mine + 8 * n, load64(worker.mine + 8 * n) & ~holds)
        place = worker.mine + 8 * (words + n)
        store64(place, load64(place) | holds)
