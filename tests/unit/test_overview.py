"""`retina-jit stats`: the numbers are those of the capture, and the page is a page."""

from __future__ import annotations

import json
import re
import xml.etree.ElementTree as ET
from collections import Counter
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from retina_jit.cli import main
from retina_jit.overview import Overview, overview
from retina_jit.overview.collect import BINS, FIRST_WIDTH, TRAFFIC, count_frame
from retina_jit.overview.page import html, scaled

SAMPLE = Path(__file__).parents[2] / "retina_jit" / "samples" / "mixed.pcap"


@pytest.fixture(scope="module")
def found() -> Overview:
    return overview(str(SAMPLE))


def test_numbers_agree_with_each_other(found: Overview) -> None:
    r = found.result
    assert r["frames"] == 150 == sum(packets for _, packets, _ in found.traffic) == sum(n for _, n in found.sizes)
    assert r["bytes"] == sum(octets for _, _, octets in found.traffic)
    assert r["connections"] == sum(found.protocols.values()) == len(found.durations) == sum(found.services.values())
    assert sum(found.protocol_bytes.values()) == sum(found.volumes) <= r["bytes"]
    assert {"tls", "dns", "http"} <= set(found.protocols)
    assert found.names["TLS server names"]
    assert found.names["DNS names"]
    assert found.names["HTTP hosts"]


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
