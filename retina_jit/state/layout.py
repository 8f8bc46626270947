"""The records that kernels share, with their sizes asserted. Pure declarations: nothing here imports Numba.

Addresses, times [ns since 1970] and counters are `i8` words: mixing `i8` and `u8` in a kernel gives a float.
"""

from __future__ import annotations

from typing import Any

import numpy as np

BURST = 64
"""Frames per burst: large enough to hide memory latency behind prefetches, small enough for the L1 cache."""


def _record(size: int, fields: list[tuple[str, str]]) -> np.dtype[Any]:
    made = np.dtype(fields)
    assert made.itemsize == size, f"{made.itemsize} bytes instead of {size}"
    return made


# Layers found by the decoder (PACKET.layers).
ETHERNET, VLAN, QINQ, IPV4, IPV6, TCP, UDP, ICMP, ICMPV6, FRAGMENT, LATER_FRAGMENT, MPLS, PPPOE, ARP = (1 << n for n in range(14))

# What became of a frame in the first stages (PACKET.verdict).
PENDING, MALFORMED, TRUNCATED_HEADER, NOT_IP, NOT_TRANSPORT = range(5)
CONTINUE = 0x80
"""Set by the packet stage: some subscription needs the connection of this frame."""

PACKET = _record(
    128,
    [
        ("frame", "i8"),  # address of the first captured byte
        ("ts", "i8"),  # capture time [ns]
        ("caplen", "u4"),  # captured [byte]
        ("length", "u4"),  # on the wire [byte]
        ("layers", "u4"),  # which headers were found
        ("l3", "u2"),  # where the network header begins
        ("l4", "u2"),  # where the transport header begins; 0: none
        ("payload", "u2"),  # where the transport payload begins
        ("vlan_tci", "u2"),  # of the outermost tag
        ("payload_len", "u4"),  # as the headers say it [byte]
        ("captured_len", "u4"),  # how much of the payload is captured [byte]
        ("link", "u4"),  # link type (LINKTYPE_ number)
        ("src_hi", "i8"),  # IPv6: first eight bytes; IPv4: 0
        ("src_lo", "i8"),  # IPv6: last eight bytes; IPv4: the address
        ("dst_hi", "i8"),
        ("dst_lo", "i8"),
        ("src_port", "u2"),  # ICMP: type and code
        ("dst_port", "u2"),
        ("protocol", "u1"),  # IP protocol number of the transport
        ("tcp_flags", "u1"),  # CWR ECE URG ACK PSH RST SYN FIN
        ("verdict", "u1"),
        ("direction", "u1"),  # 0 from the originator, 1 from the responder; known once tracked
        ("seq", "u4"),
        ("ack", "u4"),
        ("hash", "i8"),
        ("key", "i8"),  # canonical ports, protocol and family, see state.flowkey
        ("window", "u2"),
        ("l2_type", "u2"),  # EtherType after all tags
        ("connection", "u4"),  # index of the connection, once tracked
        ("number", "i8"),  # position of the frame in the run, from 1
    ],
)

INPUT = _record(
    64,
    [
        ("address", "i8"),  # the bytes that are new
        ("length", "i8"),
        ("at", "i8"),  # how many of them the parser has taken
        ("ts", "i8"),  # capture time of the packet that brought them [ns]
        ("direction", "i8"),  # 0 from the originator
        ("lost", "i8"),  # bytes of this direction that are missing right before these
        ("arena", "i8"),  # address of the worker's ARENA
        ("cut", "i8"),  # 1: the packet was longer than what is captured; the rest counts as lost
    ],
)
"""What a session parser is given."""
