"""IPv6, Internet Protocol version 6. Source: RFC 8200, 3. Its extension headers: `retina_jit.parsers.packet.extensions`."""

from __future__ import annotations

from retina_jit.jit import leaf
from retina_jit.parsers.protocol import Example, bits, declare, ipv6, u8, u16, u32
from retina_jit.parsers.wire import has, u64
from retina_jit.status import Parse

HEADER_LEN = 40
TRUNCATED, MALFORMED = int(Parse.TRUNCATED), int(Parse.MALFORMED)

version_to_flow_label = u32(0, "Version, traffic class, flow label.")
version = bits(0, 1, 7, 4, "Always 6.")
traffic_class = bits(0, 4, 27, 20, "Differentiated services field.", aliases=("ipv6.tclass",))
dscp = bits(0, 4, 27, 22, "Differentiated services code point.", aliases=("ipv6.tclass.dscp",))
ecn = bits(0, 4, 21, 20, "Explicit congestion notification.", aliases=("ipv6.tclass.ecn",))
flow_label = bits(0, 4, 19, 0, "Flow label.", aliases=("ipv6.flow",))
payload_length = u16(4, "Everything behind this header; 0: a jumbogram.", unit="byte", aliases=("ipv6.plen",))
next_header = u8(
    6, "What follows: an extension header or the transport.", aliases=("ipv6.nxt",), enum={"tcp": 6, "udp": 17, "icmpv6": 58, "esp": 50, "ah": 51, "sctp": 132}
)  # fmt: skip
hop_limit = u8(7, "Routers left to pass.", aliases=("ipv6.hlim",))
src_addr = ipv6(8, "Source address.", column="src", side="src", aliases=("ipv6.src",))
dst_addr = ipv6(24, "Destination address.", column="dst", side="dst", aliases=("ipv6.dst",))


@leaf
def check(span, at):
    """Where the payload begins, or TRUNCATED, MALFORMED. After a result >= 0 every reader here is in bounds."""
    if not has(span, at, HEADER_LEN):
        return TRUNCATED
    if version(span, at) != 6:
        return MALFORMED
    return at + HEADER_LEN


@leaf
def addresses(span, at):
    """Source and destination as four words."""
    return u64(span, at + 8), u64(span, at + 16), u64(span, at + 24), u64(span, at + 32)


declare(
    "ipv6",
    "Internet Protocol version 6",
    level="packet",
    within=[("ethernet.type", 0x86DD), ("vlan.type", 0x86DD)],
    examples=[
        Example(
            "plain",
            "6b 9a bc de 0014 06 40 20010db8 00000000 00000000 00000001 20010db8 00000000 00000000 00000002",
            40,
            {
                "version": 6, "traffic_class": 0xB9, "dscp": 46, "ecn": 1, "flow_label": 0xABCDE, "payload_length": 20, "next_header": 6,
                "hop_limit": 64, "version_to_flow_label": 0x6B9ABCDE,
            },
        ),
    ],
)  # fmt: skip
