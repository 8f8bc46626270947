"""What is remembered of an SSH connection, and when its session is complete.

A side speaks in lines until its identification, then in packets in clear until its NEWKEYS; what follows is encrypted
and only counted. The session is complete when neither side can say anything more in clear, when one of them has said
good-bye (SSH_MSG_DISCONNECT), or when a side has sent PATIENCE encrypted bytes while the other one is silent: only one
direction of such a connection is captured. After an identification of SSH 1 nothing more is looked at.

Which side is the client follows from what only one of them may send; a connection that is taken up in its middle may be
known the wrong way round.

Sources: RFC 4253 §4.2, §6, §7, §11.1.
"""

from __future__ import annotations

import numpy as np

from retina_jit import memory
from retina_jit.jit import kernel, leaf
from retina_jit.memory import load32, store32

PATIENCE = 32 << 10

LINES, PACKETS, VEILED, BROKEN = 0, 1, 2, 3
"""Phases of a side. BROKEN: what comes is no SSH, or cannot be followed any more."""

# SIDE.flags; CUT: the capture has only the beginning of the KEXINIT
NEW_KEYS, GAP, CUT, REFUSED = 1, 2, 4, 8

FIRST_KEX, KEX_TYPES = 30, 5
"""Messages 30 to 34 belong to the key exchange method (RFC 4250, 4.1.2)."""

SIDE = np.dtype(
    [
        ("buffer", "i8"),  # arena block: the identification, then payloads (without their types) that are kept
        ("room", "i4"),  # its size as asked for
        ("held", "i4"),  # bytes in it
        ("banner_len", "i4"),  # the identification stands first
        ("kexinit_at", "i4"),
        ("kexinit_len", "i4"),
        ("kex", "i4", 2 * KEX_TYPES),  # where the last message of each type begins, its length
        ("left", "i4"),  # bytes of the packet that are still to come
        ("rest", "i4"),  # bytes of its payload among them
        ("begun", "i4"),  # where the payload that is being kept begins
        ("before", "i4"),  # bytes before the identification
        ("veiled", "i4"),  # encrypted bytes
        ("head", "i8"),  # packet_length, padding_length and message type, as far as they have come
        ("have", "u1"),  # bytes in head
        ("message", "u1"),  # type of the message
        ("keep", "u1"),
        ("kept", "u1"),  # messages kept
        ("phase", "u1"),
        ("flags", "u1"),
        ("wary", "u1"),  # 1: after a gap, the next header has to be plausible
        ("pad", "u1"),
    ]
)
assert SIDE.itemsize == 104

STATE = np.dtype(
    [
        ("side0", SIDE),  # from the originator
        ("side1", SIDE),
        ("arena", "i8"),
        ("derived", "i8"),  # arena block with text made on demand, see retina_jit.parsers.ssh.derived
        ("derived_len", "i4"),
        ("hassh_len", "i4"),
        ("hassh_server_len", "i4"),
        ("walk_n", "i4"),  # the last name that was asked for by its number, see retina_jit.parsers.ssh.names
        ("walk_list", "i8"),
        ("walk_at", "i8"),
        ("made", "u1"),
        ("client", "u1"),  # direction of the client
        ("roles", "u1"),  # 1: a message has told which side is the client
        ("version1", "u1"),  # 1: a side speaks SSH 1 only
        ("ended", "u1"),  # 1: DISCONNECT
        ("delivered", "u1"),
        ("pad", "u2"),
    ]
)
assert STATE.itemsize == 2 * 104 + 56
SIDE_AT, STATE_AT = memory.at(SIDE), memory.at(STATE)
_SIDE = SIDE.itemsize
_KEX = SIDE.fields["kex"][1]  # type: ignore[index]


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
def banner_of(side):
    """The identification without CR LF; (0, 0) if none was seen."""
    s = SIDE_AT(side)
    return (s.buffer + 0, np.int64(s.banner_len)) if s.banner_len else (0, 0)


@leaf
def kexinit_of(side):
    """Payload of the side's first KEXINIT, from the cookie on; (0, 0) if none was seen."""
    s = SIDE_AT(side)
    return (s.buffer + np.int64(s.kexinit_at), np.int64(s.kexinit_len)) if s.kexinit_len else (0, 0)


@leaf
def kex_message(side, kind):
    """Payload of the side's last message of a type from 30 to 34, without the type; (0, 0) if none was seen."""
    s = SIDE_AT(side)
    slot = side + _KEX + 8 * (kind - FIRST_KEX)
    length = load32(slot + 4)
    return (s.buffer + load32(slot), length) if length else (0, 0)


@leaf
def note_kex_message(side, kind, at, length):
    """Remember where a message of a type from 30 to 34 stands."""
    slot = side + _KEX + 8 * (kind - FIRST_KEX)
    store32(slot, at)
    store32(slot + 4, length)


@leaf
def set_client(state, direction):
    """A message tells which side is the client; the first one counts."""
    row = STATE_AT(state)
    if row.roles == 0:
        row.roles = 1
        row.client = direction


@leaf
def has_session(state):
    """Whether there is anything worth delivering: the identification of a side, as for other tools."""
    return SIDE_AT(side_of(state, 0)).banner_len > 0 or SIDE_AT(side_of(state, 1)).banner_len > 0


@kernel
def is_complete(state):
    """Whether nothing more can come that is reported: the rules above."""
    a, b = SIDE_AT(side_of(state, 0)), SIDE_AT(side_of(state, 1))
    if STATE_AT(state).ended or (a.phase >= VEILED and b.phase >= VEILED):
        return True
    return a.veiled > PATIENCE or b.veiled > PATIENCE
