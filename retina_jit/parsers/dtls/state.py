"""What is remembered of a DTLS connection: what is of a TLS one, and the messages whose fragments are not all there yet."""

from __future__ import annotations

import numpy as np

from retina_jit import memory
from retina_jit.jit import leaf
from retina_jit.parsers.tls import state as tls

PART = np.dtype(
    [
        ("buffer", "i8"),  # arena block: the body, and behind it a bit per byte that is there
        ("room", "i4"),  # bytes of the body that it has room for; a multiple of 64
        ("length", "i4"),  # of the whole body
        ("have", "i4"),  # bytes that are there
        ("far", "i4"),  # end of the last byte that is there
        ("number", "i4"),  # one more than its message_seq; 0: none has come
        ("kind", "u1"),  # type of the message
        ("whole", "u1"),  # 1: it is filed, or given up
        ("pad", "u2"),
    ]
)
"""A handshake message that is kept: a hello, a Certificate, a key exchange."""
assert PART.itemsize == 32

HELLO, CHAIN, KEY = range(3)
PARTS = 3
STATE = np.dtype(
    [
        *tls.STATE.descr,
        *((f"part{n}", PART) for n in range(2 * PARTS)),  # three of the originator, three of the responder
        ("verified", "u1"),  # 1: the server has sent a HelloVerifyRequest
        ("filler", "u1", 7),
    ]
)
"""Its first part is the STATE of TLS, so whatever reads that one reads this one."""
assert STATE.itemsize <= 512 and all(STATE.fields[n][1] == tls.STATE.fields[n][1] for n in tls.STATE.names or ())  # type: ignore[index]

PART_AT, STATE_AT = memory.at(PART), memory.at(STATE)
_PART, _PARTS = PART.itemsize, STATE.fields["part0"][1]  # type: ignore[index]


@leaf
def part_of(state, direction, which):
    """Address of a PART of a direction: HELLO, CHAIN or KEY."""
    return state + _PARTS + _PART * (PARTS * direction + which)
