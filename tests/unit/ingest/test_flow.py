"""The hardware filter lets through whatever the packet stage wants, judged by a card made of plain Python."""

from __future__ import annotations

from functools import cache

import pytest
from support.running import SAMPLES, collect, runtime
from traffic import Frame

from retina_jit import online
from retina_jit.config import RuntimeConfig
from retina_jit.config_network import OnlineConfig, PortConfig
from retina_jit.filters import FilterSpec, compile_filters
from retina_jit.filters.syntax import Term
from retina_jit.ingest.dpdk import flow

FILTERS = (
    "tcp", "ipv4 and udp", "ipv6", "tcp.port = 443", "udp.dst_port = 53 or tcp.src_port in {80, 22}", "ipv4.addr in 10.0.0.0/8", "ipv4.dst_addr = 192.0.2.1",
    "ipv6 and tcp.port = 443", "tls", "dns or ssh", "tls.sni ~ 'example'", "tcp.port >= 100 and tcp.port <= 200",
)  # fmt: skip
CONFIG = RuntimeConfig(online=OnlineConfig((PortConfig("a", (0,)),)))


def headers(frame: bytes) -> dict[str, bytes]:
    """What a card finds that looks for no tags, options of IPv6 or later fragments."""
    found = {"eth": frame}
    kind = int.from_bytes(frame[12:14], "big")
    protocol = payload = 0
    if kind == 0x0800 and len(frame) >= 34:
        found["ipv4"] = frame[14:]
        first = int.from_bytes(frame[20:22], "big") & 0x1FFF == 0
        protocol, payload = frame[23] if first else 0, 14 + 4 * (frame[14] & 15)
    elif kind == 0x86DD and len(frame) >= 54:
        found["ipv6"] = frame[14:]
        protocol, payload = frame[20], 54
    if protocol in (6, 17):
        found[{6: "tcp", 17: "udp"}[protocol]] = frame[payload:]
    return found


def passes(frame: bytes, patterns: list[flow.Pattern]) -> bool:
    """Whether some rule of a card matches."""
    there = headers(frame)

    def matches(header: flow.Header) -> bool:
        if header.name not in there:
            return False
        found = there[header.name][: flow.SPEC].ljust(flow.SPEC, b"\0")
        return all(f & m == s & m for f, s, m in zip(found, header.spec, header.mask, strict=True))

    return any(all(matches(h) for h in pattern) for pattern in patterns)


@cache
def judged() -> tuple[list[bytes], dict[str, list[bytes]]]:
    """All frames of a capture, and those that each filter wants; one program."""
    made = {text: collect("ZcFrame", text) for text in ("", *FILTERS)}
    runtime([s for s, _ in made.values()], [SAMPLES / "mixed.pcap"]).run()
    found = {text: [bytes(f.data) for f in rows] for text, (_, rows) in made.items()}
    return found.pop(""), found


def patterns_for(text: str) -> list[flow.Pattern]:
    """What a card lets through for a filter."""
    return flow.patterns(online.hardware_rules(CONFIG, first(text)))


def first(text: str) -> tuple[Term, ...]:
    return compile_filters([FilterSpec(text, "packet")]).first


@pytest.mark.parametrize("text", FILTERS)
def test_no_wanted_frame_is_dropped(text):
    every, wanted = judged()
    patterns = patterns_for(text)
    assert len(patterns) > len(flow.unjudged())
    assert all(passes(f, patterns) for f in wanted[text])
    assert set(wanted[text]) <= set(every)


def test_what_nobody_wants_is_dropped():
    every, _ = judged()
    let_through = [f for f in every if passes(f, patterns_for("udp.dst_port = 53"))]
    assert 0 < len(let_through) < len(every)
    assert not [f for f in let_through if f[12:14] == b"\x08\x00" and f[23] == 6]


@pytest.mark.parametrize(
    "frame",
    [
        bytes(12) + bytes.fromhex("8100a0640800") + bytes(40),
        bytes(12) + bytes.fromhex("88a8a0640800") + bytes(40),
        bytes(12) + bytes.fromhex("0800450000280000") + bytes.fromhex("2000") + bytes(30),  # more fragments follow
        bytes(12) + bytes.fromhex("0800450000280000") + bytes.fromhex("1abc") + bytes(30),
        bytes(12) + bytes.fromhex("86dd60000000") + bytes.fromhex("0010003c") + bytes(50),
    ],
)
def test_what_a_card_cannot_judge_passes(frame):
    assert passes(frame, flow.patterns([[("tcp", "dst_port", 443, 16)]]))
    assert passes(Frame(0, frame).data, flow.unjudged())
    assert not passes(frame, flow.patterns([[("tcp", "dst_port", 443, 16)]])[:2])


@pytest.mark.parametrize("config", [RuntimeConfig(), RuntimeConfig(online=OnlineConfig(hardware_assist=False)), RuntimeConfig(online=OnlineConfig(), decap=("gre",))])
def test_no_rules_where_they_are_not_wanted_or_could_hide_something(config):
    assert online.hardware_rules(config, first("tcp.port = 443")) == []
    assert online.hardware_rules(CONFIG, first("")) == []
    assert online.hardware_rules(CONFIG, first("tcp.port = 443")) != []
