"""Packet decoding in plain Python on bytes: the slow twin of `retina_jit.parsers.packet`.

Written from the RFCs and from the meaning of the row's columns, not from the declarations.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

ETHERNET, VLAN, QINQ, IPV4, IPV6, TCP, UDP, ICMP, ICMPV6, FRAGMENT, LATER_FRAGMENT, MPLS, PPPOE, ARP = (1 << n for n in range(14))
PENDING, MALFORMED, TRUNCATED_HEADER, NOT_IP, NOT_TRANSPORT = range(5)

COLUMNS = (
    "layers l3 l4 payload vlan_tci payload_len captured_len src_hi src_lo dst_hi dst_lo src_port dst_port protocol "
    "tcp_flags verdict seq ack window l2_type"
).split()


class Refused(Exception):  # noqa: N818 - a verdict, not an error
    def __init__(self, verdict: int) -> None:
        self.verdict = verdict


@dataclass
class Packet:
    data: bytes
    length: int
    row: dict[str, Any] = field(default_factory=lambda: dict.fromkeys(COLUMNS, 0))

    def take(self, at: int, n: int, end: int | None = None) -> bytes:
        """Return n bytes; the capture or the packet may end before."""
        stop = len(self.data) if end is None else min(end, len(self.data))
        if at + n > stop:
            raise Refused(MALFORMED if end is not None and end <= len(self.data) else TRUNCATED_HEADER)
        return self.data[at : at + n]

    def number(self, at: int, n: int, end: int | None = None) -> int:
        return int.from_bytes(self.take(at, n, end), "big")


def decode(data: bytes, link: int, length: int | None = None) -> dict[str, Any]:
    """Return the columns of the row."""
    p = Packet(data, max(len(data), length or 0))
    row = p.row
    try:
        at, kind = _link(p, link)
        row["l3"] = at
        if kind == 0x0800:
            _ipv4(p, at)
        else:
            _ipv6(p, at)
    except Refused as refused:
        row["verdict"] = refused.verdict
    return row


def _link(p: Packet, link: int) -> tuple[int, int]:
    if link == 1:
        p.take(0, 14)
        p.row["layers"] |= ETHERNET
        return _ethertype(p, p.number(12, 2), 14)
    if link in (12, 14, 101):
        return _version(p, 0)
    if link in (228, 229):
        p.row["l2_type"] = {228: 0x0800, 229: 0x86DD}[link]
        return 0, p.row["l2_type"]
    if link == 104:
        p.take(0, 4)
        return _ethertype(p, p.number(2, 2), 4)
    if link == 113:
        p.take(0, 16)
        return _ethertype(p, p.number(14, 2), 16)
    if link == 276:
        p.take(0, 20)
        return _ethertype(p, p.number(0, 2), 20)
    if link in (0, 108):
        family = p.take(0, 4)
        value = min(int.from_bytes(family, "big"), int.from_bytes(family, "little")) if family[:2] != b"\0\0" else int.from_bytes(family, "big")
        if family[:2] != b"\0\0":
            value = int.from_bytes(family, "little")
        if value == 2:
            p.row["l2_type"] = 0x0800
            return 4, 0x0800
        if value in (10, 24, 28, 30):
            p.row["l2_type"] = 0x86DD
            return 4, 0x86DD
        raise Refused(NOT_IP)
    if link in (9, 50):
        return _ppp(p, 2 if p.data[:2] == b"\xff\x03" else 0)
    if link == 51:
        p.row["l2_type"] = 0x8864 if len(p.data) < 6 or p.data[:2] != b"\x11\x00" else 0
        return _pppoe(p, 0)
    if link == 192:
        p.take(0, 8)
        at, inner = int.from_bytes(p.data[2:4], "little"), int.from_bytes(p.data[4:8], "little")
        if at < 8:
            raise Refused(MALFORMED)
        if inner == 1:
            p.take(at, 14)
            return _ethertype(p, p.number(at + 12, 2), at + 14)
        if inner in (12, 14, 101):
            return _version(p, at)
    raise Refused(NOT_IP)


def _ethertype(p: Packet, kind: int, at: int) -> tuple[int, int]:
    tags = 0
    for _ in range(16):
        p.row["l2_type"] = kind
        if kind in (0x0800, 0x86DD):
            return at, kind
        if kind in (0x8100, 0x88A8, 0x9100):
            tci = p.number(at, 2) if len(p.data) >= at + 4 else p.number(at, 4)
            p.row["layers"] |= VLAN if tags == 0 else QINQ
            if tags == 0:
                p.row["vlan_tci"] = tci
            tags += 1
            kind = p.number(at + 2, 2)
            at += 4
        elif kind in (0x8847, 0x8848):
            p.row["layers"] |= MPLS
            bottom = p.number(at, 4) >> 8 & 1
            at += 4
            if bottom:
                return _version(p, at)
        elif kind == 0x8864:
            return _pppoe(p, at)
        elif kind < 0x0600:
            if p.data[at : at + 6] != bytes.fromhex("aaaa03000000") or len(p.data) < at + 8:
                raise Refused(NOT_IP)
            kind = p.number(at + 6, 2)
            at += 8
        elif kind == 0x8909:
            p.take(at, 2)
            at += 2 + 4 * p.data[at + 1]
            kind = p.number(at, 2)
            at += 2
        else:
            if kind == 0x0806:
                p.row["layers"] |= ARP
            raise Refused(NOT_IP)
    p.row["l2_type"] = kind
    raise Refused(MALFORMED)


def _version(p: Packet, at: int) -> tuple[int, int]:
    p.row["l2_type"] = 0
    kind = {4: 0x0800, 6: 0x86DD}.get(p.number(at, 1) >> 4)
    if kind is None:
        raise Refused(NOT_IP)
    p.row["l2_type"] = kind
    return at, kind


def _pppoe(p: Packet, at: int) -> tuple[int, int]:
    p.take(at, 6)
    if p.number(at, 2) != 0x1100:
        raise Refused(NOT_IP)
    p.row["layers"] |= PPPOE
    return _ppp(p, at + 6)


def _ppp(p: Packet, at: int) -> tuple[int, int]:
    p.row["l2_type"] = 0
    protocol = p.number(at, 2)
    size = 2
    if protocol & 0x100:
        protocol, size = protocol >> 8, 1
    kind = {0x21: 0x0800, 0x57: 0x86DD}.get(protocol)
    if kind is None:
        raise Refused(NOT_IP)
    p.row["l2_type"] = kind
    return at + size, kind


def _signed(value: int) -> int:
    return value - 2**64 if value >= 2**63 else value


def _ipv4(p: Packet, at: int) -> None:
    row = p.row
    head = p.take(at, 20)
    header = (head[0] & 15) * 4
    total = int.from_bytes(head[2:4], "big")
    if head[0] >> 4 != 4 or header < 20 or 0 < total < header:
        raise Refused(MALFORMED)
    p.take(at, header)
    row["layers"] |= IPV4
    row["src_lo"], row["dst_lo"] = int.from_bytes(head[12:16], "big"), int.from_bytes(head[16:20], "big")
    end = at + total if total else p.length
    fragment = int.from_bytes(head[6:8], "big")
    row["protocol"] = head[9]
    if fragment & 0x3FFF:
        row["layers"] |= FRAGMENT
    if fragment & 0x1FFF:
        row["layers"] |= LATER_FRAGMENT
    _behind_ip(p, at + header, head[9], end, walk=head[9] == 51 and not fragment & 0x1FFF)


def _ipv6(p: Packet, at: int) -> None:
    row = p.row
    head = p.take(at, 40)
    if head[0] >> 4 != 6:
        raise Refused(MALFORMED)
    row["layers"] |= IPV6
    for name, start in (("src", 8), ("dst", 24)):
        row[f"{name}_hi"] = _signed(int.from_bytes(head[start : start + 8], "big"))
        row[f"{name}_lo"] = _signed(int.from_bytes(head[start + 8 : start + 16], "big"))
    length = int.from_bytes(head[4:6], "big")
    end = at + 40 + length if length else p.length
    _behind_ip(p, at + 40, head[6], end, walk=True)


def _behind_ip(p: Packet, at: int, number: int, end: int, *, walk: bool) -> None:
    row = p.row
    later = bool(row["layers"] & LATER_FRAGMENT)
    steps = 0
    row["protocol"] = number
    while walk and number in (0, 43, 44, 51, 60, 135, 139, 140):
        if steps == 16:
            raise Refused(MALFORMED)
        steps += 1
        p.take(at, 8, end)
        if number == 44:
            word = p.number(at + 2, 2, end)
            size = 8
            if word >> 3:
                row["layers"] |= FRAGMENT | LATER_FRAGMENT
                later = True
                walk = False
            elif word & 1:
                row["layers"] |= FRAGMENT
        elif number == 51:
            size = 4 * (p.data[at + 1] + 2)
            if size < 12:
                raise Refused(MALFORMED)
        else:
            size = 8 * (p.data[at + 1] + 1)
        p.take(at, size, end)
        number = p.data[at]
        at += size
        row["protocol"] = number
    if steps == 16 and walk:
        # The chain has its last allowed header behind it, whatever follows.
        raise Refused(MALFORMED)
    row["l4"] = at
    verdict, payload = NOT_TRANSPORT, at
    if later:
        pass
    elif number == 6:
        head = p.take(at, 20, end)
        size = (head[12] >> 4) * 4
        if size < 20:
            raise Refused(MALFORMED)
        p.take(at, size, end)
        row["layers"] |= TCP
        row["src_port"], row["dst_port"] = int.from_bytes(head[:2], "big"), int.from_bytes(head[2:4], "big")
        row["seq"], row["ack"] = int.from_bytes(head[4:8], "big"), int.from_bytes(head[8:12], "big")
        row["tcp_flags"], row["window"] = head[13], int.from_bytes(head[14:16], "big")
        verdict, payload = PENDING, at + size
    elif number == 17:
        head = p.take(at, 8, end)
        size = int.from_bytes(head[4:6], "big")
        if 0 < size < 8:
            raise Refused(MALFORMED)
        row["layers"] |= UDP
        row["src_port"], row["dst_port"] = int.from_bytes(head[:2], "big"), int.from_bytes(head[2:4], "big")
        if size:
            end = min(end, at + size)
        verdict, payload = PENDING, at + 8
    elif number == 1 and row["layers"] & IPV4:
        head = p.take(at, 8, end)
        row["layers"] |= ICMP
        row["src_port"], row["dst_port"] = head[0], head[1]
        payload = at + 8
    elif number == 58 and row["layers"] & IPV6:
        head = p.take(at, 4, end)
        row["layers"] |= ICMPV6
        row["src_port"], row["dst_port"] = head[0], head[1]
        payload = at + 4
    row["payload"] = payload
    row["payload_len"] = max(0, end - payload)
    row["captured_len"] = max(0, min(end, len(p.data)) - payload)
    row["verdict"] = verdict
