"""Five-tuple -> direction-free key and seeded hash.

The endpoint whose (address, port) is lower, as signed words, stands first in the key; a bit says whether the packet's
source is the higher one. The hash is seeded per run, so nobody who knows this code can choose packets that collide.
"""

from __future__ import annotations

from retina_jit.jit import leaf
from retina_jit.memory import mix, shift_right
from retina_jit.state.layout import IPV6

K1, K2, K3 = 0x1FC2F3A94D8B6E57, 0x2D358DCCAA6C78A5, 0x4BB33A62ED93F8EB
"""Odd words without structure."""


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

    vlan_mask: bits of the outermost tag that keep connections apart; 0: none.
    """
    high = source_is_high(row)
    sp, dp = (row.src_port << 0) + 0, (row.dst_port << 0) + 0
    family = 1 if row.layers & IPV6 else 0
    rest = (row.protocol << 32) | (family << 40) | ((row.vlan_tci & vlan_mask) << 41)
    if high:
        row.key = rest | (dp << 16) | sp
        row.hash = mix(mix(row.dst_hi ^ seed, row.dst_lo ^ K1) ^ row.src_hi, mix(row.src_lo ^ K2, row.key ^ seed) ^ K3)
        row.direction = 1
    else:
        row.key = rest | (sp << 16) | dp
        row.hash = mix(mix(row.src_hi ^ seed, row.src_lo ^ K1) ^ row.dst_hi, mix(row.dst_lo ^ K2, row.key ^ seed) ^ K3)
        row.direction = 0


@leaf
def low_port(key):
    return shift_right(key, 16) & 0xFFFF


@leaf
def high_port(key):
    return key & 0xFFFF


@leaf
def protocol_of(key):
    return shift_right(key, 32) & 0xFF


@leaf
def is_ipv6(key):
    return (shift_right(key, 40) & 1) != 0
