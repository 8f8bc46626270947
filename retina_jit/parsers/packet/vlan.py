"""VLAN tag: IEEE 802.1Q, 9.6. Of several tags (QinQ) the outermost is meant.

The header begins behind the type that announces it.
"""

from __future__ import annotations

from retina_jit.jit import leaf
from retina_jit.parsers.packet.ethernet import TYPE_QINQ, TYPE_QINQ_OLD, TYPE_VLAN
from retina_jit.parsers.protocol import Example, bits, declare, flag, u16
from retina_jit.parsers.wire import has
from retina_jit.status import Parse

HEADER_LEN = 4
TRUNCATED = int(Parse.TRUNCATED)

id = bits(0, 2, 11, 0, "VLAN number; 0: only a priority.", column="vlan_tci")  # noqa: A001
priority = bits(0, 2, 15, 13, "Priority code point.", column="vlan_tci", shift=13)
dei = flag(0, 2, 12, "Drop eligible.", column="vlan_tci", shift=12)
type = u16(2, "Type of what follows.", aliases=("vlan.etype",))  # noqa: A001


@leaf
def check(span, at):
    """Where the payload begins, or TRUNCATED. After a result >= 0 every reader here is in bounds."""
    if not has(span, at, HEADER_LEN):
        return TRUNCATED
    return at + HEADER_LEN


@leaf
def is_tag(ethertype):
    """Whether a type announces a tag."""
    return ethertype == TYPE_VLAN or ethertype == TYPE_QINQ or ethertype == TYPE_QINQ_OLD


declare(
    "vlan",
    "VLAN tag",
    level="packet",
    within=[("ethernet.type", TYPE_VLAN), ("ethernet.type", TYPE_QINQ), ("ethernet.type", TYPE_QINQ_OLD)],
    examples=[
        Example("tagged ipv4", "b0 64 08 00", 4, {"id": 100, "priority": 5, "dei": 1, "type": 0x0800}),
    ],
)
