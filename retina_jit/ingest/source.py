"""Capture files and streams as sources of frames.

A regular, uncompressed file is mapped and walked where it lies. Everything else (standard input, pipes, gzip, zstd, xz,
bzip2) is read in chunks into one buffer.
"""

from __future__ import annotations

import mmap
import os
import stat
import sys
import time
from types import TracebackType
from typing import Any

import numpy as np

from retina_jit import memory
from retina_jit.errors import SourceError
from retina_jit.ingest import guard, readahead
from retina_jit.ingest.formats import (
    WALK_OWNED,
    WALK_PCAP,
    WALK_PCAPNG,
    first_interfaces,
    pcap_header,
    walker,
)
from retina_jit.ingest.layout import (
    CHUNK,
    INTERFACE,
    MAX_BLOCK,
    MAX_INTERFACES,
    NONE,
    REASONS,
    SOURCE,
    Reason,
)
from retina_jit.ingest.linktypes import describe, is_supported
from retina_jit.ingest.mapping import maps_fast
from retina_jit.ingest.stream import Stream, open_stream
from retina_jit.ingest.walked import Walked
from retina_jit.status import Status

HEAD = 1 << 16
"""How far the interfaces of a pcapng are looked for when it is opened [byte]."""

UNPACKED = 4 << 20
"""Decompressed at once [byte]: for each such piece the worker needs the interpreter."""

BUFFER = MAX_BLOCK + 2 * UNPACKED

RECENT = 600.0
"""A file that was not changed for so long grows no more [s]."""

Shared = tuple[readahead.Readers, int, int]


class CaptureSource(Walked):
    """One capture, being walked.

    The run is: walk until a walk gives no frame, then look at `status`: NEED_INPUT and SHRUNK ask for `refill` and
    another walk; DONE and BROKEN are the end. Between decoding the frames of a walk and using them,
    `retina_jit.ingest.guard.is_gone(address)` has to be asked: if it holds, throw the rows away, call `refill`, walk again.

    Parameters
    ----------
    path : str
        A file, a pipe, or "-" for standard input.
    first : int
        Number of frames of the run that come before this source's (column `number`).
    ahead : bool
        Whether a second thread may read a large capture ahead, where there is a core for it.
    peek : bool
        Only the beginning will be read: neither a map, which has its pages made, nor a thread is worth it.
    shared : (Readers, int, int), optional
        Who else reads the same captures, the capture's place among these, and which of the readers this is.
    end : int [byte], optional
        Where the file ended when it was planned to read it: what was appended since is left out.

    Attributes
    ----------
    address : int
        Of the `SOURCE` record; the first argument of the walker.
    walk_unit : str
        The entry that walks this source.

    Raises
    ------
    SourceError
        No such file, a folder, not a capture, unknown link type.
    """

    def __init__(
        self, path: str | os.PathLike[str], *, first: int = 0, ahead: bool = True, shared: Shared | None = None, peek: bool = False, end: int | None = None
    ) -> None:
        self.path = os.fspath(path)
        self._end = end
        self._may_read_ahead, self._shared, self._peek = ahead and not peek, shared, peek
        self.name = "standard input" if self.path == "-" else self.path
        self._region = memory.Region(SOURCE.itemsize)
        self._words = self._region.array(SOURCE, 1)[0]
        self.address = self._region.address
        self._map: mmap.mmap | None = None
        self._slot: int | None = None
        self._stream: Stream | None = None
        self._ahead: readahead.ReadAhead | None = None
        self._buffer: memory.Region | None = None
        self._table: memory.Region | None = None
        self._file_size = 0
        self._words["number"] = first
        self._closed = False
        try:
            self._open()
        except BaseException:
            self.close()
            raise

    # ------------------------------------------------------------------------------------------------- opening

    def _open(self) -> None:
        if self.path == "-":
            if sys.stdin is None or sys.stdin.isatty():
                raise SourceError("standard input is a terminal: pipe a capture into it, or name a file")
            self._begin_stream(os.dup(sys.stdin.fileno()))
            return
        try:
            # A named pipe is not waited for here, but where the wait can be ended (`retina_jit.ingest.stream`).
            fd = os.open(self.path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
            os.set_blocking(fd, True)
        except OSError as error:
            raise SourceError(f"{self.path}: {error.strerror or error}".replace("No such file or directory", "no such file")) from error
        try:
            found = os.fstat(fd)
            if stat.S_ISDIR(found.st_mode):
                raise SourceError(f"{self.path}: is a folder; name a capture file in it, or quote a pattern such as '{self.path}/*.pcap'")
            head = os.pread(fd, 24, 0) if stat.S_ISREG(found.st_mode) else b""
            # Two threads that read are faster than one that waits for its pages, however the page cache holds the file.
            may_map = guard.SUPPORTED and not self._peek and walker(head) is not None
            size = found.st_size if self._end is None else min(found.st_size, self._end)
            if self._begin_readahead(fd, size, head) or (may_map and self._begin_map(fd, size)):
                os.close(fd)
                return
        except BaseException:
            os.close(fd)
            raise
        # The kernel reads to the end of the file, wherever that is by then.
        grows = walker(head) is None or time.time() - found.st_mtime < RECENT
        self._begin_stream(fd, self._end if grows else None)

    def _begin_readahead(self, fd: int, size: int, head: bytes) -> bool:
        """Let several threads read a large pcap file. False if it is read otherwise."""

        def make(readers: int, by: int = NONE, seed: int = 0) -> readahead.ReadAhead | None:
            if not self._may_read_ahead or walker(head) != WALK_PCAP or len(head) < 24 or not readahead.is_worth(size):
                return None
            words["swap"], words["unit"], words["header"], words["link"] = pcap_header(head)
            return readahead.ReadAhead(fd, size, head, words, readers, by, seed)

        words, reader = self._words, 0
        if self._shared is None:
            self._ahead = make(1)
        else:
            readers, place, reader = self._shared
            self._ahead = readers.join(place, reader, make)
        if self._ahead is None:
            return False
        # What the ring holds is what its maker has seen of the file.
        self._ahead.join(words, reader)
        self._file_size = self._ahead.size
        words["ahead"] = 1 << 62  # what was just copied is in a cache: no prefetches
        self._begin(self._ahead.head)
        return True

    def _begin_map(self, fd: int, size: int) -> bool:
        """Map the file. False if it is better read, or if no guard is left for it."""
        self._fd = os.dup(fd)
        self._map = mmap.mmap(fd, size, prot=mmap.PROT_READ, flags=mmap.MAP_SHARED)
        if not maps_fast(self._map, size):
            self._map.close()
            self._map = None
            os.close(self._fd)
            return False
        bytes_ = np.frombuffer(self._map, np.uint8)
        base = int(bytes_.ctypes.data)
        del bytes_
        word = self.address + SOURCE.fields["shrunk"][1]  # type: ignore[index]
        self._slot = guard.watch(base, size, word)
        if self._slot is None:
            self._map.close()
            self._map = None
            os.close(self._fd)
            return False
        if hasattr(mmap, "MADV_SEQUENTIAL"):
            self._map.madvise(mmap.MADV_SEQUENTIAL)
        words = self._words
        words["base"] = words["at"] = base
        words["end"] = base + size
        words["final"] = 1
        words["fd"] = -1
        words["guard"] = (base + size - 1) & ~7
        self._file_size = size
        self._begin(self._map[: min(size, HEAD)])
        return True

    def _begin_stream(self, fd: int, end: int | None = None) -> None:
        self._stream = open_stream(fd, self.name, end)
        self._buffer = memory.Region(BUFFER)
        words = self._words
        words["base"] = words["at"] = words["end"] = self._buffer.address
        words["limit"] = self._buffer.address + BUFFER
        words["fd"] = self._stream.plain_fd
        words["ahead"] = 1 << 62  # what was just copied is in a cache: no prefetches
        # The header first: a live capture may wait long before its first packet.
        while words["end"] - words["base"] < 24 and self._read():
            pass
        self._begin(bytes(self._buffer.array(np.uint8, int(words["end"] - words["base"]))))

    def _begin(self, head: bytes) -> None:
        """Find the format and check the link type; `head` are the first bytes."""
        words = self._words
        unit = walker(head[:24])
        if unit is None:
            if not head and self._stream is not None and self._stream.damaged:
                raise SourceError(f"{self.name}: {self._stream.damaged}, nothing of it can be read")
            if not head:
                raise SourceError(f"{self.name}: is empty, not a capture")
            raise SourceError(f"{self.name}: not a capture file: it begins with {head[:8].hex(' ')} ({head[:8]!r}); {READ}")
        self.walk_unit = unit
        if unit == WALK_PCAPNG:
            self._table = memory.Region(MAX_INTERFACES * INTERFACE.itemsize)
            words["interfaces"] = self._table.address
            links = first_interfaces(head)
            if links and not any(is_supported(n) for n in links):
                raise SourceError(f"{self.name}: {describe(links[0])} is not supported{_SUPPORTED_HINT}")
            return
        if len(head) < 24:
            raise SourceError(f"{self.name}: ends within the file header, not a capture")
        swap, unit_ns, record_header, link = pcap_header(head)
        if not is_supported(link):
            raise SourceError(f"{self.name}: {describe(link)} is not supported{_SUPPORTED_HINT}")
        words["swap"] = swap
        words["unit"], words["header"] = unit_ns, record_header
        words["link"] = link
        words["at"] += 24

    # ------------------------------------------------------------------------------------------------- running

    def give_to(self, worker: int, workers: int) -> int:
        """Say which of how many workers reads from this source. Returns among how many it has to share the packets."""
        self._words["worker"], self._words["workers"] = worker, workers
        return workers

    def leave_out(self, which: int) -> None:
        """Pass over frames of other workers, as far as it is noted whose they are (NONE, BY_CONNECTION, BY_TURN)."""
        if self._ahead is not None and self._shared is not None:
            self._words["left_out"] = which
            self.walk_unit = WALK_OWNED if which != NONE else WALK_PCAP

    is_live = False
    dropped = 0

    def refill(self, timeout: float | None = None) -> bool:
        """Go on after NEED_INPUT or SHRUNK, or after `is_gone`. False if there is nothing more to walk.

        The rows of the last walk are no longer valid after this.

        Parameters
        ----------
        timeout : float [s]
            How long to wait for a pipe. Without it, until something comes. If nothing came, the next walk gives NEED_INPUT
            again.
        """
        if self._map is not None:
            return self._refit()
        if self._ahead is not None:
            return not self._words["final"]
        if self._stream is None or self._words["final"]:
            return False
        if timeout is None or self._stream.wait(timeout):
            self._read()
        return True

    def _refit(self) -> bool:
        """Take the new size of a mapped file as the limit, and go back to where the last walk began."""
        words = self._words
        size = os.fstat(self._fd).st_size
        if words["shrunk"]:
            size = min(size, int(words["shrunk"] - words["base"]))
        end = int(words["base"]) + size
        if end >= words["end"]:
            # Nothing is missing: the zeros stand in the file.
            words["guard"] = 0
            return True
        words["at"] = words["burst_at"]
        words["interface_count"] = words["burst_interfaces"]
        words["number"] -= words["frames"] - words["burst_frames"]
        words["frames"] = words["burst_frames"]
        words["bytes"] = words["burst_bytes"]
        words["captured"] = words["burst_captured"]
        words["unknown"] = words["burst_unknown"]
        words["end"] = max(end, int(words["at"]))
        words["shrunk"] = 0
        words["guard"] = (end - 1) & ~7 if size else 0
        words["cut"] = 1
        return True

    def _read(self) -> bool:
        """Read a chunk behind what is not walked yet. False at the end of the stream."""
        words = self._words
        assert self._buffer is not None and self._stream is not None
        chunk = CHUNK if words["fd"] >= 0 else UNPACKED
        base, at, end = int(self._buffer.address), int(words["at"]), int(words["end"])
        left = end - at
        if at > base and (left <= chunk or end - base + chunk > BUFFER):
            held = self._buffer.array(np.uint8)
            held[:left] = held[at - base : end - base]  # numpy copies overlapping ranges rightly
            words["passed"] += at - base
            at, end = base, base + left
            words["at"], words["end"] = at, end
        room = self._buffer.array(np.uint8, min(chunk, BUFFER - (end - base)), end - base)
        n = self._stream.readinto(room.data)
        words["end"] = end + n
        if n == 0:
            words["final"] = 1
            if self._stream.damaged:
                words["cut"] = 1
        return n > 0

    # ----------------------------------------------------------------------------------------------- afterwards

    @property
    def bytes(self) -> int:
        """Their length on the wire [byte]."""
        return int(self._words["bytes"])

    @property
    def size(self) -> int:
        """Size of the file [byte], compressed as it is; 0 if not known."""
        return self._file_size or (self._stream.size if self._stream else 0)

    @property
    def position(self) -> int:
        """How much of `size` is done [byte]."""
        if self._stream is not None and self._words["fd"] < 0:
            return self._stream.position
        return self.offset

    @property
    def offset(self) -> int:
        """Where the next record begins in the (uncompressed) capture [byte]."""
        return int(self._words["passed"] + self._words["at"] - self._words["base"])

    def port_stats(self) -> dict[str, dict[str, int]]:
        """Return nothing: a capture is no device."""
        return {}

    @property
    def is_mapped(self) -> bool:
        """Whether the file is mapped; else it is read in chunks."""
        return self._map is not None

    @property
    def cut(self) -> bool:
        """Whether the capture ends inside a record, or became shorter while it was read."""
        return bool(self._words["cut"])

    @property
    def unsupported(self) -> int:
        """Frames of link types that are not supported, which a pcapng may mix in; the decoder calls them NOT_IP."""
        return int(self._words["unknown"])

    @property
    def unsupported_link(self) -> str:
        """Name and number of the last link type that is not supported; empty if there was none."""
        return describe(int(self._words["unknown_link"])) if self.unsupported else ""

    @property
    def problem(self) -> str:
        """What is wrong with the input, in one line; empty if nothing is."""
        if self.status == Status.BROKEN:
            return f"{self.name}: byte {self.offset}: {REASONS[Reason(int(self._words['reason']))]}; the rest is not read"
        if self._stream is not None and self._stream.damaged:
            return f"{self.name}: {self._stream.damaged}; {self.frames} frames before that were read"
        if self.cut:
            return f"{self.name}: cut at byte {self.offset}, inside a record; {self.frames} frames before that were read"
        return ""

    def close(self) -> None:
        """Give everything back. Frames of the last walk must not be read any more."""
        if self._closed:
            return
        self._closed = True
        if self._ahead is not None and self._shared is None:
            self._ahead.leave()
        elif self._ahead is not None and self._shared is not None:
            readers, place, reader = self._shared
            readers.close(place, reader)
        if self._slot is not None:
            guard.unwatch(self._slot)
        if self._map is not None:
            self._map.close()
            os.close(self._fd)
        if self._stream is not None:
            self._stream.close()

    def __enter__(self) -> CaptureSource:
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<CaptureSource {self.name}: {self.frames} frames>"


READ = "pcap and pcapng are read, plain or compressed with gzip, zstd, xz or bzip2"
_SUPPORTED_HINT = ": Ethernet, raw IP, Linux cooked, BSD loopback, PPP are"


def open_source(
    path: str | os.PathLike[str], *, first: int = 0, ahead: bool = True, shared: Shared | None = None, peek: bool = False, end: int | None = None
) -> CaptureSource:
    """Open one capture; see `CaptureSource`."""
    return CaptureSource(path, first=first, ahead=ahead, shared=shared, peek=peek, end=end)


def numpy_source(source: CaptureSource) -> Any:
    """Return the `SOURCE` record as a NumPy record (tests and tools)."""
    return source._words
