"""ICMPv6, Internet Control Message Protocol for IPv6. Source: RFC 4443, 2.1; neighbour discovery: RFC 4861."""

from __future__ import annotations

from retina_jit.jit import leaf
from retina_jit.parsers.protocol import Example, declare, u8, u16
from retina_jit.parsers.wire import has
from retina_jit.status import Parse

HEADER_LEN = 4
TRUNCATED = int(Parse.TRUNCATED)

type = u8(  # noqa: A001
    0,
    "What the message says.",
    column="src_port",
    aliases=("icmp6.type",),
    enum={"unreachable": 1, "too_big": 2, "time_exceeded": 3, "echo": 128, "echo_reply": 129, "router_advertisement": 134, "neighbor_solicitation": 135},
)
code = u8(1, "What it says more exactly.", column="dst_port", aliases=("icmp6.code",))
checksum = u16(2, "Ones' complement sum.")


@leaf
def check(span, at):
    """Where the message's body begins, or TRUNCATED. After a result >= 0 every reader here is in bounds."""
    if not has(span, at, HEADER_LEN):
        return TRUNCATED
    return at + HEADER_LEN


declare(
    "icmpv6",
    "Internet Control Message Protocol for IPv6",
    level="packet",
    within=[("ipv6.next_header", 58)],
    aliases=("icmp6",),
    examples=[Example("neighbour solicitation", "87 00 12 34", 4, {"type": 135, "code": 0, "checksum": 0x1234})],
)
