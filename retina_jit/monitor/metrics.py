"""Counters for Prometheus, made when they are asked for. Needs the extra `retina-jit[metrics]`."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from retina_jit.extras import library
from retina_jit.monitor.reading import Reading

BY_CORE = (
    # Retina's names, so that its dashboards go on working: metric, its unit, our counter, what it says
    ("retina_worker_received", "pkts", "frames", "Packets received."),
    ("retina_worker_received", "bytes", "bytes", "Bytes received."),
    ("retina_ignored_by_packet_filter", "pkts", "filtered", "Packets that no subscription can want."),
    ("retina_ignored_by_packet_filter", "bytes", "filtered_bytes", "Bytes of packets that no subscription can want."),
    ("retina_dropped_middle_of_connection_tcp", "pkts", "not_syn", "TCP packets of connections whose start was not seen."),
    ("retina_dropped_middle_of_connection_tcp", "bytes", "not_syn_bytes", "Bytes of TCP packets of connections whose start was not seen."),
    ("retina_tcp_received", "pkts", "tcp_frames", "TCP packets that the packet filter lets through."),
    ("retina_tcp_received", "bytes", "tcp_bytes", "Bytes of TCP packets that the packet filter lets through."),
    ("retina_udp_received", "pkts", "udp_frames", "UDP packets that the packet filter lets through."),
    ("retina_udp_received", "bytes", "udp_bytes", "Bytes of UDP packets that the packet filter lets through."),
    ("retina_tcp_new_connections", "", "connections_tcp", "TCP connections."),
    ("retina_udp_new_connections", "", "connections_udp", "UDP connections."),
    ("retina_idle_cycles", "", "idle_polls", "Times that there was nothing to receive."),
    ("retina_all_cycles", "", "polls", "Times that the queues of a port were asked."),
)
GLOBAL = ("ingress", "good", "processed")
GAUGES = {"connections_now": "Connections in the table.", "arena_bytes": "Bytes of the byte pool in use.", "bound_core": "Core that the worker is bound to; -1: to none."}


def available() -> None:
    """Raise a MissingExtraError if the library is missing."""
    library("prometheus_client", "metrics for Prometheus", "metrics")


class Collector:
    """Gives the registry of `prometheus_client` what a run counts.

    Metrics that an app registers itself in the same registry are served beside these.

    Parameters
    ----------
    read : callable
        Returns a `Reading`.
    """

    def __init__(self, read: Callable[[], Reading]) -> None:
        self._read = read

    def describe(self) -> list[Any]:
        """Return nothing: so registering asks for no reading."""
        return []

    def collect(self) -> Iterator[Any]:
        """Yield the metric families."""
        from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

        now = self._read()
        for name, unit, key, text in BY_CORE:
            family = CounterMetricFamily(name, text, labels=["core"], unit=unit)
            for core, worker in enumerate(now.workers):
                if key in worker:
                    family.add_metric([str(core)], worker[key])
            yield family
        volumes = now.volumes()
        for name, key in zip(GLOBAL, ("ingress", "good", "process"), strict=True):
            packets, bits = volumes[key]
            yield CounterMetricFamily(f"dpdk_{name}", f"Packets, {name}.", packets, unit="pkts")
            yield CounterMetricFamily(f"dpdk_{name}", f"Bytes on the wire, {name}.", bits / 8, unit="bytes")
        yield CounterMetricFamily("dpdk_hw_dropped", "Packets dropped by the device.", now.hw_dropped, unit="pkts")
        yield CounterMetricFamily("dpdk_sw_dropped", "Packets dropped by the receive queue.", now.sw_dropped, unit="pkts")
        yield from self._ours(now, CounterMetricFamily, GaugeMetricFamily)

    def _ours(self, now: Reading, counter: Any, gauge: Any) -> Iterator[Any]:
        ledger = counter("retina_jit_frames", "Frames by where they ended.", labels=["core", "end"])
        others = counter("retina_jit_count", "All other counters of retina_jit.stats.", labels=["core", "name"])
        for core, worker in enumerate(now.workers):
            for name, value in worker.items():
                if name in now.ledger:
                    ledger.add_metric([str(core), name], value)
                elif name not in GAUGES:
                    others.add_metric([str(core), name], value)
        yield from (ledger, others)
        for name, text in GAUGES.items():
            family = gauge(f"retina_jit_{name}", text, labels=["core"])
            for core, worker in enumerate(now.workers):
                family.add_metric([str(core)], worker[name])
            yield family
        yield counter("retina_jit_events_delivered", "Events handed over to Python.", now.delivered)
        failed = counter("retina_jit_callbacks_failed", "Calls that raised.", labels=["subscription"])
        for name, n in now.failed.items():
            failed.add_metric([name], n)
        yield failed
        yield gauge("retina_jit_ring_filled", "Share of the fullest event ring.", now.gauges["ring_filled"])
        yield gauge("retina_jit_memory_bytes", "Memory of the process in RAM.", now.gauges["memory_bytes"])
        ports = gauge("retina_jit_port", "Counters of a device, and of its packet buffers.", labels=["device", "name"])
        for device, port in now.ports.items():
            for name, value in port.items():
                ports.add_metric([device, name], value)
        yield ports
