"""The ten packet lists: the frames of a connection, in order of arrival or in the order of the stream.

Frames are copied when they come (`conntrack.packet_list_bytes` per connection). The Zc types are the same as the others:
Retina's point to frames of the network card, which callbacks here never keep.

Order of the stream: as a TCP receiver takes the segments in; those that bring nothing new are left out, and what stands
behind a hole that stays open comes at the end. Datagrams come in order of arrival.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from retina_jit import memory
from retina_jit.datatypes.base import DataType, View, register
from retina_jit.datatypes.column import number as field
from retina_jit.datatypes.column import objects, raw
from retina_jit.delivery.event import CONTEXT_AT, packed, put_bytes, reserve_bytes
from retina_jit.jit import entry, kernel
from retina_jit.memory import load64, store64
from retina_jit.pipeline.layout import WORKER
from retina_jit.state.parts import ENTRY_AT, ENTRY_SIZE, ORIG_PACKETS, PACKETS_AT, RESP_PACKETS
from retina_jit.state.track import signed32

OFFSETS = WORKER.fields["part0"][1]  # type: ignore[index]
ITEM = np.dtype(
    [
        ("ts", "i8"),
        ("length", "u4"),
        ("caplen", "u4"),
        ("number", "u4"),
        ("direction", "u4"),
        ("data", "i8"),
    ]
)
RECORD = np.dtype([("packets", "i8"), ("left_out", "i8")])
ITEM_AT, RECORD_AT = memory.at(ITEM), memory.at(RECORD)
ITEM_SIZE = ITEM.itemsize
BOTH = 2
SYN, FIN = 2, 1


@kernel
def _put(context, room, n, at):
    """Write the n-th item of the list from the packet kept at `at`."""
    e, item = ENTRY_AT(at), ITEM_AT(room + n * ITEM_SIZE)
    item.ts, item.length, item.caplen, item.number, item.direction = e.ts, e.length, e.caplen, e.number, e.direction
    item.data = put_bytes(context, at + ENTRY_SIZE, e.caplen)


@kernel
def _following(at):
    return at + ENTRY_SIZE + ((ENTRY_AT(at).caplen + 7) & ~7)


@kernel
def _room(context, part):
    """Room for as many items as are kept, or 0; the record says how many were left out."""
    p = PACKETS_AT(part)
    r = RECORD_AT(CONTEXT_AT(context).out)
    r.packets, r.left_out = 0, p.left_out
    return reserve_bytes(context, p.count * ITEM_SIZE)


@kernel
def write_list(context, wanted):
    """Write the packets of a side, or BOTH, in order of arrival."""
    c = CONTEXT_AT(context)
    part = c.track + load64(c.worker + OFFSETS + 32)
    p = PACKETS_AT(part)
    room = _room(context, part)
    if room == 0:
        return
    at, end, n = p.list + 0, p.list + p.used, 0
    while at < end:
        if wanted == BOTH or ENTRY_AT(at).direction == wanted:
            _put(context, room, n, at)
            n += 1
        at = _following(at)
    if n:
        RECORD_AT(c.out).packets = packed(context, room, n * ITEM_SIZE)


@kernel
def _sift_up(heap, n):
    """The heap holds pairs of words: where in the stream a packet begins, its address. Addresses grow with arrival."""
    while n:
        up = (n - 1) >> 1
        a, b = heap + 16 * n, heap + 16 * up
        if load64(b) < load64(a) or (load64(b) == load64(a) and load64(b + 8) < load64(a + 8)):
            return
        _swap(a, b)
        n = up


@kernel
def _swap(a, b):
    x, y = load64(a), load64(a + 8)
    store64(a, load64(b))
    store64(a + 8, load64(b + 8))
    store64(b, x)
    store64(b + 8, y)


@kernel
def _sift_down(heap, count):
    n = 0
    while 2 * n + 1 < count:
        down = 2 * n + 1
        if down + 1 < count:
            a, b = heap + 16 * down, heap + 16 * (down + 1)
            if load64(b) < load64(a) or (load64(b) == load64(a) and load64(b + 8) < load64(a + 8)):
                down += 1
        a, b = heap + 16 * n, heap + 16 * down
        if load64(a) < load64(b) or (load64(a) == load64(b) and load64(a + 8) < load64(b + 8)):
            return
        _swap(a, b)
        n = down


@kernel
def _end(at, start):
    """Where in the stream a packet ends; the SYN stands before the first byte, the FIN is one behind the last."""
    e = ENTRY_AT(at)
    return start + e.payload_len + (e.tcp_flags & FIN)


@kernel
def write_stream(context, side):
    """Write the packets of a side in the order of the stream."""
    c = CONTEXT_AT(context)
    part = c.track + load64(c.worker + OFFSETS + 32)
    p = PACKETS_AT(part)
    room = _room(context, part)
    heap = reserve_bytes(context, 16 * p.count)
    if room == 0 or heap == 0:
        return
    at, end, n, held = p.list + 0, p.list + p.used, 0, 0
    base, reach, started = 0, 0, False
    while at < end:
        e = ENTRY_AT(at)
        if e.direction == side:
            if not e.tcp:
                _put(context, room, n, at)
                n += 1
            else:
                syn = (e.tcp_flags & SYN) >> 1
                if not started:
                    base, started = (e.seq + syn) & 0xFFFFFFFF, True
                start = reach + signed32(e.seq + syn - base - reach)
                if start > reach:
                    store64(heap + 16 * held, start)
                    store64(heap + 16 * held + 8, at)
                    _sift_up(heap, held)
                    held += 1
                elif syn or _end(at, start) > reach or start == reach:
                    _put(context, room, n, at)
                    n += 1
                    reach = max(reach, _end(at, start))
                while held and load64(heap) <= reach:
                    n, reach = _pop(context, heap, held, room, n, reach)
                    held -= 1
        at = _following(at)
    while held:
        n, reach = _pop(context, heap, held, room, n, reach)
        held -= 1
    if n:
        RECORD_AT(c.out).packets = packed(context, room, n * ITEM_SIZE)


@kernel
def _pop(context, heap, held, room, n, reach):
    """Take the first packet from the heap, and write it if it brings anything. Returns (items, reach)."""
    start, at = load64(heap), load64(heap + 8)
    _swap(heap, heap + 16 * (held - 1))
    _sift_down(heap, held - 1)
    end = _end(at, start)
    if end > reach or start >= reach:
        _put(context, room, n, at)
        n += 1
    return n, max(reach, end)


@entry
def project_bidir(context):
    """Both directions, as they came."""
    write_list(context, BOTH)
    return 0


@entry
def project_orig(context):
    """The originator's, as they came."""
    write_list(context, 0)
    return 0


@entry
def project_resp(context):
    """The responder's, as they came."""
    write_list(context, 1)
    return 0


@entry
def project_orig_stream(context):
    """The originator's, in the order of the stream."""
    write_stream(context, 0)
    return 0


@entry
def project_resp_stream(context):
    """The responder's, in the order of the stream."""
    write_stream(context, 1)
    return 0


class Packet(View):
    """A frame in a list."""

    __slots__ = ()

    ts = field(ITEM, "ts", "Capture time [ns since 1970].", unit="ns")
    length = field(ITEM, "length", "Length on the wire.", unit="byte")
    caplen = field(ITEM, "caplen", "Captured length.", unit="byte")
    number = field(ITEM, "number", "Position among the packets that were to be kept, from 0, in order of arrival.")
    direction = field(ITEM, "direction", "0 from the originator, 1 from the responder.")
    data = raw(ITEM, "data", "The captured bytes; none if the event had no room for them.", null=None)

    def __bytes__(self) -> bytes:
        found = bytes(self.data)
        if not found and self.caplen:
            raise ValueError(f"packet {self.number} of the list has no bytes: an event has 4 MiB. With a lower conntrack.packet_list_bytes fewer packets are listed, all with their bytes")
        return found

    def __len__(self) -> int:
        return int(self.caplen)

    def to_scapy(self, link: int = 1) -> Any:
        """Return the frame as a packet of scapy, with its capture time.

        Parameters
        ----------
        link : int
            LINKTYPE_ number of the capture: 1 is Ethernet.

        Raises
        ------
        MissingExtraError
            scapy is not installed.
        """
        from retina_jit.datatypes.scapy_packet import dissect

        return dissect(bytes(self), self.ts, self.length, link)


class PacketList(DataType):
    """Base of the lists."""

    __slots__ = ()
    LEVEL = "connection"
    RECORD = RECORD

    packets = objects(RECORD, "packets", Packet, ITEM, "The frames.")
    left_out = field(RECORD, "left_out", "Frames that there was no room for.")

    def __len__(self) -> int:
        return len(self.packets)

    def __iter__(self) -> Any:
        return iter(self.packets)

    def __getitem__(self, n: int) -> Packet:
        found: Packet = self.packets[n]
        return found


def _make(name: str, doc: str, project: str, parts: int) -> type[PacketList]:
    members = {"__slots__": (), "__doc__": doc, "__module__": __name__, "PROJECT": f"{__name__}:{project}", "TRACK": parts}
    made: Any = register(type(name, (PacketList,), members))
    return made


_ARRIVAL, _STREAM = "in order of arrival.", "in the order of the stream."
BidirPktStream = _make("BidirPktStream", f"Frames of both directions, {_ARRIVAL}", "project_bidir", ORIG_PACKETS | RESP_PACKETS)
OrigPktStream = _make("OrigPktStream", f"Frames of the originator, {_ARRIVAL}", "project_orig", ORIG_PACKETS)
RespPktStream = _make("RespPktStream", f"Frames of the responder, {_ARRIVAL}", "project_resp", RESP_PACKETS)
BidirZcPktStream = _make("BidirZcPktStream", f"Frames of both directions, {_ARRIVAL}", "project_bidir", ORIG_PACKETS | RESP_PACKETS)
OrigZcPktStream = _make("OrigZcPktStream", f"Frames of the originator, {_ARRIVAL}", "project_orig", ORIG_PACKETS)
RespZcPktStream = _make("RespZcPktStream", f"Frames of the responder, {_ARRIVAL}", "project_resp", RESP_PACKETS)
OrigPktsReassembled = _make("OrigPktsReassembled", f"Frames of the originator, {_STREAM}", "project_orig_stream", ORIG_PACKETS)
RespPktsReassembled = _make("RespPktsReassembled", f"Frames of the responder, {_STREAM}", "project_resp_stream", RESP_PACKETS)
OrigZcPktsReassembled = _make("OrigZcPktsReassembled", f"Frames of the originator, {_STREAM}", "project_orig_stream", ORIG_PACKETS)
RespZcPktsReassembled = _make("RespZcPktsReassembled", f"Frames of the responder, {_STREAM}", "project_resp_stream", RESP_PACKETS)
