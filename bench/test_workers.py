"""Two workers against one, on the same capture, in turns: how many times as fast they are, with the same result.

`limit` is what the machine gives at most: two runs of one worker each at the same time, which share memory and caches but nothing
else, do twice the work in `2 / limit` times the time of one.
"""

from __future__ import annotations

import os
import statistics
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import workloads

from retina_jit.config import ConntrackConfig, RuntimeConfig
from retina_jit.runtime import Result, Runtime
from retina_jit.subscription import Subscription, named

ROUNDS = 7
SEEN = np.dtype([("n", "i8"), ("sum", "i8")])
SESSIONS = {"tls": "TlsHandshake", "http": "HttpTransaction", "dns": "DnsTransaction", "quic": "QuicStream", "ssh": "SshHandshake"}

pytestmark = pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="one core")


@pytest.fixture(scope="module")
def trace() -> Path:
    path = workloads.capture(600)
    workloads.into_page_cache(path)
    return path


def _count_frame(frame, seen):
    seen.n += 1
    seen.sum += frame.length


def _count_connection(conn, seen):
    seen.n += 1
    seen.sum += conn.orig.nb_pkts


def _count_session(session, seen):
    seen.n += 1


def _counting(type_: str, filter_: str, callback: Callable[..., None]) -> Subscription:
    made = named([type_], filter_, callback, "jit")
    made.state = np.zeros(1, SEEN)
    made.merge = lambda parts: tuple(sum(int(p[name]) for p in parts) for name in SEEN.names or ())
    return made


def frames() -> list[Subscription]:
    return [_counting("ZcFrame", "tcp.port = 443", _count_frame)]


def connections() -> list[Subscription]:
    return [_counting("ConnRecord", "", _count_connection)]


def sessions() -> list[Subscription]:
    """All session types, and the records of all connections."""
    return [*connections(), *(_counting(type_, name, _count_session) for name, type_ in SESSIONS.items())]


def _runtime(make: Callable[[], list[Subscription]], trace: Path, workers: int) -> tuple[list[Subscription], Runtime]:
    subscriptions = make()
    return subscriptions, Runtime(subscriptions, [trace], RuntimeConfig(workers=workers, conntrack=ConntrackConfig(midstream=True)))


def _two_alone(make: Callable[[], list[Subscription]], trace: Path) -> float:
    """Seconds of two runs of one worker each at the same time."""
    runs = [_runtime(make, trace, 1)[1] for _ in range(2)]
    threads = [threading.Thread(target=r.run) for r in runs]
    begin = time.perf_counter()
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    return time.perf_counter() - begin


@pytest.mark.benchmark(group="workers")
@pytest.mark.parametrize("make", [frames, connections, sessions], ids=lambda m: m.__name__)
def test_two_workers_against_one(benchmark: Any, trace: Path, make: Callable[[], list[Subscription]]) -> None:
    seconds: dict[str, list[float]] = {"1": [], "2": [], "both": []}
    found: dict[int, tuple[Any, dict[str, int]]] = {}

    def run(workers: int) -> Result:
        subscriptions, runtime = _runtime(make, trace, workers)
        begin = time.perf_counter()
        result = runtime.run()
        seconds[str(workers)].append(time.perf_counter() - begin)
        found[workers] = [s.result for s in subscriptions], result.counters
        return result

    def in_turns() -> None:
        run(1)
        run(2)
        seconds["both"].append(_two_alone(make, trace))

    benchmark.pedantic(in_turns, rounds=ROUNDS, warmup_rounds=1)
    assert found[1] == found[2]
    assert found[1][0][0][0] > 0
    packets = found[1][1]["frames"]
    best = {name: min(times[1:] or times) for name, times in seconds.items()}
    middle = {name: statistics.median(times[1:] or times) for name, times in seconds.items()}
    benchmark.extra_info.update(
        packets=packets,
        one_ns=round(best["1"] * 1e9 / packets, 1),
        two_ns=round(best["2"] * 1e9 / packets, 1),
        ratio=round(best["1"] / best["2"], 2),
        ratio_of_medians=round(middle["1"] / middle["2"], 2),
        limit=round(2 * best["1"] / best["both"], 2),
    )
