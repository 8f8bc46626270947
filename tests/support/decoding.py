"""Decoding frames from Python, and frames to decode."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from hypothesis import strategies as st
from oracle.decode import COLUMNS
from traffic import packets

from retina_jit import memory, objects
from retina_jit.state.layout import PACKET

DECODE = "retina_jit.parsers.packet.decode:decode_rows"

FrameCase = tuple[bytes, int, int]
"""Captured bytes, link type, length on the wire."""


def decode_frames(frames: Sequence[FrameCase]) -> list[dict[str, int]]:
    """Decode frames with the compiled decoder; rows begin full of ones, so a column that it forgets shows."""
    rows_memory = memory.Region(max(1, len(frames)) * PACKET.itemsize)
    rows: Any = rows_memory.array(PACKET, len(frames))
    rows_memory.array(np.uint8)[: len(frames) * PACKET.itemsize] = 0xFF
    held = memory.Region(sum(len(f[0]) for f in frames) + 1)
    bytes_, at = held.array(np.uint8), 0
    for row, (data, link, length) in zip(rows, frames):
        bytes_[at : at + len(data)] = np.frombuffer(data, np.uint8)
        row["frame"], row["caplen"], row["length"], row["link"] = held.address + at, len(data), length, link
        at += len(data)
    pending = objects.function(DECODE)(rows_memory.address, len(frames))
    out = [{name: int(row[name]) for name in COLUMNS} for row in rows]
    assert pending == sum(row["verdict"] == 0 for row in out)
    return out


# ------------------------------------------------------------------------------------------------- strategies

_v4 = st.ip_addresses(v=4).map(str)
_v6 = st.ip_addresses(v=6).map(str)
_port = st.integers(0, 65535)
_payload = st.binary(max_size=60)


@st.composite
def _transport(draw: Any, v6: bool) -> tuple[str, str, int, bytes]:
    src, dst = draw(_v6 if v6 else _v4), draw(_v6 if v6 else _v4)
    kind = draw(st.sampled_from(["tcp", "tcp", "udp", "icmp", "other"]))
    payload = draw(_payload)
    if kind == "tcp":
        message = packets.tcp(
            src, dst, draw(_port), draw(_port), payload, seq=draw(st.integers(0, 2**32 - 1)), ack=draw(st.integers(0, 2**32 - 1)),
            flags=draw(st.integers(0, 255)), options=draw(st.binary(max_size=40)), checksum=0,
        )  # fmt: skip
        return src, dst, 6, message
    if kind == "udp":
        message = packets.udp(src, dst, draw(_port), draw(_port), payload, checksum=0)
        length = draw(st.sampled_from([None, None, 0, 7, 8, 9, 65535]))
        if length is not None:
            message = message[:4] + length.to_bytes(2, "big") + message[6:]
        return src, dst, 17, message
    if kind == "icmp":
        number, type_, code = (58 if v6 else 1), draw(st.integers(0, 255)), draw(st.integers(0, 255))
        return src, dst, number, bytes([type_, code, 0, 0]) + payload
    return src, dst, draw(st.integers(0, 255)), payload


@st.composite
def ip_packets(draw: Any) -> tuple[int, bytes]:
    """(EtherType, packet)."""
    v6 = draw(st.booleans())
    src, dst, number, message = draw(_transport(v6))
    if not v6:
        return 0x0800, packets.ipv4(
            src, dst, number, message, flags_offset=draw(st.sampled_from([0, 0x4000, 0x2000, 1, 0x2001, 0xFFFF])),
            options=draw(st.binary(max_size=40)), total_length=draw(st.sampled_from([None, None, None, 0, 19, 20, 28, 41, 65535])),
            checksum=0,
        )  # fmt: skip
    extensions: list[tuple[int, bytes]] = []
    for number_ in draw(st.lists(st.sampled_from([0, 43, 44, 51, 60, 135]), max_size=4)):
        if number_ == 44:
            word = draw(st.sampled_from([0, 1, 8, 9, 0xFFF8]))
            extensions.append((44, word.to_bytes(2, "big") + bytes(4)))
        elif number_ == 51:
            # Its length counts words less two: twelve bytes are three words, so the packet is put together by hand below.
            extensions.append((51, draw(st.binary(min_size=10, max_size=14))))
        else:
            extensions.append((number_, draw(st.binary(max_size=20))))
    length = draw(st.sampled_from([None, None, None, 0, 1, 20, 65535]))
    return 0x86DD, packets.ipv6(src, dst, number, message, extensions=tuple(extensions), payload_length=length)


@st.composite
def frames(draw: Any) -> FrameCase:
    """Frames of every link type, with tags and labels, cut, padded and mutated."""
    kind, packet = draw(ip_packets())
    link = draw(st.sampled_from([1, 1, 1, 1, 0, 9, 12, 14, 50, 51, 101, 104, 108, 113, 192, 228, 229, 276, 105]))
    if link in (0, 1, 101, 108, 113, 228, 229, 276):
        data = draw(_shims(kind, packet)) if link in (1, 113, 276) else None
        kind, packet = data or (kind, packet)
        if kind not in (0x0800, 0x86DD) and link not in (1, 113, 276):
            kind = 0x0800
        data = packets.Link(packets.LinkType(link), big_endian=draw(st.booleans())).wrap(kind, packet)
    elif link in (9, 50):
        data = draw(st.sampled_from([b"", b"\xff\x03"])) + _ppp(kind, packet, draw(st.booleans()))
    elif link == 51:
        data = _pppoe(_ppp(kind, packet, False))
    elif link == 104:
        data = b"\x0f\0" + kind.to_bytes(2, "big") + packet
    elif link == 192:
        inner = draw(st.sampled_from([1, 101, 127]))
        extra = draw(st.binary(max_size=12))
        data = b"\0\0" + (8 + len(extra)).to_bytes(2, "little") + inner.to_bytes(4, "little") + extra
        data += packets.Link().wrap(kind, packet) if inner == 1 else packet
    else:
        data = packet
    if draw(st.integers(0, 3)) == 0:
        changed = bytearray(data)
        for _ in range(draw(st.integers(1, 4))):
            if changed:
                # Headers are what is worth damaging.
                changed[draw(st.integers(0, min(len(changed), 80) - 1))] = draw(st.integers(0, 255))
        data = bytes(changed)
    length = len(data) + draw(st.sampled_from([0, 0, 0, 1, 1000]))
    if draw(st.integers(0, 3)) == 0:
        data = data[: draw(st.integers(0, len(data)))]
    elif draw(st.integers(0, 3)) == 0:
        data += bytes(draw(st.integers(1, 30)))
    return data, link, length


def _ppp(kind: int, packet: bytes, short: bool) -> bytes:
    protocol = {0x0800: b"\0\x21", 0x86DD: b"\0\x57"}[kind]
    return (protocol[1:] if short else protocol) + packet


def _pppoe(content: bytes) -> bytes:
    return b"\x11\0\0\7" + len(content).to_bytes(2, "big") + content


@st.composite
def _shims(draw: Any, kind: int, packet: bytes) -> tuple[int, bytes]:
    """Tags, labels and the like between the link header and the packet, innermost first."""
    for shim in draw(st.lists(st.sampled_from(["vlan", "qinq", "mpls", "pppoe", "snap", "cmd", "arp"]), max_size=3)):
        if shim in ("vlan", "qinq"):
            packet = draw(st.binary(min_size=2, max_size=2)) + kind.to_bytes(2, "big") + packet
            kind = {"vlan": 0x8100, "qinq": 0x88A8}[shim]
        elif shim == "mpls":
            labels = draw(st.integers(1, 3))
            packet = b"".join(bytes([0, 1, 0x40 | (n == labels - 1), 64]) for n in range(labels)) + packet
            kind = 0x8847
        elif shim == "pppoe":
            packet = _pppoe(_ppp(kind if kind in (0x0800, 0x86DD) else 0x0800, packet, draw(st.booleans())))
            kind = 0x8864
        elif shim == "snap":
            packet = bytes.fromhex("aaaa03000000") + kind.to_bytes(2, "big") + packet
            kind = min(len(packet), 0x5FF)
        elif shim == "cmd":
            packet = b"\1\1\0\1\0\7" + kind.to_bytes(2, "big") + packet
            kind = 0x8909
        else:
            kind = draw(st.sampled_from([0x0806, 0x8863, 0x88CC]))
    return kind, packet
