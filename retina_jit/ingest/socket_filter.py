"""BPF programs as a packet socket runs them: what is refused takes hardly any room in the ring, and is counted all the same.

A program that answers 0 makes the system forget the frame, and nobody counts it. So in the system it answers 1 in place of 0:
of a refused frame one byte is captured, with its length and its time. The program itself, run on that byte
(`retina_jit.ingest.prefilter`), refuses it as well: up to the first read beyond the byte it does what it did, and such a read refuses.

Two things differ between the system and us. It takes VLAN tags out of frames, so those that had one pass whole, and are judged
by us. And where a program divides by zero or reads outside the frame, it forgets the frame: that is asked before.
Source: Documentation/networking/filter.rst of Linux.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import NamedTuple

from retina_jit.ingest.bpf import Instruction, targets
from retina_jit.ingest.operations import OPERATIONS, Operation

WHOLE, HARDLY = 0x40000, 1
"""What the program answers: how many bytes of the frame are captured."""
MOST = 4096
"""Instructions that Linux takes."""
HAS_TAG = 0xFFFFF030
"""Where Linux says whether it has taken a tag out: SKF_AD_OFF + SKF_AD_VLAN_TAG_PRESENT."""
MOST_LENGTH = 1 << 31
"""No frame is as long; behind it Linux has numbers about the frame."""
FURTHEST = 255

LOAD_LENGTH, LOAD_BYTE, LOAD_NUMBER, LOAD_CELL, STORE, X_TO_A = 0x80, 0x30, 0x00, 0x60, 0x02, 0x87
SUBTRACT_X, AT_LEAST, AT_LEAST_X, EQUAL, JUMP, RETURN = 0x1C, 0x35, 0x3D, 0x15, 0x05, 0x06

ACCEPT, REFUSE = -1, -2
"""Where the program ends, among the places that jumps lead to; others are numbers of its instructions."""


class Step(NamedTuple):
    """An instruction whose jumps lead to places."""

    code: int
    k: int = 0
    yes: int | None = None
    """If the condition holds; None: no jump, or on to the next step."""
    no: int | None = None
    label: int | None = None
    """The place that this step is."""


def for_socket(program: Sequence[Instruction]) -> list[Instruction] | None:
    """Return what a packet socket is to be given for a program; None if it cannot say the same there."""
    operations = [OPERATIONS[i.code] for i in program]
    if {Operation.LEFT_X, Operation.RIGHT_X} & set(operations):
        return None  # by 32 and more: Linux leaves it to the processor
    cells = {i.k for i, o in zip(program, operations, strict=True) if o in (Operation.LOAD_CELL, Operation.X_CELL, Operation.STORE_A, Operation.STORE_X)}
    free = next((n for n in range(16) if n not in cells), None)
    steps = [Step(LOAD_BYTE, HAS_TAG), Step(EQUAL, 0, None, ACCEPT)]
    for n, (i, o) in enumerate(zip(program, operations, strict=True)):
        made = _steps(n, i, o, free)
        if made is None:
            return None
        steps += [made[0]._replace(label=n), *made[1:]]
    steps += [Step(RETURN, HARDLY, label=REFUSE), Step(RETURN, WHOLE, label=ACCEPT)]
    laid_out = _lay_out(steps)
    return laid_out if len(laid_out) <= MOST else None


def packed(program: Sequence[Instruction]) -> bytes:
    """Return a program as an array of `struct sock_filter`."""
    return b"".join(struct.pack("HBBI", *i) for i in program)


def _steps(n: int, i: Instruction, operation: Operation, free: int | None) -> list[Step] | None:
    """Return what stands for one instruction; None if there is no cell for it."""
    _ = Operation
    itself = Step(i.code, i.k)
    if operation <= _.LOAD_BYTE_X:
        end = i.k + (4 >> (operation % 3))
        if end > MOST_LENGTH:
            return [Step(JUMP, 0, REFUSE)]
        # What is in A is lost to the load anyway.
        before = [Step(AT_LEAST_X, 0, None, REFUSE), Step(SUBTRACT_X)] if operation >= _.LOAD_WORD_X else []
        return [Step(LOAD_LENGTH), *before, Step(AT_LEAST, end, None, REFUSE), itself]
    if operation in (_.X_HEADER, _.DIVIDE_X, _.MODULO_X):
        if free is None:
            return None
        if operation == _.X_HEADER and i.k >= MOST_LENGTH:
            return [Step(JUMP, 0, REFUSE)]
        asked = [Step(LOAD_LENGTH), Step(AT_LEAST, i.k + 1, None, REFUSE)] if operation == _.X_HEADER else [Step(X_TO_A), Step(EQUAL, 0, REFUSE, None)]
        return [Step(STORE, free), *asked, Step(LOAD_CELL, free), itself]
    if operation in (_.DIVIDE_K, _.MODULO_K) and i.k == 0:
        return [Step(JUMP, 0, REFUSE)]
    if operation in (_.LEFT_K, _.RIGHT_K) and i.k >= 32:
        return [Step(LOAD_NUMBER, 0)]
    if operation == _.RETURN_K:
        return [Step(JUMP, 0, ACCEPT if i.k else REFUSE)]
    if operation == _.RETURN_A:
        return [Step(EQUAL, 0, REFUSE, ACCEPT)]
    if operation == _.JUMP:
        return [Step(JUMP, 0, targets(n, i, operation)[0])]
    if _.IF_EQUAL_K <= operation <= _.IF_SET_X:
        return [itself._replace(yes=(to := targets(n, i, operation))[0], no=to[1])]
    return [itself]


def _lay_out(steps: Sequence[Step]) -> list[Instruction]:
    """Return steps as instructions. A condition leads 255 further at most; where that is not enough, over plain jumps."""
    far: set[int] = set()
    while True:
        at, places = 0, {}
        begins = []
        for n, s in enumerate(steps):
            begins.append(at)
            if s.label is not None:
                places[s.label] = at
            at += 3 if n in far else 1

        def away(n: int, place: int | None) -> int:
            return 0 if place is None else places[place] - begins[n] - 1  # noqa: B023 - called before they change

        more = {n for n, s in enumerate(steps) if s.code != JUMP and n not in far and max(away(n, s.yes), away(n, s.no)) > FURTHEST}
        if not more:
            break
        far |= more
    made = []
    for n, s in enumerate(steps):
        if s.code == JUMP:
            made.append(Instruction(JUMP, 0, 0, away(n, s.yes)))
        elif n in far:
            # Where there is no jump it goes on behind the two.
            yes, no = (2 if place is None else away(n, place) for place in (s.yes, s.no))
            made += [Instruction(s.code, 0, 1, s.k), Instruction(JUMP, 0, 0, yes - 1), Instruction(JUMP, 0, 0, no - 2)]
        else:
            made.append(Instruction(s.code, away(n, s.yes), away(n, s.no), s.k))
    return made
