"""InterArrivals: pauses between the packets of each direction."""

from __future__ import annotations

import numpy as np

from retina_jit import memory
from retina_jit.datatypes.base import DataType, register
from retina_jit.datatypes.column import numbers
from retina_jit.delivery.event import CONTEXT_AT, put_bytes
from retina_jit.jit import entry
from retina_jit.memory import load64
from retina_jit.pipeline.layout import WORKER
from retina_jit.state.parts import ARRIVALS, ARRIVALS_SIDE, SIDE_AT

OFFSETS = WORKER.fields["part0"][1]  # type: ignore[index]
RECORD = np.dtype([("interarrivals_ctos", "i8"), ("interarrivals_stoc", "i8")])
RECORD_AT = memory.at(RECORD)
SIDE_SIZE = ARRIVALS_SIDE.itemsize


@entry
def project(context):
    """Write both lists."""
    c = CONTEXT_AT(context)
    part = c.track + load64(c.worker + OFFSETS + 24)
    ctos, stoc = SIDE_AT(part), SIDE_AT(part + SIDE_SIZE)
    r = RECORD_AT(c.out)
    r.interarrivals_ctos = put_bytes(context, ctos.list, 8 * ctos.count)
    r.interarrivals_stoc = put_bytes(context, stoc.list, 8 * stoc.count)
    return 0


@register
class InterArrivals(DataType):
    """Pause before each packet but the first of its direction, in order of arrival; the first 65536 of each direction.

    A packet that was captured with an earlier time than the one before it gives 0.
    """

    __slots__ = ()
    LEVEL = "connection"
    RECORD = RECORD
    PROJECT = f"{__name__}:project"
    TRACK = ARRIVALS

    interarrivals_ctos = numbers(RECORD, "interarrivals_ctos", "Of the originator.", item=8, order="little", unit="ns")
    interarrivals_stoc = numbers(RECORD, "interarrivals_stoc", "Of the responder.", item=8, order="little", unit="ns")
