"""`-F`: frames that libpcap's own filter takes are processed, all others are counted, whatever they are read from."""

from __future__ import annotations

import contextlib
import gzip
import os
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path

import msgspec
import pytest
from oracle import bpf
from oracle.captures import read_capture
from support.running import SAMPLES, check, config, runtime, to
from traffic import Frame, pcap_bytes
from traffic.capture import Interface, PcapngWriter

import retina_jit as rj
from retina_jit import memory, objects
from retina_jit.errors import FilterError
from retina_jit.ingest.bpf import compile_for_all
from retina_jit.ingest.prefilter import Prefilter
from retina_jit.ingest.source import open_source
from retina_jit.runtime import Result
from retina_jit.state.layout import PACKET

pytestmark = pytest.mark.skipif(bpf.library() is None, reason="libpcap is not installed (Debian: apt-get install libpcap0.8)")
MIXED = SAMPLES / "mixed.pcap"
EXPRESSIONS = (
    "tcp port 443", "udp", "not ip", "ip6", "host 192.0.2.10 and greater 200", "tcp[tcpflags] & (tcp-syn|tcp-fin) != 0", "less 60",
    "ether[6] & 1 = 0 and ip[8] > 10", "vlan", "port 53 or icmp", "ip6[40] = 58", "len >= 0",
)  # fmt: skip


def frames() -> list[bytes]:
    return [f.data for f in read_capture(MIXED.read_bytes()).frames]


def with_filter(path: Path | str, text: str, *, types: str = "ZcFrame", workers: int = 1) -> tuple[list[bytes], Result]:
    """The frames that a packet subscription gets, or as many entries as there are calls; and the result."""
    seen: list[bytes] = []
    settings = msgspec.structs.replace(config(), bpf=text, workers=workers)
    result = runtime([to(types, "", lambda f: seen.append(bytes(f.data) if types == "ZcFrame" else b""))], [path], settings).run()
    check(result)
    return seen, result


@pytest.mark.parametrize("text", EXPRESSIONS)
def test_the_same_frames_as_libpcap(text: str) -> None:
    everything = frames()
    wanted = [everything[n] for n in bpf.matching(text, everything)]
    seen, result = with_filter(MIXED, text)
    assert seen == wanted
    assert result.counters["frames"] == len(everything)
    assert result.counters["prefiltered"] == len(everything) - len(wanted)
    assert result.counters["bytes"] == sum(map(len, everything))


@pytest.mark.parametrize("workers", [1, 2, 3])
@pytest.mark.parametrize("types", ["ZcFrame", "FiveTuple"])
def test_workers_count_each_frame_once(types: str, workers: int) -> None:
    everything = frames()
    kept = len(bpf.matching("tcp", everything))
    seen, result = with_filter(MIXED, "tcp", types=types, workers=workers)
    alone, _ = with_filter(MIXED, "tcp", types=types)
    assert sorted(seen) == sorted(alone)
    assert result.counters["frames"] == len(everything)
    assert result.counters["prefiltered"] == len(everything) - kept
    assert result.counters["bytes"] == sum(map(len, everything))


def test_connections_are_those_of_a_capture_that_holds_no_other_frames(tmp_path: Path) -> None:
    capture = read_capture(MIXED.read_bytes()).frames
    places = bpf.matching("udp or tcp port 443", [f.data for f in capture])
    less = tmp_path / "less.pcap"
    less.write_bytes(pcap_bytes([Frame(capture[n].ts, capture[n].data) for n in places], nanoseconds=True))
    rows = rj.read(less).connections.to_dicts()
    assert rows
    assert rj.read(MIXED, bpf="udp or tcp port 443").connections.to_dicts() == rows


def test_a_stream_and_several_files(tmp_path: Path) -> None:
    packed = tmp_path / "mixed.pcap.gz"
    packed.write_bytes(gzip.compress(MIXED.read_bytes()))
    everything = frames()
    wanted = [everything[n] for n in bpf.matching("udp", everything)]
    seen: list[bytes] = []
    settings = msgspec.structs.replace(config(), bpf="udp")
    result = runtime([to("ZcFrame", "", lambda f: seen.append(bytes(f.data)))], [packed, MIXED, packed], settings).run()
    check(result)
    assert seen == 3 * wanted
    assert result.counters["frames"] == 3 * len(everything)


def test_a_long_run_of_refused_frames_does_not_hold_the_worker(tmp_path: Path) -> None:
    """More frames than the walker refuses at a stretch, the one that passes behind them."""
    everything = frames()
    last = everything[bpf.matching("tcp port 443", everything)[0]]
    refused = next(f for f in everything if f not in {everything[n] for n in bpf.matching("tcp port 443", everything)})
    path = tmp_path / "long.pcap"
    path.write_bytes(pcap_bytes([Frame(10**18 + n, refused) for n in range(5000)] + [Frame(10**18 + 5000, last)]))
    for types in ("ZcFrame", "FiveTuple"):
        seen, result = with_filter(path, "tcp port 443", types=types)
        assert len(seen) == 1
        assert result.counters["prefiltered"] == 5000


@pytest.mark.parametrize("types", ["ZcFrame", "FiveTuple"])
def test_a_stream_of_refused_frames_that_does_not_end_can_be_stopped(types: str, tmp_path: Path) -> None:
    """A few at a time: fewer than the walker refuses at a stretch, and more before there is nothing to read."""
    path = tmp_path / "x.fifo"
    os.mkfifo(path)
    over, content = threading.Event(), pcap_bytes([Frame(10**18, next(f for f in frames() if f[23] == 6))])
    made = runtime([to(types, "", lambda _: None)], [path], msgspec.structs.replace(config(), bpf="udp"))

    def feed() -> None:
        with contextlib.suppress(BrokenPipeError), path.open("wb", buffering=0) as out:
            out.write(content[:24])
            while not over.wait(0.002):
                out.write(content[24:])

    def stop() -> None:
        deadline = time.monotonic() + 20
        while made.stats()["prefiltered"] < 100 and time.monotonic() < deadline:
            time.sleep(0.01)
        made.stop()
        made.workers[0].finished.wait(20)
        stopped.append(not over.is_set() and made.workers[0].finished.is_set())
        over.set()

    stopped: list[bool] = []
    threads = [threading.Thread(target=f, daemon=True) for f in (feed, stop)]
    for thread in threads:
        thread.start()
    check(made.run())
    for thread in threads:
        thread.join()
    assert stopped == [True]


@pytest.mark.parametrize("live", [False, True])
def test_time_goes_on_with_refused_frames_of_a_live_source(live: bool, tmp_path: Path) -> None:
    """Connections end there although no frame passes; what is read from a capture is as if it held no other frames."""
    path = tmp_path / "x.pcap"
    path.write_bytes(pcap_bytes([Frame(10**18 + n * 1000, frames()[0]) for n in range(5000)]))
    counters, rows = memory.Region(24), memory.Region(64 * PACKET.itemsize)
    prefilter = Prefilter(compile_for_all("less 1"), *(counters.address + 8 * n for n in range(3)))
    with open_source(path) as source:
        assert prefilter.put_before(source)
        source.record["more"] = int(live)
        assert objects.function("retina_jit.ingest.prefilter:walk")(source.address, rows.address, 64) == 0
        done = int(counters.array("i8", 3)[2])
        assert (int(source.record["idle"]), 0 < done < 5000) == (1, True)
        assert int(source.record["clock"]) == (10**18 + (done - 1) * 1000 if live else 0)


def raw(frame: bytes) -> bytes:
    return frame[14:]


def test_each_link_type_has_a_program_of_its_own(tmp_path: Path) -> None:
    everything = [f for f in frames() if f[12:14] == b"\x08\x00"]
    wanted = bpf.matching("tcp port 443", everything)
    writer = PcapngWriter()
    writer.interface(Interface(101))
    writer.interface(Interface(1))
    for n, f in enumerate(everything):
        writer.packet(Frame(10**18 + n, f if n % 2 else raw(f)), interface=n % 2)
    path = tmp_path / "links.pcapng"
    path.write_bytes(writer.getvalue())
    seen, result = with_filter(path, "tcp port 443")
    assert seen == [everything[n] if n % 2 else raw(everything[n]) for n in wanted]
    assert result.problems == []
    # Nothing is said of addresses of Ethernet by raw IP: those frames do not pass, and that is told.
    for workers in (1, 2, 3):
        seen, result = with_filter(path, "ether src host 00:00:5e:00:53:77", workers=workers)
        assert seen == []
        (problem,) = result.problems
        assert f"links.pcapng: {(len(everything) + 1) // 2} frames of" in problem
        assert "raw IP" in problem


def test_a_capture_of_a_link_where_the_expression_means_nothing_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "raw.pcap"
    path.write_bytes(pcap_bytes([Frame(10**18, raw(f)) for f in frames()], link_type=101))
    with pytest.raises(FilterError, match=r"raw\.pcap.*raw IP"):
        with_filter(path, "ether host 00:00:5e:00:53:01")


def command(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(Path(__file__).parents[2]), os.environ.get("PYTHONPATH", "")])}
    return subprocess.run([sys.executable, "-m", "retina_jit", *map(str, arguments)], env=environment, capture_output=True, text=True, check=False)


def told(*arguments: str | Path) -> Sequence[str]:
    done = command(*arguments)
    assert done.returncode == 0, done.stderr
    assert "refused by -F" in done.stderr
    return done.stdout.splitlines()


def test_the_option() -> None:
    assert len(told("log", "FiveTuple", "-F", "tcp port 443", "-r", MIXED)) == 2
    done = command("log", "FiveTuple", "-F", "tcp prt 443", "-r", MIXED)
    assert done.returncode == 1
    assert "tcp prt 443" in done.stderr
    assert "Traceback" not in done.stderr
