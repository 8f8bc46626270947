"""What each packet tells of its connection beyond what is counted and parsed: predicates that are watched, bounds passed.

A packet is shown to what is watched before the session parser gets it, so a session knows of every packet up to its own.
"""

from __future__ import annotations

from retina_jit.jit import entry, kernel
from retina_jit.memory import (
    call1,
    call2,
    call3,
    call5,
    copy,
    fill,
    load64,
    store64,
    trailing_zeros,
)
from retina_jit.pipeline.access import SUBSCRIPTION_AT, WORKER_AT, connection_of, subscription_address
from retina_jit.pipeline.formulas import helpers_address, lasting_address
from retina_jit.pipeline.groups import GROUP_AT, group_address, load_sets
from retina_jit.pipeline.parsing import release_parser
from retina_jit.pipeline.probing import SERVICE_AT, service_address
from retina_jit.pipeline.segments import count_dropped
from retina_jit.pipeline.stages import orient, settle
from retina_jit.pipeline.user import OWN_AT, own_address
from retina_jit.state import reassembly
from retina_jit.state.layout import DROPPED, PARSING
from retina_jit.state.table import record_address, track_address

CONTINUE, ACCEPT, DROP = range(3)


@kernel
def _decide(worker_mine, words, slot, holds):
    """A watched slot is decided."""
    bit = 1 << (slot & 63)
    place = worker_mine + 8 * (slot >> 6)
    store64(place, load64(place) & ~bit)
    if holds:
        place += 8 * words
        store64(place, load64(place) | bit)


@kernel
def _show(w, index, row, slot):
    """Show a packet to a predicate of the user's own. Returns what it says."""
    worker = WORKER_AT(w)
    number = SUBSCRIPTION_AT(subscription_address(w, slot)).watch - 1
    o = OWN_AT(own_address(w, number))
    area = worker.own_area + index * worker.own_size
    begun = load64(area) + 0
    if (begun >> number) & 1 == 0:
        store64(area, begun | (1 << number))
        if o.new:
            call2(o.new, area + o.offset, row)
    said = call2(o.update, area + o.offset, row)
    if said != CONTINUE and o.clear:
        call1(o.clear, area + o.offset)
    return said


@kernel
def _test(w, row):
    """Which watched slots this packet makes true; answers in `sets`, behind those asked. Returns whether there are any."""
    worker = WORKER_AT(w)
    words = worker.words + 0
    copy(worker.sets, worker.mine, 8 * words)
    fill(worker.sets + 8 * words, 0, 16 * words)
    call3(worker.watch_stage, worker.tables, row, worker.sets)
    any_ = 0
    for n in range(words):
        hit = load64(worker.sets + 8 * (words + n))
        any_ |= hit
        place = worker.mine + 8 * n
        store64(place, load64(place) & ~hit)
        place += 8 * words
        store64(place, load64(place) | hit)
    return any_ != 0


@kernel
def _drop_early(w, index):
    """Take out of `mine` what the end of the connection can only refuse. Returns whether there was such."""
    worker = WORKER_AT(w)
    words = worker.words + 0
    for n in range(words):
        store64(worker.sets + 8 * n, load64(worker.mine + 8 * n) | load64(worker.mine + 8 * (words + n)))
    fill(worker.sets + 8 * words, 0, 16 * words)
    call5(
        worker.early_stage, worker.tables, orient(w, index), record_address(worker.table, index), track_address(worker.table, index),
        worker.sets,
    )  # fmt: skip
    any_ = 0
    for n in range(words):
        gone = load64(worker.sets + 8 * n) & load64(worker.early + 8 * n) & ~load64(worker.sets + 8 * (words + n))
        any_ |= gone
        for k in range(2):
            place = worker.mine + 8 * (k * words + n)
            store64(place, load64(place) & ~gone)
    return any_ != 0


@entry
def watch(w, index, row):
    """Take one packet of a connection whose group has HAS_WATCHES."""
    worker = WORKER_AT(w)
    words = worker.words + 0
    load_sets(w, connection_of(w, index).group)
    changed = False
    if worker.watch_stage:
        changed = _test(w, row)
    if worker.conjunct_count:
        helpers, lasting = helpers_address(w), lasting_address(w)
        for n in range(words):
            left = load64(worker.mine + 8 * n) & load64(helpers + 8 * n) & load64(lasting + 8 * n)
            while left:
                slot = 64 * n + trailing_zeros(left)
                left &= left - 1
                if SUBSCRIPTION_AT(subscription_address(w, slot)).watch:
                    said = _show(w, index, row, slot)
                    if said != CONTINUE:
                        _decide(worker.mine + 0, words, slot, said == ACCEPT)
                        changed = True
    if worker.early_stage:
        changed = _drop_early(w, index) or changed
    if changed:
        settle(w, index)
        leave(w, index)
    return 0


@kernel
def leave(w, index):
    """Stop what nobody needs any more of a connection, after its group has changed."""
    c = connection_of(w, index)
    g = GROUP_AT(group_address(w, c.group))
    parsed = 0
    if c.phase == PARSING:
        parsed = SERVICE_AT(service_address(w, c.service)).turns | (1 << c.service)
    if g.any == 0 or (parsed and g.services & parsed == 0):
        release_parser(w, index)
        if c.held:
            count_dropped(w, reassembly.drop_all(c, WORKER_AT(w).arena))
    if g.any == 0:
        c.life = DROPPED


@kernel
def end_watches(w, index):
    """The connection is over: what is watched and not decided does not hold. Changes `mine`, which must be loaded."""
    worker = WORKER_AT(w)
    words = worker.words + 0
    area = worker.own_area + index * worker.own_size
    helpers, lasting = helpers_address(w), lasting_address(w)
    for n in range(words):
        open_ = load64(worker.mine + 8 * n) & load64(helpers + 8 * n) & load64(lasting + 8 * n)
        store64(worker.mine + 8 * n, load64(worker.mine + 8 * n) & ~open_)
        left = open_
        while left:
            slot = 64 * n + trailing_zeros(left)
            left &= left - 1
            number = SUBSCRIPTION_AT(subscription_address(w, slot)).watch - 1
            if number >= 0 and (load64(area) >> number) & 1:
                o = OWN_AT(own_address(w, number))
                if o.clear:
                    call1(o.clear, area + o.offset)
