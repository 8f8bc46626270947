"""A frame as capture files keep it, for sinks that write them."""

from __future__ import annotations

import numpy as np

from retina_jit import memory
from retina_jit.datatypes.base import DataType
from retina_jit.datatypes.column import number, raw
from retina_jit.datatypes.packets import row_view
from retina_jit.delivery.event import CONTEXT_AT, put_bytes
from retina_jit.jit import entry
from retina_jit.state.layout import PACKET

RECORD = np.dtype([("ts", "i8"), ("length", "u4"), ("caplen", "u4"), ("link", "i8"), ("data", "i8")])
RECORD_AT, PACKET_AT = memory.at(RECORD), memory.at(PACKET)


@entry
def project(context):
    """Write the frame: its numbers, its link type, a copy of its bytes."""
    c = CONTEXT_AT(context)
    r, p = RECORD_AT(c.out), PACKET_AT(c.row)
    r.ts, r.length, r.caplen, r.link = p.ts, p.length, p.caplen, p.link
    r.data = put_bytes(context, p.frame, p.caplen)
    return 0


class CapturedFrame(DataType):
    """What a capture file says of a frame."""

    __slots__ = ()
    LEVEL = "packet"
    RECORD = RECORD
    PROJECT = f"{__name__}:project"
    ROW_VIEW = row_view(ts="ts", length="length", caplen="caplen", link="link", data="frame")

    ts = number(RECORD, "ts", "Capture time [ns since 1970].", unit="ns")
    length = number(RECORD, "length", "Length on the wire [byte].", unit="byte")
    caplen = number(RECORD, "caplen", "Captured length [byte].", unit="byte")
    link = number(RECORD, "link", "Link type, a LINKTYPE_ number.")
    data = raw(RECORD, "data", "The captured bytes.", null=None)
