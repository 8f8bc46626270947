"""The connection table at a million connections: ns per operation, making and hashing the rows taken out.

Connections come without order, so nearly each touches lines that are in no cache: prefetching is what is measured.
"""

from __future__ import annotations

import time
from pathlib import Path

import measure
import pytest

from retina_jit import memory, objects
from retina_jit.state.layout import BURST, CONNECTION, PACKET
from retina_jit.state.table import TABLE, set_up

KERNELS = str(Path(__file__).with_name("loop_kernels.py"))
ROUNDS, LIVE = 5, 1 << 20
INSERTED = 0x9E3779B1
"""The order of insertion: another one than that of finding, so records are not met one after the other in memory."""


class Table:
    def __init__(self, live: int) -> None:
        self.live = live
        self._rows = memory.Region(BURST * PACKET.itemsize)
        self._regions = [memory.Region(16 * 2 * live).advise_huge(), memory.Region(CONNECTION.itemsize * live).advise_huge()]
        self._home = memory.Region(TABLE.itemsize)
        t = self._home.array(TABLE, 1)[0]
        set_up(t, self._regions[0].address, 2 * live, 2 * live)
        t["pool"], t["most"] = self._regions[1].address, live
        self.record = t

    def run(self, name: str, spread: int = 0x85EBCA6B) -> int:
        return objects.function(f"{KERNELS}:{name}")(self._home.address, self._rows.address, self.live, spread)

    def rows_alone(self) -> float:
        """Seconds that making the rows takes."""
        self.run("make_bursts")
        times = []
        for _ in range(3):
            begin = time.perf_counter()
            self.run("make_bursts")
            times.append(time.perf_counter() - begin)
        return min(times)


@pytest.fixture(scope="module")
def full() -> Table:
    table = Table(LIVE)
    assert table.run("insert_all", INSERTED) == 0
    assert int(table.record["live"]) == LIVE
    return table


def _note(benchmark, table: Table) -> None:
    measure.note(benchmark, table.live, "operation", less=table.rows_alone(), connections=table.live)


@pytest.mark.benchmark(group="table")
@pytest.mark.parametrize("name", ["find_all", "find_one_by_one"])
def test_find(benchmark, full, name):
    assert full.run(name) == LIVE  # warm-up
    benchmark.pedantic(lambda: full.run(name), rounds=ROUNDS)
    _note(benchmark, full)


@pytest.mark.benchmark(group="table")
def test_insert(benchmark, full):
    """Into an empty table that has been full before."""

    def empty() -> None:
        full.run("remove_all")
        assert int(full.record["live"]) == 0

    benchmark.pedantic(lambda: full.run("insert_all", INSERTED), setup=empty, rounds=ROUNDS)
    _note(benchmark, full)


@pytest.mark.benchmark(group="table")
def test_find_and_remove(benchmark, full):
    def refill() -> None:
        full.run("remove_all")
        full.run("insert_all", INSERTED)

    benchmark.pedantic(lambda: full.run("remove_all"), setup=refill, rounds=ROUNDS)
    _note(benchmark, full)
    full.run("insert_all", INSERTED)
