"""From the first captured byte to the network header: every link type, and everything that is stripped on the way.

Sources: tcpdump.org/linktypes.html for link types and their headers; IEEE 802.1Q (tags); RFC 3032 (MPLS), RFC 2516
(PPPoE), RFC 1661 and 1662 (PPP); IEEE 802.2 and RFC 1042 (SNAP).
"""

from __future__ import annotations

from retina_jit.jit import kernel, leaf
from retina_jit.parsers.packet import ethernet, vlan
from retina_jit.parsers.packet.ethernet import (
    MIN_TYPE,
    TYPE_ARP,
    TYPE_CMD,
    TYPE_IPV4,
    TYPE_IPV6,
    TYPE_MPLS,
    TYPE_MPLS_UPSTREAM,
    TYPE_PPPOE,
)
from retina_jit.parsers.wire import has, u8, u16, u16_le, u24, u32, u32_le
from retina_jit.state.layout import ARP, ETHERNET, MPLS, PPPOE, QINQ, VLAN
from retina_jit.status import Parse

TRUNCATED, MALFORMED, NOT_OURS = int(Parse.TRUNCATED), int(Parse.MALFORMED), int(Parse.NOT_OURS)

NULL, EN10MB, PPP, PPP_HDLC, PPP_ETHER, RAW, C_HDLC, LOOP = 0, 1, 9, 50, 51, 101, 104, 108
SLL, PPI, IPV4, IPV6, SLL2 = 113, 192, 228, 229, 276
RAW_BSD, RAW_OPENBSD = 12, 14
"""LINKTYPE_ numbers; the last two are values of DLT_RAW that old files carry."""

SUPPORTED = {
    NULL: "BSD loopback",
    EN10MB: "Ethernet",
    PPP: "PPP",
    RAW_BSD: "raw IP",
    RAW_OPENBSD: "raw IP",
    PPP_HDLC: "PPP in HDLC framing",
    PPP_ETHER: "PPPoE",
    RAW: "raw IP",
    C_HDLC: "Cisco HDLC",
    LOOP: "OpenBSD loopback",
    SLL: "Linux cooked v1",
    PPI: "PPI",
    IPV4: "raw IPv4",
    IPV6: "raw IPv6",
    SLL2: "Linux cooked v2",
}
MOST = 16
"""Tags, labels and shims on one frame; more is an attack or damage."""


@leaf
def is_known(link):
    """Whether `walk_link` knows a link type; the same as SUPPORTED."""
    return (
        link == NULL or link == EN10MB or link == PPP or link == RAW_BSD or link == RAW_OPENBSD or link == PPP_HDLC
        or link == PPP_ETHER or link == RAW or link == C_HDLC or link == LOOP or link == SLL or link == PPI or link == IPV4
        or link == IPV6 or link == SLL2
    )  # fmt: skip


@kernel
def walk_link(span, link):
    """(where the network header begins or TRUNCATED, MALFORMED, NOT_OURS; its EtherType; layers; outermost tag)."""
    if link == EN10MB:
        if not has(span, 0, ethernet.HEADER_LEN):
            return TRUNCATED, 0, 0, 0
        return walk_tags(span, ethernet.HEADER_LEN, ethernet.type(span, 0), ETHERNET)
    if link == RAW or link == RAW_BSD or link == RAW_OPENBSD:
        return _by_version(span, 0, 0, 0)
    if link == IPV4:
        return 0, TYPE_IPV4, 0, 0
    if link == IPV6:
        return 0, TYPE_IPV6, 0, 0
    if link == SLL:
        if not has(span, 0, 16):
            return TRUNCATED, 0, 0, 0
        return walk_tags(span, 16, u16(span, 14), 0)
    if link == SLL2:
        if not has(span, 0, 20):
            return TRUNCATED, 0, 0, 0
        return walk_tags(span, 20, u16(span, 0), 0)
    if link == NULL or link == LOOP:
        return _loopback(span)
    if link == PPP or link == PPP_HDLC:
        at = 0
        # RFC 1662: address and control field, which the peers may agree to leave out.
        if has(span, 0, 2) and u16(span, 0) == 0xFF03:
            at = 2
        return _ppp(span, at, 0, 0)
    if link == C_HDLC:
        if not has(span, 0, 4):
            return TRUNCATED, 0, 0, 0
        return walk_tags(span, 4, u16(span, 2), 0)
    if link == PPP_ETHER:
        return _pppoe(span, 0, 0, 0)
    if link == PPI:
        return _ppi(span)
    return NOT_OURS, 0, 0, 0


@kernel
def _ppi(span):
    """Behind a Per-Packet Information header, whose numbers are little-endian: its own link type, Ethernet or raw IP here."""
    if not has(span, 0, 8):
        return TRUNCATED, 0, 0, 0
    at = u16_le(span, 2)
    link = u32_le(span, 4)
    if at < 8:
        return MALFORMED, 0, 0, 0
    if link == EN10MB:
        if not has(span, at, ethernet.HEADER_LEN):
            return TRUNCATED, 0, 0, 0
        # Not the layer ETHERNET: its fields are read at the beginning of the frame.
        return walk_tags(span, at + ethernet.HEADER_LEN, ethernet.type(span, at), 0)
    if link == RAW or link == RAW_BSD or link == RAW_OPENBSD:
        return _by_version(span, at, 0, 0)
    return NOT_OURS, 0, 0, 0


@kernel
def walk_tags(span, at, ethertype, layers):
    """Like `walk_link`, from the payload at `at` of type `ethertype`."""
    tag = 0
    for _ in range(MOST):
        if ethertype == TYPE_IPV4 or ethertype == TYPE_IPV6:
            return at, ethertype, layers, tag
        if vlan.is_tag(ethertype):
            if not has(span, at, vlan.HEADER_LEN):
                return TRUNCATED, ethertype, layers, tag
            if layers & VLAN:
                layers |= QINQ
            else:
                tag = u16(span, at)
            layers |= VLAN
            ethertype = vlan.type(span, at)
            at += vlan.HEADER_LEN
        elif ethertype == TYPE_MPLS or ethertype == TYPE_MPLS_UPSTREAM:
            layers |= MPLS
            if not has(span, at, 4):
                return TRUNCATED, ethertype, layers, tag
            bottom = u8(span, at + 2) & 1
            at += 4
            if bottom:
                return _by_version(span, at, layers, tag)
        elif ethertype == TYPE_PPPOE:
            return _pppoe(span, at, layers, tag)
        elif ethertype < MIN_TYPE:
            # IEEE 802.3: a length, then LLC. Only SNAP with organisation 0 leads to an EtherType.
            if not has(span, at, 8):
                return NOT_OURS, ethertype, layers, tag
            if u24(span, at) != 0xAAAA03 or u24(span, at + 3) != 0:
                return NOT_OURS, ethertype, layers, tag
            ethertype = u16(span, at + 6)
            at += 8
        elif ethertype == TYPE_CMD:
            # Cisco metadata (security group tag): version, length in words, options, then the type.
            if not has(span, at, 2):
                return TRUNCATED, ethertype, layers, tag
            at += 2 + (u8(span, at + 1) << 2)
            if not has(span, at, 2):
                return TRUNCATED, ethertype, layers, tag
            ethertype = u16(span, at)
            at += 2
        else:
            if ethertype == TYPE_ARP:
                layers |= ARP
            return NOT_OURS, ethertype, layers, tag
    return MALFORMED, ethertype, layers, tag


@leaf
def _by_version(span, at, layers, tag):
    """An IP packet that nothing announces, known by its first four bits."""
    if not has(span, at, 1):
        return TRUNCATED, 0, layers, tag
    version = u8(span, at) >> 4
    if version == 4:
        return at, TYPE_IPV4, layers, tag
    if version == 6:
        return at, TYPE_IPV6, layers, tag
    return NOT_OURS, 0, layers, tag


@leaf
def _loopback(span):
    """Four bytes of address family, in the byte order of the capturing host (LOOP: network order)."""
    if not has(span, 0, 4):
        return TRUNCATED, 0, 0, 0
    family = u32(span, 0)
    if family > 0xFFFF:
        family = u32_le(span, 0)
    if family == 2:
        return 4, TYPE_IPV4, 0, 0
    # AF_INET6 of Linux, OpenBSD and NetBSD, FreeBSD, macOS.
    if family == 10 or family == 24 or family == 28 or family == 30:
        return 4, TYPE_IPV6, 0, 0
    return NOT_OURS, 0, 0, 0


@leaf
def _pppoe(span, at, layers, tag):
    """RFC 2516, 4: version and type 1, code 0 is session data."""
    if not has(span, at, 6):
        return TRUNCATED, TYPE_PPPOE, layers, tag
    if u16(span, at) != 0x1100:
        return NOT_OURS, TYPE_PPPOE, layers, tag
    return _ppp(span, at + 6, layers | PPPOE, tag)


@leaf
def _ppp(span, at, layers, tag):
    """RFC 1661, 2: two bytes of protocol; 6.5: one where compression is agreed, known by its odd first byte."""
    if not has(span, at, 2):
        return TRUNCATED, 0, layers, tag
    protocol = u16(span, at)
    size = 2
    if protocol >> 8 & 1:
        protocol >>= 8
        size = 1
    if protocol == 0x0021:
        return at + size, TYPE_IPV4, layers, tag
    if protocol == 0x0057:
        return at + size, TYPE_IPV6, layers, tag
    return NOT_OURS, 0, layers, tag
