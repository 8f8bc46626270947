"""Reading a large file with two threads: the worker's own and a helper share the chunks.

Copying a file out of the page cache costs more than walking and decoding it, so the two are overlapped. Chunks of the file
belong to the slots of a ring, one behind the other. Whoever is free claims the next chunk (`claimed`) and reads it into its
slot; the worker takes chunks in order, and reads one itself rather than wait. A slot may be read into again once the
worker has passed it (`taken`). The rest of a record that the end of the ring cuts is moved in front of the ring.
"""

from __future__ import annotations

import os
import threading

import numpy as np

from retina_jit import jit, memory
from retina_jit.ingest.layout import SOURCE
from retina_jit.jit import entry, external, kernel
from retina_jit.memory import atomic_load, atomic_store, compare_and_swap

CHUNK = 256 << 10
SLOTS = 16
HEADROOM = 1 << 20
"""More than the longest pcap record, see MAX_CAPLEN."""

WORTH = 16 << 20
"""Smaller files [byte] are read before a thread has started."""

READAHEAD = np.dtype(
    [
        ("fd", "i8"),
        ("size", "i8"),  # of the file when it was opened
        ("chunks", "i8"),
        ("ring", "i8"),  # address of the first slot
        ("claimed", "i8"),  # chunks from here on nobody reads yet
        ("taken", "i8"),  # chunks before this one are done with
        ("stop", "i8"),
        ("next", "i8"),  # the worker's next chunk
        *[(f"ready{n}", "i8") for n in range(SLOTS)],  # chunk + 1 << 32 | bytes, when it is there
    ]
)
AHEAD_AT = memory.at(READAHEAD)
SOURCE_AT = memory.at(SOURCE)
CLAIMED, TAKEN, STOP, READY = (int(READAHEAD.fields[n][1]) for n in ("claimed", "taken", "stop", "ready0"))  # type: ignore[index]
NOTHING = -1
PAUSE_US = 20

pread = external("pread", "int64", "int32", "int64", "int64", "int64")
usleep = external("usleep", "int32", "uint32")


@kernel
def _claim(ahead):
    """A chunk that is ours to read now, or NOTHING."""
    a = AHEAD_AT(ahead)
    while True:
        chunk = atomic_load(ahead + CLAIMED)
        if chunk >= a.chunks or chunk >= atomic_load(ahead + TAKEN) + SLOTS:
            return NOTHING
        if compare_and_swap(ahead + CLAIMED, chunk, chunk + 1):
            return chunk


@kernel
def _read(ahead, chunk):
    """Read a claimed chunk and say that it is there; a shorter one is the end of the file."""
    a = AHEAD_AT(ahead)
    slot = chunk & (SLOTS - 1)
    wanted = min(CHUNK, a.size - chunk * CHUNK)
    got = 0
    while got < wanted:
        n = pread(a.fd, a.ring + slot * CHUNK + got, wanted - got, chunk * CHUNK + got)
        if n <= 0:
            break
        got += n
    atomic_store(ahead + READY + 8 * slot, ((chunk + 1) << 32) | got)


@entry
def help_reading(ahead):
    """The helper: reads chunks until there are no more, or it is told to stop."""
    a = AHEAD_AT(ahead)
    while atomic_load(ahead + STOP) == 0:
        chunk = _claim(ahead)
        if chunk != NOTHING:
            _read(ahead, chunk)
        elif atomic_load(ahead + CLAIMED) >= a.chunks:
            return 0
        else:
            usleep(PAUSE_US)
    return 0


@kernel
def take_chunk(source):
    """Append the next chunk to what is not walked. Returns 1; `final` is set with the last one."""
    s = SOURCE_AT(source)
    ahead = s.readahead
    a = AHEAD_AT(ahead)
    chunk = a.next + 0
    if chunk >= a.chunks:
        s.final = 1
        return 1
    slot = chunk & (SLOTS - 1)
    # Before the first chunk `at` stands behind the file header, which is not there yet.
    left = max(s.end - s.at, 0)
    beyond = max(s.at - s.end, 0)
    if slot == 0:
        memory.copy(a.ring - left, s.at, left)
        s.base = a.ring
        s.passed = chunk * CHUNK
        s.at = a.ring - left + beyond
        s.end = a.ring
        left = 0
    # What is done with may be read over; the rest of a record reaches back over two chunks at most.
    atomic_store(ahead + TAKEN, max(chunk - 2, 0) if left else chunk)
    word = ahead + READY + 8 * slot
    while atomic_load(word) >> 32 != chunk + 1:
        other = _claim(ahead)
        if other != NOTHING:
            _read(ahead, other)
    got = atomic_load(word) & 0xFFFFFFFF
    s.end += got
    a.next = chunk + 1
    if got < min(CHUNK, a.size - chunk * CHUNK):
        s.cut = 1
        s.final = 1
    elif chunk + 1 == a.chunks:
        s.final = 1
    return 1


# ------------------------------------------------------------------------------------------------ seen by Python


_spare: list[memory.Region] = []
"""The ring of the source before: its memory is there already. Sources follow one another, so one is enough."""


class ReadAhead:
    """The ring, and the helper's thread.

    Parameters
    ----------
    fd : int
        Of a regular file; stays the caller's.
    size : int [byte]
        What is there after that is not read.
    source : numpy record
        The SOURCE; set up to be refilled from here, with nothing read yet.
    """

    def __init__(self, fd: int, size: int, source: np.void) -> None:
        self._ring = _spare.pop() if _spare else memory.Region(HEADROOM + SLOTS * CHUNK)
        self._home = memory.Region(READAHEAD.itemsize)
        self._words = self._home.array(READAHEAD, 1)[0]
        self.address = self._home.address
        words = self._words
        words["fd"], words["size"], words["chunks"] = fd, size, -(-size // CHUNK)
        words["ring"] = self._ring.address + HEADROOM
        source["base"] = source["at"] = source["end"] = words["ring"]
        source["passed"] = 0
        source["fd"] = fd
        source["readahead"] = self.address
        helper = jit.function("retina_jit.ingest.readahead:help_reading")
        self._thread = threading.Thread(target=helper, args=(self.address,), name="retina-jit reader", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stop the helper; the ring must not be used any more."""
        self._words["stop"] = 1
        self._thread.join()
        if not _spare:
            _spare.append(self._ring)


def is_worth(size: int) -> bool:
    """Whether a second thread pays for a file of this size here."""
    return size >= WORTH and (os.cpu_count() or 1) > 1
