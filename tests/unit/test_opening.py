"""Which way a name is captured: DPDK, in its place the interface that a device is for the system, or the reason why not."""

from __future__ import annotations

import logging
import socket
from pathlib import Path
from typing import Any

import pytest

import retina_jit as rj
from retina_jit import online, opening
from retina_jit.config import RuntimeConfig
from retina_jit.config_network import OnlineConfig, PortConfig, SinkConfig
from retina_jit.cores import usable
from retina_jit.errors import ConfigError, SourceError
from retina_jit.opening import interface_of, opened

CARD = "0000:3b:00.0"
CORE = min(usable(), default=0)
pytestmark = pytest.mark.skipif(not usable(), reason="ports are received from on Linux only")


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A card that the system has as eth3, and another one that it has not; no DPDK."""
    (tmp_path / f"sys/bus/pci/devices/{CARD}/net/eth3").mkdir(parents=True)
    (tmp_path / "sys/bus/pci/devices/0000:3b:00.1").mkdir(parents=True)
    monkeypatch.setattr(socket, "if_nameindex", lambda: [(1, "lo"), (4, "eth3"), (5, "eth4")])

    def nothing(*_: Any) -> None:
        raise SourceError("DPDK is not installed")

    monkeypatch.setattr(online, "receiver", nothing)
    find = opening.interface_of
    monkeypatch.setattr(opening, "interface_of", lambda device: find(device, tmp_path))
    return tmp_path


@pytest.mark.parametrize(
    ("device", "name"),
    [
        (CARD, "eth3"), ("3b:00.0", "eth3"), ("0000:3B:00.0", "eth3"), (f"{CARD},representor=0", "eth3"), ("0000:3b:00.1", None), ("0000:99:00.0", None),
        ("net_af_packet0,iface=eth4", "eth4"), ("net_pcap0,iface=eth4,foo=1", "eth4"), ("net_pcap0,rx_iface=eth3", "eth3"),
        ("net_pcap0,rx_pcap=x.pcap", None), ("net_af_packet0,iface=eth9", None), ("net_null0", None),
    ],
)  # fmt: skip
def test_the_interface_that_a_device_is(machine: Path, device: str, name: str | None) -> None:
    assert interface_of(device, machine) == name


def lines(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [r.getMessage() for r in caplog.records if r.name == "retina_jit.opening"]


def test_a_card_that_dpdk_does_not_get_is_captured_from_as_the_system_has_it(machine: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        what = opened(RuntimeConfig(workers=2), [f"live:{CARD}"])
    assert (len(what.sources), what.receiver, what.from_online) == (2, None, True)
    assert lines(caplog) == [f"{CARD}: captured through AF_PACKET as eth3, for DPDK does not work here: DPDK is not installed"]


@pytest.mark.parametrize("source", ["live:0000:3b:00.1", f"dpdk:{CARD}"])
def test_what_can_be_had_in_no_way_or_was_to_be_dpdk_is_an_error(machine: Path, source: str) -> None:
    with pytest.raises(SourceError, match="DPDK is not installed"):
        opened(RuntimeConfig(), [source])


def test_what_online_says_holds_for_interfaces_as_far_as_they_can(machine: Path, caplog: pytest.LogCaptureFixture) -> None:
    config = RuntimeConfig(main_core=CORE, sample=0.5, online=OnlineConfig((PortConfig(CARD, (CORE,)),), promiscuous=False, duration=3))
    what = opened(config, [])
    assert what.from_online and what.config.cores == (CORE,) and what.config.sample == 0.5
    assert len(lines(caplog)) == 1
    # One of several ports is no interface: all or none.
    with pytest.raises(SourceError):
        opened(RuntimeConfig(main_core=CORE, online=OnlineConfig((PortConfig(CARD, (CORE,)), PortConfig("net_null0", (CORE,))))), [])


def test_a_worker_has_one_interface(machine: Path) -> None:
    both = (PortConfig(CARD, (CORE,)), PortConfig("net_af_packet0,iface=eth4", (CORE,)))
    with pytest.raises(SourceError):
        opened(RuntimeConfig(main_core=CORE, online=OnlineConfig(both)), [])


@pytest.mark.parametrize("second", [None, SinkConfig(7, 128)])
def test_the_shares_of_sinks(machine: Path, second: SinkConfig | None) -> None:
    ports = (PortConfig(CARD, (0,), SinkConfig(6, 256)), PortConfig("net_af_packet0,iface=eth4", (1,), second))
    with pytest.raises(ConfigError, match="same nb_buckets for each port"):
        opening._in_place(RuntimeConfig(), OnlineConfig(ports), ["eth3", "eth4"])
    made = opening._in_place(RuntimeConfig(sample=0.5), OnlineConfig(ports[:1]), ["eth3"])
    assert made.config.sample == 0.25


def test_without_the_right_to_capture_the_fault_is_told_and_nothing_else(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    def refused(*_: Any) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(socket, "socket", refused)
    with caplog.at_level(logging.INFO):
        (sources,) = opened(RuntimeConfig(), ["live:lo"]).sources
        with pytest.raises(SourceError, match=r"CAP_NET_RAW: run as root, or once: sudo setcap .*unshare --map-root-user --net"):
            next(sources)
    assert lines(caplog) == []


def test_tables_take_such_names_too() -> None:
    with pytest.raises(SourceError, match=r"nosuch0: no such interface|CAP_NET_RAW|no packet sockets"):
        list(rj.read("live:nosuch0").select("", rj.FiveTuple))
