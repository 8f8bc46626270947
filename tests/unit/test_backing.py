"""`retina_jit.backing`: memory is there before it is used, and only as far as it is near."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np

from retina_jit.backing import AHEAD, PERIOD, Backing, Growing
from retina_jit.memory import Region
from retina_jit.state.table import TABLE, end_of_slots, set_up

SIZE = 16 * AHEAD


def resident(region: Region) -> int:
    """Bytes of a region that the system has backed."""
    inside, kilobytes = False, 0
    for line in Path("/proc/self/smaps").read_text().splitlines():
        head = line.split()[0]
        if "-" in head:
            first, last = (int(word, 16) for word in head.split("-"))
            inside = first <= region.address < last
        elif inside and head == "Rss:":
            kilobytes += int(line.split()[1])
    return kilobytes << 10


def wait_for(growing: Growing, backed: int) -> None:
    end = time.monotonic() + 20
    while growing.backed < backed and time.monotonic() < end:
        time.sleep(0.001)


def test_memory_ahead_of_its_use_is_backed_and_no_more() -> None:
    region, used = Region(SIZE), 0
    growing = Growing(region.address, SIZE, lambda: used)
    backing = Backing([growing])
    assert resident(region) < AHEAD
    backing.start()
    try:
        for used in (0, 3 * AHEAD + 1):
            wait_for(growing, used // AHEAD * AHEAD + AHEAD)
            time.sleep(0.01)
            assert growing.backed == used // AHEAD * AHEAD + AHEAD
            assert growing.backed <= resident(region) <= growing.backed + AHEAD
    finally:
        backing.end()
    assert not region.array("u1").any()


def test_what_was_written_stays() -> None:
    region = Region(SIZE)
    region.array("u1")[:] = 7
    backing = Backing([growing := Growing(region.address, SIZE, lambda: SIZE)])
    backing.start()
    wait_for(growing, SIZE)
    backing.end()
    assert growing.backed == SIZE
    assert (region.array("u1") == 7).all()


def test_a_system_that_cannot_is_left_alone() -> None:
    backing = Backing([growing := Growing(4096, AHEAD, lambda: 0)])  # nothing is mapped there
    backing.start()
    backing.end()
    assert growing.backed == 0


def test_where_nothing_grows_it_is_looked_at_less_often() -> None:
    looks = 0

    def used() -> int:
        nonlocal looks
        looks += 1
        return 0

    region = Region(SIZE)
    backing = Backing([growing := Growing(region.address, SIZE, used)])
    begun = time.monotonic()
    backing.start()
    while looks < 8 and time.monotonic() < begun + 20:
        time.sleep(0.001)
    assert looks >= 8
    assert time.monotonic() - begun > (1 + 2 + 4 + 8 + 16 + 16 + 16) * PERIOD - 0.001
    backing.end()
    assert growing.backed == AHEAD


def test_slots_are_there_before_the_table_grows() -> None:
    """From three quarters of the way to the next size on; each range stands behind the one before it."""
    words, most, first = np.zeros(1, TABLE)[0], 1 << 20, 1 << 16
    set_up(words, 1 << 30, first, most)
    for slots in (first, 2 * first):
        words["mask"] = slots - 1
        begin = int(words["ranges"]) + 8 * slots
        for live, ends in ((0, 1), (slots * 3 // 8, 1), (slots * 3 // 8 + 1, 2), (slots // 2, 2)):
            words["live"] = live
            assert end_of_slots(words) == begin + 8 * slots * (2 * ends - 1) - int(words["ranges"])
