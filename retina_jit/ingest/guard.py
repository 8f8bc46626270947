"""A mapped file that becomes shorter: the access behind its new end must not kill the process.

The system answers such an access with SIGBUS. `install` sets a handler of machine code (no Python may run in a signal
handler) that knows the mapped ranges: it puts zero pages in the place of what is gone, writes where that was into the
source's `shrunk` word, and the access is repeated. A fault elsewhere goes to the handler that was there before.

Laws
----
1. Frames are walked, decoded and only then used: between decoding and using, the pipeline asks `is_gone`, which touches
   the last page of the mapping. If it is gone, the burst may hold zeros where bytes were; it is thrown away, and walked
   again after `CaptureSource.refill` has found the new end.
2. Within its last page a file can become shorter without any fault: what is behind the new end reads as zeros. A record
   header of zeros is therefore never taken for a record.
3. Elsewhere than on Linux with x86-64 or aarch64 nothing is mapped; files are read in chunks.
"""

from __future__ import annotations

import ctypes
import mmap
import platform
import sys
import threading

import numpy as np

from retina_jit import memory
from retina_jit.ingest.layout import SOURCE
from retina_jit.jit import leaf
from retina_jit.memory import atomic_load

SOURCE_AT = memory.at(SOURCE)
SHRUNK_WORD = int(SOURCE.fields["shrunk"][1])  # type: ignore[index]


@leaf
def is_gone(source):
    """Whether the mapped file is shorter than it was. Touches the end of the mapping, so the answer is of now."""
    guard = SOURCE_AT(source).guard
    if guard == 0:
        return False
    atomic_load(guard)
    return atomic_load(source + SHRUNK_WORD) != 0


# ------------------------------------------------------------------------------------------------ seen by Python

SUPPORTED = sys.platform == "linux" and platform.machine() in ("x86_64", "aarch64") and sys.byteorder == "little"
"""Whether files may be mapped at all."""

SLOTS = 256
_SLOT = np.dtype([("start", "i8"), ("stop", "i8"), ("word", "i8"), ("reserved", "i8")])
_SIGBUS = 7
_SA_SIGINFO, _SA_ONSTACK = 0x4, 0x08000000


class _SigAction(ctypes.Structure):
    """`struct sigaction` of glibc and musl on x86-64 and aarch64."""

    _fields_ = (
        ("handler", ctypes.c_void_p),
        ("mask", ctypes.c_uint64 * 16),
        ("flags", ctypes.c_int),
        ("restorer", ctypes.c_void_p),
    )


# void handler(int signal, siginfo_t *info, void *context). siginfo_t: si_code at byte 8, si_addr at byte 16. An
# address that is ours is replaced by zero pages up to the end of its mapping. Any other: the former action is put back
# and the access faults again, which is then its business; the second time it is the default action, for a former
# handler may itself put ours back. A signal sent by kill() (si_code <= 0) is sent again.
_HANDLER = """
define void @handler(i32 %signal, ptr %info, ptr %context) {{
entry:
  %code_at = getelementptr i8, ptr %info, i64 8
  %code = load i32, ptr %code_at
  %fault_at = getelementptr i8, ptr %info, i64 16
  %fault = load i64, ptr %fault_at
  %is_gone = icmp eq i32 %code, 2
  br i1 %is_gone, label %search, label %other
search:
  %slot = phi i64 [ {table}, %entry ], [ %next, %advance ]
  %start_ptr = inttoptr i64 %slot to ptr
  %start = load atomic i64, ptr %start_ptr acquire, align 8
  %stop_at = add i64 %slot, 8
  %stop_ptr = inttoptr i64 %stop_at to ptr
  %stop = load i64, ptr %stop_ptr
  %used = icmp ne i64 %start, 0
  %above = icmp uge i64 %fault, %start
  %below = icmp ult i64 %fault, %stop
  %between = and i1 %above, %below
  %ours = and i1 %used, %between
  br i1 %ours, label %replace, label %advance
advance:
  %next = add i64 %slot, {slot_len}
  %more = icmp ult i64 %next, {table_end}
  br i1 %more, label %search, label %other
replace:
  %page = and i64 %fault, {page_mask}
  %length = sub i64 %stop, %page
  %mmap = inttoptr i64 {mmap} to ptr
  %got = call i64 %mmap(i64 %page, i64 %length, i32 1, i32 50, i32 -1, i64 0)
  %mapped = icmp eq i64 %got, %page
  br i1 %mapped, label %tell, label %other
tell:
  %word_at = add i64 %slot, 16
  %word_ptr = inttoptr i64 %word_at to ptr
  %word = load i64, ptr %word_ptr
  %shrunk_ptr = inttoptr i64 %word to ptr
  %before = load i64, ptr %shrunk_ptr
  %first = icmp eq i64 %before, 0
  %lower = icmp ult i64 %page, %before
  %write = or i1 %first, %lower
  %value = select i1 %write, i64 %page, i64 %before
  store atomic i64 %value, ptr %shrunk_ptr release, align 8
  ret void
other:
  %again_ptr = inttoptr i64 {again} to ptr
  %again = load i64, ptr %again_ptr
  store i64 1, ptr %again_ptr
  %is_again = icmp ne i64 %again, 0
  %action = select i1 %is_again, i64 {default}, i64 {former}
  %sigaction = inttoptr i64 {sigaction} to ptr
  %ignored = call i32 %sigaction(i32 %signal, i64 %action, i64 0)
  %is_sent = icmp sle i32 %code, 0
  br i1 %is_sent, label %send, label %leave
send:
  %raise = inttoptr i64 {raise_} to ptr
  %ignored2 = call i32 %raise(i32 %signal)
  br label %leave
leave:
  ret void
}}
"""


class _Guard:
    """The handler, its table, and what the process did on SIGBUS before. Never freed: a signal may come at any time."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.region = memory.Region(SLOTS * _SLOT.itemsize + 8)
        self.slots = self.region.array(_SLOT, SLOTS)
        again = self.region.address + SLOTS * _SLOT.itemsize
        self.again = self.region.array(np.int64, 1, SLOTS * _SLOT.itemsize)
        self.former, self.default, self.ours = _SigAction(), _SigAction(), _SigAction()
        self.libc = ctypes.CDLL(None, use_errno=True)

        def entry(name: str) -> int:
            return ctypes.cast(getattr(self.libc, name), ctypes.c_void_p).value or 0

        text = _HANDLER.format(
            table=self.region.address,
            slot_len=_SLOT.itemsize,
            table_end=again,
            page_mask=-mmap.PAGESIZE,
            mmap=entry("mmap"),
            sigaction=entry("sigaction"),
            raise_=entry("raise"),
            again=again,
            default=ctypes.addressof(self.default),
            former=ctypes.addressof(self.former),
        )
        self.ours.handler = self._compile(text)
        self.ours.flags = _SA_SIGINFO | _SA_ONSTACK

    def _compile(self, text: str) -> int:
        import llvmlite.binding as llvm

        llvm.initialize_native_target()
        llvm.initialize_native_asmprinter()
        machine = llvm.Target.from_default_triple().create_target_machine()
        self.engine = llvm.create_mcjit_compiler(llvm.parse_assembly(text), machine)
        self.engine.finalize_object()
        return int(self.engine.get_function_address("handler"))

    def install(self) -> None:
        """Make ours the action on SIGBUS, unless it is (another library may have set its own since)."""
        now = _SigAction()
        self.libc.sigaction(_SIGBUS, None, ctypes.byref(now))
        if now.handler != self.ours.handler:
            ctypes.memmove(ctypes.byref(self.former), ctypes.byref(now), ctypes.sizeof(now))
            self.again[0] = 0
            if self.libc.sigaction(_SIGBUS, ctypes.byref(self.ours), None):
                raise OSError(ctypes.get_errno(), "sigaction")


_guard: _Guard | None = None
_guard_lock = threading.Lock()


def watch(start: int, length: int, word: int) -> int | None:
    """Guard a mapping; `word` is the address of the word that tells of a fault. Returns the slot, None if all are taken."""
    global _guard
    with _guard_lock:
        if _guard is None:
            _guard = _Guard()
        _guard.install()
        free = np.flatnonzero(_guard.slots["start"] == 0)
        if not len(free):
            return None
        slot = int(free[0])
        _guard.slots["stop"][slot] = start + -(-length // mmap.PAGESIZE) * mmap.PAGESIZE
        _guard.slots["word"][slot] = word
        _guard.slots["start"][slot] = start  # last: the handler takes the slot from here on
        return slot


def unwatch(slot: int) -> None:
    """Give a slot back, before the mapping is closed."""
    assert _guard is not None
    with _guard_lock:
        _guard.slots["start"][slot] = 0
