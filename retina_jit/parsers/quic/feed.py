"""A QUIC connection, datagram by datagram: which packets there are, with which keys they open, when all is known.

Who is the client follows from the keys: only the client's first Initial opens with keys that come from the connection id
that it is sent to. Later Initials of both sides, to whatever id they are sent, use the same ones, in their own version
(RFC 9368 lets the server change it). After a Retry, and when the client begins anew, they come from another id; so a
packet from the client that does not open is tried with its own id. At most one such attempt is made per datagram.

The session is complete with both hellos. A server that is not heard (one direction was captured, or its Initial is
missing) is given up after PATIENCE datagrams in which nothing can be read, or when a side closes.

Sources: RFC 9000 §7, §12.2, §17.2; RFC 9001 §5; RFC 9368.
"""

from __future__ import annotations

import numpy as np

from retina_jit import memory
from retina_jit.jit import kernel, leaf
from retina_jit.parsers.crypto import provider
from retina_jit.parsers.quic import frames, keys, packet, stream, versions
from retina_jit.parsers.quic.state import (
    ANSWERED,
    CLIENT_DATA,
    CLOSED,
    DCID,
    EARLY_DATA,
    HELLO_RETRY,
    NEGOTIATED,
    NOTE_AT,
    RETRIED,
    SCID,
    SECRET_ID,
    SERVER_CLOSED,
    SERVER_SCID,
    SIDE_AT,
    STATE_AT,
    client_side,
    forget_stream,
    keep_id,
    keys_of,
    new_note,
    same_id,
    server_side,
    side_of,
    texts_of,
)
from retina_jit.parsers.session.contract import NOT_OURS, READY, STOP
from retina_jit.parsers.tls import derived
from retina_jit.parsers.wire import copy_to, u8
from retina_jit.state import arena as pool
from retina_jit.state.layout import INPUT

PATIENCE = 16
"""Datagrams without a packet to read, after which what is missing is given up."""
MOST_DATAGRAMS = 256
"""Datagrams that are looked at in any case."""
MOST_FAILURES = 12
"""Initial packets that do not open, after which no other keys are tried."""

INPUT_AT = memory.at(INPUT)
_CANDIDATE = keys.WORK
_PACKET = keys.WORK + keys.KEYS


@kernel
def _forget_streams(state):
    """The client begins anew: what has come so far belongs to another attempt."""
    forget_stream(state, side_of(state, 0))
    forget_stream(state, side_of(state, 1))
    STATE_AT(state).flags &= ~(HELLO_RETRY | ANSWERED)


@kernel
def _begin_anew(state, span, head, direction):
    """The client's packet `head` has opened with keys of its own connection id: they are the connection's from now on."""
    row = STATE_AT(state)
    expected = row.flags & RETRIED and same_id(state + SERVER_SCID, np.int64(row.server_scid_len), span, head[2], head[3])
    if row.keyed:
        # After a Retry as well: the server has kept nothing, so all is said again, by some clients with a new hello.
        _forget_streams(state)
        if not expected:
            row.flags &= ~RETRIED
    first = not row.keyed or not expected
    row.keyed = 1
    row.client = direction
    row.secret_len = keep_id(state + SECRET_ID, span, head[2], head[3])
    if first:
        row.first_version = head[1]
        row.dcid_len = keep_id(state + DCID, span, head[2], head[3])
        row.scid_len = keep_id(state + SCID, span, head[4], head[5])
    row.token_len = head[7]
    SIDE_AT(side_of(state, 1 - direction)).keys_version = 0
    SIDE_AT(side_of(state, 1 - direction)).next_number = 0


@kernel
def _open_known(state, crypto, direction, span, at, head, block):
    """Open an Initial with the connection's keys: (packet number, where the frames begin, their length)."""
    row, side = STATE_AT(state), side_of(state, direction)
    s = SIDE_AT(side)
    version = head[1]
    if s.keys_version != version:
        is_server = direction != row.client
        scheme = versions.scheme_of(version)
        keys.derive(crypto, scheme, state + SECRET_ID, np.int64(row.secret_len), is_server, keys_of(side), block)
        s.keys_version = version
    size = copy_to(block + _PACKET, span, at, head[9] - at)
    return keys.open_packet(crypto, keys_of(side), block + _PACKET, head[8] - at, size, s.next_number, block)


@kernel
def _open_first(state, crypto, direction, span, at, head, block):
    """The same as a client's first one, with keys from its own connection id, which it keeps if they are right."""
    side = side_of(state, direction)
    scheme = versions.scheme_of(head[1])
    size = copy_to(block + _PACKET, span, at, head[9] - at)
    candidate = block + _CANDIDATE
    keys.derive(crypto, scheme, span[0] + head[2], head[3], False, candidate, block)
    found = keys.open_packet(crypto, candidate, block + _PACKET, head[8] - at, size, np.int64(0), block)
    if found[0] >= 0:
        _begin_anew(state, span, head, direction)
        memory.copy(keys_of(side), candidate, keys.KEYS)
        SIDE_AT(side).keys_version = head[1]
    return found


@kernel
def _take_initial(state, crypto, direction, span, at, head):
    """Open an Initial packet and take its frames. Returns whether it has opened."""
    row = STATE_AT(state)
    note = new_note(state, packet.INITIAL, direction, head[1], span, head)
    if note:
        NOTE_AT(note).length = head[9] - head[8]
    size = _PACKET + head[9] - at
    block = pool.allocate(row.arena, size)
    if block == 0:
        return False
    found = (-1, 0, 0)
    if row.keyed:
        found = _open_known(state, crypto, direction, span, at, head, block)
    if found[0] < 0 and row.failures < MOST_FAILURES and (not row.keyed or direction == row.client):
        found = _open_first(state, crypto, direction, span, at, head, block)
    number = found[0]
    if number < 0:
        row.failures = min(np.int64(row.failures) + 1, 1000)
    else:
        side = side_of(state, direction)
        s = SIDE_AT(side)
        if direction == row.client and row.flags & (NEGOTIATED | ANSWERED) == NEGOTIATED and row.version != head[1]:
            _forget_streams(state)  # the server has refused a version, and this is another one
        s.next_number = max(s.next_number, number + 1)
        row.opened += 1
        if direction != row.client:
            row.server_scid_len = keep_id(state + SERVER_SCID, span, head[4], head[5])
            row.flags |= ANSWERED
            row.version = head[1]
        elif row.flags & ANSWERED == 0:
            row.version = head[1]
        google = versions.scheme_of(head[1]) & versions.GOOGLE
        seen = frames.take(state, side, found[1], found[2], google)
        if note:
            NOTE_AT(note).number = number
            NOTE_AT(note).frames = seen
    pool.release(row.arena, block, size)
    return number >= 0


@kernel
def _retry_is_real(state, crypto, span, head):
    """Whether the integrity tag of a Retry packet is right (RFC 9001, 5.8); True where there is none to check."""
    row = STATE_AT(state)
    secret = versions.retry_key_of(versions.scheme_of(head[1]))
    if secret == 0:
        return True
    size = span[1] - packet.TAG
    block = pool.allocate(row.arena, _PACKET + 1 + packet.MAX_ID + span[1])
    if block == 0:
        return False
    start = block + _PACKET
    id_len = np.int64(row.secret_len)
    memory.store8(start, id_len)
    memory.copy(start + 1, state + SECRET_ID, id_len)
    copy_to(start + 1 + id_len, span, 0, span[1])
    real = provider.open_message(crypto, secret, secret + 16, start, 1 + id_len + size, start + 1 + id_len + size, 0, block)
    pool.release(row.arena, block, _PACKET + 1 + packet.MAX_ID + span[1])
    return real


@kernel
def _take_retry(state, crypto, direction, span, head):
    """A Retry: the client begins anew with keys from the connection id that the server names."""
    row = STATE_AT(state)
    if row.keyed and direction != row.client and row.flags & ANSWERED == 0 and _retry_is_real(state, crypto, span, head):
        row.flags |= RETRIED
        row.server_scid_len = keep_id(state + SERVER_SCID, span, head[4], head[5])


@kernel
def _take_datagram(state, crypto, direction, span):
    """Take the packets of a datagram, one after another (RFC 9000, 12.2)."""
    row = STATE_AT(state)
    at = np.int64(0)
    opened = False
    tried = False
    while at < span[1]:
        first = u8(span, at)
        if not packet.is_long(first):
            if first & 0x40:
                if row.keyed and direction == row.client:
                    row.flags |= CLIENT_DATA
            break
        # A Retry or a Version Negotiation fills its datagram.
        head = packet.read_long(span, at)
        kind = head[0]
        if kind < 0:
            break
        if kind == packet.INITIAL:
            # A sender does not coalesce packets of different connections, so one that does not open says all.
            if not tried:
                opened = _take_initial(state, crypto, direction, span, at, head) or opened
                tried = not opened
        else:
            note = new_note(state, kind, direction, head[1], span, head)
            if note and kind != packet.RETRY and kind != packet.NEGOTIATION:
                NOTE_AT(note).length = head[9] - head[8]
            if kind == packet.ZERO_RTT:
                row.flags |= EARLY_DATA
            elif kind == packet.RETRY and at == 0:
                _take_retry(state, crypto, direction, span, head)
            elif kind == packet.NEGOTIATION and at == 0:
                row.flags |= NEGOTIATED
        at = head[9]
    if not opened:
        row.veiled += 1


@leaf
def has_session(state):
    """Whether there is anything worth delivering: a packet that has opened."""
    return STATE_AT(state).opened > 0


@kernel
def _is_complete(state):
    """Whether nothing more is waited for."""
    row = STATE_AT(state)
    client, server = SIDE_AT(client_side(state)), SIDE_AT(server_side(state))
    if row.flags & (CLOSED | SERVER_CLOSED):
        return True
    if client.hello_len and server.hello_len:
        return True
    return row.veiled >= PATIENCE or row.datagrams >= MOST_DATAGRAMS


@kernel
def feed(state, input_at):
    """Take the datagram of an INPUT: the `parse` of the contract."""
    row, given = STATE_AT(state), INPUT_AT(input_at)
    row.arena = given.arena
    span = (given.address, given.length)
    given.lost = 0
    given.at = span[1]
    if row.delivered:
        return STOP
    if span[1] == 0:
        return 0
    row.datagrams += 1
    _take_datagram(state, given.crypto, given.direction, span)
    if not row.keyed and row.failures >= MOST_FAILURES:
        return NOT_OURS | STOP
    if not _is_complete(state):
        return 0
    return _deliver(state) | STOP


@kernel
def _deliver(state):
    """Whether there is a session: READY or 0. From now on it is fixed."""
    row = STATE_AT(state)
    if row.delivered:
        return 0
    row.delivered = 1
    if not has_session(state):
        return 0
    stream.conclude(client_side(state))
    return READY


@kernel
def conclude(state):
    """The connection has ended: the `finish` of the contract."""
    return _deliver(state)


@kernel
def free(state, arena):
    """Give back all that lies in the arena."""
    row = STATE_AT(state)
    row.arena = arena
    forget_stream(state, side_of(state, 0))
    forget_stream(state, side_of(state, 1))
    pool.release(arena, row.notes, np.int64(row.notes_size))
    row.notes = 0
    row.note_count = 0
    derived.release(texts_of(state), arena)
    row.delivered = 1
