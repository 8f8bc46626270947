"""Where the VLAN tag of a decoded frame begins: the row keeps its content, not its place."""

from __future__ import annotations

from retina_jit.jit import kernel
from retina_jit.parsers.packet.vlan import is_tag
from retina_jit.parsers.wire import u16

LINUX_COOKED, LINUX_COOKED_2 = 113, 276
SHIM_LEN = 8
"""IEEE 802.2 LLC with SNAP, or Cisco metadata: the only headers that may stand before a tag."""


@kernel
def vlan_at(span, link):
    """Position of the outermost tag, in a frame that has one."""
    if link == LINUX_COOKED:
        kind, at = 14, 16
    elif link == LINUX_COOKED_2:
        kind, at = 0, 20
    else:
        kind, at = 12, 14
    return at if is_tag(u16(span, kind)) else at + SHIM_LEN
