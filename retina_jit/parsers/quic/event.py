"""How a QUIC session is written into an event; `retina_jit.datatypes.quic_stream` reads it."""

from __future__ import annotations

import numpy as np

from retina_jit import memory
from retina_jit.delivery.event import CONTEXT_AT, packed, put_bytes, reserve_bytes
from retina_jit.jit import entry, kernel
from retina_jit.memory import fill, store8, store64
from retina_jit.parsers.quic import parameters, state, versions
from retina_jit.parsers.tls import hello
from retina_jit.parsers.tls.event import FINGERPRINTS, HELLOS, put_fingerprints, put_hellos

PACKET = np.dtype(
    [
        ("kind", "u1"),  # see retina_jit.parsers.quic.packet
        ("sender", "u1"),  # 0 client, 1 server
        ("length", "u2"),
        ("version", "u4"),
        ("token_len", "u4"),
        ("flags", "u4"),
        ("number", "i8"),
        ("dcid", "i8"),  # packed words
        ("scid", "i8"),
        ("frames", "i8"),  # a byte per type of frame that occurs
    ]
)
OPENED = 1  # PACKET.flags

RECORD = np.dtype(
    [
        *HELLOS.descr,
        ("quic_version", "u4"),
        ("first_version", "u4"),
        ("flags", "u4"),  # see retina_jit.parsers.quic.state, and below
        ("initial_packets", "u4"),
        ("token_len", "u4"),
        ("spare", "u4"),
        ("error_code", "i8"),
        ("dcid", "i8"),  # packed words
        ("scid", "i8"),
        ("server_scid", "i8"),
        ("user_agent", "i8"),
        ("packets", "i8"),
        *((name, "i8") for name in parameters.NUMBERS),  # the client's transport parameters; 0: absent
        *FINGERPRINTS.descr,
    ]
)
assert RECORD.itemsize % 8 == 0

# RECORD.flags beside those of the state
RESUMED, INCOMPLETE, ECH, IS_CLOSED = (1 << n for n in range(16, 20))

RECORD_AT, PACKET_AT = memory.at(RECORD), memory.at(PACKET)
_FINGERPRINTS, _NUMBERS = (RECORD.fields[n][1] for n in ("ja3_hash", parameters.NUMBERS[0]))  # type: ignore[index]
_PACKET = PACKET.itemsize
_Q = np.int64(113)  # 'q'


@kernel
def _put_frames(context, seen):
    """Write the types of frames that are bits of `seen`, a byte each."""
    count = 0
    for kind in range(32):
        count += (seen >> kind) & 1
    start = reserve_bytes(context, count)
    if start == 0 or count == 0:
        return 0
    at = start
    for kind in range(32):
        if (seen >> kind) & 1:
            store8(at, kind)
            at += 1
    return packed(context, start, count)


@kernel
def _put_packets(context, session):
    """Write what was noted of the first packets."""
    row = state.STATE_AT(session)
    count = np.int64(row.note_count) if row.notes else 0
    start = reserve_bytes(context, _PACKET * count)
    if start == 0 or count == 0:
        return 0
    fill(start, 0, _PACKET * count)
    for n in range(count):
        place = state.note_at(session, n)
        note, p = state.NOTE_AT(place), PACKET_AT(start + _PACKET * n)
        p.kind = note.kind
        p.sender = 0 if note.direction == row.client else 1
        p.length = note.length
        p.version = note.version
        p.token_len = note.token_len
        p.flags = OPENED if note.number >= 0 else 0
        p.number = note.number
        p.dcid = put_bytes(context, place + state.NOTE_DCID, np.int64(note.dcid_len))
        p.scid = put_bytes(context, place + state.NOTE_SCID, np.int64(note.scid_len))
        p.frames = _put_frames(context, np.int64(note.frames))
    return packed(context, start, _PACKET * count)


@kernel
def _put_parameters(context, out, body, old):
    """Write the client's transport parameters."""
    r, block = RECORD_AT(out), parameters.block_of(body)
    for n in range(parameters.NUMBER_COUNT):
        store64(out + _NUMBERS + 8 * n, 0)
    r.user_agent = 0
    at = 2 if old else 0
    for _ in range(parameters.MOST):
        head = parameters.head(block, at, old)
        if head[0] < 0:
            break
        at = head[1] + head[2]
        which = parameters.number_index(head[0])
        if which >= 0:
            store64(out + _NUMBERS + 8 * which, parameters.value(block, head))
        elif head[0] == parameters.USER_AGENT:
            r.user_agent = put_bytes(context, block[0] + head[1], head[2])


@entry
def project(context):
    """Write a QUIC session to an event."""
    c = CONTEXT_AT(context)
    session, out = c.session, c.out
    row, r = state.STATE_AT(session), RECORD_AT(out)
    ours, theirs = state.client_side(session), state.server_side(session)
    client, server = state.hello_of(ours), state.hello_of(theirs)
    put_hellos(context, out, client, server)
    _put_parameters(context, out, client, versions.scheme_of(np.int64(row.first_version)) & versions.OLD_PARAMETERS)
    resumed = hello.find(hello.server_extensions(server), hello.PRE_SHARED_KEY)[0] != 0
    hidden = hello.find(hello.client_extensions(client), hello.ENCRYPTED_CLIENT_HELLO)[0] != 0
    r.quic_version = row.version
    r.first_version = row.first_version
    r.flags = (
        np.int64(row.flags)
        | (resumed * RESUMED)
        | (hidden * ECH)
        | ((not state.is_whole(ours)) * INCOMPLETE)
        | ((row.flags & (state.CLOSED | state.SERVER_CLOSED) != 0) * IS_CLOSED)
    )
    r.initial_packets = row.opened
    r.token_len = row.token_len
    r.error_code = row.error
    r.dcid = put_bytes(context, session + state.DCID, np.int64(row.dcid_len))
    r.scid = put_bytes(context, session + state.SCID, np.int64(row.scid_len))
    r.server_scid = put_bytes(context, session + state.SERVER_SCID, np.int64(row.server_scid_len))
    r.packets = _put_packets(context, session)
    put_fingerprints(
        state.texts_of(session), client, server, state.is_whole(ours), state.is_whole(theirs), _Q, out + _FINGERPRINTS
    )
    return 0
