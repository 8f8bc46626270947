"""Five-tuple -> direction-free key and seeded hash.

The endpoint whose (address, port) is lower, as signed words, stands first in the key; a bit says whether the packet's
source is the higher one. The hash is seeded per run, so nobody who knows this code can choose packets that collide.

The key's word: ports (32 bits), protocol (5), family (1), network (26): a VLAN id or 0, or a virtual network's identifier
with NETWORK_IS_VIRTUAL set; and SAMPLED if a switch has reported the packet.
"""

from __future__ import annotations

from retina_jit.jit import leaf
from retina_jit.memory import mix, shift_right
from retina_jit.state.layout import INNER, IPV6

K1, K2, K3 = 0x1FC2F3A94D8B6E57, 0x2D358DCCAA6C78A5, 0x4BB33A62ED93F8EB
"""Odd words without structure."""
PROTOCOL, FAMILY, NETWORK = 32, 37, 38
"""Where these stand in the key."""
NETWORK_BITS = -1 << NETWORK
NETWORK_IS_VIRTUAL = 1 << 24
SAMPLED = 1 << 25
"""The packet may have been seen here itself as well, so it must not count for the same connection."""


@leaf
def source_is_high(row):
    """Whether the packet's source is the endpoint that stands second in the key."""
    if row.src_hi != row.dst_hi:
        return row.src_hi > row.dst_hi
    if row.src_lo != row.dst_lo:
        return row.src_lo > row.dst_lo
    return row.src_port > row.dst_port


@leaf
def set_key(row, seed, vlan_mask):
    """Fill `key`, `hash` and `direction` (1: the source is the high endpoint) of a decoded TCP or UDP row.

    vlan_mask: bits of the outermost tag that keep connections apart; 0: none. What stands in a tunnel has its network in
    the key already, see `set_network`.
    """
    high = source_is_high(row)
    sp, dp = (row.src_port << 0) + 0, (row.dst_port << 0) + 0
    family = 1 if row.layers & IPV6 else 0
    rest = (row.protocol << PROTOCOL) | (family << FAMILY)
    if row.layers & INNER:
        rest |= row.key & NETWORK_BITS
    else:
        rest |= (row.vlan_tci & vlan_mask) << NETWORK
    if high:
        row.key = rest | (dp << 16) | sp
        row.hash = mix(mix(row.dst_hi ^ seed, row.dst_lo ^ K1) ^ row.src_hi, mix(row.src_lo ^ K2, row.key ^ seed) ^ K3)
        row.direction = 1
    else:
        row.key = rest | (sp << 16) | dp
        row.hash = mix(mix(row.src_hi ^ seed, row.src_lo ^ K1) ^ row.dst_hi, mix(row.dst_lo ^ K2, row.key ^ seed) ^ K3)
        row.direction = 0


@leaf
def set_network(row, network, vlan_mask):
    """Put the network of what stands in a tunnel where `set_key` expects it; 0 or SAMPLED: it has none but its own tag.

    A tag within a virtual network does not keep connections apart: there should be none (RFC 7348, 6.1).
    """
    row.key = (network if network & NETWORK_IS_VIRTUAL else network | (row.vlan_tci & vlan_mask)) << NETWORK


@leaf
def network_of(row):
    """The virtual network that `set_network` has noted, or 0; with SAMPLED."""
    network = shift_right(row.key, NETWORK)
    return network if network & NETWORK_IS_VIRTUAL else network & SAMPLED


@leaf
def low_port(key):
    return shift_right(key, 16) & 0xFFFF


@leaf
def high_port(key):
    return key & 0xFFFF


@leaf
def protocol_of(key):
    return shift_right(key, PROTOCOL) & 0x1F


@leaf
def is_ipv6(key):
    return (shift_right(key, FAMILY) & 1) != 0
