"""DTLS over datagrams: the records in each of them, and what they say in clear.

Datagrams that are no records are passed over: STUN and RTP share the five-tuple with DTLS (RFC 7983).

Sources: RFC 4347, RFC 6347 §4.1, RFC 9146 (connection ids), RFC 9147 §4.
"""

from __future__ import annotations

import numpy as np

from retina_jit import memory
from retina_jit.jit import kernel, leaf
from retina_jit.parsers.dtls import fragments
from retina_jit.parsers.dtls.state import PARTS, part_of
from retina_jit.parsers.session.contract import LIMITED, READY, STOP
from retina_jit.parsers.tls import records as tls
from retina_jit.parsers.tls.state import (
    CCS,
    DATA,
    ENDED,
    SIDE_AT,
    STATE_AT,
    add_alert,
    has_session,
    is_complete,
    side_of,
)
from retina_jit.parsers.wire import has, part, u8, u16
from retina_jit.state.layout import INPUT

HEADER = 13
CONNECTION_ID = 25
"""Content type of records with a connection id; they are encrypted."""
INPUT_AT = memory.at(INPUT)


@leaf
def is_version(version):
    """Whether a record or a hello may bear this version: 1.0, 1.2, 1.3, and OpenSSL's of before RFC 4347."""
    return version == 0xFEFF or version == 0xFEFD or version == 0xFEFC or version == 0x0100


@leaf
def is_veiled_head(byte):
    """Whether a byte begins a DTLS 1.3 record that is encrypted (RFC 9147, 4)."""
    return byte & 0xE0 == 0x20


@kernel
def _take_alert(state, direction, body):
    """An alert in clear."""
    level, description = u8(body, 0), u8(body, 1)
    if level == 0 or level > tls.FATAL:
        return
    add_alert(state, direction, level, description)
    if level == tls.FATAL or description == tls.CLOSE_NOTIFY:
        SIDE_AT(side_of(state, direction)).flags |= ENDED


@kernel
def _take_record(state, direction, arena, content, epoch, body):
    """Take a record. Returns False if a cap has left something out."""
    s = SIDE_AT(side_of(state, direction))
    s.records = 1
    if epoch:
        s.flags |= CCS  # the ChangeCipherSpec itself may be lost
        if content == tls.APPLICATION_DATA:
            s.flags |= DATA
            s.veiled = min(np.int64(s.veiled) + body[1], 1 << 30)
    elif content == tls.CHANGE_CIPHER_SPEC:
        s.flags |= CCS
    elif content == tls.ALERT:
        if body[1] == 2:
            _take_alert(state, direction, body)
    elif content == tls.HANDSHAKE:
        return fragments.take(state, direction, arena, body)
    return True


@kernel
def feed(state, input_at):
    """Take a datagram: the `parse` of the contract."""
    row, given = STATE_AT(state), INPUT_AT(input_at)
    row.arena = given.arena
    direction, span = given.direction, (given.address, given.length)
    given.at = given.length
    if row.delivered:
        return STOP
    at, limited = np.int64(0), 0
    while has(span, at, 1):
        content = u8(span, at)
        if is_veiled_head(content) or (content == CONNECTION_ID and has(span, at, 3) and is_version(u16(span, at + 1))):
            if SIDE_AT(side_of(state, direction)).records:
                SIDE_AT(side_of(state, direction)).flags |= DATA
            break
        if not has(span, at, HEADER) or content < tls.CHANGE_CIPHER_SPEC or content > tls.HEARTBEAT or not is_version(u16(span, at + 1)):
            break
        size = u16(span, at + 11)
        if size > tls.RECORD_LIMIT:
            break
        if not _take_record(state, direction, given.arena, content, u16(span, at + 3), part(span, at + HEADER, size)):
            limited = LIMITED
        at += HEADER + size
    if not is_complete(state):
        return limited
    return limited | STOP | conclude(state)


@kernel
def conclude(state):
    """The connection has ended, or nothing more can come: READY if there is a session that was not delivered."""
    row = STATE_AT(state)
    if row.delivered:
        return 0
    for direction in range(2):
        fragments.conclude(state, direction, row.arena)
    if not has_session(state):
        return 0
    row.delivered = 1
    return READY


@kernel
def free(state, arena):
    """Give back all that lies in the arena."""
    for direction in range(2):
        for which in range(PARTS):
            fragments.release_part(part_of(state, direction, which), arena)
    tls.free(state, arena)
