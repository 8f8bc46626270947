"""Whose a frame is, where several workers share a capture: a hash of its connection says it, and the frame's number otherwise.

Workers and whoever reads for them have to agree, so this is the only place where it is said.
"""

from __future__ import annotations

import numpy as np

from retina_jit.jit import leaf
from retina_jit.memory import mix
from retina_jit.state.layout import FRAGMENT, TCP, UDP

K1, K2 = 0x6A09E667F3BCC909, 0x3B67AE8584CAA73B
"""Odd words without structure."""
HALF = 0xFFFFFFFF
OURS = 1
"""PACKET.hash, before there is a key: it is known that the frame is this worker's."""
BLOCK_BITS = 6
"""Frames of no connection go round among workers in blocks of two to this many."""


@leaf
def has_connection(row):
    """Whether a decoded row belongs to a connection by itself; a fragment belongs to a datagram first."""
    return row.layers & (TCP | UDP) != 0 and not row.layers & FRAGMENT


@leaf
def hash_of(hi, lo, ports, protocol, seed):
    """32 bits, the same for both directions of a connection, for sums of both ends: of their addresses, of their ports."""
    return mix((hi * K1 + lo) ^ seed, (ports << 8 | protocol) ^ K2 ^ seed) & HALF


@leaf
def connection_hash(row, seed):
    """`hash_of` a decoded row."""
    ports = np.int64(row.src_port) + np.int64(row.dst_port)
    return hash_of(row.src_hi + row.dst_hi, row.src_lo + row.dst_lo, ports, row.protocol, seed)


@leaf
def owner_of(hash_, workers):
    """Number of the worker of a connection with this hash."""
    return (hash_ * workers) >> 32


@leaf
def turn(number, workers):
    """Number of the worker whose turn it is at a frame of no connection."""
    return (number >> BLOCK_BITS) % workers
