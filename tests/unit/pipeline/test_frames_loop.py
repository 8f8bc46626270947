"""Programs that want nothing but frames have a loop of their own; it counts and delivers what the general one does."""

from __future__ import annotations

import importlib.resources
import random
from dataclasses import replace

import pytest
from oracle.captures import read_capture
from support.running import MemoryFile, config, runtime, to
from traffic import Frame, pcap_bytes

from retina_jit.program import FRAMES_LOOP, LOOP

SAMPLES = importlib.resources.files("retina_jit") / "samples"
FILTERS = ["", "tcp.port = 443", "icmp or udp", "ipv6", "not ipv4", "tcp.port in {80, 443} or vlan", "frame.len > 100", "ipv4.time_to_live > 60"]


def _run(text: str, frames: list[Frame], loop: str) -> tuple[dict[str, int], list[tuple[int, bytes]]]:
    seen: list[tuple[int, bytes]] = []
    with MemoryFile(pcap_bytes(frames)) as path:
        made = runtime([to("ZcFrame", text, lambda f: seen.append((f.ts, bytes(f.data))))], [path], config())
        assert made.program.loop == FRAMES_LOOP
        made.workers[0].loop = loop
        result = made.run()
    return dict(result.counters), seen


@pytest.mark.parametrize("text", FILTERS)
def test_it_gives_what_the_general_loop_gives(text: str) -> None:
    random_ = random.Random(5)
    frames = [Frame(f.ts, f.data, f.length) for f in read_capture((SAMPLES / "mixed.pcap").read_bytes()).frames]
    damaged = [replace(f, data=bytes(random_.randrange(256) if random_.random() < 0.03 else b for b in f.data)) for f in frames * 3]
    cut = [replace(f, data=f.data[: random_.randrange(len(f.data) + 1)]) for f in frames]
    everything = [*frames, *damaged, *cut]
    assert _run(text, everything, FRAMES_LOOP) == _run(text, everything, LOOP)


@pytest.mark.parametrize(
    ("types", "text"),
    [("ZcFrame", "tcp.syn = 1"), ("ZcFrame", "ipv4.addr = 192.0.2.1"), ("ZcFrame", "tls"), ("FiveTuple", "tcp"), ("ConnRecord", "")],
)
def test_it_is_not_taken_where_more_than_its_columns_is_needed(types: str, text: str) -> None:
    with MemoryFile(pcap_bytes([])) as path:
        assert runtime([to(types, text, print)], [path], config()).program.loop == LOOP


def test_tunnels_need_the_general_loop() -> None:
    with MemoryFile(pcap_bytes([])) as path:
        assert runtime([to("ZcFrame", "", print)], [path], config(decap=("gre",))).program.loop == LOOP
