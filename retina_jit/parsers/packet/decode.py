"""From a captured frame to a decoded packet row: link, network and transport header, each checked once, then read.

What the walker of a source has filled (frame, ts, caplen, length, link, number) is the input; everything else that the
frame itself tells is written, whatever the row held before. `hash`, `key`, `direction` and `connection` belong to the
connection table and are left alone.

A frame gets one verdict. PENDING: TCP or UDP, first or only fragment, all headers whole. NOT_TRANSPORT: IP with anything
else in it, or a later fragment. NOT_IP: neither IPv4 nor IPv6, or a link type that is not known. TRUNCATED_HEADER: the
capture ends inside a header. MALFORMED: a header breaks its rules, or says that the packet ends inside it.
"""

from __future__ import annotations

import numpy as np

from retina_jit import memory
from retina_jit.jit import entry, kernel, leaf
from retina_jit.parsers.packet import ethernet, extensions, icmp, icmpv6, ipv4, ipv6, link, tcp, udp
from retina_jit.parsers.packet.ethernet import TYPE_IPV4, TYPE_IPV6
from retina_jit.state import layout
from retina_jit.state.layout import FRAGMENT, LATER_FRAGMENT, PACKET, PENDING
from retina_jit.status import Parse

PACKET_AT = memory.at(PACKET)
ROW_LEN = PACKET.itemsize
TRUNCATED, BAD, NOT_OURS = int(Parse.TRUNCATED), int(Parse.MALFORMED), int(Parse.NOT_OURS)
MALFORMED, TRUNCATED_HEADER, NOT_IP, NOT_TRANSPORT = (
    layout.MALFORMED, layout.TRUNCATED_HEADER, layout.NOT_IP, layout.NOT_TRANSPORT,
)  # fmt: skip
L_ETHERNET, L_IPV4, L_IPV6, L_TCP, L_UDP, L_ICMP, L_ICMPV6 = (
    layout.ETHERNET, layout.IPV4, layout.IPV6, layout.TCP, layout.UDP, layout.ICMP, layout.ICMPV6,
)  # fmt: skip

NARROW = frozenset(PACKET.names or ()) - {"src_hi", "src_lo", "dst_hi", "dst_lo", "tcp_flags", "seq", "ack", "window"}
"""Columns that are always filled: all but addresses and what only connections, and some filters, look at."""

P_ICMP, P_TCP, P_UDP, P_AH, P_ICMPV6 = 1, 6, 17, 51, 58


@leaf
def verdict_of(why):
    """The verdict for what a gate said."""
    if why == TRUNCATED:
        return TRUNCATED_HEADER
    if why == BAD:
        return MALFORMED
    return NOT_IP


@leaf
def clear_transport(row, wide):
    """Everything that only a TCP or UDP header fills."""
    row.src_port = 0
    row.dst_port = 0
    if wide:
        row.tcp_flags = 0
        row.seq = 0
        row.ack = 0
        row.window = 0


@kernel
def refuse(row, verdict, layers, l3, l2_type, tag):
    """Fill a row that has no network header."""
    row.verdict = verdict
    row.layers = layers
    row.l3 = l3
    row.l4 = 0
    row.payload = 0
    row.vlan_tci = tag
    row.l2_type = l2_type
    row.payload_len = 0
    row.captured_len = 0
    row.src_hi = 0
    row.src_lo = 0
    row.dst_hi = 0
    row.dst_lo = 0
    row.protocol = 0
    clear_transport(row, True)
    return 0


@leaf
def _decode(address, wide):
    """Decode the row at `address`; all columns, or NARROW ones only."""
    row = PACKET_AT(address)
    caplen = np.int64(row.caplen)
    span = (row.frame, caplen)
    linktype = np.int64(row.link)
    at, l2_type, layers, tag = np.int64(0), np.int64(0), np.int64(0), np.int64(0)
    if linktype == link.EN10MB and caplen >= ethernet.HEADER_LEN:
        at = ethernet.HEADER_LEN
        l2_type = ethernet.type(span, 0)
        layers = L_ETHERNET
    if l2_type != TYPE_IPV4 and l2_type != TYPE_IPV6:
        at, l2_type, layers, tag = link.walk_link(span, linktype)
        if at < 0:
            verdict = verdict_of(at)
            refuse(row, verdict, layers, 0, l2_type, tag)
            return verdict
    row.l2_type = l2_type
    row.vlan_tci = tag
    row.l3 = at
    wire_end = max(np.int64(row.length), caplen)

    if l2_type == TYPE_IPV4:
        l4 = ipv4.check(span, at)
        if l4 < 0:
            verdict = verdict_of(l4)
            refuse(row, verdict, layers, at, l2_type, tag)
            return verdict
        layers |= L_IPV4
        total = ipv4.total_length(span, at)
        # RFC 791 has no packet of length 0: the card was left to cut a large one (segmentation offload).
        end = at + total if total else wire_end
        protocol = ipv4.protocol(span, at)
        if wide:
            row.src_hi = 0
            row.src_lo = ipv4.src_addr(span, at)
            row.dst_hi = 0
            row.dst_lo = ipv4.dst_addr(span, at)
        word = ipv4.flags_to_fragment_offset(span, at)
        if word & 0x3FFF:
            layers |= FRAGMENT
            if word & 0x1FFF:
                layers |= LATER_FRAGMENT
        extended = protocol == P_AH and not layers & LATER_FRAGMENT
    else:
        l4 = ipv6.check(span, at)
        if l4 < 0:
            verdict = verdict_of(l4)
            refuse(row, verdict, layers, at, l2_type, tag)
            return verdict
        layers |= L_IPV6
        total = ipv6.payload_length(span, at)
        # RFC 2675: a jumbogram says 0 and has its length in an option; large offloaded packets say 0 as well.
        end = l4 + total if total else wire_end
        protocol = ipv6.next_header(span, at)
        if wide:
            src_hi, src_lo, dst_hi, dst_lo = ipv6.addresses(span, at)
            row.src_hi = src_hi
            row.src_lo = src_lo
            row.dst_hi = dst_hi
            row.dst_lo = dst_lo
        extended = extensions.is_extension(protocol)

    # Ethernet padding lies behind the end of the IP packet: it is captured, but no part of any header.
    inner = (row.frame, min(end, caplen))
    if extended:
        l4, protocol, found = extensions.walk_extensions(inner, l4, protocol)
        if found & extensions.IS_FRAGMENT:
            layers |= FRAGMENT
        if found & extensions.IS_LATER_FRAGMENT:
            layers |= LATER_FRAGMENT
    return transport(row, inner, l4, end, protocol, layers, wide)


@leaf
def transport(row, inner, l4, end, protocol, layers, wide):
    """Second half of `decode`: `inner` ends where the packet or the capture does; `l4` may be a gate's refusal."""
    payload = l4
    verdict = NOT_TRANSPORT
    row.protocol = protocol
    if l4 >= 0 and not layers & LATER_FRAGMENT:
        if protocol == P_TCP:
            payload = tcp.check(inner, l4)
            if payload >= 0:
                row.src_port = tcp.src_port(inner, l4)
                row.dst_port = tcp.dst_port(inner, l4)
                if wide:
                    row.seq = tcp.seq_no(inner, l4)
                    row.ack = tcp.ack_no(inner, l4)
                    row.tcp_flags = tcp.flags(inner, l4)
                    row.window = tcp.window(inner, l4)
                layers |= L_TCP
                verdict = PENDING
        elif protocol == P_UDP:
            payload = udp.check(inner, l4)
            if payload >= 0:
                clear_transport(row, wide)
                row.src_port = udp.src_port(inner, l4)
                row.dst_port = udp.dst_port(inner, l4)
                n = udp.length(inner, l4)
                # A first fragment holds less than the datagram's length; padding inside IP makes it hold more.
                if n and l4 + n < end:
                    end = l4 + n
                layers |= L_UDP
                verdict = PENDING
        else:
            clear_transport(row, wide)
            if protocol == P_ICMP and layers & L_IPV4:
                payload = icmp.check(inner, l4)
                if payload >= 0:
                    row.src_port = icmp.type(inner, l4)
                    row.dst_port = icmp.code(inner, l4)
                    layers |= L_ICMP
            elif protocol == P_ICMPV6 and layers & L_IPV6:
                payload = icmpv6.check(inner, l4)
                if payload >= 0:
                    row.src_port = icmpv6.type(inner, l4)
                    row.dst_port = icmpv6.code(inner, l4)
                    layers |= L_ICMPV6
    else:
        clear_transport(row, wide)
    if payload < 0:
        clear_transport(row, wide)
        # Where the packet itself is what ends, no larger capture would have shown the rest of the header.
        verdict = TRUNCATED_HEADER if payload == TRUNCATED and end > inner[1] else MALFORMED
        l4 = max(l4, 0)
        payload = 0
        end = 0
    row.layers = layers
    row.l4 = l4
    row.payload = payload
    row.payload_len = max(end - payload, 0)
    row.captured_len = max(min(end, inner[1]) - payload, 0)
    row.verdict = verdict
    return verdict


@kernel
def decode(address):
    """Decode the row at `address`; see the module's head for what it needs and gives. Returns the verdict."""
    return _decode(address, True)


@leaf
def decode_narrow(address):
    """Decode the columns NARROW; the others keep what they hold. Returns the verdict."""
    return _decode(address, False)


@kernel
def decode_burst(rows, n):
    """Decode `n` rows that lie one behind the other. Returns how many are PENDING."""
    pending = 0
    for k in range(n):
        pending += decode(rows + k * ROW_LEN) == PENDING
    return pending


@entry
def decode_rows(rows, n):
    """`decode_burst` for Python: tests and tools."""
    return decode_burst(rows, n)
