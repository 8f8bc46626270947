"""Configuration: one TOML file, Retina's keys and defaults where they mean something here, plus ours."""

from __future__ import annotations

import difflib
import tomllib
from pathlib import Path

import msgspec

from retina_jit.errors import ConfigError
from retina_jit.parsers.packet.tunnels import KINDS
from retina_jit.pipeline.layout import MOST_PIECES


class ConntrackConfig(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """Connection tracking. Times in ms of capture time.

    Attributes
    ----------
    max_connections : int
        Connections in one worker's table; further ones are refused and counted.
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
    max_sessions : int
        Sessions kept per connection for callbacks at its end; further ones are left out of lists and counted.
    probe_datagrams, probe_bytes : int
        UDP: how many datagrams, and of how many bytes together, are kept while no session protocol is sure of them.
    memory : int [MiB]
        Cap of the byte pool: held segments, parser states and buffers.
    """

    max_connections: int = 10_000_000
    max_out_of_order: int = 100
    tcp_establish_timeout: int = 5000
    tcp_inactivity_timeout: int = 300_000
    udp_inactivity_timeout: int = 60_000
    tcp_close_timeout: int = 1000
    timeout_resolution: int = 100
    fragment_timeout: int = 30_000
    max_datagrams: int = 4096
    midstream: bool = False
    max_sessions: int = 1000
    probe_datagrams: int = 4
    probe_bytes: int = 4096
    memory: int = 4096


class DeliveryConfig(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """Delivery to Python callbacks.

    Attributes
    ----------
    ring : int [MiB]
        Size of each worker's event ring; rounded up to a power of two.
    on_error : {"stop", "continue"}
        What an exception in a callback does to the run; it is counted either way.
    """

    ring: int = 8
    on_error: str = "stop"


class RuntimeConfig(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """All of it.

    Attributes
    ----------
    protocols : tuple of str
        Files that declare session protocols, see `retina_jit.load_protocol`; in a file relative to its folder.
    decap : tuple of str
        Tunnels to look into: names of `retina_jit.parsers.packet.tunnels.KINDS`, or "all". What is inside is tracked
        beside the packet that carries it.
    """

    conntrack: ConntrackConfig = ConntrackConfig()
    protocols: tuple[str, ...] = ()
    decap: tuple[str, ...] = ()
    delivery: DeliveryConfig = DeliveryConfig()

    def check(self) -> RuntimeConfig:
        """Refuse values that cannot work.

        Raises
        ------
        ConfigError
            Names the key and the fix.
        """
        for name in ConntrackConfig.__struct_fields__:
            value = getattr(self.conntrack, name)
            if not isinstance(value, bool) and value <= 0 and name != "max_datagrams":
                raise ConfigError(f"conntrack.{name} = {value}: must be positive")
        if self.conntrack.max_connections >= 1 << 31:
            raise ConfigError("conntrack.max_connections: at most 2147483647")
        if self.conntrack.probe_datagrams > MOST_PIECES:
            raise ConfigError(f"conntrack.probe_datagrams = {self.conntrack.probe_datagrams}: at most {MOST_PIECES}")
        if self.delivery.on_error not in ("stop", "continue"):
            raise ConfigError(f"delivery.on_error = {self.delivery.on_error!r}: must be 'stop' or 'continue'")
        if self.delivery.ring < 8:
            raise ConfigError(f"delivery.ring = {self.delivery.ring}: at least 8 MiB, two of the longest events")
        self.tunnels()
        return self

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
        message = str(fault)
        known = [*ConntrackConfig.__struct_fields__, *DeliveryConfig.__struct_fields__, *RuntimeConfig.__struct_fields__]
        if "unknown field" in message:
            near = difflib.get_close_matches(message.split("`")[1], known, 1, 0.5)
            message += f"; did you mean {near[0]!r}?" if near else ""
        raise ConfigError(f"{path}: {message}") from fault
