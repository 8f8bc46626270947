"""All that the monitor shows, read at one moment; and what two such readings say together."""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from retina_jit import stats

WIRE_OVERHEAD = 8 + 12 + 4
"""Preamble with start delimiter, gap, and check sequence of an Ethernet frame: on the wire, in no counter [byte]."""

Ports = dict[str, dict[str, int]]


@dataclass(frozen=True)
class Reading:
    """A run at one moment.

    Attributes
    ----------
    at : float
        Monotonic time [s].
    ts : float
        Time of day [s].
    counters : dict
        All workers together, see `retina_jit.stats`.
    workers : list of dict
        Each worker's counters, gauges and number of idle polls.
    ports : dict
        Device -> its counters, under DPDK's names of extended statistics; empty for captures.
    gauges : dict
        connections (in the tables now), arena_bytes, ring_filled (fullest ring, 0 to 1), memory_bytes (of the process).
    failed : dict
        Subscription -> calls that raised.
    delivered : int
        Events handed over to callbacks and sinks.
    sources : list of str
        What is being read.
    received : dict
        All workers together: what is counted only while a monitor runs (`retina_jit.stats.VOLUMES`); without one empty.
    """

    at: float
    ts: float
    counters: dict[str, int]
    workers: list[dict[str, int]]
    ports: Ports
    gauges: dict[str, float]
    failed: dict[str, int]
    delivered: int
    sources: list[str] = field(default_factory=list)
    received: dict[str, int] = field(default_factory=dict)

    @property
    def ledger(self) -> dict[str, int]:
        """Where each frame ended."""
        return {name: self.counters[name] for name in stats.LEDGER}

    @property
    def hw_dropped(self) -> int:
        """Packets that the device had no room for."""
        return sum(p.get("rx_phy_discard_packets", 0) for p in self.ports.values())

    @property
    def sw_dropped(self) -> int:
        """Packets that the receive queue had no room for."""
        return self.counters["dropped"]

    def volumes(self) -> dict[str, tuple[int, int]]:
        """Return packets and bits of each stage of receiving: ingress (at the device), good (undamaged, not dropped by it), process."""
        frames, size = self.counters["frames"], self.counters["bytes"]
        if not self.ports:
            return dict.fromkeys(("ingress", "good", "process"), (frames, 8 * size))
        good = sum(p.get("rx_good_packets", 0) for p in self.ports.values())
        good_bytes = sum(p.get("rx_good_bytes", 0) for p in self.ports.values())
        ingress = sum(p.get("rx_phy_packets", p.get("rx_good_packets", 0)) for p in self.ports.values())
        # A card's own counter of bytes has the check sequence in it.
        ingress_bits = sum(
            8 * (p["rx_phy_bytes"] + p["rx_phy_packets"] * (WIRE_OVERHEAD - 4))
            if "rx_phy_bytes" in p
            else 8 * (p.get("rx_good_bytes", 0) + p.get("rx_good_packets", 0) * WIRE_OVERHEAD)
            for p in self.ports.values()
        )
        return {
            "ingress": (ingress, ingress_bits),
            "good": (good, 8 * (good_bytes + good * WIRE_OVERHEAD)),
            "process": (frames, 8 * (size + frames * WIRE_OVERHEAD)),
        }


def failures(dispatchers: Sequence[Any]) -> dict[str, int]:
    """Return how many calls of each subscription raised."""
    found: Counter[str] = Counter()
    for d in dispatchers:
        found.update(dict.fromkeys(d.names, 0))
        for name, n in zip(d.names, d.failed, strict=True):
            found[name] += n
    return dict(found)


def read(workers: Sequence[Any], dispatchers: Sequence[Any], ports: Ports) -> Reading:
    """Read a run's words as they are now.

    Parameters
    ----------
    workers : sequence of Worker
    dispatchers : sequence of Dispatcher
        Those of programs before, too.
    ports : dict
        The devices' counters of an earlier reading; is brought up to date. What a device that is gone has counted stays.
    """
    each: list[dict[str, int]] = []
    sources: dict[str, None] = {}
    received: Counter[str] = Counter()
    for w in workers:
        counters, volumes = w.snapshot(), w.volumes()
        source = w.source
        idle = w.idle_polls + (source.idle_polls if source is not None else 0)
        polls = {} if source is None or source.polls is None else {"polls": source.polls}
        received.update(volumes)
        each.append({**counters, **volumes, **polls, "connections_now": int(w.table["live"]), "arena_bytes": int(w.arena["used"]), "idle_polls": idle, "bound_core": -1 if w.core is None else w.core})
        if source is not None:
            sources[source.name] = None
            if source.is_live:
                ports.update({name: found for name, found in source.port_stats().items() if found})
    merged = stats.merge(each)
    merged["events_lost"] += sum(d.given_up for d in dispatchers)
    gauges = {
        "connections": sum(w["connections_now"] for w in each),
        "arena_bytes": sum(w["arena_bytes"] for w in each),
        "ring_filled": round(max(d.filled() for d in dispatchers), 4),
        "memory_bytes": resident(),
    }
    return Reading(
        time.monotonic(), time.time(), merged, each, dict(ports), gauges,
        failures(dispatchers), sum(d.delivered for d in dispatchers), list(sources), dict(received),
    )  # fmt: skip


def resident() -> int:
    """Return the memory that this process has in RAM [byte], 0 where the system does not tell."""
    try:
        return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError):
        return 0


@dataclass(frozen=True)
class Rates:
    """What happened between two readings, per second; drops also as shares of all that came in.

    Attributes
    ----------
    ingress_pps, ingress_bps, good_pps, good_bps, process_pps, process_bps : float
    dropped_pps : float
        By device and receive queue.
    dropped_share : float
        Of the packets that came in between.
    hw_dropped, sw_dropped, packets : int
        From the beginning of the run; packets: that came in.
    ledger : dict
        Frames per second for each place where one can end.
    """

    ingress_pps: float
    ingress_bps: float
    good_pps: float
    good_bps: float
    process_pps: float
    process_bps: float
    dropped_pps: float
    dropped_share: float
    hw_dropped: int
    sw_dropped: int
    packets: int
    events: float
    events_lost: float
    ledger: dict[str, float]

    def share(self, count: int) -> float:
        """Return a count of packets as a share of all that came in [%]."""
        return 100 * count / self.packets if self.packets else 0.0


def rates(before: Reading, now: Reading) -> Rates:
    """Return what happened between two readings; no rate is infinite or undefined, however short the time."""
    seconds = max(now.at - before.at, 1e-9)

    def per_second(a: float, b: float) -> float:
        return max(b - a, 0) / seconds

    flows = {}
    was = before.volumes()
    for name, (packets, bits) in now.volumes().items():
        flows[f"{name}_pps"] = per_second(was[name][0], packets)
        flows[f"{name}_bps"] = per_second(was[name][1], bits)
    drops = now.hw_dropped + now.sw_dropped
    new_drops = max(drops - before.hw_dropped - before.sw_dropped, 0)
    # A device's counter of what came in may leave out what it dropped.
    packets = max(now.volumes()["ingress"][0], now.counters["frames"] + drops)
    came = max(packets - max(was["ingress"][0], before.counters["frames"] + before.hw_dropped + before.sw_dropped), new_drops)
    return Rates(
        **flows,
        dropped_pps=new_drops / seconds,
        dropped_share=100 * new_drops / came if came else 0.0,
        hw_dropped=now.hw_dropped,
        sw_dropped=now.sw_dropped,
        packets=packets,
        events=per_second(before.counters["events"], now.counters["events"]),
        events_lost=per_second(before.counters["events_lost"], now.counters["events_lost"]),
        ledger={n: per_second(before.counters[n], now.counters[n]) for n in stats.LEDGER},
    )
