"""Reading captures: ns per packet of walking, of walking and decoding, and libpcap beside it in the same run.

`pytest bench/test_ingest.py` on a quiet machine; `extra_info` of each result holds ns/packet. The file is in the page cache.
"""

from __future__ import annotations

import ctypes
import ctypes.util
from pathlib import Path

import pytest
import workloads

from retina_jit import jit, memory
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
    run = jit.function(f"{KERNELS}:{loop}")
    walk = jit.address("retina_jit.ingest.pcap:walk")
    frames = 0

    def read() -> None:
        nonlocal frames
        with open_source(trace) as source:
            run(walk, source.address, rows.address)
            frames = source.frames
            benchmark.extra_info["is_mapped"] = source.is_mapped

    benchmark.pedantic(read, rounds=ROUNDS, warmup_rounds=1)
    benchmark.extra_info["packets"] = frames
    benchmark.extra_info["ns_per_packet"] = round(benchmark.stats.stats.min * 1e9 / frames, 1)


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
    again = jit.function(f"{KERNELS}:decode_again")
    with open_source(trace) as source:
        n = jit.function(source.walk_unit)(source.address, rows.address, 64)
        benchmark.pedantic(lambda: again(rows.address, n, 1000), rounds=ROUNDS, warmup_rounds=1)
    benchmark.extra_info["ns_per_packet"] = round(benchmark.stats.stats.min * 1e9 / n / 1000, 1)


# ---------------------------------------------------------------------------------------------------- libpcap


class _BpfProgram(ctypes.Structure):
    _fields_ = (("length", ctypes.c_uint), ("instructions", ctypes.c_void_p))


def _libpcap() -> ctypes.CDLL:
    name = ctypes.util.find_library("pcap")
    if name is None:
        pytest.skip("libpcap is not installed")
    pcap = ctypes.CDLL(name)
    pcap.pcap_open_offline.restype = ctypes.c_void_p
    pcap.pcap_open_offline.argtypes = [ctypes.c_char_p, ctypes.c_char_p]
    pcap.pcap_compile.argtypes = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_char_p, ctypes.c_int, ctypes.c_uint32]
    pcap.pcap_setfilter.argtypes = [ctypes.c_void_p, ctypes.c_void_p]
    pcap.pcap_loop.argtypes = [ctypes.c_void_p, ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p]
    pcap.pcap_close.argtypes = [ctypes.c_void_p]
    return pcap


_COUNT = """
define void @count(ptr %total, ptr %header, ptr %data) {
  %before = load i64, ptr %total
  %after = add i64 %before, 1
  store i64 %after, ptr %total
  ret void
}
"""


@pytest.mark.benchmark(group="ingest")
@pytest.mark.parametrize("expression", ["", "tcp port 443"])
def test_libpcap_loop(benchmark, trace, expression):
    """`pcap_loop` with a callback of machine code that counts; the filter is BPF."""
    import llvmlite.binding as llvm

    pcap = _libpcap()
    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    machine = llvm.Target.from_default_triple().create_target_machine()
    engine = llvm.create_mcjit_compiler(llvm.parse_assembly(_COUNT), machine)
    engine.finalize_object()
    count, total = engine.get_function_address("count"), ctypes.c_int64()
    problem = ctypes.create_string_buffer(256)

    def read() -> None:
        total.value = 0
        handle = pcap.pcap_open_offline(str(trace).encode(), problem)
        assert handle, problem.value
        program = _BpfProgram()
        assert pcap.pcap_compile(handle, ctypes.byref(program), expression.encode(), 1, 0xFFFFFFFF) == 0
        assert pcap.pcap_setfilter(handle, ctypes.byref(program)) == 0
        assert pcap.pcap_loop(handle, -1, count, ctypes.byref(total)) == 0
        pcap.pcap_close(handle)

    benchmark.pedantic(read, rounds=ROUNDS, warmup_rounds=1)
    rows = memory.Region(64 * PACKET.itemsize)
    with open_source(trace) as source:
        frames = jit.function(f"{KERNELS}:fill_all")(jit.address(source.walk_unit), source.address, rows.address)
    benchmark.extra_info["matched"] = total.value
    benchmark.extra_info["ns_per_packet"] = round(benchmark.stats.stats.min * 1e9 / frames, 1)
    assert total.value == frames or expression
