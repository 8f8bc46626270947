"""To scapy and back, and frames that are in memory as a capture."""

from __future__ import annotations

import sys
from typing import Any

import pytest
from oracle.captures import read_capture
from support.running import SAMPLES, collect, run_content

import retina_jit as rj
from retina_jit.errors import MissingExtraError, SourceError

MIXED = SAMPLES / "mixed.pcap"


def captured() -> list[Any]:
    return read_capture(MIXED.read_bytes()).frames


def frames() -> list[rj.ZcFrame]:
    subscription, seen = collect("ZcFrame")
    run_content([subscription], MIXED.read_bytes())
    return seen


def test_a_frame_s_bytes_times_and_addresses_are_scapy_s() -> None:
    scapy = pytest.importorskip("scapy.all")
    packets = [f.to_scapy() for f in frames()]
    theirs = scapy.rdpcap(str(MIXED))
    assert [bytes(p) for p in packets] == [f.data for f in captured()]
    assert [p.time for p in packets] == [p.time for p in theirs]
    assert [p.wirelen for p in packets] == [p.wirelen for p in theirs]
    assert [p.summary() for p in packets] == [p.summary() for p in theirs]


def test_packets_of_a_connection_are_scapy_s() -> None:
    scapy = pytest.importorskip("scapy.all")
    subscription, seen = collect("BidirPktStream", "tls")
    run_content([subscription], MIXED.read_bytes())
    made = [p.to_scapy() for connection in seen for p in connection]
    theirs = {bytes(p): p for p in scapy.rdpcap(str(MIXED))}
    assert len(made) > 20
    assert all(bytes(p) in theirs for p in made)
    assert {p[scapy.TCP].dport for p in made} >= {443}


def test_raw_ip_and_links_that_scapy_does_not_know() -> None:
    scapy = pytest.importorskip("scapy.all")
    inner = next(f.data[14:] for f in captured() if f.data[12:14] == b"\x08\x00")
    packet = rj.ZcFrame.from_bytes(inner, link=101).to_scapy()
    assert isinstance(packet, scapy.IP)
    assert isinstance(rj.ZcFrame.from_bytes(b"abc", link=65000).to_scapy(), scapy.Raw)


def test_a_frame_made_of_bytes_is_one_that_a_run_gives() -> None:
    for f in frames():
        made = rj.ZcFrame.from_bytes(f.data, ts=f.ts, length=f.length, link=f.link, number=f.number)
        assert made.to_dict() == f.to_dict()
        assert (bytes(made), made.number, made.link, len(made)) == (bytes(f), f.number, 1, len(f))


def test_packets_of_scapy_frames_and_bytes_are_read_like_a_capture() -> None:
    scapy = pytest.importorskip("scapy.all")
    wanted = rj.read(MIXED).connections.to_dicts()
    assert wanted
    assert rj.from_bytes(frames()).connections.to_dicts() == wanted
    assert rj.from_bytes((f.ts, f.data) for f in captured()).connections.to_dicts() == wanted
    assert rj.from_bytes(scapy.rdpcap(str(MIXED))).connections.to_dicts() == wanted
    plain = rj.from_bytes([f.data for f in captured()])
    assert plain.packets["number"].tolist() == list(range(1, len(captured()) + 1))
    asked = scapy.IP(src="192.0.2.1", dst="192.0.2.2") / scapy.UDP(sport=4000, dport=53) / scapy.DNS(qd=scapy.DNSQR(qname="a.example"))
    assert rj.from_bytes([asked]).select("dns", "dns.query_domain").to_dicts() == [{"dns.query_domain": "a.example"}]


def test_what_is_no_frame_is_refused() -> None:
    with pytest.raises(SourceError, match=r"frames\[1\]: str is no frame"):
        rj.from_bytes([b"x", "y"])
    with pytest.raises(SourceError, match=r"frames\[1\]: link type 101 beside 1"):
        rj.from_bytes([b"x", rj.ZcFrame.from_bytes(b"x", link=101)])
    scapy = pytest.importorskip("scapy.all")
    with pytest.raises(SourceError, match=r"begin it with Ether"):
        rj.from_bytes([scapy.UDP()])


def test_without_scapy_the_message_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [n for n in sys.modules if n.partition(".")[0] == "scapy"]:
        monkeypatch.setitem(sys.modules, name, None)  # type: ignore[arg-type]
    monkeypatch.setitem(sys.modules, "scapy", None)  # type: ignore[arg-type]
    monkeypatch.setitem(sys.modules, "scapy.all", None)  # type: ignore[arg-type]
    with pytest.raises(MissingExtraError, match="pip install scapy"):
        rj.ZcFrame.from_bytes(b"x").to_scapy()


@pytest.mark.parametrize("ts", [-1, 2**32 * 10**9])
def test_a_time_that_a_capture_cannot_hold_is_refused(ts: int) -> None:
    with pytest.raises(SourceError, match=rf"frames\[1\]: time {ts}: nanoseconds"):
        rj.from_bytes([(5, bytes(60)), (ts, bytes(60))])
    last = 2**32 * 10**9 - 1
    assert rj.from_bytes([(last, bytes(60))]).packets.to_dicts()[0]["ts"] == last


def test_a_memoryview_of_numbers_is_as_long_as_its_bytes() -> None:
    given = memoryview(bytes(60)).cast("I")
    (row,) = rj.from_bytes([given]).packets.to_dicts()
    assert (row["length"], row["caplen"]) == (60, 60)
