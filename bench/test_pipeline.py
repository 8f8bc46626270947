"""Whole runs in this process over a trace of whole conversations: ns per packet, from `run()` to the last delivery.

Compiling, and reserving memory, are not in the timed part. `bench/report.py` measures the same from outside, with peers.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import measure
import numpy as np
import pytest
import workloads

from retina_jit.config import ConntrackConfig, RuntimeConfig
from retina_jit.runtime import Result, Runtime
from retina_jit.sinks import JsonLines
from retina_jit.subscription import Subscription, named

ROUNDS = 5


@pytest.fixture(scope="module")
def trace() -> Path:
    path = workloads.capture(200)
    workloads.into_page_cache(path)
    return path


def _measure(benchmark, trace: Path, make: Any, *, midstream: bool = True) -> Result:
    config = RuntimeConfig(conntrack=ConntrackConfig(midstream=midstream))
    results: list[Result] = []

    def setup() -> Any:
        return (Runtime([make()], [trace], config),), {}

    benchmark.pedantic(lambda runtime: results.append(runtime.run()), setup=setup, rounds=ROUNDS, warmup_rounds=1)
    result = results[-1]
    frames, events, connections = (result.counters[name] for name in ("frames", "events", "connections"))
    assert sum(result.ledger.values()) == frames
    seconds = measure.note(benchmark, frames, trace=trace.name, packets=frames, events=events, connections=connections)
    if seconds:
        benchmark.extra_info.update(packets_per_second=round(frames / seconds), calls_per_second=round(events / seconds))
    return result


TOTALS = np.dtype([("packets", "i8"), ("bytes", "i8")])


def _count(frame, totals):
    totals.packets += 1
    totals.bytes += frame.length


@pytest.mark.benchmark(group="pipeline")
def test_filter_counted_by_jit_callback(benchmark, trace):
    def make() -> Subscription:
        s = named(["ZcFrame"], "tcp.port = 443", _count, "jit")
        s.state = np.zeros(1, TOTALS)
        return s

    _measure(benchmark, trace, make)


@pytest.mark.benchmark(group="pipeline")
def test_connection_records_to_batch_callback(benchmark, trace):
    def take(conn: Any) -> None:
        conn["orig"]["nb_pkts"].sum()

    result = _measure(benchmark, trace, lambda: named(["ConnRecord"], "", take, "batch"))
    assert result.counters["events"] == result.counters["connections"]


@pytest.mark.benchmark(group="pipeline")
@pytest.mark.parametrize("types", ["TlsHandshake,FiveTuple", "ConnRecord"])
def test_log_to_jsonl(benchmark, trace, types, tmp_path):
    with (tmp_path / "log.jsonl").open("wb") as out:

        def make() -> Subscription:
            s = named(types.split(","), "", print, "sink")
            s.sink = JsonLines(out)
            return s

        _measure(benchmark, trace, make)


@pytest.mark.benchmark(group="pipeline")
@pytest.mark.parametrize(("types", "fields"), [("ZcFrame", ("length", "ts")), ("ConnRecord", ("total_pkts", "duration"))])
def test_each_callback_with_two_fields(benchmark, trace, types, fields):
    """`calls_per_second` is what counts; with ZcFrame each frame is an event and is copied."""
    first, second = fields
    scope: dict[str, Any] = {}
    exec(f"def take(view):\n    view.{first}\n    view.{second}", scope)  # as a user writes it
    _measure(benchmark, trace, lambda: named([types], "", scope["take"], "each"))
