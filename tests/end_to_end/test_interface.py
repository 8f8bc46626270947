"""Capturing from an interface: what goes over a veth pair is what a file of it gives."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from oracle import bpf
from oracle.captures import read_capture
from support.namespaces import ALONE, needs_veth
from support.running import runtime, to

import retina_jit as rj
from retina_jit.errors import SourceError

TESTS = Path(__file__).parents[1]
SAMPLES = Path(rj.__file__).parent / "samples"
NET_AF_PACKET = sorted(Path("/usr/lib").glob("*/dpdk/pmds-*/librte_net_af_packet.so*"))
needs_net_af_packet = pytest.mark.skipif(not NET_AF_PACKET, reason="needs DPDK's driver: apt install librte-net-af-packet23")


def live(*, without_dpdk: bool = False, **job: Any) -> dict[str, Any]:
    environment = {**os.environ, **({"RETINA_JIT_DPDK": "/nonexistent"} if without_dpdk else {}), "PYTHONPATH": os.pathsep.join([str(TESTS), str(TESTS.parent), os.environ.get("PYTHONPATH", "")])}
    done = subprocess.run(
        [*ALONE, sys.executable, "-m", "support.live", json.dumps(job)], env=environment, cwd=TESTS, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]
    result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return {**result, "stderr": done.stderr}


def from_file(path: Path) -> tuple[Counter[str], list[str]]:
    """What a file of the same frames gives, as `support.live` notes it."""
    seen: Counter[str] = Counter()
    raw: list[str] = []
    subscriptions = [
        to("TlsHandshake,FiveTuple", "", lambda h, t: seen.update([f"TlsHandshake,FiveTuple {t}"])),
        to("DnsTransaction,FiveTuple", "", lambda d, t: seen.update([f"DnsTransaction,FiveTuple {t}"])),
        to("FiveTuple,PktCount,ByteCount", "", lambda t, p, b: seen.update([f"{t} {p} {b}"])),
        to("ZcFrame", "", lambda f: raw.append(bytes(f.data).hex())),
    ]
    runtime(subscriptions, [path]).run()
    return seen, raw


@needs_veth
@pytest.mark.parametrize("workers", [1, 2])
def test_a_veth_pair_gives_what_the_file_gives(workers: int) -> None:
    path = SAMPLES / "mixed.pcap"
    seen, raw = from_file(path)
    got = live(path=str(path), workers=workers)
    assert sorted(got["raw"]) == sorted(raw)
    assert Counter(got["seen"]) == seen
    assert got["counters"]["dropped"] == 0
    assert sum(got["ledger"].values()) == got["counters"]["frames"] == len(raw)
    assert got["problems"] == []


@needs_veth
@pytest.mark.skipif(shutil.which("setpriv") is None, reason="needs the command setpriv (util-linux)")
def test_the_right_to_capture_is_enough() -> None:
    path = SAMPLES / "mixed.pcap"
    _, raw = from_file(path)
    got = live(path=str(path), right_to_capture_only=True, timestamps="card")
    assert got["rights"] == 1 << 13, "CAP_NET_RAW"
    assert sorted(got["raw"]) == sorted(raw)
    assert got["problems"] == []


@needs_veth
@needs_net_af_packet
def test_dpdk_s_driver_for_interfaces_gives_the_same() -> None:
    path = SAMPLES / "mixed.pcap"
    seen, raw = from_file(path)
    got = live(path=str(path), source="dpdk:net_af_packet0,iface=rj1")
    assert sorted(got["raw"]) == sorted(raw)
    assert Counter(got["seen"]) == seen
    assert (got["counters"]["dropped"], got["problems"]) == (0, [])
    tagged = bytes.fromhex("ffffffffffff020000000001") + bytes.fromhex("8100a064") + bytes.fromhex("0800") + bytes(60)
    assert live(frames=[tagged.hex()], source="dpdk:net_af_packet0,iface=rj1")["raw"] == [tagged.hex()]


@needs_veth
def test_tags_are_put_back_and_a_removed_interface_is_told() -> None:
    plain = bytes.fromhex("ffffffffffff020000000001") + bytes.fromhex("8100a064") + bytes.fromhex("0800") + bytes(60)
    double = bytes.fromhex("ffffffffffff020000000001") + bytes.fromhex("88a80005") + bytes.fromhex("81000007") + bytes.fromhex("0800") + bytes(60)
    got = live(frames=[plain.hex(), double.hex()], remove=True)
    assert got["raw"] == [plain.hex(), double.hex()]
    assert len(got["problems"]) == 1
    assert "rj1: the interface is gone; 2 frames before that were read" in got["problems"][0]


@needs_veth
@pytest.mark.skipif(bpf.library() is None, reason="libpcap is not installed (Debian: apt-get install libpcap0.8)")
@pytest.mark.parametrize("source", ["af_packet:rj1", pytest.param("dpdk:net_af_packet0,iface=rj1", marks=needs_net_af_packet)])
def test_an_expression_of_libpcap_refuses_what_it_refuses_in_a_file(source: str) -> None:
    """With a tag that the system has taken out of the frame: it is there again when the expression asks for it."""
    tagged = bytes.fromhex("ffffffffffff020000000001") + bytes.fromhex("8100a064") + bytes.fromhex("0800") + bytes(60)
    frames = [*(f.data for f in read_capture((SAMPLES / "mixed.pcap").read_bytes()).frames), tagged]
    text = "udp or vlan 100"
    got = live(frames=[f.hex() for f in frames], source=source, bpf=text)
    wanted = bpf.matching(text, frames)
    assert wanted[-1] == len(frames) - 1
    assert sorted(got["raw"]) == sorted(frames[n].hex() for n in wanted)
    assert got["counters"]["prefiltered"] == len(frames) - len(wanted)
    assert sum(got["ledger"].values()) == got["counters"]["frames"] == len(frames)
    assert got["counters"]["bytes"] == sum(map(len, frames))
    if source.startswith("af_packet:"):
        # Of what the system refuses one byte is captured: hardly any room in the ring. What had a tag passes there.
        whole = {*wanted, *(n for n, frame in enumerate(frames) if frame[12:14] in (b"\x81\0", b"\x88\xa8"))}
        assert len(whole) < len(frames) / 2
        assert got["captured"] == sum(len(frames[n]) for n in whole) + len(frames) - len(whole)


@needs_veth
def test_workers_on_cores_of_their_own_and_times_of_the_system_where_a_card_has_none() -> None:
    path = SAMPLES / "mixed.pcap"
    _, raw = from_file(path)
    named = sorted(os.sched_getaffinity(0))[-2:]
    got = live(path=str(path), workers=len(named), timestamps="card", cores=named)
    assert got["bound"] == [[core] for core in named]
    assert sorted(got["raw"]) == sorted(raw)
    assert got["problems"] == []
    assert [line for line in got["stderr"].splitlines() if "times are" in line] == [
        "rj1: times are the system's, for the interface gives none of its own (Operation not supported)"
    ]


def told(got: dict[str, Any]) -> list[str]:
    return [line for line in got["stderr"].splitlines() if "captured through" in line]


@needs_veth
def test_a_name_is_captured_by_what_can_and_one_line_says_why() -> None:
    path = SAMPLES / "mixed.pcap"
    _, raw = from_file(path)
    got = live(path=str(path), source="live:rj1", without_dpdk=True)
    assert sorted(got["raw"]) == sorted(raw)
    assert told(got) == ["rj1: captured through AF_PACKET, for it is no PCI address and no device of [[online.ports]]"]


@needs_veth
def test_without_dpdk_its_ports_are_captured_as_interfaces_of_the_system() -> None:
    """With what the configuration says of cores, and of the share that a sink leaves."""
    path = SAMPLES / "mixed.pcap"
    seen, raw = from_file(path)
    cores = sorted(os.sched_getaffinity(0))[-2:]
    vdev = ["--no-huge", "--vdev=net_af_packet0,iface=rj1"]
    online = {"ports": [{"device": "net_af_packet0", "cores": cores}], "dpdk_supl_args": vdev}
    got = live(path=str(path), source="", online=online, without_dpdk=True)
    assert Counter(got["seen"]) == seen and sorted(got["raw"]) == sorted(raw)
    assert got["bound"] == [[core] for core in cores]
    (line,) = told(got)
    assert line.startswith("net_af_packet0: captured through AF_PACKET as rj1, for DPDK does not work here: DPDK is not installed")
    online["ports"] = [{"device": "net_af_packet0", "cores": cores[:1], "sink": {"core": cores[-1], "nb_buckets": 128}}]
    if len(cores) == 2:
        assert live(path=str(path), source="live:net_af_packet0", online=online, without_dpdk=True)["sample"] == 0.25


def test_errors_name_the_interface() -> None:
    with pytest.raises(SourceError, match=r"no such interface|CAP_NET_RAW|needs Linux"):
        runtime([to("ZcFrame", "", print)], ["af_packet:nosuch0"]).run()
