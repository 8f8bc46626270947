"""Configuration that only capturing from a network card reads, with Retina's keys and defaults (`core/src/config.rs`).

The keys are known in every version, so that one file serves Retina and retina_jit. What is said of a key that has no
effect here stands beside it.
"""

from __future__ import annotations

import msgspec

BUCKETS = 512
"""Retina's count of the parts that a card divides the connections into."""


class MempoolConfig(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """Packet buffers of DPDK, per NUMA socket.

    Attributes
    ----------
    capacity : int
        Buffers in a pool.
    cache_size : int
        Buffers that a core keeps for itself.
    """

    capacity: int = 65536
    cache_size: int = 512


class DisplayConfig(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """What is shown each second.

    Attributes
    ----------
    throughput, mempool_usage : bool
        The lines of rates and drops; those of packet buffers.
    port_stats : tuple of str
        Parts of names of the card's counters; an empty string: all of them.
    """

    throughput: bool = True
    mempool_usage: bool = True
    port_stats: tuple[str, ...] = ()


class LogConfig(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """What is written to files.

    Attributes
    ----------
    directory : str
        A folder is made in it for each run, named by the time.
    interval : int [ms]
    port_stats : tuple of str
        Parts of names of the card's counters.
    """

    directory: str = "./log/"
    interval: int = 1000
    port_stats: tuple[str, ...] = ("rx",)


class PageConfig(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """Where a page for people is served, with the same as JSON and metrics beside it.

    Attributes
    ----------
    port : int
        0 takes a free one.
    ip : str
    """

    port: int = 9899
    ip: str = "127.0.0.1"


class MonitorConfig(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """Display, log and page (ours); each is off without its table."""

    display: DisplayConfig | None = None
    log: LogConfig | None = None
    page: PageConfig | None = None


class PrometheusConfig(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """Where metrics are served.

    Attributes
    ----------
    port : int
    ip : str
    """

    port: int
    ip: str = "127.0.0.1"


class InterfaceConfig(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """Capturing from interfaces of the system (`-i`).

    Attributes
    ----------
    timestamps : {"system", "card"}
        Whose times frames have. The card's own clock is switched on for it, and left as it was at the end; where there is none, or
        it may not be switched on, times are the system's all the same, and that is told.
    ring : int [MiB]
        Room for what workers have not looked at yet, each worker's.
    """

    timestamps: str = "system"
    ring: int = 64


class SinkConfig(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """A core that throws away a share of the flows.

    Attributes
    ----------
    core : int
    nb_buckets : int
        Of 512 buckets of flows, how many are processed.
    """

    core: int
    nb_buckets: int = 512


class PortConfig(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """One port.

    Attributes
    ----------
    device : str
        PCI address or name of a virtual device.
    cores : tuple of int
        One receive queue and one worker for each.
    sink : SinkConfig, optional
    """

    device: str
    cores: tuple[int, ...]
    sink: SinkConfig | None = None


class OnlineConfig(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """Capturing from ports.

    Attributes
    ----------
    duration : int [s], optional
        Stop after this time.
    promiscuous : bool
    nb_rxd : int
        Descriptors of a receive queue.
    mtu : int [byte]
    hardware_assist : bool
        Let the card drop what no filter can want.
    dpdk_supl_args : tuple of str
        Further arguments of DPDK's environment.
    """

    ports: tuple[PortConfig, ...] = ()
    duration: int | None = None
    promiscuous: bool = True
    nb_rxd: int = 4096
    mtu: int = 1500
    hardware_assist: bool = True
    dpdk_supl_args: tuple[str, ...] = ()
    monitor: MonitorConfig | None = None
    prometheus: PrometheusConfig | None = None


class OfflineConfig(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """Reading a capture.

    Attributes
    ----------
    pcap : str
        The capture; -r on the command line goes before it.
    mtu : int [byte]
        Retina skips longer frames; here it has no effect: frames of any length are read.
    """

    pcap: str
    mtu: int = 1500
