"""ConnRecord: what is known of a connection at its end. Retina's record (`datatypes/src/connection.rs`), corrected."""

from __future__ import annotations

from struct import Struct

import numpy as np

from retina_jit import memory
from retina_jit.datatypes import five_tuple
from retina_jit.datatypes.base import DataType, View, register
from retina_jit.datatypes.column import ZERO, Names, custom, named, nested, number, seconds, text, unless
from retina_jit.datatypes.five_tuple import FiveTuple
from retina_jit.delivery.event import (
    CONTEXT_AT,
    END_CLOSED,
    END_IDLE,
    END_NO_ROOM,
    END_OF_INPUT,
    packed,
    put_bytes,
    reserve_bytes,
)
from retina_jit.formats.json import put_byte
from retina_jit.jit import entry, kernel
from retina_jit.memory import load8, load64, store64
from retina_jit.pipeline.access import WORKER_AT
from retina_jit.pipeline.layout import SERVICE
from retina_jit.state.flowkey import protocol_of
from retina_jit.state.layout import HISTORY_LETTERS, RESP, RST_SEEN, ZEEK_LETTERS
from retina_jit.state.parts import RECORD as RECORD_PART
from retina_jit.state.table import CONNECTION_AT
from retina_jit.state.track import (
    CHUNK_LIST,
    CHUNKS_AT,
    SIDE_AT,
    TRACK_AT,
    ZEEK_SIDE,
    gap_list,
    gap_packets,
    side_address,
)

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
        ("nb_retransmits", "u4"),
        ("nb_out_of_order", "u4"),
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
        ("service", "i8"),  # packed: name of the session protocol
        ("zeek0", "i8"),
        ("zeek1", "i8"),
        ("rtt_orig", "i8"),
        ("rtt_resp", "i8"),
        ("nb_overlaps", "u4"),
        ("nb_inconsistent", "u4"),
        ("vlan_id", "u2"),
        ("inner_vlan_id", "u2"),
        ("tagged", "u1"),
        ("end_reason", "u1"),
        ("conn_state", "u2"),
        ("orig", SIDE),
        ("resp", SIDE),
    ]
)
_HEAD = np.dtype([(n, RECORD.fields[n][0]) for n in RECORD.names[1:19]])  # type: ignore[index]
HEAD_AT, SIDE_RECORD_AT, SERVICE_AT = memory.at(_HEAD), memory.at(SIDE), memory.at(SERVICE)
SERVICE_SIZE = SERVICE.itemsize
_TUPLE = five_tuple.RECORD.itemsize
_ORIG, _RESP = RECORD.fields["orig"][1], RECORD.fields["resp"][1]  # type: ignore[index]


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
            start = load64(block + CHUNK_LIST + 16 * n)
            if start > upto:
                missed += start - upto
                open_gaps += 1
            upto = load64(block + CHUNK_LIST + 16 * n + 8)
        o.content_gaps, o.max_simult_gaps, o.missed_bytes = open_gaps, h.max_gaps, missed
        o.chunks = put_bytes(context, block + CHUNK_LIST, 16 * h.count)
        room = reserve_bytes(context, 16 * h.gaps)
        if room and h.gaps:
            gaps = gap_list(block)
            for n in range(h.gaps):
                store64(room + 16 * n, load64(gaps + 16 * n))
                store64(room + 16 * n + 8, gap_packets(block, load64(gaps + 16 * n + 8)))
            o.gaps = packed(context, room, 16 * h.gaps)


CONN_STATES = ("OTH", "S0", "S1", "SF", "REJ", "S2", "S3", "RSTO", "RSTR", "RSTOS0", "RSTRH", "SH", "SHR")
OTH, S0, S1, SF, REJ, S2, S3, RSTO, RSTR, RSTOS0, RSTRH, SH, SHR = range(len(CONN_STATES))
_SYN, _SYN_ACK, _DATA, _FIN, _RST = 1, 2, 8, 16, 32


@kernel
def conn_state(seen, is_tcp):
    """Number of Zeek's summary of a connection, from the letters that were due."""
    orig, resp = seen & 0x3F, (seen >> ZEEK_SIDE) & 0x3F
    if not is_tcp:
        if orig & _DATA:
            return SF if resp & _DATA else S0
        return SHR if resp & _DATA else OTH
    if orig & _SYN and resp & (_SYN | _SYN_ACK):
        if orig & _FIN and resp & _FIN:
            return SF
        if orig & _RST:
            return RSTO
        if resp & _RST:
            return RSTR
        if orig & _FIN:
            return S2
        return S3 if resp & _FIN else S1
    if orig & _SYN:
        if resp & _RST:
            return REJ
        if orig & _RST:
            return RSTOS0
        if orig & _FIN:
            return SH
        return OTH if resp else S0
    if resp & _SYN_ACK:
        if resp & _RST:
            return RSTRH
        if resp & _FIN:
            return SHR
    return OTH


@entry
def project(context):
    """Write the record; needs a connection and its TRACK."""
    c = CONTEXT_AT(context)
    five_tuple.write(context, c.out)
    n = CONNECTION_AT(c.connection)
    t = TRACK_AT(c.track)
    h = HEAD_AT(c.out + _TUPLE)
    h.first_seen_ts, h.second_seen_ts, h.last_seen_ts = n.first, t.second, n.last
    h.max_inactivity, h.history, h.lost_bytes, h.service = t.max_inactivity, t.history, t.lost, 0
    if n.service:
        s = SERVICE_AT(WORKER_AT(c.worker).services + n.service * SERVICE_SIZE)
        h.service = put_bytes(context, s.name, s.name_len)
    h.zeek0, h.zeek1, h.nb_overlaps, h.nb_inconsistent = t.zeek0, t.zeek1, t.nb_overlaps, t.nb_inconsistent
    h.rtt_orig, h.rtt_resp = 100 * t.rtt_orig, 100 * t.rtt_resp
    h.tagged, h.vlan_id, h.inner_vlan_id, h.end_reason = t.tagged, t.vlan_id, t.inner_vlan_id, c.end
    # A RST that nobody would have believed has ended nothing.
    believed = (_RST if n.tcp & RST_SEEN else 0) | ((_RST if n.tcp & (RST_SEEN << RESP) else 0) << ZEEK_SIDE)
    h.conn_state = conn_state(t.seen & ~(_RST | _RST << ZEEK_SIDE) | believed, protocol_of(n.key) == 6)
    _write_side(context, c.out + _ORIG, side_address(c.track, 0))
    _write_side(context, c.out + _RESP, side_address(c.track, 1))
    orig, resp = SIDE_RECORD_AT(c.out + _ORIG), SIDE_RECORD_AT(c.out + _RESP)
    orig.nb_retransmits, orig.nb_out_of_order = t.nb_retransmits0, t.nb_out_of_order0
    resp.nb_retransmits, resp.nb_out_of_order = t.nb_retransmits1, t.nb_out_of_order1
    return 0


END_REASONS = Names({END_IDLE: "idle", END_CLOSED: "closed", END_OF_INPUT: "end of input", END_NO_ROOM: "no room"}, "{n}")
_HEAD_ALL = Struct("<qqqqqqqqq").unpack_from
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


@kernel
def put_history(word, out, limit):
    """Write the letters of a word in quotes."""
    out = put_byte(out, limit, 34)
    while word & 0xF:
        out = put_byte(out, limit, load8(_letters() + (word & 0xF) - 1))
        word = memory.shift_right(word, 4)
    return put_byte(out, limit, 34)


@entry
def write_history(record, event, out, limit):
    """Write the history in JSON."""
    return put_history(HEAD_AT(record + _TUPLE).history + 0, out, limit)


_zeek_letters = memory.constant("zeek_letters", (ZEEK_LETTERS + ZEEK_LETTERS.lower()).encode())


def zeek_text(word: int) -> str:
    """Return the letters of a word, five bits each."""
    letters = ""
    while word & 0x1F:
        letters += (ZEEK_LETTERS + ZEEK_LETTERS.lower())[(word & 0x1F) - 1]
        word >>= 5
    return letters


@entry
def write_zeek_history(record, event, out, limit):
    """Write Zeek's history in JSON."""
    h = HEAD_AT(record + _TUPLE)
    out = put_byte(out, limit, 34)
    word = h.zeek0 + 0
    for _ in range(2):
        while word & 0x1F:
            out = put_byte(out, limit, load8(_zeek_letters() + (word & 0x1F) - 1))
            word = memory.shift_right(word, 5)
        word = h.zeek1 + 0
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
    nb_retransmits = number(SIDE, "nb_retransmits", "TCP segments whose bytes had all been seen; keep-alives are none.")
    nb_out_of_order = number(SIDE, "nb_out_of_order", "TCP segments that came after what follows them.")
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
    TRACK = RECORD_PART

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

    @custom("retina_jit.datatypes.conn_record:write_zeek_history")
    def zeek_history(self) -> str:
        """Zeek's letters, each once per side: s h a d f r as above, t retransmission, g hole, w zero window, i and q odd flags."""
        _, _, _, _, _, _, _, first, second = _HEAD_ALL(self._buffer, self._at + _TUPLE)
        return zeek_text(first) + zeek_text(second)

    conn_state = named(RECORD, "conn_state", Names(dict(enumerate(CONN_STATES)), "OTH"), "Zeek's summary: S0, S1, SF, REJ, RSTO, ...")
    end_reason = named(RECORD, "end_reason", END_REASONS, "Why it is over: idle, closed, end of input, no room; empty while it lives.", null=ZERO, shown=False)
    service = text(RECORD, "service", "Session protocol that was recognised; only those that a subscription looks for are.")
    rtt_orig = seconds(RECORD, "rtt_orig", "From the SYN/ACK to the originator's answer: twice the way to it [s]; no more than 429 s are told.", null=ZERO)
    rtt_resp = seconds(RECORD, "rtt_resp", "From the last SYN to the SYN/ACK: twice the way to the responder [s]; no more than 429 s are told.", null=ZERO)
    nb_overlaps = number(RECORD, "nb_overlaps", "TCP segments that overlapped one that reassembly held; 0 if it did not run.")
    nb_inconsistent = number(RECORD, "nb_inconsistent", "... and differed from it: the first copy was used.")
    vlan_id = number(RECORD, "vlan_id", "VLAN of the first packet, its outermost tag.", null=unless(RECORD, "tagged", 3))
    inner_vlan_id = number(RECORD, "inner_vlan_id", "The tag behind it.", null=unless(RECORD, "tagged", 2))
    lost_bytes = number(RECORD, "lost_bytes", "Bytes that reassembly gave up as lost; 0 if it did not run.", unit="byte")
    orig = nested(Flow, _ORIG, "The originator's direction.")
    resp = nested(Flow, _RESP, "The responder's direction.")

    @property
    def rtt(self) -> float | None:
        """Round trip as the handshake shows it [s]: both parts, or None."""
        orig, resp = self.rtt_orig, self.rtt_resp
        return None if orig is None or resp is None else orig + resp

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
