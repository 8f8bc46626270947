"""ICMP, Internet Control Message Protocol. Source: RFC 792."""

from __future__ import annotations

from retina_jit.jit import leaf
from retina_jit.parsers.protocol import Example, declare, u8, u16
from retina_jit.parsers.wire import has
from retina_jit.status import Parse

HEADER_LEN = 8
"""Every message of RFC 792 has at least the second word."""
TRUNCATED = int(Parse.TRUNCATED)

type = u8(  # noqa: A001
    0, "What the message says.", column="src_port", enum={"echo_reply": 0, "unreachable": 3, "redirect": 5, "echo": 8, "time_exceeded": 11}
)  # fmt: skip
code = u8(1, "What it says more exactly.", column="dst_port")
checksum = u16(2, "Ones' complement sum.", aliases=("icmp.checksum",))


@leaf
def check(span, at):
    """Where the message's data begins, or TRUNCATED. After a result >= 0 every reader here is in bounds."""
    if not has(span, at, HEADER_LEN):
        return TRUNCATED
    return at + HEADER_LEN


declare(
    "icmp",
    "Internet Control Message Protocol",
    level="packet",
    within=[("ipv4.protocol", 1)],
    examples=[Example("port unreachable", "03 03 fc fc 0000 0000", 8, {"type": 3, "code": 3, "checksum": 0xFCFC})],
)
