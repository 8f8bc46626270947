"""What the workers of a run read: captures, an interface of the system (AF_PACKET), or ports of DPDK.

A name of `-i` is captured by the first of these that can, and one line of the log says which, and why not the one before:

1. DPDK, if it is a PCI address or a device of [[online.ports]]. So are all devices of [online], without `-i`.
2. AF_PACKET, if it is an interface of the system; in place of DPDK, where this does not work, each device's own interface: the one
   of its PCI address, or the one that stands in the arguments of a virtual device.

`dpdk:DEVICE` and `af_packet:NAME` are taken at their word.
"""

from __future__ import annotations

import logging
import os
import re
import socket
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from retina_jit.config import RuntimeConfig
from retina_jit.config_network import BUCKETS, OnlineConfig, PortConfig
from retina_jit.errors import ConfigError, SourceError
from retina_jit.ingest.interface import PREFIX
from retina_jit.ingest.packet_socket import RingSettings
from retina_jit.ingest.readahead import Readers
from retina_jit.ingest.sources import LIVE, PORT, Source, open_sources

if TYPE_CHECKING:
    from retina_jit.ingest.dpdk.source import Receiver

log = logging.getLogger(__name__)

PCI = re.compile(r"(?:([0-9a-fA-F]{4,}):)?([0-9a-fA-F]{2}:[01][0-9a-fA-F]\.[0-7])")
IFACE = re.compile(r",(?:rx_)?iface=([^,]+)")


@dataclass
class Opened:
    """What is read.

    Attributes
    ----------
    sources : list
        Each worker's.
    receiver : Receiver, optional
        The ports of DPDK.
    config : RuntimeConfig
        What is in effect.
    from_online : bool
        Whether what is read are ports, or interfaces in their place: [online] says for how long.
    readers : Readers, optional
        Where several workers read the same captures.
    """

    sources: list[Iterator[Source]]
    receiver: Receiver | None
    config: RuntimeConfig
    from_online: bool = False
    readers: Readers | None = None


def opened(config: RuntimeConfig, paths: Sequence[str | os.PathLike[str]], ends: Mapping[str, int] | None = None) -> Opened:
    """Open what is to be read; ports at once, the rest when a worker asks for it. `ends` as in `open_sources`.

    Raises
    ------
    SourceError, ConfigError
    """
    names = [os.fspath(p) for p in paths]
    count = config.workers or 1
    if count > 1 and "-" in names:
        raise SourceError(f"standard input can be read once, {count} workers read a capture {count} times: use one worker, or a file")
    live = [n for n in names if n.startswith((PORT, LIVE)) and not Path(n).exists()]
    if not live and (names or config.online is None):
        readers = Readers(count) if count > 1 else None
        ring = _ring(config)
        return Opened([open_sources(paths, ahead=config.reads_ahead, readers=readers, reader=n, ring=ring, ends=ends) for n in range(count)], None, config, readers=readers)
    if len(names) > 1:
        raise SourceError(f"{', '.join(names)}: ports and captures are not read together; several ports: [online] of a configuration")
    if not live:
        if config.cores:
            raise ConfigError(f"cores = {list(config.cores)}: ports have their own, [[online.ports]] cores; leave one of the two out")
        return _from_online(config)
    (name,) = live
    if name.startswith(PORT):
        return _from_port(config, name.removeprefix(PORT))
    return _from_name(config, name.removeprefix(LIVE))


def _ring(config: RuntimeConfig, *, promiscuous: bool = True) -> RingSettings:
    return RingSettings(config.interface.ring, config.interface.timestamps == "card", promiscuous)


def _from_port(config: RuntimeConfig, device: str) -> Opened:
    from retina_jit import online

    return _received(online.receiver(config, device), config)


def _received(receiver: Receiver, config: RuntimeConfig) -> Opened:
    log.info("%s: captured through %s", ", ".join(p.name for p in receiver.ports), receiver.eal.dpdk.version)
    return Opened([receiver.sources(n) for n in range(receiver.workers)], receiver, config, from_online=True)


def _from_name(config: RuntimeConfig, name: str) -> Opened:
    """What `-i` means."""
    online = config.online
    for port in online.ports if online is not None and not config.cores else ():
        if port.device == name:
            return _from_online(msgspec.structs.replace(config, online=msgspec.structs.replace(online, ports=(port,))))  # type: ignore[type-var]
    if not PCI.fullmatch(name):
        if _can_capture(name):
            log.info("%s: captured through AF_PACKET, for it is no PCI address and no device of [[online.ports]]", name)
        return _captured(config, [name] * (config.workers or 1), _ring(config))
    try:
        return _from_port(config, name)
    except SourceError as fault:
        interface = interface_of(name)
        if interface is None:
            raise
        _tell(name, interface, fault)
        return _captured(config, [interface] * (config.workers or 1), _ring(config), from_online=True)


def _from_online(config: RuntimeConfig) -> Opened:
    """The ports of [online]; where DPDK does not work, the interfaces that they are for the system."""
    from retina_jit import online

    assert config.online is not None
    try:
        return _received(online.receiver(config), config)
    except SourceError as fault:
        virtual = online.virtual_devices(config.online.dpdk_supl_args)
        found = [interface_of(virtual.get(p.device, p.device)) for p in config.online.ports]
        interfaces = [name for name in found if name is not None]
        if len(interfaces) < len(found) or _shared(config.online.ports):
            raise
        _tell(", ".join(p.device for p in config.online.ports), ", ".join(interfaces), fault)
        return _in_place(config, config.online, interfaces)


def _in_place(config: RuntimeConfig, online: OnlineConfig, interfaces: Sequence[str]) -> Opened:
    """What [online] says, as far as interfaces can: cores, a sink's share, promiscuous mode."""
    where = {core: name for port, name in zip(online.ports, interfaces, strict=True) for core in port.cores}
    shares = {p.sink.nb_buckets / BUCKETS for p in online.ports if p.sink is not None}
    if len(shares) == 1 and all(p.sink is not None for p in online.ports):
        config = msgspec.structs.replace(config, sample=config.sample * shares.pop())
    elif shares:
        raise ConfigError("[online.ports.sink]: without DPDK the share is that of all ports together. Fix: the same nb_buckets for each port, or no sink")
    config = msgspec.structs.replace(config, workers=None, cores=tuple(sorted(where))).check()
    return _captured(config, [where[core] for core in config.cores], _ring(config, promiscuous=online.promiscuous), from_online=True)


def _captured(config: RuntimeConfig, interfaces: Sequence[str], ring: RingSettings, *, from_online: bool = False) -> Opened:
    """Return sources of interfaces, one for each worker; those of the same one share its packets."""
    return Opened([open_sources([PREFIX + name], ring=ring) for name in interfaces], None, config, from_online)


def _can_capture(name: str) -> bool:
    """Whether an interface is there, and may be captured from; if not, who opens it says why."""
    try:
        socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0).close()
    except (OSError, AttributeError):
        return False
    return name in {n for _, n in socket.if_nameindex()}


def _shared(ports: Sequence[PortConfig]) -> bool:
    """Whether a core receives from several ports: a worker has one interface."""
    cores = [core for p in ports for core in set(p.cores)]
    return len(set(cores)) < len(cores)


def _tell(device: str, interface: str, fault: SourceError) -> None:
    log.warning("%s: captured through AF_PACKET as %s, for DPDK does not work here: %s", device, interface, fault)


def interface_of(device: str, root: Path = Path("/")) -> str | None:
    """Return the system's interface that a device of DPDK is, or takes its frames from; None if there is none."""
    names = {name for _, name in socket.if_nameindex()}
    if pci := PCI.fullmatch(device.partition(",")[0]):
        found = sorted(p.name for p in root.glob(f"sys/bus/pci/devices/{(pci[1] or '0000').lower()}:{pci[2].lower()}/net/*"))
    else:
        found = IFACE.findall(device)
    return next((name for name in found if name in names), None)
