"""The block that stands on the terminal each second."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any, TextIO

from retina_jit.config_network import DisplayConfig
from retina_jit.cores import written
from retina_jit.monitor.reading import Rates, Reading, rates
from retina_jit.scale import scaled

RULE = "-" * 46


def _rate(value: float, unit: str) -> str:
    """Return a rate with four decimals, as Retina shows it: 1.2346 Mpps."""
    return scaled(value, unit, ".4f", least="")


def duration(seconds: float) -> str:
    """Return a time as 1h 2m 3s."""
    whole = int(seconds)
    return f"{whole // 3600}h {whole // 60 % 60}m {whole % 60}s"


def throughput(r: Rates) -> list[str]:
    """Return the lines of packets and bits per second, and of drops."""
    lines = [
        f"{label:<9}{_rate(getattr(r, f'{name}_bps'), 'bps')} / {_rate(getattr(r, f'{name}_pps'), 'pps')}"
        for label, name in (("Ingress:", "ingress"), ("Good:", "good"), ("Process:", "process"))
    ]
    total = r.hw_dropped + r.sw_dropped
    return [
        *lines,
        f"Drop: {_rate(r.dropped_pps, 'pps')} ({r.dropped_share:.4f}%)",
        f"HW Dropped: {r.hw_dropped} pkt ({r.share(r.hw_dropped):.4f}%)",
        f"SW Dropped: {r.sw_dropped} pkt ({r.share(r.sw_dropped):.4f}%)",
        f"Total Dropped: {total} pkt ({r.share(total):.4f}%)",
        f"Total Packets: {r.packets} pkt",
    ]


def delivery(now: Reading, r: Rates) -> list[str]:
    """Return the lines of what a NIC does not know: connections, memory, events."""
    from rich.markup import escape  # a name may be a filter's text

    failed = "".join(f", {n} calls of {escape(name)} raised" for name, n in now.failed.items() if n)
    g = now.gauges
    bound = [core for w in now.workers if (core := w.get("bound_core", -1)) >= 0]
    return [
        *([f"Workers: {len(now.workers)}, on cores {written(bound)}"] if bound else []),
        f"Connections: {int(g['connections'])} live, {now.counters['connections']} seen, {now.counters['sessions']} sessions",
        f"Memory: {g['memory_bytes'] / 1e6:.1f} MB, of it {g['arena_bytes'] / 1e6:.1f} MB byte pool",
        f"Events: {_rate(r.events, '/s')}, {now.delivered} delivered, {now.counters['events_lost']} lost, ring {100 * g['ring_filled']:.1f}% full{failed}",
    ]


def funnel(now: Reading, r: Rates) -> list[str]:
    """Return where frames end, those places where any did."""
    frames = max(now.counters["frames"], 1)
    return [f"  {name:<18}{100 * n / frames:7.3f}%  {_rate(r.ledger[name], 'pps')}" for name, n in now.ledger.items() if n]


def mempool(now: Reading) -> list[str]:
    """Return how full the packet buffers of each device are, where it has any."""
    lines = []
    for name, port in now.ports.items():
        if "mempool_avail_cnt" in port:
            free, used = port["mempool_avail_cnt"], port.get("mempool_inuse_cnt", 0)
            lines.append(f"{name} mempool avail: {free}, in use: {used} ({100 * used / max(free + used, 1):.3f}%)")
    return lines


def ratio(port: dict[str, int], above: str) -> str:
    """Return one counter over `rx_phy_packets` in percent, with rich's mark-up: green none, yellow hardly any, red."""
    if above not in port or not port.get("rx_phy_packets"):
        return "UNKNOWN"
    share = port[above] / port["rx_phy_packets"]
    if above == "rx_good_packets":
        return f"{100 * share:.4f}"
    colour = "green" if share == 0 else "yellow" if share <= 1e-6 else "red"
    return f"[{colour}]{100 * share:.4f}[/]"


def port_lines(name: str, port: dict[str, int], wanted: Sequence[str]) -> list[str]:
    """Return the counters of a device whose names have one of `wanted` in them."""
    lines = [
        f"Port {name} statistics",
        f"SW Capture %: {ratio(port, 'rx_good_packets')}",
        f"Out of Buffer %: {ratio(port, 'rx_out_of_buffer')}",
        f"HW Discard %: {ratio(port, 'rx_phy_discard_packets')}",
    ]
    for label, value in port.items():
        if any(w in label for w in wanted):
            bad = value > 0 and any(w in label for w in ("error", "discard", "out_of_buffer"))
            lines.append(f"  {label:<28}{f'[red]{value}[/]' if bad else value}")
    return lines


def block(first: Reading, before: Reading, now: Reading, config: DisplayConfig) -> list[str]:
    """Return the lines of one second, with rich's mark-up in those of devices."""
    lines = [RULE, f"Current time: {duration(now.at - first.at)}"]
    if config.mempool_usage:
        lines += mempool(now)
    r = rates(before, now)
    if config.throughput:
        lines += throughput(r)
    lines += delivery(now, r) + funnel(now, r)
    if config.port_stats:
        for name, port in now.ports.items():
            lines += port_lines(name, port, config.port_stats)
    return lines


def averages(first: Reading, last: Reading) -> list[str]:
    """Return the lines that stand at the end."""
    r = rates(first, last)
    total = r.hw_dropped + r.sw_dropped
    return [
        RULE,
        *[
            f"AVERAGE {label:<9}{_rate(getattr(r, f'{name}_bps'), 'bps')} / {_rate(getattr(r, f'{name}_pps'), 'pps')}"
            for label, name in (("Ingress:", "ingress"), ("Good:", "good"), ("Process:", "process"))
        ],
        f"DROPPED: {total} pkt ({r.share(total):.4f}%)",
        f"Main done. Ran for {duration(last.at - first.at)}",
    ]


class Display:
    """Shows blocks: on a terminal in one place, elsewhere one after the other."""

    def __init__(self, config: DisplayConfig, out: TextIO | None = None) -> None:
        from rich.console import Console

        self._config = config
        self._console = Console(file=out or sys.stderr, highlight=False, soft_wrap=True)
        self._live: Any = None

    def show(self, first: Reading, before: Reading, now: Reading) -> None:
        """Show what happened since the reading before."""
        text = "\n".join(block(first, before, now, self._config))
        if not self._console.is_terminal:
            self._console.print(text)
            return
        from rich.text import Text

        if self._live is None:
            from rich.live import Live

            self._live = Live(console=self._console, auto_refresh=False, transient=True)
            self._live.start()
        self._live.update(Text.from_markup(text), refresh=True)

    def close(self, first: Reading, last: Reading) -> None:
        """Take the block away, and leave the averages."""
        if self._live is not None:
            self._live.stop()
        self._console.print("\n".join(averages(first, last)))
