"""Data types of the user's own: a record per connection that compiled functions of theirs fill.

The records of all that a program needs lie in one area beside the connection, same index. A record is zero, then `new` sees
the first packet, then `update` sees every packet, that one included, as long as a subscription may want it.
"""

from __future__ import annotations

from retina_jit import memory
from retina_jit.delivery.event import CONTEXT_AT
from retina_jit.jit import entry, kernel
from retina_jit.memory import call1, call2, copy, fill, load64, store64, trailing_zeros
from retina_jit.pipeline.access import SUBSCRIPTION_AT, WORKER_AT
from retina_jit.pipeline.layout import OWN, SUBSCRIPTION
from retina_jit.state.table import index_of

OWN_AT = memory.at(OWN)
OWN_SIZE = OWN.itemsize
KEPT = SUBSCRIPTION.fields["kept0"][1]  # type: ignore[index]


@kernel
def clear_area(w, index):
    """Begin the area of a new connection."""
    worker = WORKER_AT(w)
    if worker.own_size:
        fill(worker.own_area + index * worker.own_size, 0, worker.own_size)


@kernel
def own_address(w, number):
    """Address of the n-th OWN."""
    return WORKER_AT(w).own + number * OWN_SIZE


@kernel
def update_own(w, index, row, wanted):
    """Show a packet to the data types in a set. The area's first word says which have begun."""
    worker = WORKER_AT(w)
    area = worker.own_area + index * worker.own_size
    left = wanted
    while left:
        number = trailing_zeros(left)
        left &= left - 1
        o = OWN_AT(own_address(w, number))
        begun = load64(area) + 0
        if (begun >> number) & 1 == 0:
            store64(area, begun | (1 << number))
            if o.new:
                call2(o.new, area + o.offset, row)
        if o.update:
            call2(o.update, area + o.offset, row)


@kernel
def clear_own(w, index, sub):
    """A streaming subscription was called: clear what it was given, where its data type says how."""
    worker = WORKER_AT(w)
    left = SUBSCRIPTION_AT(sub).owns + 0
    while left:
        o = OWN_AT(own_address(w, trailing_zeros(left)))
        left &= left - 1
        if o.clear:
            call1(o.clear, worker.own_area + index * worker.own_size + o.offset)


@entry
def project(context):
    """Write the record as it stands."""
    c = CONTEXT_AT(context)
    worker = WORKER_AT(c.worker)
    index = index_of(worker.table, c.connection)
    o = OWN_AT(own_address(c.worker, load64(c.subscription + KEPT + 8 * c.position)))
    copy(c.out, worker.own_area + index * worker.own_size + o.offset, o.size)
    return 0
