"""TCP, Transmission Control Protocol. Source: RFC 9293, 3.1; the NS bit: RFC 3540 (historic)."""

from __future__ import annotations

from retina_jit.jit import leaf
from retina_jit.parsers.protocol import Example, Field, Reader, bits, declare, flag, u8, u16, u32
from retina_jit.parsers.wire import has
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
                "checksum": 0xBEEF, "urgent_pointer": 0, "data_offset_to_ns": 0x61,
            },
        ),
        Example("syn ack", "01bb d431 fffffffe 00000002 50 12 faf0 0000 0000", 20, {"synack": 1, "syn": 1, "ack": 1, "seq_no": 0xFFFFFFFE}),
        Example("ack alone is no syn ack", "01bb d431 00000001 00000002 50 39 faf0 0000 0007", 20, {"synack": 0, "urg": 1, "psh": 1, "fin": 1, "urgent_pointer": 7}),
    ],
)  # fmt: skip
