"""Packet-level data types: the frame, and the payload of its transport."""

from __future__ import annotations

from typing import Any

import numpy as np

from retina_jit import memory
from retina_jit.datatypes.base import DataType, register
from retina_jit.datatypes.column import number as field
from retina_jit.datatypes.column import raw
from retina_jit.delivery.event import CONTEXT_AT, SKIP, put_bytes
from retina_jit.jit import entry
from retina_jit.state.layout import LATER_FRAGMENT, PACKET, TCP, UDP


def row_view(**fields: str) -> np.dtype[Any]:
    """Return a dtype that reads columns of a PACKET row under other names."""
    columns = {name: PACKET.fields[column] for name, column in fields.items()}  # type: ignore[index]
    return np.dtype(
        {
            "names": list(columns),
            "formats": [c[0] for c in columns.values()],
            "offsets": [c[1] for c in columns.values()],
            "itemsize": PACKET.itemsize,
        }
    )


FRAME = np.dtype([("ts", "i8"), ("length", "u4"), ("caplen", "u4"), ("number", "i8"), ("link", "i8"), ("data", "i8")])
PAYLOAD = np.dtype([("ts", "i8"), ("length", "u4"), ("captured", "u4"), ("data", "i8")])
FRAME_IN_ROW = row_view(ts="ts", length="length", caplen="caplen", number="number", link="link", data="frame")
ETHERNET = 1
FRAME_AT, PAYLOAD_AT, PACKET_AT = memory.at(FRAME), memory.at(PAYLOAD), memory.at(PACKET)


@entry
def project_frame(context):
    """Write the frame: its numbers and a copy of its bytes."""
    c = CONTEXT_AT(context)
    r, p = FRAME_AT(c.out), PACKET_AT(c.row)
    r.ts, r.length, r.caplen, r.number, r.link = p.ts, p.length, p.caplen, p.number, p.link
    r.data = put_bytes(context, p.frame, p.caplen)
    return 0


@entry
def project_frame_in_place(context):
    """Write the frame for a compiled callback: `data` is the frame's address, borrowed until the callback returns."""
    c = CONTEXT_AT(context)
    r, p = FRAME_AT(c.out), PACKET_AT(c.row)
    r.ts, r.length, r.caplen, r.number, r.link = p.ts, p.length, p.caplen, p.number, p.link
    r.data = p.frame
    return 0


@entry
def project_payload(context):
    """Write the transport's payload; SKIP when there is none."""
    c = CONTEXT_AT(context)
    r, p = PAYLOAD_AT(c.out), PACKET_AT(c.row)
    if not p.layers & (TCP | UDP) or p.layers & LATER_FRAGMENT or p.payload_len == 0:
        return SKIP
    r.ts, r.length, r.captured = p.ts, p.payload_len, p.captured_len
    r.data = put_bytes(context, p.frame + p.payload, p.captured_len)
    return 0


@register
class ZcFrame(DataType):
    """A whole frame. In Python callbacks it is a copy that may be kept."""

    __slots__ = ()
    LEVEL = "packet"
    RECORD = FRAME
    PROJECT = f"{__name__}:project_frame"
    PROJECT_IN_PLACE = f"{__name__}:project_frame_in_place"
    ROW_VIEW = FRAME_IN_ROW

    ts = field(FRAME, "ts", "Capture time [ns since 1970].", unit="ns")
    length = field(FRAME, "length", "Length on the wire [byte].", unit="byte")
    caplen = field(FRAME, "caplen", "Captured length [byte].", unit="byte")
    number = field(FRAME, "number", "Position in the run, from 1.", shown=False)
    link = field(FRAME, "link", "Link type, a LINKTYPE_ number: 1 is Ethernet.", shown=False)
    data = raw(FRAME, "data", "The captured bytes.", shown=False)

    @classmethod
    def from_bytes(cls, data: bytes, *, ts: int = 0, length: int | None = None, link: int = ETHERNET, number: int = 0) -> ZcFrame:
        """Return a frame of bytes, for whoever calls a callback without a capture.

        Parameters
        ----------
        data : bytes
            What was captured; also of a scapy packet: `bytes(packet)`.
        ts : int [ns since 1970]
        length : int [byte], optional
            On the wire; as long as `data` if it is left out.
        link : int
            LINKTYPE_ number.
        number : int
            Position in the run.
        """
        record = np.zeros(1, FRAME)
        record[0] = ts, len(data) if length is None else length, len(data), number, link, FRAME.itemsize << 32 | len(data)
        return cls(record.tobytes() + bytes(data), 0, 0)

    def to_scapy(self) -> Any:
        """Return the frame as a packet of scapy, with its capture time.

        Raises
        ------
        MissingExtraError
            scapy is not installed.
        """
        from retina_jit.datatypes.scapy_packet import dissect

        return dissect(bytes(self.data), self.ts, self.length, self.link)

    def data_len(self) -> int:
        """Return the captured length [byte]."""
        return int(self.caplen)

    def __bytes__(self) -> bytes:
        return bytes(self.data)

    def __len__(self) -> int:
        return int(self.caplen)


@register
class Payload(DataType):
    """The payload of a TCP or UDP packet, as long as the headers say and the capture has it; never empty."""

    __slots__ = ()
    LEVEL = "packet"
    RECORD = PAYLOAD
    PROJECT = f"{__name__}:project_payload"

    ts = field(PAYLOAD, "ts", "Capture time [ns since 1970].", unit="ns")
    length = field(PAYLOAD, "length", "Length by the headers [byte].", unit="byte")
    captured = field(PAYLOAD, "captured", "How much of it is captured [byte].", unit="byte")
    data = raw(PAYLOAD, "data", "The captured bytes.", null=None)

    def __bytes__(self) -> bytes:
        return bytes(self.data)

    def __len__(self) -> int:
        return int(self.captured)
