"""BPF programs: the kernel, a plain machine and libpcap's own say the same of any program and any frame."""

from __future__ import annotations

import ctypes
from functools import cache
from typing import Any

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from oracle import bpf, bpf_machine

from retina_jit import memory, objects
from retina_jit.ingest.bpf import Compiled, Instruction, check
from retina_jit.ingest.operations import OPERATIONS
from retina_jit.ingest.prefilter import Prefilter
from retina_jit.ingest.socket_filter import HARDLY, HAS_TAG, WHOLE, for_socket

JUMPS = sorted(c for c in OPERATIONS if c & 7 == 5 and c != 0x05)
SHIFTS = {0x64, 0x74}
DIVISIONS = {0x34, 0x94}
OTHERS = sorted(c for c in OPERATIONS if c & 7 not in (5, 6))
NUMBERS = st.one_of(st.integers(0, 64), st.sampled_from([0, 1, 0xFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, 0xFFFFF000]), st.integers(0, 0xFFFFFFFF))


@st.composite
def programs(draw: Any) -> list[Instruction]:
    """Programs that libpcap takes too: cells are written before anything else, for its are not set at the start."""
    size = draw(st.integers(1, 24))
    made = [Instruction(0x02, 0, 0, cell) for cell in range(16)]
    for n in range(size):
        left = size - n  # behind this one: the rest, and two that return
        kind = draw(st.integers(0, 9))
        if kind < 3:
            made.append(Instruction(draw(st.sampled_from(JUMPS)), draw(st.integers(0, left)), draw(st.integers(0, left)), draw(NUMBERS)))
        elif kind == 3:
            made.append(Instruction(0x05, 0, 0, draw(st.integers(0, left))))
        else:
            code = draw(st.sampled_from(OTHERS))
            k = draw(NUMBERS)
            if code in (0x60, 0x61, 0x02, 0x03):
                k &= 15
            elif code in SHIFTS:
                k &= 31  # libpcap leaves it to the processor what more means
            elif code in DIVISIONS:
                k = k or 1
            made.append(Instruction(code, 0, 0, k))
    return [*made, Instruction(0x16, 0, 0, 0), Instruction(0x06, 0, 0, draw(NUMBERS))]


class _Code(ctypes.Structure):
    _fields_ = (("code", ctypes.c_ushort), ("jt", ctypes.c_ubyte), ("jf", ctypes.c_ubyte), ("k", ctypes.c_uint32))


@cache
def machine() -> Prefilter:
    return Prefilter(Compiled("", {}, {}), 0, 0, 0)


_judge = cache(lambda: objects.function("retina_jit.ingest.prefilter:judge"))
_cells = memory.Region(128)


def judged(program: list[Instruction], frame: bytes, length: int) -> int:
    content = np.frombuffer(frame or b"\0", np.uint8)
    p = machine()
    try:
        return int(_judge()(p.write(program), content.ctypes.data, len(frame), length, _cells.address))
    finally:
        p._regions.pop()


@settings(max_examples=400, deadline=None)
@given(programs(), st.lists(st.tuples(st.binary(max_size=80), st.integers(0, 100)), min_size=1, max_size=4))
def test_three_machines_agree(program: list[Instruction], frames: list[tuple[bytes, int]]) -> None:
    check(program)
    pcap = bpf.library()
    code = (_Code * len(program))(*[tuple(i) for i in program])
    for frame, more in frames:
        length = len(frame) + more
        wanted = bpf_machine.execute(program, frame, length)
        assert judged(program, frame, length) == wanted
        if pcap is not None:
            pcap.bpf_filter.restype = ctypes.c_uint
            assert pcap.bpf_filter(code, frame, length, len(frame)) == wanted


SHIFTS_BY_X = {0x6C, 0x7C}


@settings(max_examples=600, deadline=None)
@given(programs(), st.lists(st.binary(min_size=1, max_size=80), min_size=1, max_size=4))
def test_the_system_s_half_captures_little_of_what_is_refused_and_forgets_nothing(program: list[Instruction], frames: list[bytes]) -> None:
    made = for_socket(program)
    if made is None:
        return
    check(made)
    # Linux takes no division by zero and no wide shift, and no cell that was not written: also none of what stands in for them.
    assert not [i for i in made if (i.code in DIVISIONS and i.k == 0) or (i.code in SHIFTS and i.k >= 32)]
    for frame in frames:
        wanted = bpf_machine.execute(program, frame, len(frame)) != 0
        assert bpf_machine.execute(made, frame, len(frame), {HAS_TAG: 0}) == (WHOLE if wanted else HARDLY)
        assert bpf_machine.execute(made, frame, len(frame), {HAS_TAG: 1}) == WHOLE
        # The byte that is left of it is refused once more.
        assert wanted or bpf_machine.execute(program, frame[:1], len(frame)) == 0


def test_what_the_system_s_half_cannot_say_is_left_to_the_workers() -> None:
    end = Instruction(0x06, 0, 0, 1)
    assert for_socket([Instruction(0x6C, 0, 0, 0), end]) is None
    every_cell = [Instruction(0x02, 0, 0, n) for n in range(16)]
    assert for_socket([*every_cell, Instruction(0xB1, 0, 0, 14), end]) is None
    assert for_socket([Instruction(0x30, 0, 0, 0)] * 2000 + [end]) is None, "too long"


def test_jumps_lead_as_far_as_they_have_to() -> None:
    loads = [Instruction(0x30, 0, 0, n) for n in range(120)]
    program = [Instruction(0x30, 0, 0, 0), Instruction(0x15, 120, 0, 7), *loads, Instruction(0x06, 0, 0, 0), Instruction(0x06, 0, 0, 1)]
    made = for_socket(program)
    assert made is not None and len(made) > 3 * len(loads)
    for frame in (bytes([7]) + bytes(200), bytes(200), bytes([7]), bytes(100)):
        wanted = bpf_machine.execute(program, frame, len(frame)) != 0
        assert bpf_machine.execute(made, frame, len(frame), {HAS_TAG: 0}) == (WHOLE if wanted else HARDLY)
