"""Configuration: one TOML file with Retina's keys and defaults, and ours. `retina-jit config` prints what is in effect."""

from __future__ import annotations

import difflib
import tomllib
from pathlib import Path
from typing import Any

import msgspec

from retina_jit.config_network import (
    BUCKETS,
    InterfaceConfig,
    MempoolConfig,
    MonitorConfig,
    OfflineConfig,
    OnlineConfig,
    PrometheusConfig,
)
from retina_jit.errors import ConfigError
from retina_jit.parsers.packet.tunnels import KINDS
from retina_jit.pipeline.layout import MOST_PIECES

MOST_LISTED = 3 << 20


MOST_CONNECTIONS = 1 << 28
"""Of one worker: the timer wheel numbers its entries with 32 bits, and there may be eight times as many of them."""


class ConntrackConfig(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """Connection tracking. Times in ms of capture time.

    Attributes
    ----------
    max_connections : int
        Connections in one worker's table.
    table_full : {"refuse", "evict"}
        When it is full: refuse further connections, or end those whose timeout is nearest. Counted either way.
    max_half_open : int
        TCP attempts that may wait for an answer once the table is half full; the oldest one goes for another.
    max_out_of_order : int
        Early TCP segments held per connection.
    tcp_establish_timeout, tcp_inactivity_timeout, udp_inactivity_timeout : int [ms]
        Silence that ends a connection: before its second packet, TCP, UDP.
    tcp_close_timeout : int [ms]
        How long a closed TCP connection waits for stragglers before it is delivered.
    timeout_resolution : int [ms]
        Length of a tick of the timer wheel.
    fragment_timeout : int [ms]
        How long an IP datagram waits for the rest of its fragments.
    max_datagrams : int
        IP datagrams that wait at a time; the oldest makes room for another. 0: fragments are not put together.
    midstream : bool
        Track TCP connections whose SYN was not seen.
    init_synack, init_fin, init_rst, init_data : bool
        Retina's names for the same, by what the first segment is; any of them switches `midstream` on.
    max_waiting_packets, max_waiting_bytes : int
        Packets kept per connection for packet-level callbacks whose filter asks for a session, until it is decided.
    max_sessions : int
        Sessions kept per connection for callbacks at its end; further ones are left out of lists and counted.
    probe_datagrams, probe_bytes : int
        UDP: how many datagrams, and of how many bytes together, are kept while no session protocol is sure of them.
    vlan_in_key : bool
        Whether the same five-tuple in two VLANs (the outermost tag) is two connections.
    vni_in_key : bool
        Whether the same five-tuple in two virtual networks is two connections, where `decap` looks into them: VNI of
        VXLAN and Geneve, virtual subnet of NVGRE. VLAN tags within such a network do not count then.
    packet_list_bytes : int
        Bytes of packets that a packet list keeps of one connection; further packets are counted and left out.
    memory : int [MiB]
        Cap of the byte pool: held segments, parser states and buffers.
    """

    max_connections: int = 10_000_000
    table_full: str = "refuse"
    max_half_open: int = 1 << 20
    max_out_of_order: int = 100
    tcp_establish_timeout: int = 5000
    tcp_inactivity_timeout: int = 300_000
    udp_inactivity_timeout: int = 60_000
    tcp_close_timeout: int = 1000
    timeout_resolution: int = 100
    fragment_timeout: int = 30_000
    max_datagrams: int = 4096
    midstream: bool = False
    init_synack: bool = False
    init_fin: bool = False
    init_rst: bool = False
    init_data: bool = False
    max_waiting_packets: int = 64
    max_waiting_bytes: int = 65536
    max_sessions: int = 1000
    probe_datagrams: int = 4
    probe_bytes: int = 4096
    vlan_in_key: bool = False
    vni_in_key: bool = False
    packet_list_bytes: int = 1 << 20
    memory: int = 4096


class DeliveryConfig(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """Delivery to Python callbacks.

    Attributes
    ----------
    ring : int [MiB]
        Size of each worker's event ring; rounded up to a power of two.
    on_error : {"stop", "continue"}
        What an exception in a callback does to the run; it is counted either way.
    when_full : {"auto", "wait", "lose"}
        What a worker does while the ring is full, for Python is too slow: wait for room, or lose the event and count it
        (`events_lost`). auto: wait with captures, lose with interfaces and ports, where waiting would lose packets instead.
    """

    ring: int = 8
    on_error: str = "stop"
    when_full: str = "auto"


MOST_WORKERS = 64
MOST_RING = 2047
"""Of an interface [MiB]; Linux counts its length in 32 bits with a sign."""


class RuntimeConfig(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """All of it.

    Attributes
    ----------
    protocols : tuple of str
        Files that declare session protocols, see `retina_jit.load_protocol`; in a file relative to its folder.
    decap : tuple of str
        Tunnels to look into: names of `retina_jit.parsers.packet.tunnels.KINDS`, or "all". What is inside is tracked
        beside the packet that carries it.
    main_core, nb_memory_channels, suppress_dpdk_output, mempool, online
        Capturing from a network card, see `retina_jit.config_network`.
    offline : OfflineConfig, optional
        The capture to read; not together with `online`.
    interface : InterfaceConfig
        Capturing from interfaces of the system.
    monitor : MonitorConfig, optional
        What is told of a run while it goes on. In Retina's files it stands in `online`; here it is for captures too.
    prometheus : PrometheusConfig, optional
        Where metrics are served; likewise.
    workers : int, optional
        How many workers share the packets of a capture (`-j`), each with a thread and a table of its own; caps are per worker.
        None: one, for which a second core reads ahead. 1: one, and one core is all that it uses.
    cores : tuple of int
        Cores that workers of captures and interfaces are bound to (`--cores`), one each, which says how many workers there are. Empty:
        the system moves them about. For ports of [online] their own `cores`.
    read_ahead : bool, optional
        Whether a second thread reads a large capture ahead, where there is a core for it: faster, at the cost of that core.
        None: yes, unless `workers` is 1.
    sample : float
        Share of the connections that are taken, 0 to 1 (`--sample`): whole ones, both directions, the same in every run. The frames
        of others are counted as `not_sampled`.
    bpf : str
        Expression of libpcap (`-F`), as tcpdump takes it: frames that it refuses are counted as `prefiltered`, and that is all.
        Needs libpcap.
    user : str, optional
        Whom to become once the first source is open (`--user`); needs root. Later captures must be readable for that user.
    filter : str, optional
        In Retina's files and without effect, there and here.
    """

    conntrack: ConntrackConfig = ConntrackConfig()
    protocols: tuple[str, ...] = ()
    decap: tuple[str, ...] = ()
    delivery: DeliveryConfig = DeliveryConfig()
    main_core: int = 0
    nb_memory_channels: int = 1
    suppress_dpdk_output: bool = True
    filter: str | None = None
    user: str | None = None
    mempool: MempoolConfig = MempoolConfig()
    offline: OfflineConfig | None = None
    online: OnlineConfig | None = None
    interface: InterfaceConfig = InterfaceConfig()
    monitor: MonitorConfig | None = None
    prometheus: PrometheusConfig | None = None
    workers: int | None = None
    cores: tuple[int, ...] = ()
    read_ahead: bool | None = None
    sample: float = 1.0
    bpf: str = ""

    def check(self) -> RuntimeConfig:
        """Refuse values that cannot work.

        Raises
        ------
        ConfigError
            Names the key and the fix.
        """
        for name in ConntrackConfig.__struct_fields__:
            value = getattr(self.conntrack, name)
            if isinstance(value, int) and not isinstance(value, bool) and value <= 0 and name != "max_datagrams":
                raise ConfigError(f"conntrack.{name} = {value}: must be positive")
        if self.conntrack.table_full not in ("refuse", "evict"):
            raise ConfigError(f"conntrack.table_full = {self.conntrack.table_full!r}: must be 'refuse' or 'evict'")
        if self.conntrack.max_connections > MOST_CONNECTIONS:
            raise ConfigError(f"conntrack.max_connections = {self.conntrack.max_connections}: at most {MOST_CONNECTIONS}")
        if self.conntrack.probe_datagrams > MOST_PIECES:
            raise ConfigError(f"conntrack.probe_datagrams = {self.conntrack.probe_datagrams}: at most {MOST_PIECES}")
        if self.conntrack.packet_list_bytes > MOST_LISTED:
            raise ConfigError(f"conntrack.packet_list_bytes = {self.conntrack.packet_list_bytes}: at most {MOST_LISTED}, for a list is one event")
        if self.workers is not None and not 1 <= self.workers <= MOST_WORKERS:
            raise ConfigError(f"workers = {self.workers}: must be 1 to {MOST_WORKERS}")
        if self.cores and self.workers not in (None, len(self.cores)):
            raise ConfigError(f"workers = {self.workers} and cores = {list(self.cores)}: a core each, or one of the two")
        if len(self.cores) > MOST_WORKERS or len(set(self.cores)) < len(self.cores):
            raise ConfigError(f"cores = {list(self.cores)}: each once, and at most {MOST_WORKERS}")
        if not 2**-32 <= self.sample <= 1:
            raise ConfigError(f"sample = {self.sample:g}: must be a share of the connections, above 0 and at most 1 (0.25 is a quarter)")
        if self.delivery.on_error not in ("stop", "continue"):
            raise ConfigError(f"delivery.on_error = {self.delivery.on_error!r}: must be 'stop' or 'continue'")
        if self.delivery.when_full not in ("auto", "wait", "lose"):
            raise ConfigError(f"delivery.when_full = {self.delivery.when_full!r}: must be 'auto', 'wait' or 'lose'")
        for name in ("monitor", "prometheus"):
            if getattr(self, name) is not None and getattr(self.online, name, None) is not None:
                raise ConfigError(f"[{name}] and [online.{name}]: one of them")
        if (log := self.monitoring().log) is not None and log.interval <= 0:
            raise ConfigError(f"monitor.log.interval = {log.interval}: must be positive")
        if self.delivery.ring < 8:
            raise ConfigError(f"delivery.ring = {self.delivery.ring}: at least 8 MiB, two of the longest events")
        if self.interface.timestamps not in ("system", "card"):
            raise ConfigError(f"interface.timestamps = {self.interface.timestamps!r}: must be 'system' or 'card'")
        if not 1 <= self.interface.ring <= MOST_RING:
            raise ConfigError(f"interface.ring = {self.interface.ring}: must be 1 to {MOST_RING} MiB")
        if self.online is not None and self.offline is not None:
            raise ConfigError("[online] and [offline]: one of them, for there is one source of packets")
        for n, port in enumerate(self.online.ports if self.online else ()):
            if not port.cores:
                raise ConfigError(f"online.ports[{n}].cores: at least one core, for each has a receive queue")
            if port.sink is not None and not len(set(port.cores)) <= port.sink.nb_buckets <= BUCKETS:
                raise ConfigError(f"online.ports[{n}].sink.nb_buckets = {port.sink.nb_buckets}: must be {len(set(port.cores))} (the number of cores) to {BUCKETS}")
        self.tunnels()
        return msgspec.structs.replace(self, workers=len(self.cores)) if self.cores else self

    @property
    def reads_ahead(self) -> bool:
        """Whether a second thread may read a large capture ahead."""
        return self.workers != 1 if self.read_ahead is None else self.read_ahead

    @property
    def midstream(self) -> bool:
        """Whether TCP connections are tracked whose SYN was not seen."""
        c = self.conntrack
        return c.midstream or c.init_synack or c.init_fin or c.init_rst or c.init_data

    def monitoring(self) -> MonitorConfig:
        """Return what is to be told of a run, wherever it stands."""
        return self.monitor or (self.online.monitor if self.online is not None else None) or MonitorConfig()

    def metrics(self) -> PrometheusConfig | None:
        """Return where metrics are to be served, wherever it stands."""
        return self.prometheus or (self.online.prometheus if self.online is not None else None)

    def tunnels(self) -> int:
        """Return the kinds of tunnels to look into, a bit each."""
        chosen = 0
        for name in self.decap:
            if name in KINDS:
                chosen |= 1 << KINDS.index(name)
            elif name == "all":
                chosen |= (1 << len(KINDS)) - 1
            elif name != "none":
                raise ConfigError(f"decap: no tunnel {name!r}; known: all, none, {', '.join(KINDS)}")
        return chosen


def load_config(path: str | Path) -> RuntimeConfig:
    """Read a configuration file.

    Raises
    ------
    ConfigError
        Names the file, the key and the nearest known one.
    """
    try:
        content = tomllib.loads(Path(path).read_text())
        found = msgspec.convert(content, RuntimeConfig).check()
        files = tuple(str(Path(path).parent / file) for file in found.protocols)
        return msgspec.structs.replace(found, protocols=files)
    except OSError as fault:
        raise ConfigError(f"{path}: {fault.strerror}") from fault
    except tomllib.TOMLDecodeError as fault:
        raise ConfigError(f"{path}: {fault}") from fault
    except msgspec.ValidationError as fault:
        raise ConfigError(f"{path}: {_explained(str(fault), content)}") from fault


def _explained(message: str, content: Any) -> str:
    """Name the key, and the nearest one that is known."""
    what, _, where = message.partition(" - at `$")
    section = where.rstrip("`").lstrip(".")
    if "unknown field" in what:
        key = what.split("`")[1]
        known = _fields(section)
        near = difflib.get_close_matches(key, known, 1, 0.5)
        hint = f"; did you mean {near[0]!r}?" if near else f"; known: {', '.join(known)}"
        return f"unknown key {f'{section}.' if section else ''}{key}{hint}"
    return f"{section}: {what}" if section else what


def _fields(section: str) -> list[str]:
    """Return the keys of a section, written a.b[0].c as msgspec does."""
    found: Any = RuntimeConfig
    for name in filter(None, section.split(".")):
        kind = msgspec.structs.fields(found)
        found = next(f.type for f in kind if f.name == name.partition("[")[0])
        # Out of `X | None` and `tuple[X, ...]`.
        while not (isinstance(found, type) and issubclass(found, msgspec.Struct)):
            found = next(a for a in found.__args__ if a is not type(None) and a is not Ellipsis)
    return list(found.__struct_fields__)


def to_toml(config: msgspec.Struct, section: str = "") -> str:
    """Return a configuration as TOML, all defaults written out; what is absent stands in comments."""
    lines, tables = [], []
    for name in config.__struct_fields__:
        value = getattr(config, name)
        path = f"{section}.{name}" if section else name
        if isinstance(value, msgspec.Struct):
            tables.append(f"\n[{path}]\n{to_toml(value, path)}")
        elif isinstance(value, tuple) and value and isinstance(value[0], msgspec.Struct):
            tables += [f"\n[[{path}]]\n{to_toml(item, path)}" for item in value]
        elif value is None:
            lines.append(f"# {name}: none")
        else:
            lines.append(f"{name} = {_toml_value(value)}")
    return "".join(f"{line}\n" for line in lines) + "".join(tables)


def _toml_value(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, tuple):
        return f"[{', '.join(map(_toml_value, value))}]"
    if isinstance(value, str):
        return msgspec.json.encode(value).decode()  # JSON's escapes are TOML's
    return str(value)
