"""Memory that a worker is about to use is backed by the system before it gets there, from another thread.

A `Region` costs nothing until it is touched; then the worker waits while the system finds a page and clears it. In a
short run that is a third of its time: huge pages are cleared in one piece, and a virtual machine may have to ask its host.
"""

from __future__ import annotations

import contextlib
import ctypes
import threading
from collections.abc import Callable
from dataclasses import dataclass

POPULATE_WRITE = 23  # MADV_POPULATE_WRITE (Linux 5.14): as if each page were written to
AHEAD = 4 << 20
"""How far ahead of its use memory is backed [byte]: some milliseconds of the fastest growth."""
AT_ONCE = 16 << 20
"""At most so much in one call [byte]: whoever ends it waits for no more."""
PERIOD, LONGEST = 0.002, 0.032
"""How often it is looked at [s]: where nothing grows, less and less often."""


@dataclass
class Growing:
    """A range that is used from its beginning on."""

    address: int
    size: int
    used: Callable[[], int]
    backed: int = 0


class Backing:
    """Backs some ranges ahead of their use, in a thread of its own, until it is told to end or the system cannot do it.

    Parameters
    ----------
    ranges : list of Growing
        Addresses and sizes are multiples of a page.
    """

    def __init__(self, ranges: list[Growing]) -> None:
        self._ranges = ranges
        self._ended = threading.Event()
        self._madvise = ctypes.CDLL(None, use_errno=True).madvise
        self._madvise.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int)
        self._thread = threading.Thread(target=self._main, name="retina-jit backing", daemon=True)

    def start(self) -> None:
        """Begin. Where no more threads can be had, memory is backed when it is touched, as ever."""
        with contextlib.suppress(RuntimeError):
            self._thread.start()

    def end(self) -> None:
        """Stop, and wait until it has: the ranges may be given back then."""
        self._ended.set()
        if self._thread.ident is not None:
            self._thread.join()

    def _main(self) -> None:
        pause = PERIOD
        while any(r.backed < r.size for r in self._ranges):
            try:
                pause = PERIOD if self._step() else min(2 * pause, LONGEST)
            except OSError:
                return
            if self._ended.wait(pause):
                return

    def _step(self) -> bool:
        """Back what is near. Returns whether there was any."""
        found = False
        for r in self._ranges:
            want = min(r.size, (r.used() // AHEAD + 1) * AHEAD, r.backed + AT_ONCE)
            if r.backed < want:
                if self._madvise(r.address + r.backed, want - r.backed, POPULATE_WRITE) != 0:
                    raise OSError(ctypes.get_errno(), "madvise")
                r.backed, found = want, True
        return found
