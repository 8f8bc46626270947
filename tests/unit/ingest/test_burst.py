"""Bursts as the worker fills them: walked, decoded and refilled within the kernel."""

from __future__ import annotations

import ctypes
import gzip
import os
import threading
import time
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from traffic.capture import pcap_bytes, pcapng_bytes
from traffic.packets import Frame, Link, ipv4, udp

from retina_jit import memory, objects
from retina_jit.ingest import guard, mapping
from retina_jit.ingest.source import CaptureSource, open_source
from retina_jit.state.layout import PACKET
from retina_jit.status import Status

KERNELS = str(Path(__file__).parents[2] / "support" / "ingest_kernels.py")
A, B = "192.0.2.1", "192.0.2.2"
FRAMES = [
    Frame(10**18 + n, Link().wrap(0x0800, ipv4(A, B, 17, udp(A, B, n % 65536, 53, bytes([n % 256]) * (n * 7 % 1400)))))
    for n in range(4000)
]
_function, _address = cache(objects.function), cache(objects.address)
_rows = memory.Region(64 * PACKET.itemsize)


def fill(source: CaptureSource, most: int = 64) -> list[tuple[int, bytes, int]]:
    """Time, bytes and source port of the next frames."""
    n = _function(f"{KERNELS}:fill_rows")(_address(source.walk_unit), source.address, _rows.address, most)
    rows: Any = _rows.array(PACKET, n)
    assert all(row["verdict"] == 0 for row in rows)
    return [(int(r["ts"]), ctypes.string_at(int(r["frame"]), int(r["caplen"])), int(r["src_port"])) for r in rows]


def fill_all(source: CaptureSource, most: int = 64) -> tuple[list[tuple[int, bytes, int]], int]:
    """All frames, and how often Python was needed."""
    out, asked = [], 0
    while True:
        frames = fill(source, most)
        out += frames
        if not frames:
            if source.status != Status.NEED_INPUT:
                return out, asked
            asked += 1
            assert source.refill()


WANT = [(f.ts_ns, f.data, n % 65536) for n, f in enumerate(FRAMES)]


@pytest.mark.parametrize("form", [lambda f: pcap_bytes(f, nanoseconds=True), pcapng_bytes])
@pytest.mark.parametrize("mapped", [True, False])
@pytest.mark.parametrize("most", [1, 17, 64])
def test_plain_file_needs_no_python(tmp_path, monkeypatch, form, mapped, most):
    monkeypatch.setattr(guard, "SUPPORTED", mapped)
    path = tmp_path / "capture"
    path.write_bytes(form(FRAMES))
    with open_source(path) as source:
        got, asked = fill_all(source, most)
        assert (got, asked) == (WANT, 0)
        assert source.status == Status.DONE
        assert source.offset == source.position == source.size == path.stat().st_size


@pytest.mark.parametrize("cut", [5, 500])
def test_plain_file_cut(tmp_path, monkeypatch, cut):
    monkeypatch.setattr(guard, "SUPPORTED", False)
    path = tmp_path / "capture"
    path.write_bytes(pcap_bytes(FRAMES, nanoseconds=True)[:-cut])
    with open_source(path) as source:
        got, _ = fill_all(source)
        assert got == WANT[: len(got)]
        assert source.cut


def test_file_that_is_dear_to_map_is_read(tmp_path, monkeypatch):
    path = tmp_path / "capture"
    path.write_bytes(pcap_bytes(FRAMES, nanoseconds=True))
    monkeypatch.setattr(mapping, "PROBED_FROM", 1 << 20)
    monkeypatch.setattr(mapping, "PROBE", 1 << 19)
    answers = []
    for limit in (-1.0, 1e9):
        monkeypatch.setattr(mapping, "MAPPING_LIMIT", limit)
        with open_source(path) as source:
            answers.append((source._map is not None, fill_all(source)[0] == WANT))
    assert answers == [(False, True), (guard.SUPPORTED, True)]


def test_compressed_file(tmp_path):
    path = tmp_path / "capture"
    path.write_bytes(gzip.compress(pcap_bytes(FRAMES, nanoseconds=True), 1))
    with open_source(path) as source:
        got, asked = fill_all(source)
        assert got == WANT
        assert asked >= 1


def test_silent_pipe_comes_back_to_python(tmp_path):
    path = tmp_path / "fifo"
    os.mkfifo(path)
    content = pcap_bytes(FRAMES[:10], nanoseconds=True)
    go_on = threading.Event()

    def feed() -> None:
        with path.open("wb", buffering=0) as out:
            out.write(content[:-20])
            go_on.wait(20)
            out.write(content[-20:])

    feeder = threading.Thread(target=feed)
    feeder.start()
    with open_source(path) as source:
        got: list = []
        while len(got) < 9:
            got += fill(source)
        begin = time.monotonic()
        assert fill(source) == []
        assert source.status == Status.NEED_INPUT
        assert source.refill(timeout=0.01), "nothing came, the source goes on"
        assert time.monotonic() - begin < 5
        go_on.set()
        while source.status == Status.NEED_INPUT:
            got += fill(source)
        assert got == WANT[:10]
        assert source.status == Status.DONE
    feeder.join()


@pytest.mark.skipif(not guard.SUPPORTED, reason="nothing is mapped here")
def test_shrunk_file_gives_no_rows(tmp_path):
    path = tmp_path / "capture"
    content = pcap_bytes(FRAMES, nanoseconds=True)
    path.write_bytes(content)
    with open_source(path) as source:
        got = fill(source)
        os.truncate(path, len(content) // 2)
        assert fill(source) == []
        assert source.status == Status.SHRUNK
        assert source.refill()
        while rest := fill(source):
            got += rest
        assert got == WANT[: len(got)]
        assert abs(source.offset - len(content) // 2) < 2000
        assert source.cut
        assert source.frames == len(got)
