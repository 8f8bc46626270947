"""Ten million connections at once, and a flood of SYNs: time per packet, memory, the longest pause.

Packets are made in the run (`synthetic_kernels`), so the figures hold what making them costs: it is the same for all sizes.
"""

from __future__ import annotations

import resource
import struct
import time
from pathlib import Path
from typing import Any

import measure
import numpy as np
import pytest

from retina_jit import jit, memory
from retina_jit.config import ConntrackConfig, RuntimeConfig
from retina_jit.ingest.layout import SOURCE
from retina_jit.runtime import Result, Runtime
from retina_jit.subscription import named

WALK = f"{Path(__file__).with_name('synthetic_kernels.py')}:walk"
UDP, TCP, SYN = range(3)


class Synthetic:
    """What a worker needs of a source."""

    problem = unsupported = ""
    name, path, size, position = "synthetic", "synthetic", 0, 0
    walk_unit = WALK

    def __init__(self, kind: int, connections: int, packets: int) -> None:
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
        w = self.words
        w["base"], w["end"], w["unit"], w["header"], w["fd"] = self._frames.address, packets, connections, kind, -1

    @property
    def frames(self) -> int:
        return int(self.words["frames"])

    is_live = False
    dropped = 0

    def give_to(self, worker: int, workers: int) -> int:
        return workers

    def refill(self, timeout: float = 0) -> bool:
        return False


def run(kind: int, connections: int, packets: int, **conntrack: Any) -> tuple[Result, float, float]:
    """Result, ns per packet, the longest time in which no packet was taken [s]."""
    jit.ensure([WALK])
    most = conntrack.pop("max_connections", 1 << 24)
    config = RuntimeConfig(conntrack=ConntrackConfig(max_connections=most, **conntrack))
    source = Synthetic(kind, connections, packets)
    runtime = Runtime([named(["ConnRecord"], "", lambda rows: None, "batch")], [], config)
    runtime.sources = [[source]]  # type: ignore[assignment]
    seen = [(time.perf_counter(), 0)]
    worker = runtime.workers[0]
    worker.start([source])  # type: ignore[list-item]
    # Until all packets are taken: what comes then is the delivery of every connection, at the end.
    while not worker.finished.is_set() and source.words["at"] < packets:
        seen.append((time.perf_counter(), source.frames))
        # Connections that made room are delivered meanwhile.
        if not runtime.dispatchers[0].drain():
            time.sleep(0.0005)
    seconds = time.perf_counter() - seen[0][0]
    while not worker.finished.is_set() or runtime.dispatchers[0].drain():
        runtime.dispatchers[0].drain()
    worker.join()
    if worker.error:
        raise worker.error
    pause, since, before = 0.0, seen[0][0], 0
    for now, frames in seen[1:]:
        if frames != before:
            pause, since, before = max(pause, now - since), now, frames
    return runtime._result(seconds), seconds * 1e9 / packets, pause


@pytest.mark.benchmark(group="state")
@pytest.mark.parametrize("kind", [UDP, TCP], ids=["udp", "tcp"])
@pytest.mark.parametrize("exponent", [17, 23])
def test_connections_at_once(benchmark, kind, exponent):
    count = 1 << exponent
    packets = max(4 * count, 1 << 22)
    out: list[tuple[Result, float, float]] = []
    benchmark.pedantic(lambda: out.append(run(kind, count, packets, udp_inactivity_timeout=600_000)), rounds=1)
    result, each, pause = out[0]
    assert result.extra["live_peak"] == count
    assert sum(result.ledger.values()) == packets
    rss = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    benchmark.extra_info.update(ns_per_packet=round(each, 1), pause_ms=round(1000 * pause, 1), peak_gb=round(rss, 2))
    measure.note(benchmark, packets)


@pytest.mark.benchmark(group="state")
def test_flood_of_syns(benchmark):
    packets, most = 10_000_000, 1 << 20
    out: list[tuple[Result, float, float]] = []
    benchmark.pedantic(lambda: out.append(run(SYN, 1 << 24, packets, max_connections=most, max_half_open=1 << 16)), rounds=1)
    result, each, pause = out[0]
    assert result.extra["live_peak"] <= most // 2 + (1 << 16) + 1
    assert result.counters["table_full"] == 0
    benchmark.extra_info.update(ns_per_packet=round(each, 1), pause_ms=round(1000 * pause, 1))
