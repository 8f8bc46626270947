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
