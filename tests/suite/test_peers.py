"""Cases that Wireshark and libpcap can say too: they have to find the same packets, in the suite's tables and in real captures."""

from __future__ import annotations

import tomllib
from functools import cache
from pathlib import Path

import pytest
from oracle import bpf, wireshark
from oracle.captures import read_capture
from support.filters import Rows
from support.running import SAMPLES, SHARED
from support.suite import frame, program
from traffic import Frame, pcap_bytes

FOLDER = Path(__file__).parent
FILTERS, HEADERS, PEERS = (tomllib.loads((FOLDER / f"{name}.toml").read_text()) for name in ("filters", "headers", "peers"))
ETHERNET = 1
MOST_OF_A_CAPTURE, MOST_CAPTURES = 400, 40


@cache
def frames() -> tuple[bytes, ...]:
    """Ethernet frames: of the suite's tables, of the shipped captures, and of those for conformance where they are there."""
    found = [frame(shape) for file in (FILTERS, HEADERS) for shape in file["packets"].values()]
    captures = sorted(SAMPLES.glob("*.pcap"))
    if (SHARED / "pcaps").is_dir():
        captures += [p for p in sorted((SHARED / "pcaps").iterdir()) if p.suffix in (".pcap", ".pcapng", ".cap")][:MOST_CAPTURES]
    for path in captures:
        try:
            capture = read_capture(path.read_bytes())
        except ValueError:
            continue  # damaged on purpose
        found += [f.data for f in capture.frames[:MOST_OF_A_CAPTURE] if f.link == ETHERNET and len(f.data) > 14 and f.length == len(f.data)]
    return tuple(found)


@cache
def ours() -> dict[str, list[int]]:
    """For each case the frames that match here."""
    texts = tuple({**PEERS["wireshark"], **PEERS["bpf"]})
    found: dict[str, list[int]] = {text: [] for text in texts}
    for row, s in program(texts, "packet", "tables").packets(Rows([(f, ETHERNET, len(f)) for f in frames()]))[0]:
        found[texts[s]].append(row)
    return found


@pytest.fixture(scope="module")
def display(tmp_path_factory):
    """For each case what tshark says, and the frames that can be compared."""
    if not wireshark.installed():
        pytest.skip("tshark is not installed (Debian: apt-get install tshark)")
    scratch = tmp_path_factory.mktemp("tshark")
    capture = scratch / "all.pcap"
    capture.write_bytes(pcap_bytes([Frame(n * 10**6, f) for n, f in enumerate(frames())]))
    cases = PEERS["wireshark"]
    said, protocols = wireshark.matching([theirs or ours for ours, theirs in cases.items()], capture, scratch)
    assert len(protocols) == len(frames())
    return dict(zip(cases, said)), [plain(names, f) for names, f in zip(protocols, frames())]


def plain(names: str, data: bytes) -> bool:
    """Whether Wireshark sees one network protocol, behind headers that are known here too.

    Of what tunnels and ICMP errors carry its fields speak as well. Network service headers (RFC 8300) are not looked behind here, nor
    Cisco's CMD headers of another version than 1.
    """
    found = names.split(":")
    if "nsh" in found or ("cmd" in found and data[14] != 1):
        return False
    return sum(name in ("ip", "ipv6") for name in found) <= 1


@pytest.mark.parametrize("text", PEERS["wireshark"])
def test_as_wireshark_says(text, display):
    said, comparable = display
    assert [n for n in ours()[text] if comparable[n]] == [n for n in said[text] if comparable[n]]


def direct(data: bytes) -> bool:
    """Whether libpcap finds a transport: behind Ethernet and IP without extension headers."""
    kind = int.from_bytes(data[12:14], "big")
    return kind == 0x0800 or kind == 0x0806 or (kind == 0x86DD and len(data) >= 54 and data[20] in (6, 17, 58))


@pytest.mark.parametrize("text", PEERS["bpf"])
def test_as_libpcap_says(text):
    if bpf.library() is None:
        pytest.skip("libpcap is not installed (Debian: apt-get install libpcap0.8)")
    among = [n for n, f in enumerate(frames()) if text.startswith("vlan") or direct(f)]
    wanted = {among[k] for k in bpf.matching(PEERS["bpf"][text], [frames()[n] for n in among])}
    assert [n for n in ours()[text] if n in set(among)] == sorted(wanted)


def test_the_cases_are_the_suites_and_choose():
    known = {**FILTERS["match"], **HEADERS["match"]}
    asked = {**PEERS["wireshark"], **PEERS["bpf"]}
    assert set(asked) <= set(known)
    assert len(asked) >= 60
    assert sum(1 for text in asked if ours()[text]) > len(asked) * 9 // 10
