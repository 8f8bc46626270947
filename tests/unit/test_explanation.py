"""`explain`: every form says the same; the funnel's numbers fit together and to the run's."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ET

from click.testing import CliRunner
from support.running import SAMPLES, config

from retina_jit import explain
from retina_jit.cli.main import main
from retina_jit.explanation import funnel_lines
from retina_jit.subscription import named

TLS = str(SAMPLES / "tls.pcap")
FILTER = "tls.sni ~ 'example' and tcp.port = 443 and frame.len > 1000 and conn.packets > 3"


def given():
    return [named(["ConnRecord", "TlsHandshake"], FILTER, print, "each"), named(["ZcFrame"], "tls and tcp.psh", print, "each"), named(["FiveTuple"], "tcp", print, "each")]


def test_forms_and_the_funnel():
    made = explain(given(), sources=[TLS], config=config())
    data = json.loads(made.json())
    assert [s["stage"] for s in data["funnel"]["stages"]] == ["packet", "connection", "protocol", "session", "packet_deliver", "watch", "end"]
    funnel = {s["stage"]: s for s in data["funnel"]["stages"]}
    assert all(0 <= s["out"] <= s["in"] and s["ns"] >= 0 for s in funnel.values())
    assert funnel["packet"]["ns"] > 0, "the time of the clock is taken off"
    assert funnel["packet"]["in"] == data["funnel"]["frames"] == sum(data["funnel"]["ledger"].values())
    assert funnel["connection"]["in"] == data["funnel"]["connections"] > 0
    assert 0 < funnel["session"]["in"] <= data["funnel"]["sessions"]
    assert 0 < funnel["end"]["out"] <= funnel["end"]["in"]
    assert {s["name"] for s in data["stages"]} == set(funnel)
    assert data["nic"]["rules"] == ["tcp"]
    assert data["formulas"][0]["subscription"] == 0
    text = str(made)
    for part in ("what a network card could do", "some packet has (frame.length >= 1001)", "ask at its end", "its packets wait", "funnel", "ns each"):
        assert part in text, part
    picture = ET.fromstring(made.svg())
    assert len(picture.findall(".//{*}rect")) == len(list(made.sections()))
    assert "ns each" in made.svg()
    page = ET.fromstring(made._repr_html_())
    assert len(page.findall(".//details")) == len(list(made.sections()))
    assert len(page.findall(".//tr")) == 4


def test_a_filter_alone():
    made = explain("udp.port = 53")
    assert made.funnel is None
    assert made.to_dict()["nic"]["rules"] == ["udp.dst_port = 53", "udp.src_port = 53"]
    assert "deliver at once to FiveTuple(FiveTuple)" in made.text()
    assert "def packet_stage" in made.text(sources=True)
    assert repr(made) == str(made) == made.text()


def test_tunnels_are_nothing_for_a_card():
    assert explain("udp.port = 53", config=config(decap=("vxlan",))).to_dict()["nic"]["rules"] == ["everything"]


def test_the_command():
    found = CliRunner().invoke(main, ["explain", "udp.port = 53", "-t", "ConnRecord", "--format", "json"])
    assert found.exit_code == 0, found.output
    assert json.loads(found.stdout)["subscriptions"][0]["data_types"] == ["ConnRecord"]
    assert CliRunner().invoke(main, ["explain", "udp", "--format", "svg"]).stdout.startswith("<svg")
    assert "def packet_stage" in CliRunner().invoke(main, ["explain", "udp", "--code"]).stdout


def test_what_a_frame_takes_all_in_all_is_told_of_many():
    ledger = {"stages": [], "connections": 1, "sessions": 1, "events": 1, "ns_per_frame": 81.3, "ledger": {}}
    assert "81.3 ns per frame" in "\n".join(funnel_lines({**ledger, "frames": 10_000}))
    assert "per frame" not in "\n".join(funnel_lines({**ledger, "frames": 9_999}))
