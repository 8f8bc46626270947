"""[online] of a configuration, and `-i dpdk:DEVICE`, as ports of DPDK with a queue for each core."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from retina_jit import cores
from retina_jit.config import RuntimeConfig
from retina_jit.config_network import OnlineConfig
from retina_jit.errors import ConfigError

if TYPE_CHECKING:
    from retina_jit.filters.syntax import Term
    from retina_jit.ingest.dpdk.source import Lane, Receiver, Settings, Sink

VDEV = "--vdev"


def receiver(config: RuntimeConfig, device: str | None = None) -> Receiver:
    """Return the ports of a configuration, or one device with a queue for each of its workers; nothing is received yet.

    Raises
    ------
    ConfigError
        Cores that this machine does not have, or the same one for two things.
    SourceError
        See `retina_jit.ingest.dpdk.source.Receiver`.
    """
    from retina_jit.ingest.dpdk.source import Lane, Receiver

    if device is not None:
        return Receiver([device], [Lane(((0, n),), config.cores[n] if config.cores else None) for n in range(config.workers or 1)], settings(config))
    online = config.online
    assert online is not None
    check_cores(config, online)
    lanes, sinks = plan(online)
    virtual = virtual_devices(online.dpdk_supl_args)
    return Receiver([virtual.get(p.device, p.device) for p in online.ports], lanes, settings(config), sinks)


def hardware_rules(config: RuntimeConfig, first: Sequence[Term]) -> list[list[tuple[str, str, int, int]]]:
    """Return what cards have to let through for the first stage of a program; empty if it is everything, or not wanted."""
    from retina_jit.filters.offload import rules

    if config.online is None or not config.online.hardware_assist or config.tunnels():
        return []
    found = rules(first)
    if not all(found):
        return []
    return [[(m.protocol, m.field, m.value, m.prefix) for m in rule] for rule in found]


def settings(config: RuntimeConfig) -> Settings:
    """Return what does not depend on the port."""
    from retina_jit.ingest.dpdk.source import Settings

    common = {"capacity": config.mempool.capacity, "cache": config.mempool.cache_size, "shown": not config.suppress_dpdk_output, "channels": config.nb_memory_channels}
    online = config.online
    if online is None:
        return Settings(**common)  # type: ignore[arg-type]
    further = tuple(a for a in _words(online.dpdk_supl_args) if not a.startswith(f"{VDEV}="))
    return Settings(
        **common, mtu=online.mtu, descriptors=online.nb_rxd, promiscuous=online.promiscuous, main_core=config.main_core, arguments=further,  # type: ignore[arg-type]
    )  # fmt: skip


def plan(online: OnlineConfig) -> tuple[list[Lane], list[Sink]]:
    """Return what each worker receives, a worker for each core in the order of their numbers; and the sinks.

    A core that several ports name asks a queue of each. Queue 0 of a port with a sink is the sink's.
    """
    from retina_jit.ingest.dpdk.source import Lane, Sink

    queues: dict[int, list[tuple[int, int]]] = {core: [] for core in sorted({c for p in online.ports for c in p.cores})}
    sinks = []
    for place, port in enumerate(online.ports):
        first = 0
        if port.sink is not None:
            sinks.append(Sink(place, port.sink.core, port.sink.nb_buckets))
            first = 1
        for n, core in enumerate(sorted(set(port.cores))):
            queues[core].append((place, first + n))
    return [Lane(tuple(q), core) for core, q in queues.items()], sinks


def worker_count(config: RuntimeConfig) -> int:
    """Return how many workers [online] wants."""
    return len({c for p in config.online.ports for c in p.cores}) if config.online else 0


def check_cores(config: RuntimeConfig, online: OnlineConfig) -> None:
    """Refuse cores that cannot be used."""
    named = [("main_core", config.main_core)]
    for n, port in enumerate(online.ports):
        named += [(f"online.ports[{n}].cores", core) for core in port.cores]
        if port.sink is not None:
            named.append((f"online.ports[{n}].sink.core", port.sink.core))
            if port.sink.core in {c for p in online.ports for c in p.cores}:
                raise ConfigError(f"online.ports[{n}].sink.core = {port.sink.core}: is a worker's core as well; a sink needs its own")
    for key, core in named:
        cores.check(key, [core])


def virtual_devices(arguments: Sequence[str]) -> dict[str, str]:
    """Return the virtual devices among DPDK's arguments: name -> with its arguments. They are attached when a port asks for them."""
    found = {}
    for text in _words(arguments):
        if text.startswith(f"{VDEV}="):
            device = text.removeprefix(f"{VDEV}=")
            found[device.partition(",")[0]] = device
    return found


def _words(arguments: Sequence[str]) -> list[str]:
    """Take apart what stands in one text ("-m 512M"), and join `--vdev X` to `--vdev=X`."""
    apart = [part for text in arguments for part in (text.split(None, 1) if text.startswith("-") else [text])]
    made: list[str] = []
    for word in apart:
        if made and made[-1] == VDEV:
            made[-1] = f"{VDEV}={word}"
        else:
            made.append(word)
    return made
