"""IPv4, Internet Protocol version 4. Source: RFC 791, 3.1; RFC 2474 and RFC 3168 for the second byte."""

from __future__ import annotations

from retina_jit.jit import leaf
from retina_jit.parsers.protocol import Example, bits, declare, flag, ipv4, u8, u16
from retina_jit.parsers.wire import has
from retina_jit.status import Parse

HEADER_LEN = 20
TRUNCATED, MALFORMED = int(Parse.TRUNCATED), int(Parse.MALFORMED)

version_ihl = u8(0, "Version and header length.")
version = bits(0, 1, 7, 4, "Always 4.", aliases=("ip.version",))
ihl = bits(0, 1, 3, 0, "Header length with options.", unit="32-bit word")
dscp_ecn = u8(1, "Differentiated services field.", aliases=("ip.dsfield",))
type_of_service = u8(1, "The same byte under its first name.", aliases=("ip.tos",))
dscp = bits(1, 1, 7, 2, "Differentiated services code point.", aliases=("ip.dsfield.dscp",))
ecn = bits(1, 1, 1, 0, "Explicit congestion notification.", aliases=("ip.dsfield.ecn",))
total_length = u16(2, "Header and payload; 0 if the capturing host left segmentation to its card.", unit="byte", aliases=("ip.len",))
identification = u16(4, "What the fragments of a packet share.", aliases=("ip.id",))
flags_to_fragment_offset = u16(6, "Flags and fragment offset.")
flags = bits(6, 2, 15, 13, "Reserved, don't fragment, more fragments.", aliases=("ip.flags",))
rf = flag(6, 2, 15, "Reserved.", aliases=("ip.flags.rb",))
df = flag(6, 2, 14, "Don't fragment.", aliases=("ip.flags.df",))
mf = flag(6, 2, 13, "More fragments.", aliases=("ip.flags.mf",))
fragment_offset = bits(6, 2, 12, 0, "Where this fragment belongs.", unit="8 byte", aliases=("ip.frag_offset",))
time_to_live = u8(8, "Routers left to pass.", aliases=("ip.ttl",))
protocol = u8(
    9, "What the payload is.", aliases=("ip.proto",), enum={"icmp": 1, "igmp": 2, "tcp": 6, "udp": 17, "gre": 47, "esp": 50, "ah": 51, "sctp": 132}
)  # fmt: skip
header_checksum = u16(10, "Ones' complement sum of the header.", aliases=("ip.checksum",))
src_addr = ipv4(12, "Source address.", column="src_lo", side="src", aliases=("ip.src",))
dst_addr = ipv4(16, "Destination address.", column="dst_lo", side="dst", aliases=("ip.dst",))


@leaf
def check(span, at):
    """Where the payload begins, or TRUNCATED, MALFORMED. After a result >= 0 every reader here is in bounds."""
    if not has(span, at, HEADER_LEN):
        return TRUNCATED
    first = version_ihl(span, at)
    length = (first & 15) << 2
    if first >> 4 != 4 or length < HEADER_LEN:
        return MALFORMED
    total = total_length(span, at)
    if total < length and total != 0:
        return MALFORMED
    if not has(span, at, length):
        return TRUNCATED
    return at + length


declare(
    "ipv4",
    "Internet Protocol version 4",
    level="packet",
    within=[("ethernet.type", 0x0800), ("vlan.type", 0x0800)],
    aliases=("ip",),
    examples=[
        Example(
            "plain",
            "45 b9 0028 1234 4000 40 06 beef c0000201 c6336402",
            20,
            {
                "version": 4, "ihl": 5, "dscp": 46, "ecn": 1, "total_length": 40, "identification": 0x1234, "rf": 0, "df": 1, "mf": 0,
                "flags": 2, "fragment_offset": 0, "time_to_live": 64, "protocol": 6, "header_checksum": 0xBEEF,
                "src_addr": 0xC0000201, "dst_addr": 0xC6336402,
            },
        ),
        Example(
            "router alert option, last fragment",
            "46 00 001c 0001 0001 01 11 0000 0a000001 0a000002 94040000",
            24,
            {"version_ihl": 0x46, "type_of_service": 0, "dscp_ecn": 0, "flags_to_fragment_offset": 1, "fragment_offset": 1, "protocol": 17},
        ),
    ],
)  # fmt: skip
