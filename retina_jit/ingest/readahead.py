"""Reading a large file with several threads: those of the workers and a helper share the chunks.

Copying a file out of the page cache costs more than walking and decoding it, so the two are overlapped, and workers that read
the same capture have it copied once. Chunks of the file
belong to the slots of a ring, one behind the other. Whoever is free claims the next chunk (`claimed`) and reads it into its
slot; each worker takes all chunks in order, and reads one itself rather than wait. A slot may be read into again once all
workers have passed it (`taken`). The rest of a record that the end of the ring cuts is moved in front of the ring: by each
worker, to where the others put it as well.

Whoever reads a chunk also notes where its records begin, and whose they are (`noting`).
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable

import numpy as np

from retina_jit import memory, objects
from retina_jit.ingest.layout import AHEAD_CHUNK as CHUNK
from retina_jit.ingest.layout import HINTS, NONE, OWNED_AHEAD, READAHEAD, READERS, SHARED_SLOTS, SLOTS, SOURCE
from retina_jit.ingest.noting import note_own, note_records, pass_time, use_hints
from retina_jit.jit import entry, external, kernel
from retina_jit.memory import atomic_load, atomic_store, compare_and_swap, load64, store64
from retina_jit.state.layout import PACKET

HEADROOM = 1 << 20
"""More than the longest pcap record, see MAX_CAPLEN."""

WORTH = 16 << 20
"""Smaller files [byte] are read before a thread has started."""

AHEAD_AT = memory.at(READAHEAD)
SOURCE_AT = memory.at(SOURCE)
CLAIMED, STOP, READY, WHOSE, NEXT, TAKEN = (
    int(READAHEAD.fields[n][1])  # type: ignore[index]
    for n in ("claimed", "stop", "ready0", "whose0", "next0", "taken0")
)
LEFT = 1 << 62
"""A reader that has left has taken all."""
NOTHING = -1
HELPER = -1
IN_ADVANCE = 4
"""How many chunks workers that share the frames read in advance."""
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
def _read(ahead, chunk, reader):
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
    store64(ahead + WHOSE + 8 * slot, reader)
    atomic_store(ahead + READY + 8 * slot, ((chunk + 1) << 32) | got)


@entry
def help_reading(ahead):
    """The helper: reads chunks until there are no more, or it is told to stop."""
    a = AHEAD_AT(ahead)
    while atomic_load(ahead + STOP) == 0:
        chunk = _claim(ahead)
        if chunk != NOTHING:
            _read(ahead, chunk, HELPER)
            note_records(ahead)
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
    if chunk:
        pass_time(source)
    # Before the first chunk `at` stands behind the file header, which is not there yet.
    left = max(s.end - s.at, 0)
    beyond = max(s.at - s.end, 0)
    # What is done with may be read over; the rest of a record reaches back over two chunks at most.
    atomic_store(taken, max(chunk - 2, 0) if left else chunk)
    word = ahead + READY + 8 * slot
    if a.by != NONE:
        # Some chunks in advance, so that nobody waits for a note: this one's are made when this worker comes here again.
        note_own(ahead, s.reader)
        if atomic_load(ahead + CLAIMED) < chunk + IN_ADVANCE:
            other = _claim(ahead)
            if other != NOTHING:
                _read(ahead, other, s.reader)
    waited = 0
    while atomic_load(word) >> 32 != chunk + 1:
        other = _claim(ahead)
        if other != NOTHING:
            _read(ahead, other, s.reader)
            if a.by == NONE:
                note_records(ahead)
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
    use_hints(source, chunk)
    s.end += got
    store64(next_, chunk + 1)
    if got < min(CHUNK, a.size - chunk * CHUNK):
        s.cut = 1
        s.final = 1
    elif chunk + 1 == a.chunks:
        s.final = 1
    return 1


# ------------------------------------------------------------------------------------------------ seen by Python


_spare: dict[tuple[int, int], tuple[memory.Region, memory.Region]] = {}
"""Ring and hints of the source before, by number of slots and lists: the memory is there already. Sources follow one another, so one is enough."""


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
    by : int
        How it is to be noted which reader's a record is: NONE, BY_CONNECTION, BY_TURN.
    seed : int
        Of the hash that says whose a connection is.
    """

    def __init__(self, fd: int, size: int, head: bytes, source: np.void, readers: int = 1, by: int = NONE, seed: int = 0) -> None:
        self.size, self.head = size, head
        self._slots = SLOTS if readers == 1 else SHARED_SLOTS
        lists = 1 if by == NONE else readers
        self._key = self._slots, lists
        spare = _spare.pop(self._key, None)  # in one step, for there may be several runs in a process
        self._ring, self._hints = _memory(*self._key) if spare is None else spare
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
        for name in ("swap", "unit", "header", "link", "number"):
            words[name] = source[name]
        words["lists"] = 1
        if by != NONE:
            words["lists"], words["by"], words["seed"] = readers, by, seed
        self._scratch = memory.Region(PACKET.itemsize + 8 * READERS)
        words["row"], words["tails"] = self._scratch.address, self._scratch.address + PACKET.itemsize
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
        _spare.setdefault(self._key, (self._ring, self._hints))
        return True


def _memory(slots: int, lists: int) -> tuple[memory.Region, memory.Region]:
    return memory.Region(HEADROOM + slots * CHUNK).advise_huge(), memory.Region((slots * lists * HINTS + OWNED_AHEAD) * 8)


class Readers:
    """Workers that read the same captures: each large file is read once for all of them.

    Parameters
    ----------
    count : int
        How many there are. One that ends early has to `leave`.

    Attributes
    ----------
    by, seed : int
        As in `ReadAhead`; to be set before the first one reads.
    """

    def __init__(self, count: int) -> None:
        self._count = count
        self.by, self.seed = NONE, 0
        self._lock = threading.Lock()
        self._rings: dict[int, ReadAhead] = {}
        self._gone: set[int] = set()
        self._apart: dict[int, set[int]] = {}
        """Captures that each reads by itself, and who has not asked about them yet."""

    def join(self, place: int, reader: int, make: Callable[[int, int, int], ReadAhead | None]) -> ReadAhead | None:
        """Return the ring of the capture at a place of the list, or None if each reads it by itself.

        The first to come makes it, for so many readers, or not: that holds for all, for the file may grow meanwhile.
        """
        with self._lock:
            found = self._rings.get(place)
            if found is None and place not in self._apart:
                found = make(self._count, self.by, self.seed)
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
