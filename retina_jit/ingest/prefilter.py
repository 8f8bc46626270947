"""BPF programs on frames, before these are decoded: a walker around a source's own that leaves out what a program refuses.

What is refused is counted (`prefiltered`), and that is all that is known of it: no connection, and no time but
of a live source, where it may be long until a frame passes. One and the same interpreter for captures, interfaces and ports
gives the same frames everywhere; VLAN tags, which the system takes out of frames of an interface, are there again when the
program sees them.
"""

from __future__ import annotations

from typing import Any

from retina_jit import memory, objects
from retina_jit.errors import FilterError
from retina_jit.ingest.bpf import Compiled, Instruction, targets
from retina_jit.ingest.guard import is_gone
from retina_jit.ingest.layout import INSTRUCTION, PREFILTER, PROGRAM, SOURCE
from retina_jit.ingest.linktypes import describe
from retina_jit.ingest.operations import OPERATIONS, Operation
from retina_jit.jit import entry, kernel
from retina_jit.memory import call3, copy, load64, shift_right, store64
from retina_jit.parsers.wire import has, u8, u16, u32
from retina_jit.state.layout import PACKET
from retina_jit.status import Status

SOURCE_AT, ROW_AT, PREFILTER_AT = memory.at(SOURCE), memory.at(PACKET), memory.at(PREFILTER)
PROGRAM_AT, INSTRUCTION_AT = memory.at(PROGRAM), memory.at(INSTRUCTION)
ROW_LEN, PROGRAM_LEN, NEXT = PACKET.itemsize, PROGRAM.itemsize, INSTRUCTION.itemsize
NEED_INPUT, STOPPED = int(Status.NEED_INPUT), int(Status.STOPPED)
CELLS = 16
WORD = 0xFFFFFFFF
ROUNDS = 64
"""After so many walks that give nothing, and before more is read, it is looked whether the run shall end."""
ACCEPTED = 1
"""What stands for any number above zero that a program returns: how much of the frame it wants."""
(
    LOAD_WORD, LOAD_HALF, LOAD_BYTE, LOAD_WORD_X, LOAD_HALF_X, LOAD_BYTE_X, LOAD_LENGTH, LOAD_K, LOAD_CELL, X_LENGTH, X_K, X_CELL,
    X_HEADER, STORE_A, STORE_X, JUMP, IF_EQUAL_K, IF_ABOVE_K, IF_AT_LEAST_K, IF_SET_K, IF_EQUAL_X, IF_ABOVE_X, IF_AT_LEAST_X,
    IF_SET_X, ADD_K, SUBTRACT_K, MULTIPLY_K, DIVIDE_K, MODULO_K, AND_K, OR_K, XOR_K, LEFT_K, RIGHT_K, ADD_X, SUBTRACT_X, MULTIPLY_X,
    DIVIDE_X, MODULO_X, AND_X, OR_X, XOR_X, LEFT_X, RIGHT_X, NEGATE, A_TO_X, X_TO_A, RETURN_K, RETURN_A,
) = (int(o) for o in Operation)  # fmt: skip


@kernel
def _compute(operation, a, b):
    """A after an arithmetic operation of the K kind; -1 after a division by zero, which refuses the frame."""
    if operation == ADD_K:
        return (a + b) & WORD
    if operation == SUBTRACT_K:
        return (a - b) & WORD
    if operation == MULTIPLY_K:
        return (a * b) & WORD  # the low 32 bits of a product hold, whatever overflows
    if operation == AND_K:
        return a & b
    if operation == OR_K:
        return a | b
    if operation == XOR_K:
        return a ^ b
    if operation == LEFT_K:
        return (a << b) & WORD if b < 32 else 0
    if operation == RIGHT_K:
        return shift_right(a, b) if b < 32 else 0
    if b == 0:
        return -1
    return a // b if operation == DIVIDE_K else a % b


@kernel
def _holds(operation, a, b):
    """Whether the condition of a jump of the K kind holds."""
    if operation == IF_EQUAL_K:
        return a == b
    if operation == IF_ABOVE_K:
        return a > b
    if operation == IF_AT_LEAST_K:
        return a >= b
    return a & b != 0


@kernel
def execute(program, span, wire_length, cells):
    """What a program, which was checked, says of a frame: 0 refuses it. A read outside the frame refuses it as well."""
    a, x, at = 0, 0, program + 0
    while True:
        i = INSTRUCTION_AT(at)
        operation, k = i.operation + 0, i.k + 0
        at += NEXT
        if operation <= LOAD_BYTE_X:
            where = k + x if operation >= LOAD_WORD_X else k
            width = 4 >> (operation % 3)
            if not has(span, where, width):
                return 0
            if width == 4:
                a = u32(span, where)
            elif width == 2:
                a = u16(span, where)
            else:
                a = u8(span, where)
        elif operation >= IF_EQUAL_K and operation <= IF_SET_X:
            if operation >= IF_EQUAL_X:
                taken = _holds(operation - 4, a, x)
            else:
                taken = _holds(operation, a, k)
            at = i.yes + 0 if taken else i.no + 0
        elif operation == RETURN_K:
            return k
        elif operation == RETURN_A:
            return a
        elif operation == X_HEADER:
            if not has(span, k, 1):
                return 0
            x = (u8(span, k) & 15) << 2
        elif operation == JUMP:
            at = i.yes + 0
        elif operation >= ADD_K and operation <= RIGHT_X:
            if operation >= ADD_X:
                a = _compute(operation - 10, a, x)
            else:
                a = _compute(operation, a, k)
            if a < 0:
                return 0
        elif operation == LOAD_LENGTH:
            a = wire_length & WORD
        elif operation == X_LENGTH:
            x = wire_length & WORD
        elif operation == LOAD_K:
            a = k
        elif operation == X_K:
            x = k
        elif operation == LOAD_CELL:
            a = load64(cells + 8 * k)
        elif operation == X_CELL:
            x = load64(cells + 8 * k)
        elif operation == STORE_A:
            store64(cells + 8 * k, a)
        elif operation == STORE_X:
            store64(cells + 8 * k, x)
        elif operation == A_TO_X:
            x = a
        elif operation == X_TO_A:
            a = x
        else:
            a = -a & WORD


@kernel
def _program_of(prefilter, link):
    """Address of the program for a link type; 0: it has none, ACCEPTED: the type is not decoded anyway."""
    p = PREFILTER_AT(prefilter)
    for n in range(p.count):
        q = PROGRAM_AT(p.programs + n * PROGRAM_LEN)
        if q.link == link:
            return q.first + 0
    return ACCEPTED


@kernel
def _sift(source, rows, count):
    """Move the rows of frames that pass to the front and count the others. Returns how many pass; all, uncounted, if the file is gone."""
    s = SOURCE_AT(source)
    p = PREFILTER_AT(s.prefilter)
    kept, link, program = 0, -1, 0
    frames, size, wire, strange, strange_link = 0, 0, 0, 0, 0
    for n in range(count):
        address = rows + n * ROW_LEN
        row = ROW_AT(address)
        if row.link != link:
            link = row.link + 0
            program = _program_of(s.prefilter, link)
        if program == ACCEPTED:
            passes = True
        elif program == 0:
            passes = False
        else:
            passes = execute(program, (row.frame, row.caplen + 0), row.length + 0, p.cells) != 0
        if passes:
            if kept != n:
                copy(rows + kept * ROW_LEN, address, ROW_LEN)
            kept += 1
            continue
        wire += row.length
        if program == 0:
            strange += 1
            strange_link = link
        # Workers that read the same capture see all of it: each counts its share, and the first one tells what is strange.
        if s.workers <= 1 or row.number % s.workers == s.worker:
            frames += 1
            size += row.length
    if is_gone(source):
        # Zeros may have been judged; the walk is done again.
        return count
    s.bytes -= wire
    store64(p.frames, load64(p.frames) + frames)
    store64(p.bytes, load64(p.bytes) + size)
    store64(p.prefiltered, load64(p.prefiltered) + frames)
    if strange:
        p.strange += strange
        p.strange_link = strange_link
    return kept


@entry
def walk(source, rows, most):
    """Fill up to `most` rows with the next frames that pass. Returns how many; if none, `status` says why, or `idle` is 1."""
    s = SOURCE_AT(source)
    s.idle = 0
    inner = PREFILTER_AT(s.prefilter).walk + 0
    refused, clock = 0, 0
    for _ in range(ROUNDS):
        count = call3(inner, source, rows, most)
        if count <= 0:
            if refused == 0 or s.status != NEED_INPUT:
                return count
            break  # who asks for more at once may go on so for ever
        clock = ROW_AT(rows + (count - 1) * ROW_LEN).ts + 0
        kept = _sift(source, rows, count)
        if kept:
            return kept
        refused += count
    if s.more:
        s.clock = max(s.clock + 0, clock)
    s.idle, s.status = 1, STOPPED
    return 0


@entry
def judge(program, frame, caplen, length, cells):
    """What a program says of one frame."""
    return execute(program, (frame, caplen), length, cells)


# ------------------------------------------------------------------------------------------------ seen by Python


class Prefilter:
    """An expression at work for one worker.

    Parameters
    ----------
    compiled : Compiled
    frames, bytes_, prefiltered : int
        Addresses of the worker's counters.
    """

    def __init__(self, compiled: Compiled, frames: int, bytes_: int, prefiltered: int) -> None:
        self._compiled = compiled
        self._regions = [memory.Region(PREFILTER.itemsize)]
        links = [*compiled.programs, *compiled.refused]
        table, cells = self._reserve(PROGRAM.itemsize * len(links)), self._reserve(8 * CELLS)
        words = self._words = self._regions[0].array(PREFILTER, 1)[0]
        words["programs"], words["count"], words["cells"] = table.address, len(links), cells.address
        words["frames"], words["bytes"], words["prefiltered"] = frames, bytes_, prefiltered
        rows = table.array(PROGRAM, len(links))
        for row, link in zip(rows, links, strict=True):
            row["link"] = link
            row["first"] = self.write(compiled.programs[link]) if link in compiled.programs else 0
        objects.address(f"{__name__}:walk")

    def _reserve(self, size: int) -> memory.Region:
        self._regions.append(memory.Region(size))
        return self._regions[-1]

    def write(self, program: list[Instruction]) -> int:
        """Lay out a program that was checked. Returns the address of its first instruction."""
        region = self._reserve(INSTRUCTION.itemsize * len(program))
        rows = region.array(INSTRUCTION, len(program))
        for n, i in enumerate(program):
            operation = OPERATIONS[i.code]
            yes, no = (region.address + m * INSTRUCTION.itemsize for m in targets(n, i, operation))
            rows[n] = operation, i.k, yes, no
        return region.address

    def put_before(self, source: Any) -> int:
        """Let a source's frames pass here. Returns the address of the walker to call in place of its own.

        Raises
        ------
        FilterError
            The source has one link type, and the expression means nothing there.
        """
        record = source.record
        link = int(record["link"])
        if record["interfaces"] == 0 and link in self._compiled.refused:
            raise FilterError(f"{source.name}: {describe(link)}: {self._compiled.refused[link]}")
        if record["interfaces"] == 0 and link in self._compiled.programs:
            source.refuse_early(self._compiled.programs[link])
        record["prefilter"] = self._regions[0].address
        self._words["walk"], self._words["strange"] = objects.address(source.walk_unit), 0
        return objects.address(f"{__name__}:walk")

    def problem(self, source: Any) -> str:
        """Return what is to be told of a source; empty if all went well."""
        if not self._words["strange"]:
            return ""
        link = int(self._words["strange_link"])
        return f"{source.name}: {int(self._words['strange'])} frames of {describe(link)} did not pass: {self._compiled.refused[link]}"
