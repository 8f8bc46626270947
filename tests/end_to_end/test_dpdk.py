"""Receiving through DPDK: what comes through a port is what a file of it gives; nothing is leaked, what is lost is counted."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from support.running import SAMPLES, runtime, to
from traffic import Frame, write_pcap

from retina_jit.ingest.dpdk.library import folder

TESTS = Path(__file__).parents[1]
ENVIRONMENT = {**os.environ, "PYTHONPATH": os.pathsep.join([str(TESTS), str(TESTS.parent), os.environ.get("PYTHONPATH", "")])}
DRIVERS = ("net_null", "net_pcap", "net_ring", "mempool_ring", "bus_vdev")
VLAN, VLAN_STRIPPED, RSS_HASH, QINQ, QINQ_STRIPPED = 1 << 0, 1 << 6, 1 << 1, 1 << 20, 1 << 15


def missing() -> str:
    """Why DPDK cannot be tested here; empty if it can."""
    if not sys.platform.startswith("linux"):
        return "needs Linux"
    found = folder()
    if found is None:
        return "needs DPDK: apt install librte-ethdev23"
    lacking = [d for d in DRIVERS if not list(found.glob(f"dpdk/pmds-*/librte_{d}.so*"))]
    return f"needs drivers of DPDK: {', '.join(lacking)}" if lacking else ""


REASON = missing()
pytestmark = pytest.mark.skipif(bool(REASON), reason=REASON or "-")


def child(**job: Any) -> Any:
    done = subprocess.run([sys.executable, "-m", "support.ports", json.dumps(job)], env=ENVIRONMENT, cwd=TESTS, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout.splitlines()[-1])


def from_files(paths: list[Path]) -> tuple[Counter[str], list[list[Any]], int]:
    """What files of the same frames give, as `support.ports` notes it."""
    from support.ports import TYPES

    seen: Counter[str] = Counter()
    raw: list[list[Any]] = []
    subscriptions = [to(t, "", lambda *a, t=t: seen.update([f"{t} {a[0] if t.startswith('F') else ''} {a[-1]}"])) for t in TYPES]
    subscriptions.append(to("ZcFrame", "frame.len > 0", lambda f: raw.append([f.ts, bytes(f.data).hex()])))
    frames = 0
    for path in paths:
        frames += runtime(subscriptions, [path]).run().counters["frames"]
    return seen, sorted(raw), frames


def check(got: dict[str, Any], frames: int) -> None:
    assert got["left"] == 0
    assert got["problems"] == []
    assert sum(got["ledger"].values()) == got["counters"]["frames"] == frames - got["counters"]["dropped"]
    assert got["stop"] < 1


@pytest.mark.parametrize("names", [["mixed"], ["tls", "ssh"]], ids=["one worker", "two workers"])
def test_a_replayed_capture_gives_what_the_file_gives(names: list[str]) -> None:
    paths = [SAMPLES / f"{n}.pcap" for n in names]
    seen, raw, frames = from_files(paths)
    both = child(what="replay", paths=[str(p) for p in paths], frames=frames)
    for got in both.values():
        check(got, frames)
        assert len(got["idle"]) == len(paths) and all(n > 0 for n in got["idle"])
        assert all(every > idle for every, idle in zip(got["polls"], got["idle"], strict=True)), "those that brought frames, too"
        assert got["counters"]["dropped"] == 0
        assert Counter(got["seen"]) == seen
        assert sorted(got["raw"]) == raw


def test_a_capture_through_a_ring_gives_what_the_file_gives() -> None:
    path = SAMPLES / "mixed.pcap"
    seen, raw, frames = from_files([path])
    got = child(what="inject", path=str(path))
    check(got, frames)
    assert got["counters"]["dropped"] == 0
    assert Counter(got["seen"]) == seen
    assert sorted(got["raw"]) == raw


def test_frames_of_several_buffers_are_whole(tmp_path: Path) -> None:
    # Longer than a buffer of the default MTU.
    rng = random.Random(7)
    frames = [Frame(1_000_000 * n, bytes(12) + b"\x88\xb5" + rng.randbytes(size)) for n, size in enumerate((46, 1500, 2034, 2035, 9000, 65000, 60))]
    path = tmp_path / "jumbo.pcap"
    write_pcap(path, frames)
    _, raw, count = from_files([path])
    got = child(what="replay", paths=[str(path)], frames=count)["first"]
    check(got, count)
    assert sorted(got["raw"]) == raw
    assert len(raw) == len(frames)


def test_an_empty_pool_is_counted() -> None:
    _, _, frames = from_files([SAMPLES / "mixed.pcap"])
    got = child(what="replay", paths=[str(SAMPLES / "mixed.pcap")], frames=frames, capacity=15)["first"]
    check(got, frames)
    assert got["counters"]["dropped"] > 0
    assert got["counters"]["frames"] > 0


def test_what_a_card_takes_out_is_put_back() -> None:
    head, body = bytes.fromhex("02000000000102000000000a"), bytes.fromhex("88b5") + bytes(range(50))
    got = child(
        what="inject",
        frames=[
            {"pieces": [(head + body).hex()], "ts": 1_700_000_000_123_456_789},
            {"pieces": [(head + body).hex()], "ts": 1_700_000_000_123_456_790, "flags": VLAN | VLAN_STRIPPED | RSS_HASH, "vlan_tci": 0xA064, "rss": 0xDEADBEEF},
            {"pieces": [(head + body).hex()], "ts": 1_700_000_000_123_456_791, "flags": VLAN | VLAN_STRIPPED | QINQ | QINQ_STRIPPED, "vlan_tci": 7, "vlan_tci_outer": 5},
            # Told, and still in the frame.
            {"pieces": [(head + bytes.fromhex("81000007") + body).hex()], "ts": 1_700_000_000_123_456_792, "flags": VLAN, "vlan_tci": 7},
            {"pieces": [(head + body).hex(), "0102", "", "03"], "ts": 1_700_000_000_123_456_793},
            {"pieces": [(head + body).hex()]},
        ],
    )  # fmt: skip
    check(got, 6)
    (*stamped, (own, last)) = sorted(got["raw"])
    assert [ts - 1_700_000_000_123_456_789 for ts, _ in stamped] == [0, 1, 2, 3, 4]
    assert [data for _, data in stamped] == [
        (head + body).hex(),
        (head + bytes.fromhex("8100a064") + body).hex(),
        (head + bytes.fromhex("88a80005") + bytes.fromhex("81000007") + body).hex(),
        (head + bytes.fromhex("81000007") + body).hex(),
        (head + body + b"\1\2\3").hex(),
    ]
    assert last == (head + body).hex()
    assert abs(own - time.time_ns()) < 60e9  # a frame without a time gets its burst's


def test_full_speed_stops_at_once() -> None:
    got = child(what="run", sources=["dpdk:net_null0,size=64"], frames=0, seconds=0.3, workers=2)
    check(got, got["counters"]["frames"] + got["counters"]["dropped"])
    assert got["counters"]["frames"] > 100_000


def test_the_card_s_clock_is_followed() -> None:
    got = child(what="drift")
    # 17 % wrong at first; compared each second.
    assert got["left"] == 0
    assert max(map(abs, got["errors"][-10:])) < 5e6


def test_a_link_that_goes_down_is_told_and_counted() -> None:
    got = child(what="unplug")
    assert got["said"][0] == "net_ring0: the link is down; waiting until it is up"
    assert got["said"][1].startswith("net_ring0: the link is up again") and len(got["said"]) == 2
    assert (got["counted"], got["left"], got["problems"]) == ([1], 0, [])


def test_a_receiver_that_nobody_closes_gives_all_back() -> None:
    got = child(what="dropped")
    assert "retina-jit links" in got["during"] and "retina-jit links" not in got["after"]
    assert got["left"] == 0


def test_a_wrong_row_is_refused_with_what_differs() -> None:
    said = child(what="refuse")
    own = said.pop("own")
    from retina_jit.ingest.dpdk.abi import KNOWN

    assert set(said) == {row.release for row in KNOWN.values()} - {own}
    for text in said.values():
        assert "not look as its ABI" in text and " is " in text and "Fix: " in text


def command(*arguments: str, **environment: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "retina_jit", *arguments], env=ENVIRONMENT | environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


@pytest.mark.parametrize("by", [signal.SIGINT, signal.SIGTERM])
def test_interrupting_gives_what_was_seen(by: signal.Signals, tmp_path: Path) -> None:
    path, out = SAMPLES / "tls.pcap", tmp_path / "out"
    with command("log", "FiveTuple,TlsHandshake", "-r", str(path)) as reading:
        expected, _ = reading.communicate(timeout=300)
    with command("log", "FiveTuple,TlsHandshake", "-i", f"dpdk:net_pcap0,rx_pcap={path}", "--stats", "json", "-o", str(out)) as running:
        deadline = time.monotonic() + 120
        while time.monotonic() < deadline and not (out.exists() and len(out.read_text()) == len(expected)):
            time.sleep(0.05)
        running.send_signal(by)
        _, errors = running.communicate(timeout=20)
    assert running.returncode == 130, errors
    seen = json.loads(errors.splitlines()[-1])
    assert seen["buffers_left"] == 0
    assert sorted(out.read_text().splitlines()) == sorted(expected.splitlines()) != []


@pytest.mark.parametrize(
    ("device", "environment", "said"),
    [
        ("net_pcap0,rx_pcap=/nosuch.pcap", {}, "net_pcap0: DPDK cannot use this device"),
        ("net_pcap0,rx_pcap=/nosuch.pcap", {}, "check its arguments (rx_pcap=/nosuch.pcap); its log ends"),
        ("net_nosuch0", {}, "librte-net-nosuch"),
        ("0000:ff:1f.7", {}, "dpdk-devbind.py"),
        ("net_null0", {"RETINA_JIT_DPDK": "/nosuch"}, "RETINA_JIT_DPDK=/nosuch has none"),
    ],
)
def test_errors_name_the_device_and_the_fix(device: str, environment: dict[str, str], said: str) -> None:
    with command("log", "ZcFrame", "-q", "-i", f"dpdk:{device}", **environment) as running:
        _, errors = running.communicate(timeout=60)
    assert running.returncode == 1
    assert said in errors and "Fix: " in errors and "Traceback" not in errors


def test_dpdk_reads_our_hardware_rules_as_they_are_meant() -> None:
    rules = [[["ipv4", "", 0, 0], ["ipv4", "dst_addr", 0x0A010000, 16], ["udp", "dst_port", 53, 16]], [["tcp", "src_port", 443, 16]]]
    got = child(what="flows", rules=rules)
    pattern = [copy[3] for copy in got["copies"]]
    assert pattern[0] == [
        ["eth", "", ""],
        ["ipv4", "00" * 16 + "0a010000", "00" * 16 + "ffff0000"],
        ["udp", "00000035" + "00000000", "0000ffff" + "00000000"],
    ]
    assert pattern[1:3] == [[["eth", "", ""], [n, "", ""], ["tcp", "01bb" + "00" * 18, "ffff" + "00" * 18]] for n in ("ipv4", "ipv6")]
    assert ["eth", "00" * 12 + "8100", "00" * 12 + "ffff"] in [p[0] for p in pattern]
    *through, drop = got["copies"]
    assert all((group, priority, flags, action, queues) == (0, 0, 1, "RSS", [0, 1, 2]) for group, priority, flags, _, action, queues in through)
    assert drop == [0, 1, 1, [["eth", "", ""]], "DROP", []]
    assert got["installed"] == 0  # net_null has no hardware filter


def test_a_device_that_refuses_leaves_it_to_the_software(tmp_path: Path) -> None:
    file = tmp_path / "online.toml"
    file.write_text(
        f'main_core = {min(os.sched_getaffinity(0))}\n[mempool]\ncapacity = 4096\n[online]\nduration = 1\n[[online.ports]]\n'
        f'device = "net_pcap0,rx_pcap={SAMPLES / "tls.pcap"}"\ncores = [{max(os.sched_getaffinity(0))}]\n'
    )
    with command("log", "FiveTuple", "-f", "tls", "-c", str(file), "--stats", "json") as running:
        lines, errors = running.communicate(timeout=120)
    assert running.returncode == 0, errors
    assert "net_pcap0: filters nothing itself, all is left to the software: it refuses rule 1 of" in errors and "ENOSYS" in errors
    assert json.loads(errors.splitlines()[-1])["hardware_rules"] == 0
    assert lines


VDEVS = """
main_core = 0
[mempool]
capacity = 8192
[online]
duration = 1
mtu = 64000
hardware_assist = false
dpdk_supl_args = ["--no-huge", "--no-pci", "-m 1024M", "--vdev=net_pcap0,rx_pcap={}", "--vdev=net_null0"]
[[online.ports]]
device = "net_pcap0"
cores = [{core}]
[conntrack]
"""


def configured(path: Path, *arguments: str) -> tuple[list[str], dict[str, Any]]:
    with command("log", "FiveTuple,TlsHandshake", "-c", str(path), "--stats", "json", *arguments) as running:
        lines, errors = running.communicate(timeout=120)
    assert running.returncode == 0, errors
    return sorted(lines.splitlines()), json.loads(errors.splitlines()[-1])


def test_retina_s_configuration_of_virtual_devices_runs_for_its_duration(tmp_path: Path) -> None:
    file, core = tmp_path / "online-vdev.toml", max(os.sched_getaffinity(0))
    file.write_text(VDEVS.format(SAMPLES / "tls.pcap", core=core))
    lines, said = configured(file)
    assert 1 <= said["seconds"] < 60
    assert said["buffers_left"] == 0
    with command("log", "FiveTuple,TlsHandshake", "-r", str(SAMPLES / "tls.pcap")) as reading:
        expected, _ = reading.communicate(timeout=60)
    assert lines == sorted(expected.splitlines()) != []


@pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="a sink needs a core of its own")
def test_a_sink_throws_its_part_away(tmp_path: Path) -> None:
    first, second = sorted(os.sched_getaffinity(0))[:2]
    file = tmp_path / "sink.toml"
    file.write_text(
        f'main_core = {first}\n[mempool]\ncapacity = 8192\n[online]\nduration = 1\n[[online.ports]]\ndevice = "net_null0"\ncores = [{first}]\n'
        f"[online.ports.sink]\ncore = {second}\nnb_buckets = 384\n"
    )
    _, said = configured(file)
    assert said["frames_sunk"] > 1000 and said["frames"] > 1000
    assert said["buffers_left"] == 0
    file.write_text(file.read_text().replace("net_null0", f"net_pcap0,rx_pcap={SAMPLES / 'tls.pcap'},rx_pcap={SAMPLES / 'ssh.pcap'}"))
    with command("log", "FiveTuple", "-c", str(file)) as running:
        _, errors = running.communicate(timeout=60)
    assert running.returncode == 1 and "has no table of buckets" in errors
