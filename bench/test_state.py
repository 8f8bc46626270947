"""Ten million connections at once, and a flood of SYNs: time per packet, memory, the longest pauses.

Packets are made in the run (`synthetic_kernels`), so the figures hold what making them costs: it is the same for all sizes.
"""

from __future__ import annotations

import resource
import struct
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from retina_jit import jit, memory
from retina_jit.config import ConntrackConfig, RuntimeConfig
from retina_jit.ingest.layout import SOURCE
from retina_jit.runtime import Result, Runtime
from retina_jit.subscription import named
from retina_jit.worker import ABANDON

WALK = f"{Path(__file__).with_name('synthetic_kernels.py')}:walk"
UDP, TCP, SYN = range(3)


class Synthetic:
    """What a worker needs of a source."""

    problem = unsupported = ""
    name, path, size, position = "synthetic", "synthetic", 0, 0
    walk_unit = WALK

    def __init__(self, kind: int, connections: int, rounds: float) -> None:
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
        w["end"] = int(rounds * self.unit)

    @property
    def frames(self) -> int:
        return int(self.words["frames"])

    is_live = False
    dropped = 0

    def give_to(self, worker: int, workers: int) -> int:
        return workers

    def refill(self, timeout: float = 0) -> bool:
        return False


def run(kind: int, connections: int, rounds: float, **conntrack: Any) -> tuple[Result, list[float], list[float]]:
    """Result; ns per packet of each round through all connections, the first of which inserts them; the five longest pauses [ms].

    A pause is a time in which no packet was taken.
    """
    jit.ensure([WALK])
    config = RuntimeConfig(conntrack=ConntrackConfig(**conntrack))
    source = Synthetic(kind, connections, rounds)
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
    worker.control(ABANDON)
    while not worker.finished.is_set():
        dispatcher.drain()
    worker.join()
    if worker.error:
        raise worker.error
    times, places = (np.array(x, float) for x in zip(*seen, strict=True))
    borders = np.interp(np.minimum(np.arange(-(-end // source.unit) + 1) * source.unit, end), places, times)
    each = np.diff(borders) * 1e9 / (min(source.unit, end) * connections / source.unit)
    pauses = np.sort(np.diff(times))[:-6:-1] * 1000
    return runtime._result(times[-1] - times[0]), each.tolist(), pauses.round(1).tolist()


@pytest.mark.benchmark(group="state")
@pytest.mark.parametrize("kind", [UDP, TCP], ids=["udp", "tcp"])
@pytest.mark.parametrize("count", [100_000, 10_000_000])
def test_connections_at_once(benchmark, kind, count):
    rounds = 5 if count > 1 << 20 else 50
    out: list[tuple[Result, list[float], list[float]]] = []
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    benchmark.pedantic(lambda: out.append(run(kind, count, rounds, udp_inactivity_timeout=600_000)), rounds=1)
    result, each, pauses = out[0]
    assert result.extra["live_peak"] == count
    assert sum(result.ledger.values()) == rounds * count
    rss = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    benchmark.extra_info.update(
        ns_first_packet=round(each[0], 1), ns_per_packet=round(float(np.median(each[1:])), 1), pauses_ms=pauses,
        peak_gb=round(rss / 1e6, 2), bytes_per_connection=round((rss - before) * 1024 / count),
    )  # fmt: skip


@pytest.mark.benchmark(group="state")
def test_flood_of_syns(benchmark):
    packets, most = 10_000_000, 1 << 20
    out: list[tuple[Result, list[float], list[float]]] = []
    benchmark.pedantic(lambda: out.append(run(SYN, 1 << 24, packets / (1 << 24), max_connections=most, max_half_open=1 << 16)), rounds=1)
    result, each, pauses = out[0]
    assert result.extra["live_peak"] <= most // 2 + (1 << 16) + 1
    assert result.counters["table_full"] == 0
    assert result.counters["frames"] == packets
    benchmark.extra_info.update(ns_per_packet=round(each[0], 1), pauses_ms=pauses)
