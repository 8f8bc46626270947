"""What a decoded packet carries inside: the frame or packet in a tunnel, as a row of its own.

`inner` looks at a decoded row and, if it is a tunnel of a wanted kind, fills the walker's part of another row (frame,
caplen, length, ts, link, number), which is then decoded like any frame. Nothing is copied. Sources: IP in IP RFC 2003,
6in4 RFC 4213, GRE RFC 2784 and 2890, VXLAN RFC 7348 and its
generic protocol extension draft-ietf-nvo3-vxlan-gpe, Geneve RFC 8926, GTP-U 3GPP TS 29.281, Teredo RFC 4380, ERSPAN
draft-foschiano-erspan. Samples of switches, of which a datagram holds several, are in `sflow`.
"""

from __future__ import annotations

from retina_jit import memory
from retina_jit.jit import kernel, leaf
from retina_jit.parsers.packet import sflow
from retina_jit.parsers.wire import has, u8, u16, u24, u32
from retina_jit.state.flowkey import NETWORK_IS_VIRTUAL
from retina_jit.state.layout import LATER_FRAGMENT, PACKET, UDP

PACKET_AT = memory.at(PACKET)
KINDS = ("ipip", "gre", "vxlan", "geneve", "gtp", "teredo", "erspan", "sflow")
"""Names for `--decap`; the position is the bit. "ipip" stands for 6in4 and its relatives as well."""
IPIP, GRE, VXLAN, GENEVE, GTP, TEREDO, ERSPAN, SFLOW = (1 << n for n in range(len(KINDS)))
DEEPEST = 4
"""Tunnels within tunnels; more are a loop or an attack."""

ETHERNET_LINK, RAW_LINK = 1, 101
TYPE_IPV4, TYPE_IPV6, TYPE_BRIDGED, TYPE_ERSPAN, TYPE_ERSPAN3 = 0x0800, 0x86DD, 0x6558, 0x88BE, 0x22EB
VXLAN_PORT, VXLAN_LINUX_PORT, VXLAN_GPE_PORT, GENEVE_PORT, GTP_PORT, TEREDO_PORT = 4789, 8472, 4790, 6081, 2152, 3544
P_IPV4, P_IPV6, P_GRE = 4, 41, 47
NO_TUNNEL = -1


@leaf
def _is_ip(span, at):
    version = u8(span, at) >> 4 if has(span, at, 20) else 0
    return version == 4 or version == 6


@leaf
def _found(at, link):
    return (at << 16) | link


@kernel
def _gre(span, at, wanted):
    """Where a GRE packet's content begins and its link type, packed; NO_TUNNEL."""
    if not has(span, at, 4):
        return NO_TUNNEL
    flags, kind = u16(span, at), u16(span, at + 2)
    # Version 1 is PPTP's; routing (bit 14) has been deprecated.
    if flags & 0x4007:
        return NO_TUNNEL
    inside = at + 4 + (4 if flags & 0x8000 else 0) + (4 if flags & 0x2000 else 0) + (4 if flags & 0x1000 else 0)
    if kind == TYPE_ERSPAN and wanted & ERSPAN:
        # Type I has no header of its own and no sequence number, type II has both.
        return _found(inside + (8 if flags & 0x1000 else 0), ETHERNET_LINK)
    if kind == TYPE_ERSPAN3 and wanted & ERSPAN and has(span, inside, 12):
        return _found(inside + (20 if u8(span, inside + 11) & 1 else 12), ETHERNET_LINK)
    if not wanted & GRE:
        return NO_TUNNEL
    if kind == TYPE_BRIDGED:
        return _found(inside, ETHERNET_LINK)
    if kind == TYPE_IPV4 or kind == TYPE_IPV6:
        return _found(inside, RAW_LINK)
    return NO_TUNNEL


@kernel
def _gtp(span, at):
    """The same for GTP-U: a G-PDU (message type 255)."""
    if not has(span, at, 8) or u8(span, at) >> 4 != 3 or u8(span, at + 1) != 255:
        return NO_TUNNEL
    flags = u8(span, at)
    inside = at + 8
    if flags & 7:
        if not has(span, at, 12):
            return NO_TUNNEL
        following = u8(span, at + 11)
        inside += 4
        while following and has(span, inside, 4):
            length = 4 * u8(span, inside)
            if length == 0 or not has(span, inside, length):
                return NO_TUNNEL
            following = u8(span, inside + length - 1)
            inside += length
    return _found(inside, RAW_LINK) if _is_ip(span, inside) else NO_TUNNEL


@kernel
def _teredo(span, at):
    """The same for Teredo: an IPv6 packet, behind authentication and origin indications."""
    inside = at
    if has(span, inside, 13) and u16(span, inside) == 1:
        inside += 13 + u8(span, inside + 2) + u8(span, inside + 3)
    if has(span, inside, 8) and u16(span, inside) == 0:
        inside += 8
    if has(span, inside, 40) and u8(span, inside) >> 4 == 6:
        return _found(inside, RAW_LINK)
    return NO_TUNNEL


@kernel
def _udp(span, row, wanted):
    at = row.payload + 0
    port, other = row.dst_port + 0, row.src_port + 0
    if (port == VXLAN_PORT or port == VXLAN_LINUX_PORT) and wanted & VXLAN:
        if has(span, at, 8) and u8(span, at) & 0x08:
            return _found(at + 8, ETHERNET_LINK)
    elif port == VXLAN_GPE_PORT and wanted & VXLAN:
        # IPv4, IPv6 or Ethernet, as the header says. The bit that says that it does is forgotten by some.
        kind = u8(span, at + 3) if has(span, at, 8) else -1
        if kind == 3 or (kind == 0 and not u8(span, at) & 0x04):
            return _found(at + 8, ETHERNET_LINK)
        if (kind == 1 or kind == 2) and _is_ip(span, at + 8):
            return _found(at + 8, RAW_LINK)
    elif port == GENEVE_PORT and wanted & GENEVE:
        if has(span, at, 8) and u8(span, at) >> 6 == 0:
            inside = at + 8 + 4 * (u8(span, at) & 0x3F)
            kind = u16(span, at + 2)
            if kind == TYPE_BRIDGED:
                return _found(inside, ETHERNET_LINK)
            if kind == TYPE_IPV4 or kind == TYPE_IPV6:
                return _found(inside, RAW_LINK)
    elif (port == GTP_PORT or other == GTP_PORT) and wanted & GTP:
        return _gtp(span, at)
    elif (port == TEREDO_PORT or other == TEREDO_PORT) and wanted & TEREDO:
        return _teredo(span, at)
    return NO_TUNNEL


@kernel
def describe(outer):
    """(kind as a bit of KINDS, identifier) of the tunnel that the decoded row at `outer` carries: VNI, GRE key, TEID, session, sub-agent.

    The row must be one in which `inner` or `samples` has found something.
    """
    row = PACKET_AT(outer)
    span = (row.frame, row.caplen + 0)
    at = row.l4 + 0
    if row.layers & UDP:
        at = row.payload + 0
        port = row.dst_port + 0
        if port == VXLAN_PORT or port == VXLAN_LINUX_PORT or port == VXLAN_GPE_PORT:
            return VXLAN, u24(span, at + 4)
        if port == GENEVE_PORT:
            return GENEVE, u24(span, at + 4)
        if port == sflow.PORT and sflow.first_sample(sflow.datagram(row), at) != sflow.NO_SAMPLE:
            return SFLOW, sflow.agent(span, at)  # a tunnel may come from its own port to that one
        if port == GTP_PORT or row.src_port == GTP_PORT:
            return GTP, u32(span, at + 4)
        return TEREDO, 0
    if row.protocol == P_GRE:
        flags, kind = u16(span, at), u16(span, at + 2)
        key = at + 4 + (4 if flags & 0x8000 else 0)
        inside = key + (4 if flags & 0x2000 else 0) + (4 if flags & 0x1000 else 0)
        if kind == TYPE_ERSPAN or kind == TYPE_ERSPAN3:
            headless = kind == TYPE_ERSPAN and not flags & 0x1000
            return ERSPAN, 0 if headless else u16(span, inside + 2) & 0x3FF
        return GRE, u32(span, key) if flags & 0x2000 else 0
    return IPIP, 0


@kernel
def virtual_network(outer):
    """Identifier of the virtual network whose frame the row at `outer` carries, with NETWORK_IS_VIRTUAL; 0: none.

    VNI of VXLAN and Geneve, virtual subnet of NVGRE (RFC 7637, 3.2). Not a TEID, which is another one in each direction.
    """
    kind, ident = describe(outer)
    if kind == VXLAN or kind == GENEVE:
        return ident | NETWORK_IS_VIRTUAL
    row = PACKET_AT(outer)
    span = (row.frame, row.caplen + 0)
    if kind == GRE and u16(span, row.l4 + 2) == TYPE_BRIDGED and u16(span, row.l4 + 0) & 0x2000:
        return (ident >> 8) | NETWORK_IS_VIRTUAL
    return 0


@kernel
def inner(outer, other, wanted):
    """Fill the walker's part of the row at `other` with what the decoded row at `outer` carries. Returns True if it does."""
    row = PACKET_AT(outer)
    if row.l4 == 0 or row.layers & LATER_FRAGMENT:
        return False
    span = (row.frame, row.caplen + 0)
    found = NO_TUNNEL
    if row.layers & UDP:
        found = _udp(span, row, wanted)
    elif row.protocol == P_GRE:
        found = _gre(span, row.l4 + 0, wanted)
    elif (row.protocol == P_IPV4 or row.protocol == P_IPV6) and wanted & IPIP and _is_ip(span, row.l4 + 0):
        found = _found(row.l4 + 0, RAW_LINK)
    if found == NO_TUNNEL:
        return False
    at = found >> 16
    if at >= row.caplen:
        return False
    made = PACKET_AT(other)
    made.frame = row.frame + at
    made.caplen = row.caplen - at
    made.length = max(row.length, row.caplen) - at
    made.ts = row.ts
    made.link = found & 0xFFFF
    made.number = row.number
    return True


@kernel
def samples(outer, wanted):
    """Where the samples begin that the decoded row at `outer` carries; sflow.NO_SAMPLE if it carries none that are wanted."""
    row = PACKET_AT(outer)
    if not wanted & SFLOW or not row.layers & UDP or row.dst_port != sflow.PORT or row.l4 == 0 or row.layers & LATER_FRAGMENT:
        return sflow.NO_SAMPLE
    return sflow.first_sample(sflow.datagram(row), row.payload + 0)
