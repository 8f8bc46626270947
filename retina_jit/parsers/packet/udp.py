"""UDP, User Datagram Protocol. Source: RFC 768."""

from __future__ import annotations

from retina_jit.jit import leaf
from retina_jit.parsers.protocol import Example, declare, u16
from retina_jit.parsers.wire import has
from retina_jit.status import Parse

HEADER_LEN = 8
TRUNCATED, MALFORMED = int(Parse.TRUNCATED), int(Parse.MALFORMED)

src_port = u16(0, "Source port; 0 if the sender expects no reply.", column="src_port", side="src", aliases=("udp.srcport",))
dst_port = u16(2, "Destination port.", column="dst_port", side="dst", aliases=("udp.dstport",))
length = u16(4, "Header and payload.", unit="byte")
checksum = u16(6, "Ones' complement sum; 0 if the sender computed none.")


@leaf
def check(span, at):
    """Where the payload begins, or TRUNCATED, MALFORMED. After a result >= 0 every reader here is in bounds."""
    if not has(span, at, HEADER_LEN):
        return TRUNCATED
    n = length(span, at)
    # RFC 2675, 4: a jumbogram says 0 and runs to the end of the packet.
    if n < HEADER_LEN and n != 0:
        return MALFORMED
    return at + HEADER_LEN


declare(
    "udp",
    "User Datagram Protocol",
    level="packet",
    within=[("ipv4.protocol", 17), ("ipv6.next_header", 17)],
    examples=[
        Example("dns query", "bf00 0035 000c 124d aa00 00ff", 8, {"src_port": 48896, "dst_port": 53, "length": 12, "checksum": 0x124D}),
    ],
)
