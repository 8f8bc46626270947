"""Small summaries of a connection: packets, bytes, duration, history. Retina's names; times are capture times."""

from __future__ import annotations

from struct import Struct
from typing import Any

import numpy as np

from retina_jit import memory
from retina_jit.datatypes.base import DataType, register
from retina_jit.datatypes.column import custom, number
from retina_jit.datatypes.conn_record import history_text, put_history
from retina_jit.delivery.event import CONTEXT_AT
from retina_jit.jit import entry
from retina_jit.memory import load64
from retina_jit.pipeline.layout import WORKER
from retina_jit.state.parts import COUNTS, COUNTS_AT, HISTORY, LETTERS_AT
from retina_jit.state.table import CONNECTION_AT

OFFSETS = WORKER.fields["part0"][1]  # type: ignore[index]
PKTS = np.dtype([("pkt_count", "i8"), ("orig", "i8"), ("resp", "i8")])
BYTES = np.dtype([("byte_count", "i8"), ("orig", "i8"), ("resp", "i8")])
FLAGS = np.dtype([("orig", "u4"), ("resp", "u4")])
DURATION = np.dtype([("start_ts", "i8"), ("last_ts", "i8"), ("duration", "i8")])
LETTERS = np.dtype([("history", "i8")])
PKTS_AT, BYTES_AT, FLAGS_AT, DURATION_AT, HISTORY_AT = (memory.at(r) for r in (PKTS, BYTES, FLAGS, DURATION, LETTERS))
_WORD = Struct("<q").unpack_from


@entry
def project_pkts(context):
    """Write the packets counted so far."""
    c = CONTEXT_AT(context)
    n, r = COUNTS_AT(c.track + load64(c.worker + OFFSETS + 8)), PKTS_AT(c.out)
    r.pkt_count, r.orig, r.resp = n.pkts0 + n.pkts1, n.pkts0, n.pkts1
    return 0


@entry
def project_bytes(context):
    """Write the bytes counted so far."""
    c = CONTEXT_AT(context)
    n, r = COUNTS_AT(c.track + load64(c.worker + OFFSETS + 8)), BYTES_AT(c.out)
    r.byte_count, r.orig, r.resp = n.bytes0 + n.bytes1, n.bytes0, n.bytes1
    return 0


@entry
def project_ip_bytes(context):
    """Write the bytes of IP packets counted so far."""
    c = CONTEXT_AT(context)
    n, r = COUNTS_AT(c.track + load64(c.worker + OFFSETS + 8)), BYTES_AT(c.out)
    r.byte_count, r.orig, r.resp = n.ip_bytes0 + n.ip_bytes1, n.ip_bytes0, n.ip_bytes1
    return 0


@entry
def project_flags(context):
    """Write which TCP flags there were so far."""
    c = CONTEXT_AT(context)
    n, r = COUNTS_AT(c.track + load64(c.worker + OFFSETS + 8)), FLAGS_AT(c.out)
    r.orig, r.resp = n.tcp_flags0, n.tcp_flags1
    return 0


@entry
def project_duration(context):
    """Write first and last time; they stand in the connection itself."""
    c = CONTEXT_AT(context)
    n, r = CONNECTION_AT(c.connection), DURATION_AT(c.out)
    r.start_ts, r.last_ts = n.first, n.last
    r.duration = (n.last - n.first) // 1_000_000
    return 0


@entry
def project_history(context):
    """Write the letters so far."""
    c = CONTEXT_AT(context)
    HISTORY_AT(c.out).history = LETTERS_AT(c.track + load64(c.worker + OFFSETS + 16)).history
    return 0


@entry
def write_history(record, event, out, limit):
    """Write the history in JSON."""
    return put_history(HISTORY_AT(record).history + 0, out, limit)


@register
class PktCount(DataType):
    """Packets of a connection, both directions."""

    __slots__ = ()
    LEVEL = "connection"
    RECORD = PKTS
    PROJECT = f"{__name__}:project_pkts"
    TRACK = COUNTS

    pkt_count = number(PKTS, "pkt_count", "Packets of both directions.")
    orig = number(PKTS, "orig", "Packets of the originator.")
    resp = number(PKTS, "resp", "Packets of the responder.")

    def raw(self) -> int:
        """Return the packets of both directions."""
        return int(self.pkt_count)

    __int__ = raw


class _Bytes(DataType):
    __slots__ = ()
    LEVEL = "connection"
    RECORD = BYTES
    TRACK = COUNTS

    byte_count = number(BYTES, "byte_count", "Bytes of both directions.", unit="byte")
    orig = number(BYTES, "orig", "Bytes of the originator.", unit="byte")
    resp = number(BYTES, "resp", "Bytes of the responder.", unit="byte")

    def raw(self) -> int:
        """Return the bytes of both directions."""
        return int(self.byte_count)

    __int__ = raw


@register
class ByteCount(_Bytes):
    """Bytes of a connection's frames, as on the wire, both directions."""

    __slots__ = ()
    PROJECT = f"{__name__}:project_bytes"


@register
class IpByteCount(_Bytes):
    """Bytes of a connection's IP packets, both directions: headers of IP and transport and payload, without what frames add to them."""

    __slots__ = ()
    PROJECT = f"{__name__}:project_ip_bytes"


@register
class TcpFlags(DataType):
    """TCP flags of a connection, those of all its packets together: FIN 1, SYN 2, RST 4, PSH 8, ACK 16, URG 32, ECE 64, CWR 128."""

    __slots__ = ()
    LEVEL = "connection"
    RECORD = FLAGS
    PROJECT = f"{__name__}:project_flags"
    TRACK = COUNTS

    orig = number(FLAGS, "orig", "Flags that the originator has sent; 0 without TCP.")
    resp = number(FLAGS, "resp", "Flags that the responder has sent; 0 without TCP.")


@register
class ConnDuration(DataType):
    """How long a connection lasted, from its first to its last packet."""

    __slots__ = ()
    LEVEL = "connection"
    RECORD = DURATION
    PROJECT = f"{__name__}:project_duration"

    start_ts = number(DURATION, "start_ts", "Capture time of the first packet [ns since 1970].", unit="ns")
    last_ts = number(DURATION, "last_ts", "Capture time of the last packet [ns since 1970].", unit="ns")
    duration = number(DURATION, "duration", "From the first to the last packet, whole milliseconds.", unit="ms")

    def duration_ms(self) -> int:
        """Return the same."""
        return int(self.duration)


@register
class ConnHistory(DataType):
    """Retina's letters of a connection, see `ConnRecord.history`."""

    __slots__ = ()
    LEVEL = "connection"
    RECORD = LETTERS
    PROJECT = f"{__name__}:project_history"
    TRACK = HISTORY

    @custom("retina_jit.datatypes.counters:write_history")
    def history(self) -> Any:
        """S SYN, H SYN/ACK, A ACK, D data, F FIN, R RST; upper case from the originator, each once per side."""
        return history_text(_WORD(self._buffer, self._at)[0])

    def __str__(self) -> str:
        return str(self.history)
