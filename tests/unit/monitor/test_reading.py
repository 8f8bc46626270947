"""Rates from two readings, and how they are shown."""

from __future__ import annotations

import io
from typing import Any

import pytest

from retina_jit import stats
from retina_jit.config_network import DisplayConfig
from retina_jit.monitor.display import Display, averages, block, duration, ratio
from retina_jit.monitor.reading import Reading, rates
from retina_jit.scale import scaled

PORT = {"rx_good_packets": 1000, "rx_good_bytes": 64000, "rx_phy_packets": 1200, "rx_phy_bytes": 1200 * 68, "rx_phy_discard_packets": 200}


def reading(at: float, ports: Any = None, **counters: int) -> Reading:
    every = {**dict.fromkeys(stats.COUNTERS, 0), **counters}
    gauges = {"connections": 7, "arena_bytes": 2e6, "ring_filled": 0.25, "memory_bytes": 123e6}
    return Reading(at, 1e9 + at, every, [every], ports or {}, gauges, {"f": 3}, counters.get("events", 0), ["x.pcap"])


def test_a_capture_comes_in_is_good_and_is_processed_at_one_rate():
    r = rates(reading(1, frames=100, bytes=10_000), reading(3, frames=300, bytes=30_000))
    assert r.ingress_pps == r.good_pps == r.process_pps == 100
    assert r.ingress_bps == r.good_bps == r.process_bps == 80_000
    assert (r.packets, r.dropped_share, r.hw_dropped, r.sw_dropped) == (300, 0, 0, 0)


def test_a_port_counts_what_is_on_the_wire():
    r = rates(reading(0), reading(2, {"p": PORT}, frames=900, bytes=900 * 60, dropped=100))
    assert (r.ingress_pps, r.good_pps, r.process_pps) == (600, 500, 450)
    assert r.ingress_bps == 8 * 600 * (68 + 20)  # its bytes have the check sequence in them
    assert r.good_bps == 8 * 500 * (64 + 24)
    assert r.process_bps == 8 * 450 * (60 + 24)
    assert (r.hw_dropped, r.sw_dropped, r.packets) == (200, 100, 1200)
    assert (r.dropped_pps, r.dropped_share) == (150, 25)


def test_nothing_is_undefined_in_an_instant_or_without_traffic():
    now = reading(5)
    r = rates(now, now)
    assert (r.ingress_pps, r.dropped_share, r.share(0)) == (0, 0, 0)


@pytest.mark.parametrize(("value", "text"), [(0, "0.0000 "), (999.99993, "999.9999 "), (999.99996, "1.0000 k"), (0.5, "0.5000 "), (-1234.56, "-1.2346 k"), (1234.56, "1.2346 k"), (2.5e9, "2.5000 G"), (1e16, "10000.0000 T")])
def test_numbers_have_a_prefix(value, text):
    assert scaled(value, "", ".4f", least="") == text


def test_workers_that_are_bound_are_shown_with_their_cores():
    first, now = reading(0), reading(1, frames=5)
    assert "Workers" not in "\n".join(block(first, first, now, DisplayConfig()))
    now.workers[:] = [{**now.workers[0], "bound_core": core} for core in (3, 0, 2)]
    assert "Workers: 3, on cores 0,2-3" in block(first, first, now, DisplayConfig())


def test_the_block_has_the_lines_of_retina():
    first, before = reading(0), reading(3722)
    now = reading(3723, {"p": PORT | {"mempool_avail_cnt": 3, "mempool_inuse_cnt": 1, "rx_out_of_buffer": 12}}, frames=900, dropped=100, tracked=900, events=5)
    lines = block(first, before, now, DisplayConfig(port_stats=("out_of",)))
    text = "\n".join(lines)
    for wanted in (
        "Current time: 1h 2m 3s", "p mempool avail: 3, in use: 1 (25.000%)", "Ingress: ", "Good:    ", "Process: ",
        "Drop: 300.0000 pps (25.0000%)", "HW Dropped: 200 pkt (16.6667%)", "SW Dropped: 100 pkt (8.3333%)",
        "Total Dropped: 300 pkt (25.0000%)", "Total Packets: 1200 pkt", "Port p statistics", "SW Capture %: 83.3333",
        "Out of Buffer %: [red]1.0000[/]", "HW Discard %: [red]16.6667[/]", "3 calls of f raised", "ring 25.0% full", "tracked ", "7 live",
    ):  # fmt: skip
        assert wanted in text, wanted
    assert any(line.split() == ["rx_out_of_buffer", "[red]12[/]"] for line in lines)
    assert not any("rx_good" in line for line in lines)
    assert not any(line.startswith("Ingress") for line in block(first, before, now, DisplayConfig(throughput=False)))


def test_colours_of_shares():
    assert ratio({}, "rx_out_of_buffer") == ratio({"rx_out_of_buffer": 1}, "rx_out_of_buffer") == "UNKNOWN"
    assert ratio({"rx_phy_packets": 10, "x": 0}, "x") == "[green]0.0000[/]"
    assert ratio({"rx_phy_packets": 10**7, "x": 1}, "x").startswith("[yellow]")


def test_averages():
    text = "\n".join(averages(reading(0), reading(10, {"p": PORT}, frames=900, dropped=100)))
    assert "AVERAGE Ingress: " in text and "DROPPED: 300 pkt (25.0000%)" in text and "Ran for 0h 0m 10s" in text


def test_elsewhere_than_on_a_terminal_blocks_follow_one_another():
    out = io.StringIO()
    display = Display(DisplayConfig(), out)
    display.show(reading(0), reading(0), reading(1, frames=5))
    display.show(reading(0), reading(1, frames=5), reading(2, frames=9))
    display.close(reading(0), reading(2, frames=9))
    text = out.getvalue()
    assert "\x1b" not in text and text.count("Current time") == 2 and text.count("AVERAGE Ingress") == 1


def test_durations():
    assert (duration(0.9), duration(59.99), duration(3600)) == ("0h 0m 0s", "0h 0m 59s", "1h 0m 0s")
