"""Transport parameters, which a client sends in clear within its ClientHello.

Sources: RFC 9000 §7.4 and §18; up to draft 26 numbers and lengths had two bytes, and a length stood before them all.
"""

from __future__ import annotations

import numpy as np

from retina_jit.jit import kernel, leaf
from retina_jit.memory import constant, load8
from retina_jit.parsers.quic.packet import varint, varint_size
from retina_jit.parsers.tls import hello
from retina_jit.parsers.wire import has, part, u16, u32

EXTENSION, DRAFT_EXTENSION = 0x39, 0xFFA5
VERSION_INFORMATION = 0x11
USER_AGENT = 0x3129  # Google's

IDS = {
    "max_idle_timeout": 0x01,
    "max_udp_payload_size": 0x03,
    "initial_max_data": 0x04,
    "initial_max_stream_data_bidi_local": 0x05,
    "initial_max_stream_data_bidi_remote": 0x06,
    "initial_max_stream_data_uni": 0x07,
    "initial_max_streams_bidi": 0x08,
    "initial_max_streams_uni": 0x09,
    "active_connection_id_limit": 0x0E,
    "max_datagram_frame_size": 0x20,  # RFC 9221
}
"""Parameters that are numbers."""
NUMBERS = tuple(IDS)
NUMBER_COUNT = len(NUMBERS)
_index = constant("quic_parameter_index", bytes(NUMBERS.index(n) if (n := {i: k for k, i in IDS.items()}.get(k)) else 255 for k in range(64)))

MOST = 64
"""Parameters that are looked at."""


@kernel
def block_of(body):
    """The transport parameters of a ClientHello."""
    block = hello.client_extensions(body)
    found = hello.find(block, EXTENSION)
    return found if found[0] else hello.find(block, DRAFT_EXTENSION)


@leaf
def number_index(identifier):
    """Position of a parameter in NUMBERS; -1 if it is none of them."""
    found = load8(_index() + identifier) if 0 <= identifier < 64 else 255
    return found if found < 255 else -1


@kernel
def head(block, at, old):
    """(id, position of the value, its length) of the parameter at `at`; (-1, 0, 0) if there is none, or it is cut.

    `old`: in the format up to draft 26.
    """
    if old:
        if not has(block, at, 4) or not has(block, at + 4, u16(block, at + 2)):
            return (-1, 0, 0)
        return (u16(block, at), at + 4, u16(block, at + 2))
    size = varint_size(block, at)
    if size == 0:
        return (-1, 0, 0)
    length_size = varint_size(block, at + size)
    if length_size == 0:
        return (-1, 0, 0)
    length = varint(block, at + size)
    if not has(block, at + size + length_size, length):
        return (-1, 0, 0)
    return (varint(block, at), at + size + length_size, length)


@leaf
def value(block, found):
    """The number that is the value of a parameter, of which `head` has found the place; 0 if it is none."""
    data = part(block, found[1], found[2])
    return varint(data, 0) if varint_size(data, 0) else 0


@kernel
def find(block, old, identifier):
    """The value of a parameter; (0, 0) without it."""
    at = 2 if old else 0
    for _ in range(MOST):
        found = head(block, at, old)
        if found[0] < 0:
            break
        if found[0] == identifier:
            return part(block, found[1], found[2])
        at = found[1] + found[2]
    return (0, 0)


@kernel
def identifier_at(block, old, n):
    """The id of the `n`-th parameter; how many there are for n = -1."""
    at = 2 if old else 0
    count = 0
    while count < MOST:
        found = head(block, at, old)
        if found[0] < 0:
            break
        if count == n:
            return found[0]
        at = found[1] + found[2]
        count += 1
    return count if n < 0 else 0


@leaf
def number(block, old, identifier):
    """The value of a parameter that is a number; 0 without it."""
    data = find(block, old, identifier)
    return varint(data, 0) if varint_size(data, 0) else 0


@leaf
def offered_version(block, n):
    """The `n`-th version that the client could speak (RFC 9368, 3); how many for n = -1."""
    data = find(block, np.int64(0), VERSION_INFORMATION)
    if n < 0:
        return max(data[1] >> 2, 1) - 1
    return u32(data, 4 + 4 * n) if has(data, 4 + 4 * n, 4) else 0
