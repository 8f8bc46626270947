"""The machine of the BSD packet filter, as S. McCanne's and V. Jacobson's paper of 1993 describes it: slow and plain."""

from __future__ import annotations

import operator
from collections.abc import Mapping, Sequence

ARITHMETIC = {
    0x00: operator.add, 0x10: operator.sub, 0x20: operator.mul, 0x30: operator.floordiv, 0x40: operator.or_, 0x50: operator.and_,
    0x60: operator.lshift, 0x70: operator.rshift, 0x80: lambda a, _: -a, 0x90: operator.mod, 0xA0: operator.xor,
}  # fmt: skip
SIZES = {0x00: 4, 0x08: 2, 0x10: 1}
WORD = 0xFFFFFFFF


class _RefusedError(Exception):
    """The frame ends before what the program asks for."""


def _number(frame: bytes, at: int, size: int) -> int:
    if at + size > len(frame):
        raise _RefusedError
    return int.from_bytes(frame[at : at + size], "big")


def execute(program: Sequence[tuple[int, int, int, int]], frame: bytes, wire_length: int, beside: Mapping[int, int] | None = None) -> int:
    """Return what a program of (code, jt, jf, k) says of a frame; 0 refuses it. `beside`: what Linux knows of it, by place."""
    try:
        return _execute(program, frame, wire_length, beside or {})
    except (_RefusedError, ZeroDivisionError):
        return 0


def _execute(program: Sequence[tuple[int, int, int, int]], frame: bytes, wire_length: int, beside: Mapping[int, int]) -> int:
    a = x = at = 0
    cells = [0] * 16
    while True:
        code, jt, jf, k = program[at]
        at += 1
        kind, source = code & 7, (x if code & 8 else k)
        if kind in (0, 1):  # load A, load X
            mode = code & 0xE0
            if mode == 0xA0:
                value = 4 * (_number(frame, k, 1) & 15)
            elif mode == 0x20 and k in beside:
                value = beside[k]
            elif mode in (0x20, 0x40):
                value = _number(frame, k + (x if mode == 0x40 else 0), SIZES[code & 0x18])
            else:
                value = {0x00: k, 0x60: cells[k] if mode == 0x60 else 0, 0x80: wire_length & WORD}[mode]
            a, x = (value, x) if kind == 0 else (a, value)
        elif kind == 2:
            cells[k] = a
        elif kind == 3:
            cells[k] = x
        elif kind == 4:
            what = code & 0xF0
            a = 0 if what in (0x60, 0x70) and source >= 32 else ARITHMETIC[what](a, source) & WORD
        elif kind == 5:
            what = code & 0xF0
            if what == 0:
                at += k
            else:
                at += jt if {0x10: a == source, 0x20: a > source, 0x30: a >= source, 0x40: a & source != 0}[what] else jf
        elif kind == 6:
            return k if code & 0x18 == 0 else a
        else:
            a, x = (a, a) if code & 0xF8 == 0 else (x, x)
