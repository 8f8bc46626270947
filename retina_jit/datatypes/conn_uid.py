"""ConnUid: a name of a connection that log lines of it share, in the form of Zeek's uids."""

from __future__ import annotations

import numpy as np

from retina_jit.datatypes.base import DataType, register
from retina_jit.datatypes.column import text
from retina_jit.delivery.event import CONTEXT_AT
from retina_jit.jit import entry, kernel
from retina_jit.memory import constant, fill, load8, mix, shift_right, store8
from retina_jit.state.table import CONNECTION_AT

RECORD = np.dtype([("uid", "S24")])
_ALPHABET = constant("base62_alphabet", b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz")
_FIRST, _SECOND = 0x1CE4E5B9BF58476D, 0x133111EB94D049BB  # odd, without a pattern


@kernel
def _digits(out, word, count):
    """Write base-62 digits of a word. Returns the address behind them."""
    left = shift_right(word, 1)
    for n in range(count):
        store8(out + n, load8(_ALPHABET() + left % 62))
        left //= 62
    return out + count


@entry
def project(context):
    """Write C and 17 digits that follow from endpoints and start of the connection; nothing for a packet without one."""
    c = CONTEXT_AT(context)
    fill(c.out, 0, 24)
    if c.connection == 0:
        return 0
    n = CONNECTION_AT(c.connection)
    one = mix(mix(n.a ^ _FIRST, n.b ^ _SECOND) ^ n.key, mix(n.c ^ _SECOND, n.d ^ _FIRST) ^ n.first ^ _FIRST)
    two = mix(one ^ _SECOND, n.first ^ _FIRST) ^ mix(n.key ^ _FIRST, one)
    store8(c.out, 67)
    _digits(_digits(c.out + 1, one, 9), two, 8)
    return 0


@register
class ConnUid(DataType):
    """A text that all events of a connection have in common and no other connection has; the same in every run."""

    __slots__ = ()
    LEVEL = "static"
    RECORD = RECORD
    PROJECT = f"{__name__}:project"

    uid = text(RECORD, "uid", "C and 17 letters and digits, as Zeek's.")

    def __str__(self) -> str:
        return str(self.uid)
