"""DPDK's environment: its arguments, its log, its beginning and its end. There is one per process."""

from __future__ import annotations

import atexit
import ctypes
import logging
import os
import threading
from collections import deque
from collections.abc import Callable, Sequence
from pathlib import Path

from retina_jit.errors import SourceError
from retina_jit.ingest.dpdk.library import Library, library

log = logging.getLogger("retina_jit.dpdk")
"""What DPDK says, a record for each line."""

MOST_LINES = 200
SLACK_MIB = 128
"""Memory beside the pools without huge pages [MiB]: rings, queues, tables."""


_CHATTER = ("EAL: Detected", "EAL: Selected", "EAL: Physical addresses", "EAL: Multi-process")


class _Log:
    """DPDK's log, drained by a thread; a full pipe would stop the drivers."""

    def __init__(self, dpdk: Library, shown: bool) -> None:
        self.lines: deque[str] = deque(maxlen=MOST_LINES)
        self._level = logging.WARNING if shown else logging.DEBUG
        out, into = os.pipe()
        libc = ctypes.CDLL(None)
        libc.fdopen.restype, libc.fdopen.argtypes = ctypes.c_void_p, [ctypes.c_int, ctypes.c_char_p]
        libc.setvbuf.argtypes = [ctypes.c_void_p, ctypes.c_char_p, ctypes.c_int, ctypes.c_size_t]
        stream = libc.fdopen(into, b"w")
        libc.setvbuf(stream, None, 1, 4096)  # _IOLBF
        threading.Thread(target=self._drain, args=(out,), daemon=True, name="retina-jit DPDK log").start()
        dpdk.call["rte_openlog_stream"](stream)

    def _drain(self, fd: int) -> None:
        with os.fdopen(fd, errors="replace") as file:
            for line in file:
                self.lines.append(line.rstrip("\n"))
                log.log(self._level, "%s", line.rstrip("\n"))


class Eal:
    """DPDK's environment, running.

    Parameters
    ----------
    dpdk : Library
    arguments : sequence of str
        Without the program's name.
    shown : bool
        Whether DPDK's log is logged as warnings, which are seen by default.

    Attributes
    ----------
    before_end : list of callable
        Called when the process ends, before DPDK is cleaned up: what uses it has to be given back first.

    Raises
    ------
    SourceError
        It does not start: the reason and the last lines of its log.
    """

    def __init__(self, dpdk: Library, arguments: Sequence[str], shown: bool = False) -> None:
        self.dpdk = dpdk
        self.arguments = tuple(arguments)
        self.log = _Log(dpdk, shown)
        self.before_end: list[Callable[[], object]] = []
        # The library keeps these texts.
        self._texts = [ctypes.create_string_buffer(a.encode()) for a in ("retina-jit", *arguments)]
        self._argv = (ctypes.c_char_p * (len(self._texts) + 1))(*[ctypes.cast(t, ctypes.c_char_p) for t in self._texts], None)
        cores = os.sched_getaffinity(0)
        try:
            code = dpdk.call["rte_eal_init"](len(self._texts), self._argv)
        finally:
            os.sched_setaffinity(0, cores)  # it binds the calling thread to the main core
        if code < 0:
            raise SourceError(f"DPDK does not start: {dpdk.reason()}; arguments: {' '.join(arguments)}{self.said()}")
        atexit.register(self._end)

    def said(self, lines: int = 3) -> str:
        """Return the last lines of the log, to be put behind an error."""
        threading.Event().wait(0.05)  # for the thread that drains it
        last = [line for line in self.log.lines if line.strip() and not line.startswith(_CHATTER)][-lines:]
        return f"; its log ends: {' | '.join(last)}" if last else ""

    def _end(self) -> None:
        for close in self.before_end:
            close()
        self.dpdk.call["rte_eal_cleanup"]()


_running: Eal | None = None
_lock = threading.Lock()


def start(arguments: Sequence[str], *, shown: bool = False) -> Eal:
    """Return the environment of this process, begun with these arguments if it does not run yet."""
    global _running
    with _lock:
        if _running is None:
            _running = Eal(library(), arguments, shown)
        elif tuple(arguments) != _running.arguments:
            log.info("DPDK runs already, with %s: other arguments have no effect in this process", " ".join(_running.arguments))
        return _running


def running() -> Eal | None:
    """Return the environment of this process if it runs."""
    return _running


def free_huge_pages() -> int:
    """Return the memory in huge pages that nobody uses [byte]."""
    total = 0
    for pages in Path("/sys/kernel/mm/hugepages").glob("hugepages-*kB"):
        size = int(pages.name.removeprefix("hugepages-").removesuffix("kB")) << 10
        total += size * int((pages / "free_hugepages").read_text())
    return total


def arguments(
    devices: Sequence[str], memory: int, *, main_core: int | None = None, channels: int = 1, further: Sequence[str] = ()
) -> list[str]:
    """Return arguments for the environment; those the user gives go before ours.

    Parameters
    ----------
    devices : sequence of str
        PCI addresses to take over.
    memory : int [byte]
        What the pools need, which counts without huge pages.
    main_core : int, optional
    channels : int
        Memory channels.
    further : sequence of str
        The user's, a word each.
    """
    given = list(further)

    def has(*names: str) -> bool:
        return any(g == n or g.startswith(f"{n}=") or (len(n) == 2 and g.startswith(n)) for g in given for n in names)

    core = min(os.sched_getaffinity(0)) if main_core is None else main_core
    made: list[str] = []
    if not has("-l", "-c", "--lcores"):
        made += ["-l", str(core)]
    if not has("-n"):
        made += ["-n", str(channels)]
    huge = free_huge_pages() >= memory
    if not has("--no-huge", "--in-memory", "--huge-dir", "--legacy-mem", "--file-prefix"):
        made += ["--in-memory"] if huge else ["--no-huge"]
    if "--in-memory" not in made + given and not has("--no-shconf", "--file-prefix"):
        made += ["--no-shconf"]
    if "--no-huge" in made + given and not has("-m"):
        made += ["-m", str((memory >> 20) + SLACK_MIB)]
    if not has("--no-telemetry", "--telemetry"):
        made += ["--no-telemetry"]
    if not devices and not has("-a", "--allow", "--no-pci"):
        made += ["--no-pci"]
    for device in devices:
        made += ["-a", device]
    return made + given
