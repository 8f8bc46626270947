"""Filters: ns per row of the generated packet stage; what compiling them takes, apart.

Rows are decoded frames of a mixed trace, 64 per call as in the pipeline, all of them in the second-level cache.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import measure
import numpy as np
import pytest
import workloads
from many_filters import name_patterns, names, packet_filters, signatures

from retina_jit import memory, objects
from retina_jit.filters import FilterSpec, Plan, automaton, compile_filters, wide
from retina_jit.ingest.source import open_source
from retina_jit.state.layout import BURST, PACKET

KERNELS = str(Path(__file__).with_name("loop_kernels.py"))
ROUNDS, TIMES, BURSTS = 7, 50, 64

PROGRAMS = {
    "none": [],
    "tcp": ["tcp"],
    "port": ["tcp.port = 443"],
    "ports": ["tcp.port in {22, 25, 80, 443, 853, 8080, 8443}"],
    "net": ["ipv4.addr in 10.0.0.0/8 and tcp.port = 443"],
    "flags": ["tcp.window > 1000 and ipv4.time_to_live < 65"],
    "three": ["tcp.port = 443", "udp.port = 53", "ipv6 and tcp"],
    **{f"{n} packet filters": packet_filters(n) for n in (1, 10, 100, 1575)},
    "many": [f"ipv4.addr in 10.{n}.0.0/16 and tcp.port = {443 + n % 3}" for n in range(32)],
}
PACKETS_ONLY = ("flags", "10 packet filters", "100 packet filters", "1575 packet filters")


@dataclass
class Rows:
    address: int
    keep: Any


@pytest.fixture(scope="module")
def rows():
    """Decoded rows whose frames stay where they are."""
    region = memory.Region(BURSTS * BURST * PACKET.itemsize)
    with open_source(workloads.beginning(workloads.trace(100), BURSTS * BURST)) as source:
        fill = objects.function(f"{Path(__file__).with_name('ingest_kernels.py')}:fill_rows")
        assert fill(objects.address(source.walk_unit), source.address, region.address, BURSTS * BURST) == BURSTS * BURST
        yield Rows(region.address, region)


def _plan(texts: list[str], level: str) -> Plan:
    return compile_filters([FilterSpec(t, level) for t in texts])


@pytest.mark.benchmark(group="filter")
@pytest.mark.parametrize(
    ("name", "level"), [(n, x) for n in PROGRAMS for x in ("packet", "connection") if x == "packet" or n not in PACKETS_ONLY]
)
def test_packet_stage(benchmark, rows, name, level):
    """ns per row; `packet`: rows are handed out; `connection`: it is marked which go on."""
    texts = PROGRAMS[name]
    if texts:
        plan = _plan(texts, level)
        addresses = np.array([t.ctypes.data for t in plan.tables] or [0], np.int64)
        stage = objects.address(plan.units["packet"])
    else:
        addresses, stage = np.zeros(1, np.int64), objects.address(f"{KERNELS}:ask_nothing")
    matches = np.zeros(BURST * max(1, len(texts)), np.int64)
    ask = objects.function(f"{KERNELS}:ask_stage")
    found = 0

    def run() -> None:
        nonlocal found
        found = ask(stage, int(addresses.ctypes.data), rows.address, BURSTS, int(matches.ctypes.data), TIMES)

    benchmark.pedantic(run, rounds=ROUNDS, warmup_rounds=1)
    count = BURSTS * BURST * TIMES
    measure.note(benchmark, count, "row", filters=len(texts), matches_per_row=round(found / count, 3))


@pytest.mark.benchmark(group="compile filters")
@pytest.mark.parametrize("name", [n for n in PROGRAMS if n != "none"])
def test_to_source(benchmark, name):
    """From text to source code; machine code is made in another process, see `test_startup`."""
    benchmark.pedantic(lambda: _plan(PROGRAMS[name], "packet"), rounds=5, warmup_rounds=1)


@pytest.mark.benchmark(group="filter")
def test_packet_stage_of_signatures(benchmark, rows):
    """ns per row of 1575 filters like an intrusion detector's, nearly all of them on sessions."""
    plan = compile_filters([FilterSpec(*spec) for spec in signatures()])
    addresses = np.array([t.ctypes.data for t in plan.tables], np.int64)
    stage, ask = objects.address(plan.units["packet"]), objects.function(f"{KERNELS}:ask_stage")
    matches = np.zeros(BURST * len(plan.owners), np.int64)
    place = int(addresses.ctypes.data)
    benchmark.pedantic(
        lambda: ask(stage, place, rows.address, BURSTS, int(matches.ctypes.data), TIMES), rounds=ROUNDS, warmup_rounds=1
    )
    measure.note(benchmark, BURSTS * BURST * TIMES, "row", filters=len(plan.specs))


@pytest.mark.benchmark(group="compile filters")
def test_signatures_to_tables(benchmark):
    """From 1575 texts to tables and source code."""
    specs = [FilterSpec(*spec) for spec in signatures()]
    benchmark.pedantic(lambda: compile_filters(specs), rounds=3, warmup_rounds=1)


PATTERNS = {**{str(n): name_patterns(n) for n in (1, 100, 500)}, "1 as positions": ["e.{20}[^x].{20}m$"]}


@pytest.mark.benchmark(group="regular expressions")
@pytest.mark.parametrize("name", PATTERNS)
def test_patterns_on_a_name(benchmark, name):
    """ns per server name, all patterns at once; one that has too many states runs as positions."""
    count = len(PATTERNS[name])
    automata = wide.patterns([(p, False) for p in PATTERNS[name]], range(count))
    texts = names(4096)
    content = np.frombuffer(b"".join(texts), np.uint8)
    ends = np.cumsum([len(t) for t in texts])
    spans = np.column_stack([content.ctypes.data + ends - [len(t) for t in texts], [len(t) for t in texts]]).astype(np.int64)
    table = np.array([len(automata), *(8 * (n + 1) for n in range(len(automata)))], np.int64)
    tables = np.array([table.ctypes.data, *(a.ctypes.data for a in automata)], np.int64)
    found = np.zeros(-(-count // 64), np.int64)
    run = objects.function(f"{KERNELS}:run_patterns_on")
    code = objects.address("retina_jit.filters.engine:run_patterns")
    benchmark.pedantic(
        lambda: run(code, int(tables.ctypes.data), int(spans.ctypes.data), len(texts), int(found.ctypes.data), TIMES), rounds=ROUNDS,
        warmup_rounds=1,
    )  # fmt: skip
    measure.note(benchmark, len(texts) * TIMES, "name", patterns=count, automata=len(automata), bytes=sum(a.nbytes for a in automata))


@pytest.mark.benchmark(group="compile filters")
@pytest.mark.parametrize("count", [1, 100, 500])
def test_patterns_to_automata(benchmark, count):
    """From patterns to automata."""
    wanted = [(p, False) for p in name_patterns(count)]

    def build() -> None:
        automaton.determine.cache_clear()
        wide.patterns(wanted, range(count))

    benchmark.pedantic(build, rounds=3, warmup_rounds=1)
