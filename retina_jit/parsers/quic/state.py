"""What is remembered of a QUIC connection until its handshake is known."""

from __future__ import annotations

import numpy as np

from retina_jit import memory
from retina_jit.jit import kernel, leaf
from retina_jit.memory import fill
from retina_jit.parsers.digest import write_hex
from retina_jit.parsers.quic.keys import KEYS
from retina_jit.parsers.quic.packet import MAX_ID
from retina_jit.parsers.tls.derived import TEXTS, TEXTS_AT
from retina_jit.parsers.wire import copy_to, u8
from retina_jit.state import arena as pool

SIDE = np.dtype(
    [
        ("buffer", "i8"),  # arena block: the CRYPTO stream from its beginning
        ("map", "i8"),  # arena block: a bit per byte that is there
        ("room", "i4"),  # bytes of stream that there is room for; a multiple of 64
        ("front", "i4"),  # how many bytes are there from the beginning on
        ("far", "i4"),  # end of the last byte that is there
        ("message_at", "i4"),  # where the next handshake message begins
        ("hello_at", "i4"),  # body of the hello
        ("hello_len", "i4"),
        ("next_number", "i8"),  # one more than the largest packet number
        ("keys_version", "u4"),  # that the keys are for; 0: none
        ("flags", "u4"),
        ("keys", "i8", KEYS // 8),
    ]
)
assert SIDE.itemsize == 104

# SIDE.flags; CUT: only the beginning of the hello has come
BROKEN, CUT = 1, 2

NOTE = np.dtype(
    [
        ("kind", "u1"),  # see retina_jit.parsers.quic.packet
        ("direction", "u1"),
        ("dcid_len", "u1"),
        ("scid_len", "u1"),
        ("version", "u4"),
        ("number", "i8"),  # -1: not known
        ("length", "u2"),  # packet number and payload, with the tag [byte]
        ("token_len", "u2"),
        ("frames", "u4"),  # types that occur, a bit each
        ("dcid", "u1", MAX_ID),
        ("scid", "u1", MAX_ID),
    ]
)
assert NOTE.itemsize == 64
MAX_NOTES = 30
_HEX = 2 * MAX_ID
_NOTES_AT = 128  # behind the hexadecimal text of three connection ids

STATE = np.dtype(
    [
        ("side0", SIDE),  # from the originator
        ("side1", SIDE),
        ("arena", "i8"),
        ("notes", "i8"),  # arena block: text of connection ids, then a NOTE for each of the first packets
        ("notes_size", "i4"),
        ("note_count", "i4"),
        ("texts", TEXTS),
        ("error", "i8"),  # of CONNECTION_CLOSE
        ("first_version", "u4"),  # of the client's first packet
        ("version", "u4"),  # of the last Initial that was opened
        ("flags", "u4"),
        ("opened", "u4"),  # Initial packets whose tag was right
        ("failures", "u2"),  # those that could not be opened
        ("veiled", "u2"),  # datagrams that held nothing to read
        ("datagrams", "u2"),
        ("token_len", "u2"),  # of the client's first Initial
        ("client", "u1"),  # direction of the client
        ("keyed", "u1"),  # 1: the keys' connection id is known, and so who is the client
        ("delivered", "u1"),
        ("secret_len", "u1"),
        ("dcid_len", "u1"),
        ("scid_len", "u1"),
        ("server_scid_len", "u1"),
        ("pad", "u1"),
        ("secret_id", "u1", 24),  # connection id that the keys come from
        ("dcid", "u1", 24),  # of the client's first Initial
        ("scid", "u1", 24),
        ("server_scid", "u1", 24),
    ]
)
assert STATE.itemsize <= 512

# STATE.flags
RETRIED, NEGOTIATED, HELLO_RETRY, EARLY_DATA, ANSWERED, CLOSED, SERVER_CLOSED, CLIENT_DATA = (1 << n for n in range(8))

SIDE_AT, NOTE_AT, STATE_AT = memory.at(SIDE), memory.at(NOTE), memory.at(STATE)
_SIDE, _NOTE = SIDE.itemsize, NOTE.itemsize
_KEYS = SIDE.fields["keys"][1]  # type: ignore[index]
_TEXTS, SECRET_ID, DCID, SCID, SERVER_SCID = (
    STATE.fields[n][1] for n in ("texts", "secret_id", "dcid", "scid", "server_scid")  # type: ignore[index]
)
NOTE_DCID, NOTE_SCID = NOTE.fields["dcid"][1], NOTE.fields["scid"][1]  # type: ignore[index]


@leaf
def side_of(state, direction):
    """Address of the SIDE of a direction."""
    return state + _SIDE * direction


@leaf
def client_side(state):
    """Address of the client's SIDE."""
    return state + _SIDE * np.int64(STATE_AT(state).client)


@leaf
def server_side(state):
    """Address of the server's SIDE."""
    return state + _SIDE * (1 - np.int64(STATE_AT(state).client))


@leaf
def keys_of(side):
    """Address of the keys of a side."""
    return side + _KEYS


@leaf
def hello_of(side):
    """Body of the side's hello; (0, 0) if none was seen."""
    s = SIDE_AT(side)
    if s.hello_len == 0:
        return (0, 0)
    return (s.buffer + np.int64(s.hello_at), np.int64(s.hello_len))


@leaf
def is_whole(side):
    """Whether all of the hello has come, so that it has a fingerprint."""
    return SIDE_AT(side).flags & CUT == 0


@leaf
def texts_of(state):
    """Address of the TEXTS of a session, ready for `retina_jit.parsers.tls.derived`."""
    texts = state + _TEXTS
    TEXTS_AT(texts).arena = STATE_AT(state).arena
    return texts


@leaf
def keep_id(target, span, at, length):
    """Copy a connection id. Returns its length."""
    return copy_to(target, span, at, min(length, MAX_ID))


@kernel
def same_id(kept, kept_len, span, at, length):
    """Whether a connection id of a packet is one that was kept."""
    if kept_len != length:
        return False
    for n in range(length):
        if u8((kept, length), n) != u8(span, at + n):
            return False
    return True


@kernel
def new_note(state, kind, direction, version, span, head):
    """Note a packet; `head` is what `read_long` gave. Returns the address of its NOTE, or 0: there are enough."""
    row = STATE_AT(state)
    count = np.int64(row.note_count)
    if count >= MAX_NOTES:
        return 0
    size = _NOTES_AT + _NOTE * (count + 1)
    if row.notes == 0 or size > row.notes_size:
        held = _NOTES_AT + _NOTE * count if row.notes else 0
        grown = pool.enlarge(row.arena, row.notes, held, np.int64(row.notes_size), size)
        if grown == 0:
            return 0
        row.notes = grown
        row.notes_size = pool.capacity(size)
    note = row.notes + _NOTES_AT + _NOTE * count
    fill(note, 0, _NOTE)
    row.note_count = count + 1
    n = NOTE_AT(note)
    n.kind, n.direction, n.version, n.number = kind, direction, version, -1
    n.dcid_len = keep_id(note + NOTE_DCID, span, head[2], head[3])
    n.scid_len = keep_id(note + NOTE_SCID, span, head[4], head[5])
    n.token_len = head[7]
    return note


@leaf
def note_at(state, n):
    """Address of the `n`-th NOTE."""
    return STATE_AT(state).notes + _NOTES_AT + _NOTE * n


@kernel
def id_text(state, which, at, length):
    """A connection id of the state, the `which`-th of three, in hexadecimal."""
    row = STATE_AT(state)
    if row.notes == 0 or length == 0:
        return (0, 0)
    target = row.notes + _HEX * which
    write_hex(target, state + at, length)
    return (target, 2 * length)


@kernel
def forget_stream(state, side):
    """Drop what came of a CRYPTO stream: another attempt has begun."""
    s = SIDE_AT(side)
    arena = STATE_AT(state).arena
    pool.release(arena, s.buffer, np.int64(s.room))
    pool.release(arena, s.map, np.int64(s.room) >> 3)
    s.buffer = 0
    s.map = 0
    s.room = 0
    s.front = 0
    s.far = 0
    s.message_at = 0
    s.hello_len = 0
    s.next_number = 0
    s.flags = 0
