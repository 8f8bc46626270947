"""Ethernet. Source: IEEE 802.3, 3.2; numbers of the types: IANA "IEEE 802 Numbers"."""

from __future__ import annotations

from retina_jit.jit import leaf
from retina_jit.parsers.protocol import Example, declare, mac, u16
from retina_jit.parsers.wire import has
from retina_jit.status import Parse

HEADER_LEN = 14
TRUNCATED = int(Parse.TRUNCATED)

TYPE_IPV4, TYPE_ARP, TYPE_IPV6 = 0x0800, 0x0806, 0x86DD
TYPE_VLAN, TYPE_QINQ, TYPE_QINQ_OLD = 0x8100, 0x88A8, 0x9100
TYPE_MPLS, TYPE_MPLS_UPSTREAM, TYPE_PPPOE, TYPE_CMD = 0x8847, 0x8848, 0x8864, 0x8909
MIN_TYPE = 0x0600
"""Smaller values are the length of an IEEE 802.3 frame."""

dst = mac(0, "Destination address.", aliases=("eth.dst",))
src = mac(6, "Source address.", aliases=("eth.src",))
type = u16(  # noqa: A001
    12,
    "Type of the payload, of the outermost tag where there are tags.",
    aliases=("eth.type",),
    enum={"ipv4": TYPE_IPV4, "arp": TYPE_ARP, "vlan": TYPE_VLAN, "ipv6": TYPE_IPV6, "qinq": TYPE_QINQ},
)


@leaf
def check(span, at):
    """Where the payload begins, or TRUNCATED. After a result >= 0 every reader here is in bounds."""
    if not has(span, at, HEADER_LEN):
        return TRUNCATED
    return at + HEADER_LEN


declare(
    "ethernet",
    "Ethernet",
    level="packet",
    within=[("frame.link_type", 1)],
    aliases=("eth",),
    examples=[
        Example(
            "ipv4",
            "02 00 00 00 00 0b 02 00 00 00 00 0a 08 00",
            14,
            {"dst": 0x02000000000B, "src": 0x02000000000A, "type": 0x0800},
        ),
    ],
)
