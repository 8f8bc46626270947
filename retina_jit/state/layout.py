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
ETHERNET, VLAN, QINQ, IPV4, IPV6, TCP, UDP, ICMP, ICMPV6, FRAGMENT, LATER_FRAGMENT, MPLS, PPPOE, ARP, INNER, REASSEMBLED = (1 << n for n in range(16))

NO_FRAME = INNER | REASSEMBLED
"""Rows that are no frame of their own: what stands in a tunnel (INNER), a datagram put together from fragments (REASSEMBLED)."""

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
    80,
    [
        ("address", "i8"),  # the bytes that are new
        ("length", "i8"),
        ("at", "i8"),  # how many of them the parser has taken
        ("ts", "i8"),  # capture time of the packet that brought them [ns]
        ("direction", "i8"),  # 0 from the originator
        ("lost", "i8"),  # bytes of this direction that are missing right before these
        ("arena", "i8"),  # address of the worker's ARENA
        ("cut", "i8"),  # bytes behind these that the capture does not have; a call of length 0 with them as `lost` follows
        ("transport", "i8"),  # 6: bytes of a TCP stream; 17: a datagram, whole
        ("crypto", "i8"),  # address of the worker's CRYPTO (retina_jit.parsers.crypto.library); 0: none
    ],
)
"""What a session parser is given."""

# ------------------------------------------------------------------------------------------------------ connections

# Life of a connection (CONNECTION.life).
FREE, OPEN, DROPPED = range(3)
"""DROPPED: no subscription wants it; it only absorbs."""

# What its payload goes through (CONNECTION.phase).
NO_PARSE, PROBING, PARSING = range(3)

# CONNECTION.flags
ORIG_IS_HIGH, MIDSTREAM, ANSWERED, SESSION_READY, SEEN_TWO, OVER = (1 << n for n in range(6))
"""OVER: reset, or finished by both sides; it only waits for stragglers."""

# CONNECTION.tcp: what each side has sent; the responder's bits are shifted left by RESP.
SYN_SEEN, FIN_SEEN, RST_SEEN, NEXT_KNOWN, ACK_KNOWN = (1 << n for n in range(5))
RESP = 8

CONNECTION = _record(
    128,
    [
        # -- first cache line: all that looking up and counting a packet touches
        ("a", "i8"),  # the lower endpoint's address
        ("b", "i8"),
        ("c", "i8"),  # the higher endpoint's address
        ("d", "i8"),
        ("key", "i8"),  # ports, protocol, family
        ("last", "i8"),  # capture time of its last packet [ns]
        ("hash", "u4"),  # low half of the hash
        ("group", "u4"),  # which subscriptions it may still or does match, see pipeline.groups
        ("life", "u1"),
        ("flags", "u1"),
        ("service", "u1"),  # number of its session protocol; 0: unknown
        ("phase", "u1"),
        ("filed", "u4"),  # number of the entry with which the timer wheel holds it
        # -- second cache line
        ("first", "i8"),  # capture time of its first packet [ns]
        ("parser", "i8"),  # address of the parser's state or of the probe buffer
        ("next0", "u4"),  # next sequence number in order, originator
        ("next1", "u4"),  # responder
        ("ack0", "u4"),  # highest acknowledgement sent by the originator
        ("ack1", "u4"),
        ("fin0", "u4"),  # sequence number after the originator's FIN
        ("fin1", "u4"),  # until then: the number of its SYN
        ("held0", "i8"),  # first segment held out of order, originator
        ("held1", "i8"),
        ("isn0", "u4"),  # initial sequence number of the originator
        ("tcp", "u2"),
        ("held", "u2"),  # how many segments are held, both sides
    ],
)

SIDE = [
    ("nb_pkts", "u4"),
    ("nb_malformed_pkts", "u4"),  # payload cut by the capture, or lengths that do not fit
    ("nb_late_start_pkts", "u4"),  # TCP: sequence number before the first one seen
    ("data_start", "u4"),  # TCP: sequence number of the first byte
    ("nb_pkt_bytes", "i8"),  # whole frames, as on the wire
    ("nb_payload_bytes", "i8"),
    ("reach", "i8"),  # TCP without gaps: bytes seen, from data_start
    ("chunks", "i8"),  # address of a CHUNKS block once there are gaps, else 0
]

LETTERS = _record(
    16,
    [
        ("history", "i8"),  # letters as nibbles, the first in the lowest; 0 ends
        ("seen", "u4"),  # letters that were due: ZEEK_LETTERS, eleven bits for each side
        ("history_len", "u1"),
        ("spare", "u1"),
        ("spare2", "u2"),
    ],
)

TRACK = _record(
    192,
    [
        ("second", "i8"),  # capture time of the second packet [ns]; 0: there was none
        ("max_inactivity", "i8"),  # longest pause between packets [ns]
        ("history", "i8"),  # letters as nibbles, the first in the lowest; 0 ends
        ("seen", "u4"),  # as in LETTERS
        ("history_len", "u1"),
        ("started", "u1"),  # bit 0, 1: data_start of that side is known
        ("spare2", "u2"),
        *[(f"{name}{side}", kind) for side in (0, 1) for name, kind in SIDE],
        # -- third cache line: touched by few packets of a connection
        ("zeek0", "i8"),  # Zeek's letters, five bits each, twelve to a word; 0 ends
        ("zeek1", "i8"),
        ("handshake", "i8"),  # capture time of the last SYN, then of the first SYN/ACK [ns]
        ("rtt_resp", "u4"),  # from the SYN to the SYN/ACK [100 ns]; 0: not seen
        ("rtt_orig", "u4"),  # from the SYN/ACK to the ACK [100 ns]
        ("lost", "u4"),  # bytes given up by reassembly, both sides; stays at the most that fits
        ("nb_retransmits0", "u4"),
        ("nb_retransmits1", "u4"),
        ("nb_out_of_order0", "u4"),
        ("nb_out_of_order1", "u4"),
        ("nb_overlaps", "u2"),  # seen by reassembly; these two stay at the most that fits
        ("nb_inconsistent", "u2"),
        ("vlan_id", "u2"),  # of the first packet's outermost tag, and the one behind it
        ("inner_vlan_id", "u2"),
        ("zeek_len", "u1"),
        ("stage", "u1"),  # of the handshake: SYN, SYN/ACK, ACK
        ("tagged", "u1"),  # tags of the first packet: 0, 1, 2
        ("spare", "u1"),
    ],
)
"""What ConnRecord and its relatives count, one per connection, only where a subscription needs it."""

HISTORY_LETTERS = "SHADFR"
"""Retina's letters; a nibble n stands for HISTORY_LETTERS[(n - 1) % 7], lower case (responder) from 8 on."""
ZEEK_LETTERS = "SHADFRTGWIQ"
"""Zeek's, the first six being Retina's; five bits n stand for ZEEK_LETTERS[(n - 1) % 11], lower case from 12 on."""

MOST_CHUNKS = 100
CHUNKS = np.dtype(
    [
        ("count", "i8"),  # intervals
        ("gaps", "i8"),  # gaps that have been open
        ("max_gaps", "i8"),  # most that were open at once
        ("open", "i8"),  # how many are
        ("seen", "i8"),  # packets that came while any was
        ("full", "i8"),  # 1: more intervals than there is room for, the rest was not noted
        ("room", "i8"),  # how many intervals, and how many gaps, the block holds
    ]
)
"""Head of a block in the arena; `room` (start, end) pairs and as many (gap start, packets) pairs follow. It grows."""
FEW_CHUNKS = 6
"""Room of a new block: it is as large as the arena's smallest. A hole or two is what a connection has, if any."""
