"""`retina-jit stats`: the numbers are those of the capture, and the page is a page."""

from __future__ import annotations

import json
import re
import struct
import xml.etree.ElementTree as ET
from collections import Counter
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

from retina_jit.cli import main
from retina_jit.overview import Overview, collect, overview, tally
from retina_jit.overview.collect import BINS, FIRST_WIDTH, TRAFFIC, _put_traffic, count_frame
from retina_jit.overview.page import html
from retina_jit.overview.tally import Distribution, Tally
from retina_jit.scale import lasting, scaled

SAMPLE = Path(__file__).parents[2] / "retina_jit" / "samples" / "mixed.pcap"


@pytest.fixture(scope="module")
def found() -> Overview:
    return overview(str(SAMPLE))


def test_numbers_agree_with_each_other(found: Overview) -> None:
    r = found.result
    assert r["frames"] == 150 == sum(packets for _, packets, _ in found.traffic) == sum(n for _, n in found.sizes)
    assert r["bytes"] == sum(octets for _, _, octets in found.traffic)
    assert r["connections"] == sum(found.protocols.values()) == len(found.durations) == found.services.total()
    assert sum(found.protocol_bytes.values()) == found.volumes.total <= r["bytes"]
    assert {"tls", "dns", "http"} <= set(found.protocols)
    assert found.names["TLS server names"]
    assert found.names["DNS names"]
    assert found.names["HTTP hosts"]


def test_numbers_are_those_of_the_records(monkeypatch: pytest.MonkeyPatch) -> None:
    """Counted one connection after the other, from what Python sees of each."""
    protocols, octets, talkers, services, nanoseconds = Counter[str](), Counter[str](), Counter[str](), Counter[str](), 0
    by_column = collect._connections

    def by_record(made: Overview, conn: Any) -> None:
        nonlocal nanoseconds
        for record in conn:
            volume, five = record.total_pkt_bytes, record.five_tuple
            protocols[record.service or five.proto] += 1
            octets[record.service or five.proto] += volume
            services[f"{five.resp_port}/{five.proto}"] += 1
            for end in {five.orig_addr, five.resp_addr}:
                talkers[end] += volume
            nanoseconds += record.last_seen_ts - record.first_seen_ts
        by_column(made, conn)

    monkeypatch.setattr(collect, "_connections", by_record)
    found = overview(str(SAMPLE))
    assert protocols.total() == found.result["connections"] > 10
    assert found.protocols == protocols
    assert found.protocol_bytes == octets
    assert dict(found.talkers.items()) == talkers
    assert dict(found.services.items()) == services
    assert found.volumes.total == octets.total()
    assert found.durations.total == nanoseconds > 0


def test_first_and_last_are_those_of_frames(found: Overview) -> None:
    data, at, times = SAMPLE.read_bytes(), 24, []
    assert data[:4] == b"\x4d\x3c\xb2\xa1"  # nanoseconds
    while at < len(data):
        second, rest, length, _ = struct.unpack_from("<4I", data, at)
        times.append(second * 10**9 + rest)
        at += 16 + length
    assert (found.result["first"], found.result["last"]) == (min(times), max(times))
    assert found.result["seconds"] == (max(times) - min(times)) / 1e9 > 0


def test_workers_that_were_at_work_at_different_times_share_the_bins() -> None:
    states = np.zeros(3, TRAFFIC).view(np.recarray)
    times = [[10**18 + n for n in range(0, 10**9, 10**7)], [10**18 + 10**15 + n * 10**6 for n in range(300)], []]
    for state, seen in zip(states, times, strict=True):
        for t in seen:
            count_frame(Frame(t, 60), state)  # type: ignore[arg-type]
    o = Overview("x")
    _put_traffic(o, [s for s in states if s["width"]])
    assert len(o.traffic) <= BINS
    assert sum(packets for _, packets, _ in o.traffic) == 400
    assert sum(octets for _, _, octets in o.traffic) == 400 * 60
    assert (o.traffic[0][1], o.traffic[-1][1]) == (100, 300)


@pytest.mark.parametrize("most", [10**6, 60])
def test_a_tally_keeps_the_largest(most: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tally, "PENDING", 200)
    rng, told = np.random.default_rng(most), Counter[str]()
    counted = Tally(lambda kind, high, low: f"{kind}:{high}:{low}", most)
    for _ in range(50):
        kind, high, low = rng.integers(0, 2, 40), rng.integers(-2, 2, 40), rng.integers(-6, 6, 40)
        value = np.where((kind == 1) & (high == -1) & (low < -3), 10**12, 1) * rng.integers(0, 9, 40)
        counted.add(kind, high, low, value)
        for k, h, n, v in zip(kind.tolist(), high.tolist(), low.tolist(), value.tolist(), strict=True):
            told[f"{k}:{h}:{n}"] += v
    assert counted.total() == told.total()
    found = dict(counted.items())
    assert len(found) == len(counted)
    assert [n for n, _ in counted.most_common(2)] == [n for n, _ in told.most_common(2)]
    if most > 100:
        assert found == told
        assert counted.others == 0
        return
    assert found["(others)"] == counted.others > 0
    assert len(found) <= most + 1
    for name, _ in told.most_common(2):
        assert found[name] == told[name]
    assert all(n <= told[name] for name, n in found.items() if name != "(others)")


def test_a_tally_of_nothing() -> None:
    empty = Tally(lambda *_: "")
    assert (len(empty), empty.total(), empty.most_common(3)) == (0, 0, [])
    empty.add(0, 0, np.empty(0, np.int64), 1)
    assert (len(empty), empty.total(), empty.most_common(3)) == (0, 0, [])


def test_a_distribution_tells_what_sorting_would() -> None:
    rng = np.random.default_rng(5)
    values = np.concatenate([np.zeros(700, np.int64), rng.integers(1, 50, 300), (10 ** rng.uniform(0, 18.9, 9000)).astype(np.int64)])
    counted = Distribution(1e-9)
    for part in np.array_split(rng.permutation(values), 7):
        counted.add(part)
    ordered = np.sort(values)
    assert len(counted) == len(values)
    assert counted.total == int(values.astype(object).sum())
    at = [0.0, 0.01, 0.0695, 0.1, 0.25, 0.5, 0.9, 0.99, 1.0]
    for share, told in zip(at, counted.quantiles(at), strict=True):
        exact = ordered[max(int(np.ceil(share * len(ordered))) - 1, 0)] * 1e-9
        assert exact <= told * (1 + 1e-9)
        assert told <= exact * 1.024
    points = counted.points()
    assert points == sorted(points)
    assert points[0][0] == pytest.approx(1e-9)
    assert points[-1] == (pytest.approx(ordered[-1] * 1e-9), 1.0)
    assert Distribution().quantiles(at) == Distribution().points() == []
    only_zeros = Distribution()
    only_zeros.add(np.zeros(3, np.int64))
    assert only_zeros.quantiles([0.5]) == [0.0]
    assert only_zeros.points() == []


class Frame:
    def __init__(self, ts: int, length: int) -> None:
        self.ts, self.length = ts, length


def test_bins_widen_when_time_runs_out_of_them() -> None:
    state = np.zeros(1, TRAFFIC)[0].view(np.recarray)
    rng, times = np.random.default_rng(1), []
    for n in range(5000):
        times.append(10**18 + n * FIRST_WIDTH // 2 + int(rng.integers(100)))
        count_frame(Frame(times[-1], 1 << (n % 12)), state)  # type: ignore[arg-type]
    assert state.width == FIRST_WIDTH * 16
    told = Counter((t - times[0]) // int(state.width) for t in times)
    assert [int(n) for n in state.packets] == [told[k] for k in range(BINS)]
    assert [int(n) for n in state.sizes][:12] == [sum(1 for n in range(5000) if n % 12 == k) for k in range(12)]


class Tags(HTMLParser):
    """Notes tags that are not closed, and whatever comes from elsewhere."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.foreign: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag not in ("meta", "line"):
            self.open.append(tag)
        self.foreign += [v or "" for k, v in attrs if k in ("src", "href")]

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        return

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def test_the_page_is_whole_and_stands_alone(found: Overview) -> None:
    page = html(found)
    tags = Tags()
    tags.feed(page)
    assert tags.open == []
    assert tags.foreign == []
    assert page.count("<svg") == 3
    for picture in page.split("<svg")[1:]:
        ET.fromstring("<svg" + picture.partition("</svg>")[0] + "</svg>")


def test_what_a_capture_says_is_no_markup() -> None:
    o = Overview("<b>.pcap", result={"frames": 0, "bytes": 0, "connections": 0, "sessions": 0, "seconds": 0.0, "first": None, "ledger": {}})
    o.names["HTTP hosts"] = Counter({"<script>alert(1)</script>": 3})
    assert "<script" not in html(o)
    assert "<b>.pcap" not in html(o)


def test_forms_of_the_command(tmp_path: Path) -> None:
    ran = CliRunner().invoke(main, ["stats", "-r", str(SAMPLE), "-q"])
    assert ran.exit_code == 0, ran.output
    assert "150 frames" in ran.output
    assert "TLS server names" in ran.output
    ran = CliRunner().invoke(main, ["stats", "-r", str(SAMPLE), "-q", "--format", "json", "-o", str(tmp_path / "o.json")])
    assert ran.exit_code == 0
    assert json.loads((tmp_path / "o.json").read_text())["frames"] == 150
    cut = tmp_path / "cut.pcap"
    cut.write_bytes(SAMPLE.read_bytes()[:-7])
    ran = CliRunner().invoke(main, ["stats", "-r", str(cut), "-q", "--format", "html", "-o", str(tmp_path / "o.html")])
    assert ran.exit_code == 3
    assert "cut at byte" in (tmp_path / "o.html").read_text()


def test_labels_have_room(found: Overview) -> None:
    """A letter of 12 px is about 7 px wide."""
    for label, x in re.findall(r'<text x="([0-9.]+)"[^>]*text-anchor="end">([^<]*)<', html(found)):
        assert 7 * len(x) <= float(label)


@pytest.mark.parametrize(("value", "said"), [(0, "0 B"), (999, "999 B"), (1500, "1.5 kB"), (999_999, "1 MB"), (2.5e12, "2.5 TB"), (5e15, "5e+03 TB"), (0.02, "20 mB"), (1e-6, "1 µB"), (2e-12, "0.002 nB")])
def test_numbers_with_prefixes(value: float, said: str) -> None:
    assert scaled(value, "B") == said


@pytest.mark.parametrize(
    ("seconds", "said"),
    [
        (0, "0 s"), (0.0021, "2.1 ms"), (12.5, "12.5 s"), (59.99, "60 s"), (60, "1 min"), (200, "3 min 20 s"), (3599.7, "1 h"),
        (18_000, "5 h"), (18_061, "5 h 1 min"), (86_400, "1 d"), (535_246_524, "6,194 d 23 h"),
    ],
)  # fmt: skip
def test_time_spans_are_said_as_people_say_them(seconds: float, said: str) -> None:
    assert lasting(seconds) == said
