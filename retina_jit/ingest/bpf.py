"""Filter expressions of libpcap (`-F`), compiled by libpcap itself, where it is installed.

What comes out is a program of the BSD packet filter: S. McCanne, V. Jacobson, "The BSD Packet Filter" (1993). It is checked
here and run by `retina_jit.ingest.prefilter`; libpcap is not needed any more then. Nothing here imports Numba.
"""

from __future__ import annotations

import ctypes
import ctypes.util
from functools import cache
from typing import Any, NamedTuple

from retina_jit.errors import FilterError, SourceError
from retina_jit.ingest.operations import CELLS, OPERATIONS, Operation
from retina_jit.parsers.packet.link import EN10MB, RAW, RAW_BSD, RAW_OPENBSD, SUPPORTED

LIBRARIES = ("libpcap.so.0.8", "libpcap.so.1", "libpcap.so", "libpcap.dylib")
"""Its names on Debian, elsewhere on Linux, and on macOS."""
FIX = "apt install libpcap0.8, dnf install libpcap, or brew install libpcap"
SNAPLEN = 262_144
NO_NETMASK = 0xFFFFFFFF
MOST_INSTRUCTIONS = 65_536
RAW_DLT = 12
"""In files raw IP has another number (LINKTYPE_RAW, 101) than within libpcap (DLT_RAW)."""


class Instruction(NamedTuple):
    """One of a program, as libpcap writes it."""

    code: int
    jt: int
    jf: int
    k: int


class _Instruction(ctypes.Structure):
    _fields_ = (("code", ctypes.c_ushort), ("jt", ctypes.c_ubyte), ("jf", ctypes.c_ubyte), ("k", ctypes.c_uint32))


class _Program(ctypes.Structure):
    _fields_ = (("length", ctypes.c_uint), ("instructions", ctypes.POINTER(_Instruction)))


@cache
def library() -> Any:
    """Return libpcap.

    Raises
    ------
    SourceError
        It is not installed; says how to.
    """
    for name in (*LIBRARIES, ctypes.util.find_library("pcap")):
        try:
            pcap = ctypes.CDLL(name) if name else None
        except OSError:
            continue
        if pcap is not None:
            pcap.pcap_open_dead.restype = ctypes.c_void_p
            pcap.pcap_geterr.restype, pcap.pcap_geterr.argtypes = ctypes.c_char_p, [ctypes.c_void_p]
            pcap.pcap_compile.argtypes = [ctypes.c_void_p, ctypes.POINTER(_Program), ctypes.c_char_p, ctypes.c_int, ctypes.c_uint32]
            pcap.pcap_freecode.argtypes, pcap.pcap_close.argtypes = [ctypes.POINTER(_Program)], [ctypes.c_void_p]
            return pcap
    raise SourceError(f"-F needs libpcap, which compiles the expression, and it is not installed: {FIX}. Filters of retina_jit (-f) need nothing")


def compile_expression(expression: str, link: int = EN10MB) -> list[Instruction]:
    """Compile an expression for frames of a link type.

    Raises
    ------
    FilterError
        libpcap's reason.
    SourceError
        No libpcap.
    """
    pcap = library()
    if "\0" in expression:
        raise FilterError("-F: there is a zero byte in it")
    handle = pcap.pcap_open_dead(RAW_DLT if link in (RAW, RAW_BSD, RAW_OPENBSD) else link, SNAPLEN)
    try:
        program = _Program()
        if pcap.pcap_compile(handle, ctypes.byref(program), expression.encode(errors="surrogateescape"), 1, NO_NETMASK) != 0:
            reason = pcap.pcap_geterr(handle).decode(errors="replace")
            raise FilterError(f"-F '{expression}': {reason} (libpcap; the language is that of tcpdump, see man pcap-filter; filters of retina_jit go to -f)")
        try:
            found = [Instruction(i.code, i.jt, i.jf, i.k) for i in program.instructions[: program.length]]
        finally:
            pcap.pcap_freecode(ctypes.byref(program))
    finally:
        pcap.pcap_close(handle)
    check(found, expression)
    return found


def check(program: list[Instruction], expression: str = "") -> None:
    """Refuse a program that does not end, or uses what is not known.

    Raises
    ------
    FilterError
    """
    end = len(program)
    if not 0 < end <= MOST_INSTRUCTIONS:
        raise FilterError(f"-F '{expression}': {end} instructions; at most {MOST_INSTRUCTIONS}")
    for n, i in enumerate(program):
        operation = OPERATIONS.get(i.code)
        if operation is None:
            raise FilterError(f"-F '{expression}': BPF instruction 0x{i.code:02x} is not known")
        if operation in CELLS and i.k >= 16:
            raise FilterError(f"-F '{expression}': memory cell {i.k}; there are 16")
        if operation == Operation.JUMP and i.k >= 1 << 31:
            raise FilterError(f"-F '{expression}': a loop; protochain asks for one, and a frame must not take longer for what is in it")
        if not all(m < end for m in targets(n, i, operation)):
            raise FilterError(f"-F '{expression}': instruction {n} leads out of the program")


def targets(n: int, i: Instruction, operation: Operation) -> tuple[int, int]:
    """Return which instructions may follow instruction `n`; twice the same but after a condition."""
    if operation in (Operation.RETURN_K, Operation.RETURN_A):
        return n, n
    if operation == Operation.JUMP:
        return n + 1 + i.k, n + 1 + i.k
    if Operation.IF_EQUAL_K <= operation <= Operation.IF_SET_X:
        return n + 1 + i.jt, n + 1 + i.jf
    return n + 1, n + 1


class Compiled(NamedTuple):
    """An expression for every link type that is decoded."""

    expression: str
    programs: dict[int, list[Instruction]]
    refused: dict[int, str]
    """Link types for which the expression means nothing: why."""


def compile_for_all(expression: str) -> Compiled:
    """Compile an expression for every link type that is decoded.

    Raises
    ------
    FilterError
        It compiles for none of them.
    SourceError
        No libpcap.
    """
    programs, refused = {}, {}
    faults: list[FilterError] = []
    for link in (EN10MB, *SUPPORTED):
        if link not in programs and link not in refused:
            try:
                programs[link] = compile_expression(expression, link)
            except FilterError as fault:
                refused[link] = str(fault)
                faults.append(fault)
    if not programs:
        raise faults[0]
    return Compiled(expression, programs, refused)
