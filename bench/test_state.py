"""Ten million connections at once, and a flood of SYNs: time per packet, memory, the longest pauses.

A pause is the longest time between two bursts, by the clock (in which another process may have had the core) and by the worker's
processor time (in which it may not have waited for callbacks). Packets are made in the run (`synthetic_kernels`), so the figures hold what making them costs: it is the same for all sizes.
A virtual machine may get its memory only when it touches it, at 5 ms for 2 MiB: it is touched beforehand.
"""

from __future__ import annotations

import mmap
import struct
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from synthetic_kernels import PAUSES

from retina_jit import memory, objects
from retina_jit.config import ConntrackConfig, RuntimeConfig
from retina_jit.ingest.layout import SOURCE
from retina_jit.runtime import Result, Runtime
from retina_jit.subscription import named
from retina_jit.worker import ABANDON

WALK = f"{Path(__file__).with_name('synthetic_kernels.py')}:walk"
UDP, TCP, FLOOD = range(3)
GB = 10**9


class Synthetic:
    """What a worker needs of a source."""

    problem = unsupported = ""
    name, path, size, position = "synthetic", "synthetic", 0, 0
    walk_unit = WALK

    def __init__(self, kind: int, connections: int, rounds: float, silent: float) -> None:
        self._region, self._frames = memory.Region(SOURCE.itemsize), memory.Region(64 * 64)
        self.words = self._region.array(SOURCE, 1)[0]
        self.address = self._region.address
        frame = bytearray(64)
        frame[12:14] = b"\x08\x00"
        frame[14:24] = struct.pack("!BBHHHBB", 0x45, 0, 46 if kind == UDP else 40, 0, 0, 64, 17 if kind == UDP else 6)
        frame[46] = 0x50
        if kind == UDP:
            frame[38:40] = struct.pack("!H", 26)
        self._frames.array(np.uint8)[: 64 * 64] = np.frombuffer(bytes(frame) * 64, np.uint8)
        w, self.unit = self.words, 1 << (connections - 1).bit_length()
        w["base"], w["unit"], w["interfaces"], w["header"], w["fd"] = self._frames.address, self.unit, connections, kind, -1
        w["end"], w["limit"] = int(rounds * self.unit), int(min(rounds, silent) * self.unit)
        self._pauses = memory.Region(PAUSES.itemsize)
        w["device"] = self._pauses.address

    @property
    def frames(self) -> int:
        return int(self.words["frames"])

    def pauses(self) -> dict[str, float]:
        """The longest ones [ms], and the rounds in which they were."""
        p = self._pauses.array(PAUSES, 1)[0]
        names = ("clock", "processor")
        return {f"{n}{k}": round(float(v), 2) for c, n in enumerate(names) for k, v in (("_ms", p[f"longest{c}"] / 1e6), ("_at", p[f"at{c}"] / self.unit))}

    is_live = False
    dropped = 0

    def give_to(self, worker: int, workers: int) -> int:
        return workers

    def refill(self, timeout: float = 0) -> bool:
        return False


@dataclass
class Run:
    """Result; ns per packet of each round through all connections, the first of which (two for TCP) insert them; memory that was
    taken [byte]; the longest pauses."""

    result: Result
    each: list[float]
    memory: int
    pauses: dict[str, float]


def run(kind: int, connections: int, rounds: float, silent: float = 1e9, **conntrack: Any) -> Run:
    """Run so many rounds through so many connections, of which all but a few are silent from round `silent` on; see `Run`."""
    objects.ensure([WALK])
    before = own_memory()
    config = RuntimeConfig(conntrack=ConntrackConfig(**conntrack))
    source = Synthetic(kind, connections, rounds, silent)
    runtime = Runtime([named(["ConnRecord"], "", lambda rows: None, "batch")], [], config)
    runtime.sources = [[source]]  # type: ignore[list-item]
    worker, dispatcher, end = runtime.workers[0], runtime.dispatchers[0], int(source.words["end"])
    seen = [(time.perf_counter(), 0)]
    worker.start([source])  # type: ignore[list-item]
    # Until all packets are taken: what comes then is the delivery of every connection, at the end.
    while not worker.finished.is_set() and seen[-1][1] < end:
        now, at = time.perf_counter(), int(source.words["at"])
        if at != seen[-1][1]:
            seen.append((now, at))
        # Connections that made room are delivered meanwhile.
        if not dispatcher.drain():
            time.sleep(0.0002)
    taken = own_memory() - before
    worker.control(ABANDON)
    while not worker.finished.is_set():
        dispatcher.drain()
    worker.join()
    if worker.error:
        raise worker.error
    times, places = (np.array(x, float) for x in zip(*seen, strict=True))
    borders = np.interp(np.minimum(np.arange(-(-end // source.unit) + 1) * source.unit, end), places, times)
    each = np.diff(borders) * 1e9 / (source.unit * (1 if kind == FLOOD else connections / source.unit))
    return Run(runtime._result(times[-1] - times[0]), each.tolist(), taken, source.pauses())


def touch(gigabytes: int) -> None:
    """Make sure that the machine has so much memory."""
    with mmap.mmap(-1, gigabytes << 30, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS) as area:
        area.madvise(mmap.MADV_HUGEPAGE)
        for at in range(0, len(area), memory.HUGE_PAGE):
            area[at] = 1


def own_memory() -> int:
    """Memory of this process as it is now, not as it was at most [byte]."""
    pages = Path("/proc/self/statm").read_text().split()[1]
    return int(pages) * mmap.PAGESIZE


@pytest.mark.benchmark(group="state")
@pytest.mark.parametrize("kind", [UDP, TCP], ids=["udp", "tcp"])
@pytest.mark.parametrize("count", [100_000, 10_000_000])
def test_connections_at_once(benchmark, kind, count):
    rounds = 6 if count > 1 << 20 else 50
    touch(5)
    out: list[Run] = []
    benchmark.pedantic(lambda: out.append(run(kind, count, rounds, udp_inactivity_timeout=600_000)), rounds=1)
    (found,) = out
    result = found.result
    assert result.extra["live_peak"] == count
    assert result.counters["tracked"] == result.counters["frames"] > (rounds - 1) * count
    assert found.memory < 4 * GB
    assert found.pauses["processor_ms"] < 50
    benchmark.extra_info.update(
        ns_set_up=round(found.each[0], 1), ns_per_packet=round(float(np.median(found.each[2:])), 1), **found.pauses,
        gb=round(found.memory / GB, 2), bytes_per_connection=round(found.memory / count),
    )  # fmt: skip


@pytest.mark.benchmark(group="state")
def test_all_are_due_at_once(benchmark):
    """Ten million connections fall silent; an hour later some others go on."""
    count, out = 10_000_000, []
    touch(5)
    benchmark.pedantic(lambda: out.append(run(UDP, count, 3, silent=2)), rounds=1)
    (found,) = out
    assert found.result.counters["ended_expired"] > 0.99 * count
    assert found.pauses["processor_ms"] < 50
    benchmark.extra_info.update(ns_per_packet=round(found.each[-1], 1), **found.pauses)


@pytest.mark.benchmark(group="state")
def test_flood_of_syns(benchmark):
    """Ten million sources beside a hundred thousand connections that go on; of these none is lost."""
    most, established, half_open = 1 << 20, 100_000, 1 << 16
    rounds = 2 + 10_000_000 / (1 << 17)
    out: list[Run] = []
    benchmark.pedantic(lambda: out.append(run(FLOOD, established, rounds, max_connections=most, max_half_open=half_open)), rounds=1)
    (found,) = out
    counters = found.result.counters
    assert counters["connections"] > 9_000_000
    assert found.result.extra["live_peak"] <= most // 2 + half_open + 1
    assert counters["table_full"] == counters["not_syn"] == 0
    assert counters["tracked"] == counters["frames"]
    benchmark.extra_info.update(ns_per_packet=round(float(np.median(found.each[2:])), 1), **found.pauses)
