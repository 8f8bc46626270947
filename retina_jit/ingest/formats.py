"""Capture formats, told by their first bytes. Nothing here imports Numba."""

from __future__ import annotations

import struct

PCAP_MAGIC = {
    0xA1B2C3D4: (1000, 16),
    0xA1B23C4D: (1, 16),
    0xA1B2CD34: (1000, 24),  # "modified" pcap of old Linux patches: eight more bytes in each record header
}
"""Magic number: ns per fraction of a second, length of a record header."""

PCAPNG_MAGIC = b"\x0a\x0d\x0d\x0a"

WALK_PCAP = "retina_jit.ingest.pcap:walk"
WALK_OWNED = "retina_jit.ingest.owned:walk"
WALK_PCAPNG = "retina_jit.ingest.pcapng:walk"


def walker(head: bytes) -> str | None:
    """Return the entry that walks what begins so."""
    if head[:4] == PCAPNG_MAGIC:
        return WALK_PCAPNG
    if len(head) >= 4 and (int.from_bytes(head[:4], "little") in PCAP_MAGIC or int.from_bytes(head[:4], "big") in PCAP_MAGIC):
        return WALK_PCAP
    return None


def first_interfaces(head: bytes) -> list[int]:
    """Link types of the interfaces that a pcapng describes before its first packet, as far as `head` reaches."""
    order = "<" if head[8:12] == b"\x4d\x3c\x2b\x1a" else ">"
    at = 0
    links: list[int] = []
    while at + 12 <= len(head):
        kind, length = struct.unpack_from(order + "II", head, at)
        if kind in (2, 3, 6) or length < 12 or (kind == 0x0A0D0D0A and at):
            return links
        if kind == 1:
            links.append(struct.unpack_from(order + "H", head, at + 8)[0])
        at += length
    return []


def pcap_header(head: bytes) -> tuple[bool, int, int, int]:
    """Return what a pcap file header says: big-endian, ns per fraction, length of record headers, link type."""
    swap = head[0] == 0xA1
    magic, _, _, _, _, _, link = struct.unpack((">" if swap else "<") + "IHHiIII", head[:24])
    return swap, *PCAP_MAGIC[magic], link & 0xFFFF  # above the link type: the length of a frame check sequence
