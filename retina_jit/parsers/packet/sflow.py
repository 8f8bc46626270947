"""Packets that a switch has sampled, in the datagrams in which it reports them: sFlow version 5, over UDP.

A datagram holds several samples, each the first bytes of a packet. Source: sFlow Version 5 (sflow.org, July 2004), section 5.
"""

from __future__ import annotations

from retina_jit import memory
from retina_jit.jit import kernel
from retina_jit.parsers.wire import has, u32
from retina_jit.state.layout import PACKET

PACKET_AT = memory.at(PACKET)
PORT = 6343
VERSION, AGENT_IPV4, AGENT_IPV6 = 5, 1, 2
FLOW_SAMPLE, EXPANDED_FLOW_SAMPLE, RAW_PACKET_HEADER = 1, 3, 1
"""Types of samples and of their records; the enterprise number in their upper 20 bits is 0."""
ETHERNET, IPV4, IPV6 = 1, 11, 12
"""Header protocols that are looked into."""
ETHERNET_LINK, RAW_LINK = 1, 101
NO_SAMPLE = -1


@kernel
def datagram(row):
    """The frame of a decoded row as far as its UDP payload reaches: what lies behind is padding, or a trailer."""
    return row.frame, row.payload + row.captured_len


@kernel
def first_sample(span, at):
    """Where the samples of the sFlow datagram at `at` begin; NO_SAMPLE if it is none."""
    if not has(span, at, 8) or u32(span, at) != VERSION:
        return NO_SAMPLE
    kind = u32(span, at + 4)
    if kind != AGENT_IPV4 and kind != AGENT_IPV6:
        return NO_SAMPLE
    # Agent's address, sub-agent, sequence number, uptime, number of samples.
    samples = at + 8 + (4 if kind == AGENT_IPV4 else 16) + 16
    return samples if has(span, at, samples - at) else NO_SAMPLE


@kernel
def agent(span, at):
    """Number of the sub-agent that reports; `first_sample` must have found one."""
    return u32(span, at + (12 if u32(span, at + 4) == AGENT_IPV4 else 24))


@kernel
def _header_record(span, at, end):
    """Where the sampled packet's record (header protocol, frame length, ...) of the flow sample at `at` begins, or NO_SAMPLE."""
    while has(span, at, 8) and at + 8 <= end:
        length = u32(span, at + 4)
        if u32(span, at) == RAW_PACKET_HEADER:
            return at + 8 if length >= 16 and has(span, at + 8, 16) else NO_SAMPLE
        at += 8 + length
    return NO_SAMPLE


@kernel
def sample(outer, made_address, at):
    """Fill the walker's part of a row with the packet of the sample at `at` of the datagram in row `outer`.

    Returns where the next sample begins, with its sign changed if this one has no packet to show; 0: there is none at `at`.
    """
    row = PACKET_AT(outer)
    span = datagram(row)
    if not has(span, at, 8):
        return 0
    kind, length = u32(span, at), u32(span, at + 4)
    following = at + 8 + length
    if kind == FLOW_SAMPLE:
        found = _header_record(span, at + 8 + 32, following)
    elif kind == EXPANDED_FLOW_SAMPLE:
        found = _header_record(span, at + 8 + 44, following)
    else:
        found = NO_SAMPLE
    if found == NO_SAMPLE:
        return -following
    protocol, size, stripped, captured = u32(span, found), u32(span, found + 4), u32(span, found + 8), u32(span, found + 12)
    if protocol != ETHERNET and protocol != IPV4 and protocol != IPV6:
        return -following
    made = PACKET_AT(made_address)
    made.frame = row.frame + found + 16
    # It ends with its sample, whatever it says.
    made.caplen = max(0, min(captured, min(span[1], following) - found - 16))
    # What was stripped, a frame check sequence for one, is not the packet's.
    made.length = max(size - stripped, made.caplen + 0)
    made.ts = row.ts
    made.link = ETHERNET_LINK if protocol == ETHERNET else RAW_LINK
    made.number = row.number
    return following
