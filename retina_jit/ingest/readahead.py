"""Reading a large file with several threads: those of the workers and a helper share the chunks.

Copying a file out of the page cache costs more than walking and decoding it, so the two are overlapped, and workers that read
the same capture have it copied once. Chunks of the file
belong to the slots of a ring, one behind the other. Whoever is free claims the next chunk (`claimed`) and reads it into its
slot; each worker takes all chunks in order, and reads one itself rather than wait. A slot may be read into again once all
workers have passed it (`taken`). The rest of a record that the end of the ring cuts is moved in front of the ring: by each
worker, to where the others put it as well.

Whoever reads a chunk also notes where its records begin, while they are in its own cache: `hints` for the walker's
prefetches. Records are a chain, and to the worker each link may be in the cache of another core: without hints 104 ns per
packet where the two cores share no cache, and a third of the worker's time where they do.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable

import numpy as np

from retina_jit import memory, objects
from retina_jit.ingest.layout import HINTS_AHEAD, MAX_CAPLEN, SOURCE
from retina_jit.jit import entry, external, kernel
from retina_jit.memory import atomic_load, atomic_store, compare_and_swap, load64, store64
from retina_jit.parsers.wire import u8, u32, u32_le

CHUNK = 256 << 10
SLOTS, SHARED_SLOTS = 16, 64
"""Slots of a ring, and of one that several workers read: one may be so far behind when it has no core."""
READERS = 64
HEADROOM = 1 << 20
"""More than the longest pcap record, see MAX_CAPLEN."""

HINTS = 4096
"""Most records of a chunk that are noted; in traffic some 600 begin in one."""

WORTH = 16 << 20
"""Smaller files [byte] are read before a thread has started."""

READAHEAD = np.dtype(
    [
        ("fd", "i8"),
        ("size", "i8"),  # of the file when it was opened
        ("chunks", "i8"),
        ("ring", "i8"),  # address of the first slot
        ("claimed", "i8"),  # chunks from here on nobody reads yet
        ("slots", "i8"),  # a power of two
        ("readers", "i8"),
        ("stop", "i8"),
        ("hints", "i8"),  # address of HINTS words per slot: where records begin, from the beginning of the chunk on
        ("noting", "i8"),  # 1: a thread is noting
        ("walked", "i8"),  # chunks whose records are noted, in order
        ("record", "i8"),  # where in the file the first record behind them begins
        ("swap", "i8"),  # how records are read, as in SOURCE
        ("header", "i8"),
        *[(f"ready{n}", "i8") for n in range(SHARED_SLOTS)],  # chunk + 1 << 32 | bytes, when it is there
        *[(f"count{n}", "i8") for n in range(SHARED_SLOTS)],  # how many hints
        *[(f"next{n}", "i8") for n in range(READERS)],  # each reader's next chunk
        *[(f"taken{n}", "i8") for n in range(READERS)],  # chunks before this one a reader is done with
    ]
)
AHEAD_AT = memory.at(READAHEAD)
SOURCE_AT = memory.at(SOURCE)
CLAIMED, STOP, NOTING, WALKED, READY, COUNT, NEXT, TAKEN = (
    int(READAHEAD.fields[n][1])  # type: ignore[index]
    for n in ("claimed", "stop", "noting", "walked", "ready0", "count0", "next0", "taken0")
)
LEFT = 1 << 62
"""A reader that has left has taken all."""
LENGTH_AT, LENGTH_END = 8, 12
NO_RECORD = 1 << 62
NOTHING = -1
PAUSE_US = 20
YIELDS = 64
"""How often a core is offered to others before it is left for a while."""
PATIENCE = 2_000
"""Pauses before a worker that waits for another one looks at its control word: 40 ms and more. The other may have been stopped."""

pread = external("pread", "int64", "int32", "int64", "int64", "int64")
usleep = external("usleep", "int32", "uint32")
sched_yield = external("sched_yield", "int32")


@kernel
def _claim(ahead):
    """A chunk that is ours to read now, or NOTHING."""
    a = AHEAD_AT(ahead)
    taken = LEFT
    for n in range(a.readers):
        taken = min(taken, atomic_load(ahead + TAKEN + 8 * n))
    while True:
        chunk = atomic_load(ahead + CLAIMED)
        if chunk >= a.chunks or chunk >= taken + a.slots:
            return NOTHING
        if compare_and_swap(ahead + CLAIMED, chunk, chunk + 1):
            return chunk


@kernel
def _read(ahead, chunk):
    """Read a claimed chunk and say that it is there; a shorter one is the end of the file."""
    a = AHEAD_AT(ahead)
    slot = chunk & (a.slots - 1)
    wanted = min(CHUNK, a.size - chunk * CHUNK)
    got = 0
    while got < wanted:
        n = pread(a.fd, a.ring + slot * CHUNK + got, wanted - got, chunk * CHUNK + got)
        if n <= 0:
            break
        got += n
    atomic_store(ahead + READY + 8 * slot, ((chunk + 1) << 32) | got)
    _note_records(ahead)


@kernel
def _caplen(ahead, at):
    """The captured length that the record at `at` of the file claims; its chunk is in the ring."""
    a = AHEAD_AT(ahead)
    size = a.slots * CHUNK
    ring, place = (a.ring, size), (at + LENGTH_AT) % size
    if place + 4 <= size:
        return u32(ring, place) if a.swap else u32_le(ring, place)
    value = 0
    for n in range(4):  # the end of the ring cuts it
        byte = u8(ring, (place + n) % size)
        value |= byte << (24 - 8 * n if a.swap else 8 * n)
    return value


@kernel
def _note_records(ahead):
    """Note where records begin, in all chunks that were read one behind the other. Nobody waits: if the other thread is
    at it, it or the next to come sees this chunk, too.
    """
    a = AHEAD_AT(ahead)
    if not compare_and_swap(ahead + NOTING, 0, 1):
        return
    chunk = a.walked + 0
    while chunk < a.chunks:
        slot, begin = chunk & (a.slots - 1), chunk * CHUNK
        word = atomic_load(ahead + READY + 8 * slot)
        if word >> 32 != chunk + 1:
            break
        hints, end, at, n = a.hints + slot * HINTS * 8, begin + (word & 0xFFFFFFFF), a.record + 0, 0
        while at + LENGTH_END <= end:
            if n < HINTS:
                store64(hints + 8 * n, at - begin)
                n += 1
            caplen = _caplen(ahead, at)
            at = at + a.header + caplen if caplen <= MAX_CAPLEN else NO_RECORD
        store64(ahead + COUNT + 8 * slot, n)
        a.record = at
        chunk += 1
        atomic_store(ahead + WALKED, chunk)
    atomic_store(ahead + NOTING, 0)


@kernel
def _use_hints(source, chunk):
    """Let the walker prefetch what is noted about its next chunk; if that is late, begin with the chunk anew."""
    s = SOURCE_AT(source)
    ahead = s.readahead
    a = AHEAD_AT(ahead)
    slot = chunk & (a.slots - 1)
    s.hints_base = a.ring + slot * CHUNK
    s.hints = s.hints_end = a.hints + slot * HINTS * 8
    s.ahead = s.hints_base
    if atomic_load(ahead + WALKED) > chunk:
        s.hints_end = s.hints + 8 * load64(ahead + COUNT + 8 * slot)
    elif atomic_load(ahead + WALKED) < chunk and compare_and_swap(ahead + NOTING, 0, 1):
        a.record = s.passed + s.at - s.base
        atomic_store(ahead + WALKED, chunk)
        atomic_store(ahead + NOTING, 0)


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
    """Append the next chunk to what is not walked. Returns 1, or 0 if another reader is far behind and may stay so; `final` is
    set with the last one.
    """
    s = SOURCE_AT(source)
    ahead = s.readahead
    a = AHEAD_AT(ahead)
    next_, taken = ahead + NEXT + 8 * s.reader, ahead + TAKEN + 8 * s.reader
    chunk = load64(next_)
    if chunk >= a.chunks:
        s.final = 1
        return 1
    slot = chunk & (a.slots - 1)
    # Before the first chunk `at` stands behind the file header, which is not there yet.
    left = max(s.end - s.at, 0)
    beyond = max(s.at - s.end, 0)
    # What is done with may be read over; the rest of a record reaches back over two chunks at most.
    atomic_store(taken, max(chunk - 2, 0) if left else chunk)
    word = ahead + READY + 8 * slot
    waited = 0
    while atomic_load(word) >> 32 != chunk + 1:
        other = _claim(ahead)
        if other != NOTHING:
            _read(ahead, other)
        elif waited < YIELDS:
            sched_yield()  # whoever has it may wait for this core
            waited += 1
        elif waited < YIELDS + PATIENCE:
            usleep(PAUSE_US)  # another reader is far behind
            waited += 1
        else:
            return 0
    if slot == 0:
        # Not before the chunk is there: then all readers have passed what stood in front of the ring.
        memory.copy(a.ring - left, s.at, left)
        s.base = a.ring
        s.passed = chunk * CHUNK
        s.at = a.ring - left + beyond
        s.end = a.ring
        atomic_store(taken, chunk)
    got = atomic_load(word) & 0xFFFFFFFF
    _use_hints(source, chunk)
    s.end += got
    store64(next_, chunk + 1)
    if got < min(CHUNK, a.size - chunk * CHUNK):
        s.cut = 1
        s.final = 1
    elif chunk + 1 == a.chunks:
        s.final = 1
    return 1


# ------------------------------------------------------------------------------------------------ seen by Python


_spare: dict[int, tuple[memory.Region, memory.Region]] = {}
"""Ring and hints of the source before, by number of slots: the memory is there already. Sources follow one another, so one is enough."""


class ReadAhead:
    """The ring, and the helper's thread where a core is left for it.

    Parameters
    ----------
    fd : int
        Of a regular file; stays the caller's.
    size : int [byte]
        What is there after that is not read.
    head : bytes
        What stands in the file before the first record, for all readers: they find in it how records are read.
    source : numpy record
        A SOURCE, which says how records are read.
    readers : int
        How many sources are refilled from here: each is to `join`, and to `leave`.
    """

    def __init__(self, fd: int, size: int, head: bytes, source: np.void, readers: int = 1) -> None:
        self.size, self.head = size, head
        self._slots = SLOTS if readers == 1 else SHARED_SLOTS
        self._ring, self._hints = _spare.pop(self._slots) if self._slots in _spare else _memory(self._slots)
        self._home = memory.Region(READAHEAD.itemsize)
        self._words = self._home.array(READAHEAD, 1)[0]
        self.address = self._home.address
        self._fd = os.dup(fd)
        self._here = set(range(readers))
        words = self._words
        words["fd"], words["size"], words["chunks"] = self._fd, size, -(-size // CHUNK)
        words["slots"], words["readers"] = self._slots, readers
        words["ring"] = self._ring.address + HEADROOM
        words["hints"], words["record"] = self._hints.address, len(head)
        words["swap"], words["header"] = source["swap"], source["header"]
        self._thread: threading.Thread | None = None
        if _cores() > readers or readers == 1:
            helper = objects.function("retina_jit.ingest.readahead:help_reading")
            self._thread = threading.Thread(target=helper, args=(self.address,), name="retina-jit reader", daemon=True)
            self._thread.start()

    def join(self, source: np.void, reader: int = 0) -> None:
        """Let a SOURCE with nothing read yet be refilled from here."""
        source["base"] = source["at"] = source["end"] = self._words["ring"]
        source["passed"] = 0
        source["fd"] = self._fd
        source["readahead"], source["reader"] = self.address, reader

    def leave(self, reader: int = 0) -> bool:
        """Wait for this reader no more. Returns whether it was the last one: the ring must not be used any more then."""
        if reader not in self._here:
            return False
        self._words[f"taken{reader}"] = LEFT
        self._here.remove(reader)
        if self._here:
            return False
        self._words["stop"] = 1
        if self._thread is not None:
            self._thread.join()
        os.close(self._fd)
        _spare.setdefault(self._slots, (self._ring, self._hints))
        return True


def _memory(slots: int) -> tuple[memory.Region, memory.Region]:
    return memory.Region(HEADROOM + slots * CHUNK).advise_huge(), memory.Region((slots * HINTS + HINTS_AHEAD) * 8)


class Readers:
    """Workers that read the same captures: each large file is read once for all of them.

    Parameters
    ----------
    count : int
        How many there are. One that ends early has to `leave`.
    """

    def __init__(self, count: int) -> None:
        self._count = count
        self._lock = threading.Lock()
        self._rings: dict[int, ReadAhead] = {}
        self._gone: set[int] = set()
        self._apart: dict[int, set[int]] = {}
        """Captures that each reads by itself, and who has not asked about them yet."""

    def join(self, place: int, reader: int, make: Callable[[int], ReadAhead | None]) -> ReadAhead | None:
        """Return the ring of the capture at a place of the list, or None if each reads it by itself.

        The first to come makes it, for so many readers, or not: that holds for all, for the file may grow meanwhile.
        """
        with self._lock:
            found = self._rings.get(place)
            if found is None and place not in self._apart:
                found = make(self._count)
                if found is None:
                    self._apart[place] = set(range(self._count)) - self._gone
                else:
                    self._rings[place] = found
                    for other in self._gone:
                        found.leave(other)
            if found is None:
                self._asked(place, reader)
            return found

    def _asked(self, place: int, reader: int) -> None:
        waited_for = self._apart[place]
        waited_for.discard(reader)
        if not waited_for:
            del self._apart[place]

    def close(self, place: int, reader: int) -> None:
        """A reader is done with the capture at a place."""
        with self._lock:
            if place in self._rings:
                self._leave(place, reader)

    def leave(self, reader: int) -> None:
        """A reader reads no more."""
        with self._lock:
            self._gone.add(reader)
            for place in list(self._rings):
                self._leave(place, reader)
            for place in list(self._apart):
                self._asked(place, reader)

    def _leave(self, place: int, reader: int) -> None:
        if self._rings[place].leave(reader):
            del self._rings[place]


def is_worth(size: int) -> bool:
    """Whether a second thread pays for a file of this size here."""
    return size >= WORTH and _cores() > 1


def _cores() -> int:
    """How many cores this process may use."""
    return len(os.sched_getaffinity(0))
