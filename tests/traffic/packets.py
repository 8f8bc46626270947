"""Single packets: headers as functions from fields to bytes, and the link layer around them.

Every function returns the finished bytes of its layer with the payload behind it, checksums and lengths filled in.
A wrong value is made by passing it (`checksum=0xdead`), so that tests of bad packets read as what they do.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, field, replace
from enum import IntEnum
from ipaddress import IPv4Address, IPv6Address, ip_address

ETH_IPV4 = 0x0800
ETH_ARP = 0x0806
ETH_VLAN = 0x8100
ETH_IPV6 = 0x86DD
ETH_QINQ = 0x88A8

PROTO_ICMP = 1
PROTO_TCP = 6
PROTO_UDP = 17
PROTO_FRAGMENT = 44
PROTO_ICMPV6 = 58

FIN, SYN, RST, PSH, ACK, URG, ECE, CWR = (1 << bit for bit in range(8))


class LinkType(IntEnum):
    """Link types of capture files, by their numbers at tcpdump.org/linktypes.html."""

    NULL = 0
    ETHERNET = 1
    RAW = 101
    LOOP = 108
    LINUX_SLL = 113
    IPV4 = 228
    IPV6 = 229
    LINUX_SLL2 = 276


@dataclass(frozen=True, slots=True)
class Frame:
    """One captured frame.

    Parameters
    ----------
    ts_ns : int [ns since 1970]
    data : bytes
        What was captured.
    length : int [byte]
        Length on the wire; `len(data)` unless the capture cut the frame. 0 means `len(data)`.
    """

    ts_ns: int
    data: bytes
    length: int = 0

    def __post_init__(self) -> None:
        if self.length == 0:
            object.__setattr__(self, "length", len(self.data))

    @property
    def caplen(self) -> int:
        """Captured length [byte]."""
        return len(self.data)

    def cut(self, snaplen: int) -> Frame:
        """Return the frame as a capture with this snapshot length would hold it."""
        return replace(self, data=self.data[:snaplen])


@dataclass(frozen=True, slots=True)
class Link:
    """The link layer of a conversation.

    Parameters
    ----------
    type : LinkType
    vlans : tuple of int or (int, int)
        Tags, outermost first. An int is a VLAN id: the last tag gets TPID 0x8100, those before it 0x88a8 (QinQ).
        A pair is (TPID, TCI) as it stands. Ethernet only.
    macs : pair of bytes
        Addresses of client and server.
    big_endian : bool
        Byte order of the family in LinkType.NULL: the one of the host that captured.
    """

    type: LinkType = LinkType.ETHERNET
    vlans: tuple[int | tuple[int, int], ...] = ()
    macs: tuple[bytes, bytes] = field(
        default=(bytes.fromhex("02000000000a"), bytes.fromhex("02000000000b"))  # 02: locally administered
    )
    big_endian: bool = False

    def wrap(self, ethertype: int, packet: bytes, *, from_server: bool = False) -> bytes:
        """Put the link header before a network packet."""
        src, dst = self.macs[::-1] if from_server else self.macs
        match self.type:
            case LinkType.ETHERNET:
                return dst + src + self._tags() + struct.pack("!H", ethertype) + packet
            case LinkType.LINUX_SLL:
                # packet type 0 = sent to us, 4 = sent by us; ARPHRD_ETHER; address padded to 8
                return struct.pack("!HHH8sH", 0 if from_server else 4, 1, 6, src, ethertype) + packet
            case LinkType.LINUX_SLL2:
                kind = 0 if from_server else 4
                return struct.pack("!HHIHBB8s", ethertype, 0, 2, 1, kind, 6, src) + packet
            case LinkType.NULL | LinkType.LOOP:
                family = {ETH_IPV4: 2, ETH_IPV6: 30}[ethertype]  # AF_INET; AF_INET6 of macOS
                big = self.type is LinkType.LOOP or self.big_endian
                return struct.pack(">I" if big else "<I", family) + packet
            case _:
                return packet

    def _tags(self) -> bytes:
        out = b""
        for at, tag in enumerate(self.vlans, start=1):
            tpid, tci = (
                tag if isinstance(tag, tuple) else (ETH_VLAN if at == len(self.vlans) else ETH_QINQ, tag)
            )
            out += struct.pack("!HH", tpid, tci)
        return out


def internet_checksum(data: bytes) -> int:
    """Ones' complement of the ones' complement sum of 16-bit words (RFC 1071)."""
    if len(data) % 2:
        data += b"\0"
    total = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def pseudo_header(src: str, dst: str, protocol: int, length: int) -> bytes:
    """What TCP, UDP and ICMPv6 add to their checksum (RFC 9293 3.1, RFC 8200 8.1)."""
    a, b = ip_address(src), ip_address(dst)
    if a.version == 4:
        return struct.pack("!4s4sBBH", a.packed, b.packed, 0, protocol, length)
    return struct.pack("!16s16sII", a.packed, b.packed, length, protocol)


def tcp(
    src: str,
    dst: str,
    src_port: int,
    dst_port: int,
    payload: bytes = b"",
    *,
    seq: int = 0,
    ack: int = 0,
    flags: int = ACK,
    window: int = 64240,
    urgent: int = 0,
    options: bytes = b"",
    checksum: int | None = None,
) -> bytes:
    """TCP segment; options are padded with zero bytes (end of list) to a multiple of four."""
    options += bytes(-len(options) % 4)
    words = 5 + len(options) // 4
    head = struct.pack(
        "!HHIIBBHHH", src_port, dst_port, seq % 2**32, ack % 2**32, words << 4, flags, window, 0, urgent
    )
    return _with_checksum(head + options + payload, 16, src, dst, PROTO_TCP, checksum)


def udp(
    src: str, dst: str, src_port: int, dst_port: int, payload: bytes = b"", *, checksum: int | None = None
) -> bytes:
    """UDP datagram. `checksum=0` is "not computed", which IPv4 allows."""
    head = struct.pack("!HHHH", src_port, dst_port, 8 + len(payload), 0)
    return _with_checksum(head + payload, 6, src, dst, PROTO_UDP, checksum)


def icmp(
    kind: int, code: int = 0, rest: int = 0, payload: bytes = b"", *, checksum: int | None = None
) -> bytes:
    """ICMP message (IPv4); `rest` is the second header word, identifier and sequence in an echo."""
    message = struct.pack("!BBHI", kind, code, 0, rest) + payload
    value = internet_checksum(message) if checksum is None else checksum
    return message[:2] + struct.pack("!H", value) + message[4:]


def icmpv6(
    src: str,
    dst: str,
    kind: int,
    code: int = 0,
    rest: int = 0,
    payload: bytes = b"",
    *,
    checksum: int | None = None,
) -> bytes:
    """ICMPv6 message; its checksum covers the addresses too."""
    return _with_checksum(
        struct.pack("!BBHI", kind, code, 0, rest) + payload, 2, src, dst, PROTO_ICMPV6, checksum
    )


def _with_checksum(message: bytes, at: int, src: str, dst: str, protocol: int, given: int | None) -> bytes:
    if given is None:
        given = internet_checksum(pseudo_header(src, dst, protocol, len(message)) + message)
        if given == 0 and protocol == PROTO_UDP:
            given = 0xFFFF  # RFC 768: zero would say "not computed"
    return message[:at] + struct.pack("!H", given) + message[at + 2 :]


def ipv4(
    src: str,
    dst: str,
    protocol: int,
    payload: bytes,
    *,
    ident: int = 0,
    flags_offset: int = 0x4000,
    ttl: int = 64,
    tos: int = 0,
    options: bytes = b"",
    total_length: int | None = None,
    checksum: int | None = None,
) -> bytes:
    """IPv4 packet. `flags_offset` is the flags-and-fragment-offset word; its default is Don't Fragment."""
    options += bytes(-len(options) % 4)
    words = 5 + len(options) // 4
    length = words * 4 + len(payload) if total_length is None else total_length
    addresses = IPv4Address(src).packed + IPv4Address(dst).packed
    head = struct.pack("!BBHHHBBH", 0x40 | words, tos, length, ident, flags_offset, ttl, protocol, 0)
    value = internet_checksum(head + addresses + options) if checksum is None else checksum
    return head[:10] + struct.pack("!H", value) + addresses + options + payload


def ipv6(
    src: str,
    dst: str,
    next_header: int,
    payload: bytes,
    *,
    extensions: tuple[tuple[int, bytes], ...] = (),
    traffic_class: int = 0,
    flow_label: int = 0,
    hop_limit: int = 64,
    payload_length: int | None = None,
) -> bytes:
    """IPv6 packet.

    Parameters
    ----------
    extensions : tuple of (int, bytes)
        Extension headers in order: own number and the bytes after Next Header and Hdr Ext Len; they are padded with
        zero bytes (Pad1 options) to a multiple of eight. Number 44 (fragment) takes exactly six bytes.
    """
    body = payload
    following = next_header
    for number, content in reversed(extensions):
        if number == PROTO_FRAGMENT:
            head = struct.pack("!BB6s", following, 0, content)
        else:
            content += bytes(-(len(content) + 2) % 8)
            head = struct.pack("!BB", following, (len(content) + 2) // 8 - 1) + content
        body = head + body
        following = number
    first = 6 << 28 | traffic_class << 20 | flow_label
    length = len(body) if payload_length is None else payload_length
    addresses = IPv6Address(src).packed + IPv6Address(dst).packed
    return struct.pack("!IHBB", first, length, following, hop_limit) + addresses + body


def ip(
    src: str, dst: str, protocol: int, payload: bytes, *, ttl: int = 64, ident: int = 0
) -> tuple[int, bytes]:
    """Return (ethertype, packet) in the IP version of the addresses."""
    if ip_address(src).version == 4:
        return ETH_IPV4, ipv4(src, dst, protocol, payload, ttl=ttl, ident=ident)
    return ETH_IPV6, ipv6(src, dst, protocol, payload, hop_limit=ttl)


def fragment(packet: bytes, mtu: int, *, ident: int = 1) -> list[bytes]:
    """Split an IPv4 or IPv6 packet into fragments of at most `mtu` bytes.

    IPv4 options are copied into each fragment; an IPv6 packet must have no extension headers.
    """
    if packet[0] >> 4 == 4:
        head_len = (packet[0] & 15) * 4
        src, dst = (str(IPv4Address(packet[at : at + 4])) for at in (12, 16))
    else:
        head_len = 40
        src, dst = (str(IPv6Address(packet[at : at + 16])) for at in (8, 24))
    body = packet[head_len:]
    room = (mtu - head_len - (0 if packet[0] >> 4 == 4 else 8)) // 8 * 8
    if room <= 0:
        raise ValueError(f"mtu {mtu} leaves no room for a fragment")
    out = []
    for at in range(0, len(body), room):
        piece = body[at : at + room]
        more = at + room < len(body)
        if packet[0] >> 4 == 4:
            out.append(
                ipv4(
                    src,
                    dst,
                    packet[9],
                    piece,
                    ident=ident,
                    flags_offset=(0x2000 if more else 0) | at // 8,
                    ttl=packet[8],
                    tos=packet[1],
                    options=packet[20:head_len],
                )
            )
        else:
            content = struct.pack("!HI", at | more, ident)  # the offset is in units of 8 in the upper 13 bits
            out.append(
                ipv6(src, dst, packet[6], piece, extensions=((PROTO_FRAGMENT, content),), hop_limit=packet[7])
            )
    return out


def arp(sender_mac: bytes, sender: str, target: str, *, reply_to: bytes | None = None) -> bytes:
    """ARP request, or the reply to `reply_to`; link header not included."""
    operation = 1 if reply_to is None else 2
    return struct.pack(
        "!HHBBH6s4s6s4s",
        1,
        ETH_IPV4,
        6,
        4,
        operation,
        sender_mac,
        IPv4Address(sender).packed,
        reply_to or bytes(6),
        IPv4Address(target).packed,
    )
