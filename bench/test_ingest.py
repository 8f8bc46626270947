"""Reading captures: ns per packet of walking, of walking and decoding, and libpcap beside it in the same run.

`pytest bench/test_ingest.py` on a quiet machine; `extra_info` of each result holds ns/packet. The file is in the page cache.
"""

from __future__ import annotations

from pathlib import Path

import measure
import pytest
import workloads
from peer_programs import Libpcap

from retina_jit import memory, objects
from retina_jit.ingest import guard, mapping
from retina_jit.ingest.source import open_source
from retina_jit.state.layout import PACKET

KERNELS = str(Path(__file__).with_name("ingest_kernels.py"))
ROUNDS = 7


@pytest.fixture(scope="module")
def trace() -> Path:
    path = workloads.trace(100)
    path.read_bytes()  # into the page cache
    return path


def _measure(benchmark, trace: Path, loop: str) -> None:
    rows = memory.Region(64 * PACKET.itemsize)
    run = objects.function(f"{KERNELS}:{loop}")
    walk = objects.address("retina_jit.ingest.pcap:walk")
    frames = 0

    def read() -> None:
        nonlocal frames
        with open_source(trace) as source:
            run(walk, source.address, rows.address)
            frames = source.frames
            benchmark.extra_info["is_mapped"] = source.is_mapped

    benchmark.pedantic(read, rounds=ROUNDS, warmup_rounds=1)
    measure.note(benchmark, frames, packets=frames)


@pytest.fixture(params=["chosen", "mapped", "read"])
def way(request, monkeypatch) -> str:
    """How the file is taken in: as the product chooses, or forced."""
    if request.param == "mapped":
        monkeypatch.setattr(mapping, "MAPPING_LIMIT", 1e9)
    if request.param == "read":
        monkeypatch.setattr(guard, "SUPPORTED", False)
    return request.param


@pytest.mark.benchmark(group="ingest")
def test_walk(benchmark, trace, way):
    _measure(benchmark, trace, "walk_all")


@pytest.mark.benchmark(group="ingest")
def test_fill(benchmark, trace, way):
    """Walk and decode, as the worker does."""
    _measure(benchmark, trace, "fill_all")


@pytest.mark.benchmark(group="decode")
def test_decode_in_cache(benchmark, trace):
    """The decoder alone, its 64 frames in the first-level cache."""
    rows = memory.Region(64 * PACKET.itemsize)
    again = objects.function(f"{KERNELS}:decode_again")
    with open_source(trace) as source:
        n = objects.function(source.walk_unit)(source.address, rows.address, 64)
        benchmark.pedantic(lambda: again(rows.address, n, 1000), rounds=ROUNDS, warmup_rounds=1)
    measure.note(benchmark, 1000 * n)


@pytest.mark.benchmark(group="ingest")
@pytest.mark.parametrize("expression", ["", "tcp port 443"])
def test_libpcap_loop(benchmark, trace, expression):
    """`pcap_loop` with a callback of machine code that counts; the filter is BPF."""
    try:
        peer = Libpcap()
    except OSError as fault:
        pytest.skip(str(fault))
    matched = benchmark.pedantic(lambda: peer.count(str(trace), expression), rounds=ROUNDS, warmup_rounds=1)
    rows = memory.Region(64 * PACKET.itemsize)
    with open_source(trace) as source:
        frames = objects.function(f"{KERNELS}:fill_all")(objects.address(source.walk_unit), source.address, rows.address)
    measure.note(benchmark, frames, matched=matched)
    assert matched == frames or expression
