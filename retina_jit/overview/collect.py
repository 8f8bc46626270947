"""One run over a capture that counts what somebody who sees it for the first time asks for."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from retina_jit.config import RuntimeConfig
from retina_jit.datatypes import ZcFrame
from retina_jit.datatypes.column import format_address
from retina_jit.datatypes.five_tuple import TRANSPORTS
from retina_jit.overview.tally import Distribution, Tally
from retina_jit.runtime import Runtime, Tick
from retina_jit.subscription import Subscription, named

BINS, FIRST_WIDTH, SIZES = 256, 1_000_000, 17
"""Bins of the traffic over time, their width at first [ns], and of frame lengths (powers of two, up to 64 KiB)."""
MOST_NAMES = 1 << 20
"""How many different names are counted in one table; others are counted together."""
TRAFFIC = np.dtype([("begun", "i8"), ("ended", "i8"), ("first", "i8"), ("width", "i8"), ("packets", "i8", (BINS,)), ("bytes", "i8", (BINS,)), ("sizes", "i8", (SIZES,))])


def count_frame(frame: ZcFrame, state: Any) -> None:
    """Count a frame in its bin; bins become twice as wide when time runs out of them. Compiled."""
    if state.width == 0:
        state.first, state.width = frame.ts, FIRST_WIDTH
        state.begun, state.ended = frame.ts, frame.ts
    state.begun = min(state.begun, frame.ts)
    state.ended = max(state.ended, frame.ts)
    n = (frame.ts - state.first) // state.width
    while n >= BINS:
        for k in range(BINS // 2):
            state.packets[k] = state.packets[2 * k] + state.packets[2 * k + 1]
            state.bytes[k] = state.bytes[2 * k] + state.bytes[2 * k + 1]
        for k in range(BINS // 2, BINS):
            state.packets[k] = 0
            state.bytes[k] = 0
        state.width *= 2
        n = (frame.ts - state.first) // state.width
    n = max(n, 0)  # packets of a capture are not always in order
    state.packets[n] += 1
    state.bytes[n] += frame.length
    size = 0
    while size < SIZES - 1 and frame.length >> (size + 1):
        size += 1
    state.sizes[size] += 1


@dataclass
class Overview:
    """What was counted.

    Attributes
    ----------
    result : dict
        `frames`, `bytes`, `seconds` (of capture time), `first`, `last` (ns since 1970; None without frames), `connections`,
        `sessions`, and the ledger.
    protocols : Counter
        Session protocol or transport -> connections; `protocol_bytes` likewise -> bytes of frames.
    talkers : Tally
        Address -> bytes of the connections that it is an end of.
    services : Tally
        Port of the responder with its transport -> connections.
    names : dict
        Title of a table -> what was counted in it.
    durations, volumes : Distribution
        Of the connections [s], [byte].
    traffic : list of (time [ns], packets, bytes)
    sizes : list of (least length [byte], frames)
    """

    source: str
    result: dict[str, Any] = field(default_factory=dict)
    protocols: Counter[str] = field(default_factory=Counter)
    protocol_bytes: Counter[str] = field(default_factory=Counter)
    talkers: Tally = field(default_factory=lambda: Tally(lambda is_ipv6, high, low: format_address(high, low, is_ipv6)))
    services: Tally = field(default_factory=lambda: Tally(lambda transport, _, port: f"{port}/{TRANSPORTS[transport]}"))
    names: dict[str, Counter[str]] = field(default_factory=dict)
    durations: Distribution = field(default_factory=lambda: Distribution(1e-9))
    volumes: Distribution = field(default_factory=Distribution)
    traffic: list[tuple[int, int, int]] = field(default_factory=list)
    sizes: list[tuple[int, int]] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)

    def as_dict(self, most: int = 20) -> dict[str, Any]:
        """Return it for JSON, of each table the `most` frequent entries."""
        quantiles = (0.1, 0.25, 0.5, 0.75, 0.9, 0.99)
        return {
            "source": self.source, **self.result,
            "protocols": dict(self.protocols.most_common()), "protocol_bytes": dict(self.protocol_bytes.most_common()),
            "talkers": dict(self.talkers.most_common(most)), "services": dict(self.services.most_common(most)),
            **{title: dict(counted.most_common(most)) for title, counted in self.names.items()},
            "duration_quantiles": dict(zip(map(str, quantiles), self.durations.quantiles(quantiles))),
            "volume_quantiles": dict(zip(map(str, quantiles), self.volumes.quantiles(quantiles))),
            "traffic": self.traffic, "frame_sizes": self.sizes, "problems": self.problems,
        }  # fmt: skip


def _more(table: Counter[str], values: Iterable[str | None]) -> None:
    for value in values:
        if value:
            table[value if value in table or len(table) < MOST_NAMES else "(others)"] += 1


TABLES: dict[str, tuple[str, Callable[[Any], Any]]] = {
    "TLS server names": ("TlsHandshake", lambda c: c["sni"]),
    "TLS client fingerprints (JA4)": ("TlsHandshake", lambda c: c["ja4"]),
    "QUIC server names": ("QuicStream", lambda c: c["sni"]),
    "DNS names": ("DnsTransaction", lambda c: c["query_domain"]),
    "DNS answers": ("DnsTransaction", lambda c: c["response_code_name"]),
    "HTTP hosts": ("HttpTransaction", lambda c: c["host"]),
    "HTTP status": ("HttpTransaction", lambda c: (str(s) if s else None for s in np.asarray(c["status_code"]).tolist())),
    "SSH software": ("SshHandshake", lambda c: c["software_version_stoc"]),
}
"""Title -> data type and the column that is counted."""


def overview(*sources: str, config: RuntimeConfig | None = None, progress: Any = None, tick: Tick | None = None) -> Overview:
    """Run over captures and count.

    Raises
    ------
    RetinaJitError
        A source that cannot be read.
    """
    made = Overview(", ".join(sources), names={title: Counter() for title in TABLES})
    subscriptions = [named(["ConnRecord"], "", lambda conn: _connections(made, conn), "batch")]
    by_type: dict[str, list[str]] = {}
    for title, (type_, _) in TABLES.items():
        by_type.setdefault(type_, []).append(title)

    def counter(titles: list[str]) -> Callable[[Any], None]:
        def count(columns: Any) -> None:
            for title in titles:
                _more(made.names[title], TABLES[title][1](columns))

        return count

    subscriptions += [named([type_], "", counter(titles), "batch") for type_, titles in by_type.items()]
    frames = Subscription("", (ZcFrame,), count_frame, "jit", np.zeros(1, TRAFFIC), None, "frames")
    result = Runtime([*subscriptions, frames], sources, config, progress=progress, tick=tick).run()
    c = result.counters
    states = [state[0] for state in frames.workers if state[0]["width"]]
    _put_traffic(made, states)
    first, last = (min(int(s["begun"]) for s in states), max(int(s["ended"]) for s in states)) if states else (None, None)
    made.result = {
        "frames": c["frames"], "bytes": c["bytes"], "connections": c["connections"], "sessions": c["sessions"],
        "first": first, "last": last, "seconds": 0.0 if first is None or last is None else (last - first) / 1e9, "ledger": result.ledger,
    }  # fmt: skip
    made.problems = result.problems
    return made


def _connections(made: Overview, conn: Any) -> None:
    """Count a batch of connections, column by column."""
    five, volume = conn["five_tuple"], conn["orig"]["nb_pkt_bytes"] + conn["resp"]["nb_pkt_bytes"]
    transport = five["protocol"].astype(np.int64)
    services, number = np.unique(_fixed(conn["service"]), return_inverse=True)
    groups, which, counts = np.unique(number.reshape(-1) << 8 | transport, return_inverse=True, return_counts=True)
    for group, count, octets in zip(groups.tolist(), counts.tolist(), np.bincount(which.reshape(-1), volume).tolist(), strict=True):
        protocol = services[group >> 8].decode() or TRANSPORTS[group & 255]
        made.protocols[protocol] += count
        made.protocol_bytes[protocol] += int(octets)
    made.services.add(transport, 0, five["resp_port"], 1)
    high, low, is_ipv6 = five.address("orig_addr")
    made.talkers.add(is_ipv6, high, low, volume)
    other_high, other_low, _ = five.address("resp_addr")
    alone = (high == other_high) & (low == other_low)  # who talks to itself is one talker
    made.talkers.add(is_ipv6, other_high, other_low, np.where(alone, 0, volume))
    made.durations.add(conn.nanoseconds("duration"))
    made.volumes.add(volume)


def _fixed(texts: Any) -> Any:
    """Return a column of short texts as an array of their bytes; empty where absent."""
    lengths = np.diff(texts.offsets)
    width = int(lengths.max(initial=1))
    cells = np.zeros((len(lengths), width), np.uint8)
    cells[np.arange(width) < lengths[:, None]] = texts.data[: texts.offsets[-1]]
    return cells.view(f"S{width}").reshape(-1)


def _put_traffic(made: Overview, states: list[Any]) -> None:
    """Bring the workers' bins onto the widest, from the earliest on; wider if they were at work at different times."""
    if not states:
        return
    first, width = min(int(s["first"]) for s in states), max(int(s["width"]) for s in states)
    while (max(int(s["ended"]) for s in states) - first) // width >= BINS:
        width *= 2
    packets, octets = np.zeros(BINS, np.int64), np.zeros(BINS, np.int64)
    for s in states:
        at = (int(s["first"]) + np.arange(BINS) * int(s["width"]) - first) // width
        np.add.at(packets, np.minimum(at, BINS - 1), s["packets"])
        np.add.at(octets, np.minimum(at, BINS - 1), s["bytes"])
    used = int(np.flatnonzero(packets)[-1]) + 1
    made.traffic = [(first + n * width, int(packets[n]), int(octets[n])) for n in range(used)]
    made.sizes = [(1 << n, sum(int(s["sizes"][n]) for s in states)) for n in range(SIZES)]
