"""[online] as queues, lanes and arguments of DPDK."""

from __future__ import annotations

import pytest

from retina_jit import online
from retina_jit.config import RuntimeConfig
from retina_jit.config_network import OnlineConfig, PortConfig, SinkConfig
from retina_jit.errors import ConfigError
from retina_jit.ingest.dpdk import eal
from retina_jit.ingest.dpdk.mempool import room
from retina_jit.ingest.dpdk.source import Lane, Sink


def test_a_core_asks_a_queue_of_each_port_that_names_it():
    config = OnlineConfig((PortConfig("a", (3, 1, 3)), PortConfig("b", (2, 3), SinkConfig(5, 384))))
    lanes, sinks = online.plan(config)
    assert lanes == [Lane(((0, 0),), 1), Lane(((1, 1),), 2), Lane(((0, 1), (1, 2)), 3)]
    assert sinks == [Sink(1, 5, 384)]
    assert online.worker_count(RuntimeConfig(online=config)) == 3


def test_virtual_devices_are_attached_when_a_port_asks():
    given = ("--no-huge", "--no-pci", "-m 512M", "--vdev=net_pcap0,iface=ens0", "--vdev", "net_null1")
    assert online.virtual_devices(given) == {"net_pcap0": "net_pcap0,iface=ens0", "net_null1": "net_null1"}
    made = online.settings(RuntimeConfig(online=OnlineConfig(dpdk_supl_args=given)))
    assert made.arguments == ("--no-huge", "--no-pci", "-m", "512M")


def test_what_the_user_gives_goes_before_ours(monkeypatch):
    monkeypatch.setattr(eal, "free_huge_pages", lambda: 0)
    plain = eal.arguments([], 100 << 20, main_core=1)
    assert plain == ["-l", "1", "-n", "1", "--no-huge", "--no-shconf", "-m", "228", "--no-telemetry", "--no-pci"]
    given = eal.arguments([], 100 << 20, further=["--no-huge", "-m512", "-l", "0", "--no-pci"])
    assert given == ["-n", "1", "--no-shconf", "--no-telemetry", "--no-huge", "-m512", "-l", "0", "--no-pci"]
    monkeypatch.setattr(eal, "free_huge_pages", lambda: 1 << 30)
    huge = eal.arguments(["0000:01:00.0"], 100 << 20, main_core=1, channels=6)
    assert huge == ["-l", "1", "-n", "6", "--in-memory", "--no-telemetry", "-a", "0000:01:00.0"]


@pytest.mark.parametrize(("mtu", "size"), [(1500, 2048), (2022, 2048), (2023, 3072), (9702, 10240)])
def test_a_buffer_holds_a_frame_of_the_mtu(mtu, size):
    assert room(mtu) == size


def test_a_main_core_that_is_not_there_is_refused():
    config = OnlineConfig((PortConfig("a", (0,)),))
    with pytest.raises(ConfigError, match=r"main_core: core 100000 is not usable; there are: 0"):
        online.check_cores(RuntimeConfig(online=config, main_core=100_000), config)
