"""TCP, Transmission Control Protocol. Source: RFC 9293, 3.1; the NS bit: RFC 3540 (historic)."""

from __future__ import annotations

from retina_jit.jit import kernel, leaf
from retina_jit.parsers.protocol import Example, Field, Reader, bits, declare, flag, u8, u16, u32
from retina_jit.parsers.wire import has
from retina_jit.parsers.wire import u8 as u8_at
from retina_jit.parsers.wire import u16 as u16_at
from retina_jit.parsers.wire import u32 as u32_at
from retina_jit.status import Parse

HEADER_LEN = 20
TRUNCATED, MALFORMED = int(Parse.TRUNCATED), int(Parse.MALFORMED)
FIN, SYN, RST, PSH, ACK, URG, ECE, CWR = (1 << n for n in range(8))

src_port = u16(0, "Source port.", column="src_port", side="src", aliases=("tcp.srcport",))
dst_port = u16(2, "Destination port.", column="dst_port", side="dst", aliases=("tcp.dstport",))
seq_no = u32(4, "Sequence number of the first byte, or of the SYN.", column="seq", aliases=("tcp.seq_raw",))
ack_no = u32(8, "Next sequence number expected from the other side.", column="ack", aliases=("tcp.ack_raw",))
data_offset_to_ns = u8(12, "Data offset, reserved bits, NS.")
data_offset = bits(12, 1, 7, 4, "Header length with options.", unit="32-bit word")
reserved = bits(12, 1, 3, 0, "Reserved bits, the last one being NS.")
ns = flag(12, 1, 0, "Nonce sum.", aliases=("tcp.flags.ns", "tcp.flags.ae"))
flags = u8(13, "All flags from CWR to FIN.", column="tcp_flags", aliases=("tcp.flags",))
cwr = flag(13, 1, 7, "Congestion window reduced.", column="tcp_flags", shift=7, aliases=("tcp.flags.cwr",))
ece = flag(13, 1, 6, "Congestion echo.", column="tcp_flags", shift=6, aliases=("tcp.flags.ece",))
urg = flag(13, 1, 5, "Urgent pointer is valid.", column="tcp_flags", shift=5, aliases=("tcp.flags.urg",))
ack = flag(13, 1, 4, "Acknowledgement is valid.", column="tcp_flags", shift=4, aliases=("tcp.flags.ack",))
psh = flag(13, 1, 3, "Push.", column="tcp_flags", shift=3, aliases=("tcp.flags.push",))
rst = flag(13, 1, 2, "Reset.", column="tcp_flags", shift=2, aliases=("tcp.flags.reset",))
syn = flag(13, 1, 1, "Synchronise.", column="tcp_flags", shift=1, aliases=("tcp.flags.syn",))
fin = flag(13, 1, 0, "No more data.", column="tcp_flags", shift=0, aliases=("tcp.flags.fin",))
window = u16(14, "Receive window, not scaled.", unit="byte", column="window", aliases=("tcp.window_size_value",))
checksum = u16(16, "Ones' complement sum.", aliases=("tcp.checksum",))
urgent_pointer = u16(18, "Where urgent data ends.", aliases=("tcp.urgent_pointer",))


def _synack(span, at):
    return int(flags(span, at) & (SYN | ACK) == SYN | ACK)


synack = Reader(_synack, Field("bool", "Both SYN and ACK are set.", bits=1))

END, NOP, MSS, WINDOW_SCALE, SACK_PERMITTED, SACK, TIMESTAMPS = 0, 1, 2, 3, 4, 5, 8
"""Kinds of options: RFC 9293, 3.1; RFC 7323, 2.2 and 3.2; RFC 2018, 2 and 3."""


@kernel
def option(span, at, kind, length):
    """Where the value of the first whole option of a kind begins, or -1. `length`: of the whole option, 0: any."""
    place = at + HEADER_LEN
    end = at + (data_offset(span, at) << 2)
    while place < end:
        this = u8_at(span, place)
        if this == END:
            return -1
        if this == NOP:
            place += 1
            continue
        size = u8_at(span, place + 1) if place + 1 < end else 0
        if size < 2 or place + size > end:
            return -1
        if this == kind and (length == 0 or size == length):
            return place + 2
        place += size
    return -1


def _has(kind, length):
    def has_option(span, at):
        return int(option(span, at, kind, length) >= 0)

    return has_option


def _value(kind, length, load, offset):
    def value(span, at):
        place = option(span, at, kind, length)
        return load(span, place + offset) if place >= 0 else 0

    return value


has_mss = Reader(_has(MSS, 4), Field("bool", "The maximum segment size option is there.", bits=1, aliases=("tcp.options.mss",)))
mss = Reader(
    _value(MSS, 4, u16_at, 0),
    Field("int", "Maximum segment size that the sender takes.", bits=16, unit="byte", needs="has_mss", aliases=("tcp.options.mss_val",)),
)
has_window_scale = Reader(_has(WINDOW_SCALE, 3), Field("bool", "The window scale option is there.", bits=1, aliases=("tcp.options.wscale",)))
window_scale = Reader(
    _value(WINDOW_SCALE, 3, u8_at, 0),
    Field("int", "By how many bits the window is shifted.", bits=8, unit="bit", needs="has_window_scale", aliases=("tcp.options.wscale.shift",)),
)
sack_permitted = Reader(_has(SACK_PERMITTED, 2), Field("bool", "The sender understands selective acknowledgements.", bits=1, aliases=("tcp.options.sack_perm",)))
has_sack = Reader(_has(SACK, 0), Field("bool", "Blocks are acknowledged selectively.", bits=1, aliases=("tcp.options.sack",)))
has_timestamps = Reader(_has(TIMESTAMPS, 10), Field("bool", "The timestamps option is there.", bits=1, aliases=("tcp.options.timestamp",)))
timestamp = Reader(
    _value(TIMESTAMPS, 10, u32_at, 0),
    Field("int", "Timestamp of the sender.", bits=32, needs="has_timestamps", aliases=("tcp.options.timestamp.tsval",)),
)
timestamp_echo = Reader(
    _value(TIMESTAMPS, 10, u32_at, 4),
    Field("int", "Timestamp that is echoed.", bits=32, needs="has_timestamps", aliases=("tcp.options.timestamp.tsecr",)),
)


@leaf
def check(span, at):
    """Where the payload begins, or TRUNCATED, MALFORMED. After a result >= 0 every reader here is in bounds."""
    if not has(span, at, HEADER_LEN):
        return TRUNCATED
    length = data_offset(span, at) << 2
    if length < HEADER_LEN:
        return MALFORMED
    if not has(span, at, length):
        return TRUNCATED
    return at + length


declare(
    "tcp",
    "Transmission Control Protocol",
    level="packet",
    within=[("ipv4.protocol", 6), ("ipv6.next_header", 6)],
    examples=[
        Example(
            "syn with mss option",
            "d431 01bb 00000001 00000000 61 c2 faf0 beef 0000 020405b4",
            24,
            {
                "src_port": 54321, "dst_port": 443, "seq_no": 1, "ack_no": 0, "data_offset": 6, "reserved": 1, "ns": 1, "flags": 0xC2,
                "cwr": 1, "ece": 1, "urg": 0, "ack": 0, "psh": 0, "rst": 0, "syn": 1, "fin": 0, "synack": 0, "window": 64240,
                "checksum": 0xBEEF, "urgent_pointer": 0, "data_offset_to_ns": 0x61, "has_mss": 1, "mss": 1460, "has_window_scale": 0,
            },
        ),
        Example(
            "syn with all options of a common stack",
            "d431 01bb 00000001 00000000 a0 02 faf0 beef 0000 020405b4 0402 080a 00a1b2c3 00000007 01 030307",
            40,
            {
                "mss": 1460, "sack_permitted": 1, "has_timestamps": 1, "timestamp": 0xA1B2C3, "timestamp_echo": 7, "has_window_scale": 1,
                "window_scale": 7, "has_sack": 0,
            },
        ),
        Example("sack", "d431 01bb 00000001 00000009 80 10 faf0 beef 0000 0101 050a 0000000a 00000014", 32, {"has_sack": 1, "has_mss": 0, "mss": 0}),
        Example("option that runs over the end", "d431 01bb 00000001 00000009 60 10 faf0 beef 0000 02 08 05 b4", 24, {"has_mss": 0, "mss": 0}),
        Example("syn ack", "01bb d431 fffffffe 00000002 50 12 faf0 0000 0000", 20, {"synack": 1, "syn": 1, "ack": 1, "seq_no": 0xFFFFFFFE}),
        Example("ack alone is no syn ack", "01bb d431 00000001 00000002 50 39 faf0 0000 0007", 20, {"synack": 0, "urg": 1, "psh": 1, "fin": 1, "urgent_pointer": 7}),
    ],
)  # fmt: skip
