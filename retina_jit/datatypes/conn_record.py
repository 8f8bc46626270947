"""ConnRecord: what is known of a connection at its end. Retina's record (`datatypes/src/connection.rs`), corrected."""

from __future__ import annotations

from struct import Struct

import numpy as np

from retina_jit import memory
from retina_jit.datatypes import five_tuple
from retina_jit.datatypes.base import DataType, View, register
from retina_jit.datatypes.column import ZERO, custom, nested, number, seconds
from retina_jit.datatypes.five_tuple import FiveTuple
from retina_jit.delivery.event import CONTEXT_AT, packed, put_bytes, reserve_bytes
from retina_jit.formats.json import put_byte
from retina_jit.jit import entry, kernel
from retina_jit.memory import load8, load64, store64
from retina_jit.state.layout import CHUNKS, HISTORY_LETTERS, MOST_CHUNKS
from retina_jit.state.table import CONNECTION_AT
from retina_jit.state.track import CHUNKS_AT, SIDE_AT, TRACK_AT, gap_packets, side_address

SIDE = np.dtype(
    [
        ("nb_pkts", "u4"),
        ("nb_malformed_pkts", "u4"),
        ("nb_late_start_pkts", "u4"),
        ("data_start", "u4"),
        ("nb_pkt_bytes", "i8"),
        ("nb_payload_bytes", "i8"),
        ("content_gaps", "u4"),
        ("max_simult_gaps", "u4"),
        ("missed_bytes", "i8"),
        ("chunks", "i8"),  # packed: (start, end) pairs of words
        ("gaps", "i8"),  # packed: (start, packets) pairs of words
    ]
)
RECORD = np.dtype(
    [
        ("five_tuple", five_tuple.RECORD),
        ("first_seen_ts", "i8"),
        ("second_seen_ts", "i8"),
        ("last_seen_ts", "i8"),
        ("max_inactivity", "i8"),
        ("history", "i8"),
        ("lost_bytes", "i8"),
        ("service", "i8"),
        ("orig", SIDE),
        ("resp", SIDE),
    ]
)
_HEAD = np.dtype([(n, RECORD.fields[n][0]) for n in RECORD.names[1:8]])  # type: ignore[index]
HEAD_AT, SIDE_RECORD_AT = memory.at(_HEAD), memory.at(SIDE)
_TUPLE = five_tuple.RECORD.itemsize
_ORIG, _RESP = RECORD.fields["orig"][1], RECORD.fields["resp"][1]  # type: ignore[index]
_LIST = CHUNKS.itemsize
_GAPS = _LIST + 16 * MOST_CHUNKS


@kernel
def _write_side(context, out, side):
    """Write one side's counters; intervals and gaps follow as variable bytes where there are gaps."""
    s = SIDE_AT(side)
    o = SIDE_RECORD_AT(out)
    o.nb_pkts, o.nb_malformed_pkts, o.nb_late_start_pkts = s.nb_pkts, s.nb_malformed_pkts, s.nb_late_start_pkts
    o.data_start, o.nb_pkt_bytes, o.nb_payload_bytes = s.data_start, s.nb_pkt_bytes, s.nb_payload_bytes
    o.content_gaps, o.max_simult_gaps, o.missed_bytes, o.chunks, o.gaps = 0, 0, 0, 0, 0
    block = s.chunks + 0
    if block:
        h = CHUNKS_AT(block)
        missed = 0
        upto = 0
        open_gaps = 0
        for n in range(h.count):
            start = load64(block + _LIST + 16 * n)
            if start > upto:
                missed += start - upto
                open_gaps += 1
            upto = load64(block + _LIST + 16 * n + 8)
        o.content_gaps, o.max_simult_gaps, o.missed_bytes = open_gaps, h.max_gaps, missed
        o.chunks = put_bytes(context, block + _LIST, 16 * h.count)
        room = reserve_bytes(context, 16 * h.gaps)
        if room and h.gaps:
            for n in range(h.gaps):
                store64(room + 16 * n, load64(block + _GAPS + 16 * n))
                store64(room + 16 * n + 8, gap_packets(block, load64(block + _GAPS + 16 * n + 8)))
            o.gaps = packed(context, room, 16 * h.gaps)


@entry
def project(context):
    """Write the record; needs a connection and its TRACK."""
    c = CONTEXT_AT(context)
    five_tuple.write(context, c.out)
    n = CONNECTION_AT(c.connection)
    t = TRACK_AT(c.track)
    h = HEAD_AT(c.out + _TUPLE)
    h.first_seen_ts, h.second_seen_ts, h.last_seen_ts = n.first, t.second, n.last
    h.max_inactivity, h.history, h.lost_bytes, h.service = t.max_inactivity, t.history, t.lost, n.service
    _write_side(context, c.out + _ORIG, side_address(c.track, 0))
    _write_side(context, c.out + _RESP, side_address(c.track, 1))
    return 0


_HEAD_ALL = Struct("<qqqqqqq").unpack_from
_WORDS = np.dtype("<i8")
_LETTERS = [""] + [*HISTORY_LETTERS, "?", *HISTORY_LETTERS.lower(), "?", "?"]


def history_text(word: int) -> str:
    """Return the letters of a history word, in the order in which they were seen."""
    letters = ""
    while word & 0xF:
        letters += _LETTERS[word & 0xF]
        word >>= 4
    return letters


_letters = memory.constant("history_letters", "".join(_LETTERS[1:]).encode())


@entry
def write_history(record, event, out, limit):
    """Write the history in JSON."""
    word = HEAD_AT(record + _TUPLE).history
    out = put_byte(out, limit, 34)
    while word & 0xF:
        out = put_byte(out, limit, load8(_letters() + (word & 0xF) - 1))
        word = memory.shift_right(word, 4)
    return put_byte(out, limit, 34)


class Flow(View):
    """One direction of a connection."""

    __slots__ = ()

    nb_pkts = number(SIDE, "nb_pkts", "Packets, malformed and late ones included.")
    nb_malformed_pkts = number(SIDE, "nb_malformed_pkts", "Packets whose payload is not captured whole.")
    nb_late_start_pkts = number(SIDE, "nb_late_start_pkts", "TCP packets with a sequence number before the first seen.")
    nb_pkt_bytes = number(SIDE, "nb_pkt_bytes", "Bytes of whole frames, as on the wire.", unit="byte")
    nb_payload_bytes = number(SIDE, "nb_payload_bytes", "Bytes of payload, retransmitted ones included.", unit="byte")
    max_simult_gaps = number(SIDE, "max_simult_gaps", "Most gaps that were open at once.")
    content_gaps = number(SIDE, "content_gaps", "Gaps that are open at the end.")
    missed_bytes = number(SIDE, "missed_bytes", "Bytes that lie in gaps.", unit="byte")
    data_start = number(SIDE, "data_start", "TCP: sequence number of the first byte; UDP: 0.", shown=False)

    def _pairs(self, name: str) -> list[tuple[int, int]]:
        raw = self._slice(SIDE.fields[name][1])  # type: ignore[index]
        return [(int(a), int(b)) for a, b in np.frombuffer(raw, _WORDS).reshape(-1, 2)]

    @property
    def gaps(self) -> dict[int, int]:
        """Where a gap began -> how many packets were seen while it was open."""
        return dict(self._pairs("gaps"))

    @property
    def chunks(self) -> list[tuple[int, int]]:
        """Intervals of the stream that were seen, [start, end) from `data_start`, when there are gaps."""
        return self._pairs("chunks")

    def mean_pkts_to_fill(self) -> float | None:
        """Return the mean number of packets seen while a gap was open; None if there was no gap."""
        counts = list(self.gaps.values())
        return sum(counts) / len(counts) if counts else None

    def median_pkts_to_fill(self) -> int | None:
        """Return the (upper) median of the packets seen while a gap was open; None if there was no gap."""
        counts = sorted(self.gaps.values())
        return counts[len(counts) // 2] if counts else None


@register
class ConnRecord(DataType):
    """Endpoints, times, history and counters of both directions, at the end of the connection."""

    __slots__ = ()
    LEVEL = "connection"
    RECORD = RECORD
    PROJECT = f"{__name__}:project"
    TRACK = True

    five_tuple = nested(FiveTuple, 0, "Who talked to whom.")
    first_seen_ts = number(RECORD, "first_seen_ts", "Capture time of the first packet [ns since 1970].", unit="ns")
    second_seen_ts = number(
        RECORD, "second_seen_ts", "Capture time of the second packet [ns since 1970]; None if there was only one.", null=ZERO, unit="ns"
    )
    last_seen_ts = number(RECORD, "last_seen_ts", "Capture time of the last packet [ns since 1970].", unit="ns")
    duration = seconds(RECORD, "last_seen_ts", "From the first to the last packet [s].", since="first_seen_ts")
    max_inactivity = seconds(RECORD, "max_inactivity", "Longest pause between packets [s].")

    @custom("retina_jit.datatypes.conn_record:write_history")
    def history(self) -> str:
        """Retina's letters: S SYN, H SYN/ACK, A ACK, D data, F FIN, R RST; upper case from the originator."""
        return history_text(_HEAD_ALL(self._buffer, self._at + _TUPLE)[4])

    lost_bytes = number(RECORD, "lost_bytes", "Bytes that reassembly gave up as lost; 0 if it did not run.", unit="byte")
    orig = nested(Flow, _ORIG, "The originator's direction.")
    resp = nested(Flow, _RESP, "The responder's direction.")

    @property
    def time_to_second_packet(self) -> float:
        """From the first to the second packet [s]; 0 if there was only one."""
        second = self.second_seen_ts
        return (second - self.first_seen_ts) / 1e9 if second else 0.0

    @property
    def total_pkts(self) -> int:
        """Packets of both directions."""
        return self.orig.nb_pkts + self.resp.nb_pkts

    @property
    def total_pkt_bytes(self) -> int:
        """Frame bytes of both directions."""
        return self.orig.nb_pkt_bytes + self.resp.nb_pkt_bytes

    @property
    def total_payload_bytes(self) -> int:
        """Payload bytes of both directions."""
        return self.orig.nb_payload_bytes + self.resp.nb_payload_bytes

    def client(self) -> tuple[str, int]:
        """Return the originator's endpoint."""
        return self.five_tuple.orig

    def server(self) -> tuple[str, int]:
        """Return the responder's endpoint."""
        return self.five_tuple.resp

    def __str__(self) -> str:
        return f"{self.five_tuple}: {self.history}"
