"""What is counted only for a monitor: TCP and UDP that the packet filter lets through, bytes of what is not wanted."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import msgspec
import pytest
from support.running import MemoryFile, check, config, runtime, to
from traffic import Frame, Link, TcpConversation, UdpExchange, merge, pcap_bytes
from traffic import packets as p

from retina_jit import stats
from retina_jit.ingest import readahead
from retina_jit.program import FRAMES_LOOP, LOOP
from retina_jit.runtime import Runtime

SERVER = "198.51.100.9"
Known = list[tuple[Frame, str]]


def traffic(conversations: int = 12) -> Known:
    """Frames, with what each is: tcp, middle (of a TCP connection), udp, fragment, other."""
    parts: list[Known] = []
    for n in range(conversations):
        begun = TcpConversation((f"192.0.2.{n + 1}", 40_000 + n), (SERVER, 443))
        begun.open()
        begun.to_server(bytes(100 + n))
        begun.to_client(bytes(3000), mss=700)
        begun.close()
        parts.append([(f, "tcp") for f in begun.frames])
        middle = TcpConversation((f"2001:db8::{n + 1}", 41_000 + n), ("2001:db8::ffff", 443))
        middle.open()
        shown = len(middle.frames)
        middle.to_server(bytes(50))
        middle.to_client(bytes(900))
        parts.append([(f.cut(90), "middle") for f in middle.frames[shown:]])
        asked = UdpExchange((f"192.0.2.{n + 1}", 42_000 + n), (SERVER, 53))
        asked.to_server(bytes(30 + n))
        asked.to_client(bytes(400))
        parts.append([(f.cut(60), "udp") for f in asked.frames])
        large = UdpExchange((f"192.0.2.{n + 1}", 43_000 + n), (SERVER, 5000))
        large.to_server(bytes(4000), mtu=1500)
        parts.append([(f, "fragment") for f in large.frames])
        ping = p.ipv4("192.0.2.1", SERVER, 1, p.icmp(8, rest=n, payload=bytes(56)))
        parts.append([(Frame(asked.now_ns, Link().wrap(kind, packet)), "other") for kind, packet in ((0x0800, ping), (0x88CC, bytes(50)))])
    kinds = {id(f): kind for part in parts for f, kind in part}
    return [(f, kinds[id(f)]) for f in merge(*([f for f, _ in part] for part in parts))]


def expected(known: Known, let_through: set[str], ignored: set[str], dropped: set[str]) -> dict[str, int]:
    size: Counter[str] = Counter()
    for frame, kind in known:
        if kind in let_through:
            which = "udp" if kind in ("udp", "fragment") else "tcp"
            size[f"{which}_frames"] += 1
            size[f"{which}_bytes"] += frame.length
        size["filtered_bytes"] += frame.length * (kind in ignored)
        size["not_syn_bytes"] += frame.length * (kind in dropped)
    return {name: size[name] for name in stats.VOLUMES}


def looked_at(made: Runtime) -> dict[str, int]:
    for worker in made.workers:
        worker.count_volumes()
    check(made.run())
    return made.reading().received


TRAFFIC = traffic()
CASES = {
    "connections of TCP": ("ConnRecord", "tcp", {"tcp", "middle"}, {"udp"}, {"middle"}),
    "connections of UDP": ("ConnRecord", "udp", {"udp"}, {"tcp", "middle"}, set()),
    "all connections": ("ConnRecord", "", {"tcp", "middle", "udp"}, set(), {"middle"}),
    "some connections": ("ConnRecord", "ipv6", {"middle"}, {"tcp", "udp"}, {"middle"}),
}


@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize("case", CASES)
def test_of_connections(case: str, workers: int) -> None:
    types, text, *kinds = CASES[case]
    with MemoryFile(pcap_bytes([f for f, _ in TRAFFIC])) as path:
        made = runtime([to(types, text, lambda _: None)], [path], msgspec.structs.replace(config(), workers=workers))
        assert made.program.loop == LOOP and len(made.workers) == workers
        assert looked_at(made) == expected(TRAFFIC, *kinds)
        # The ledger's counters of the same frames.
        counters = made.reading().counters
    assert counters["not_syn"] == sum(kind in kinds[2] for _, kind in TRAFFIC)
    assert counters["filtered"] == sum(kind in kinds[1] for _, kind in TRAFFIC)


@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize(("loop", "decap"), [(FRAMES_LOOP, ()), (LOOP, ("gre",))])
def test_of_frames(loop: str, decap: tuple[str, ...], workers: int) -> None:
    """Where no connection wants datagrams, the first fragment of one, which has the header, is UDP; the others are not."""
    with MemoryFile(pcap_bytes([f for f, _ in TRAFFIC])) as path:
        made = runtime([to("ZcFrame", "udp", lambda _: None)], [path], msgspec.structs.replace(config(decap=decap), workers=workers))
        assert made.program.loop == loop and len(made.workers) == workers
        found = looked_at(made)
    headed = [(f, kind) for f, kind in TRAFFIC if kind != "fragment" or f.data[20:22] == b"\x20\0"]
    assert sum(kind == "fragment" for _, kind in headed) == 12
    assert found == expected(headed, {"udp", "fragment"}, {"tcp", "middle"}, set())


def again(known: Known, times: int) -> Known:
    return [(Frame(f.ts_ns + n * 3600 * 10**9, f.data, f.length), kind) for n in range(times) for f, kind in known]


@pytest.mark.parametrize(("types", "kinds"), [("ConnRecord", {"tcp", "middle"}), ("ZcFrame", {"tcp", "middle"})])
def test_where_frames_of_others_are_passed_over(types: str, kinds: set[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(readahead, "is_worth", lambda _: True)
    large = again(traffic(40), 12)
    (tmp_path / "x.pcap").write_bytes(pcap_bytes([f for f, _ in large]))
    made = runtime([to(types, "tcp", lambda _: None)], [tmp_path / "x.pcap"], msgspec.structs.replace(config(), workers=2))
    dropped = {"middle"} if types == "ConnRecord" else set()
    found = looked_at(made)
    if types == "ZcFrame":
        large = [(f, kind) for f, kind in large if kind != "fragment"] + [(f, "first") for f, kind in large if f.data[20:22] == b"\x20\0"]
    assert found == expected(large, kinds, {"udp", "first"}, dropped)


def test_what_the_packet_filter_lets_through_meets_connections_or_is_delivered() -> None:
    """Packets in tunnels, which meet connections as well, are no frames of their own."""
    inner = TcpConversation(("10.0.0.1", 1000), ("10.0.0.2", 80))
    inner.open()
    carried = [Frame(f.ts_ns, Link().wrap(0x0800, p.ipv4("192.0.2.1", SERVER, 4, f.data[14:]))) for f in inner.frames]
    known = [*TRAFFIC, *((f, "other") for f in carried)]
    for text, deliver in (("", "udp"), ("tls", "tcp.port = 443")):
        with MemoryFile(pcap_bytes([f for f, _ in known])) as path:
            made = runtime([to("ConnRecord", text, lambda _: None), to("ZcFrame", deliver, lambda _: None)], [path], config(decap=("all",)))
            found = looked_at(made)
            counters = made.reading().counters
        ended = sum(counters[n] for n in ("delivered", "not_syn", "table_full", "unwanted", "tracked"))
        assert found["tcp_frames"] + found["udp_frames"] == ended > 0
        assert counters["tunnelled"] == len(carried)


@pytest.mark.parametrize("workers", [1, 2])
def test_what_is_outside_the_sample_is_not_let_through(workers: int) -> None:
    with MemoryFile(pcap_bytes([f for f, _ in TRAFFIC])) as path:
        made = runtime([to("ConnRecord", "", lambda _: None)], [path], msgspec.structs.replace(config(), workers=workers, sample=0.5))
        found, counters = looked_at(made), made.reading().counters
    assert counters["not_sampled"] > 0
    assert found["tcp_frames"] + found["udp_frames"] == sum(counters[n] for n in ("not_syn", "unwanted", "tracked")) > 0


def test_nothing_is_counted_for_nobody() -> None:
    with MemoryFile(pcap_bytes([f for f, _ in TRAFFIC])) as path:
        made = runtime([to("ConnRecord", "tcp", lambda _: None)], [path])
        assert set(made.run().counters) == set(stats.COUNTERS)
        assert made.reading().received == {} and not set(stats.VOLUMES) & set(made.reading().workers[0])
        assert not any(stats.volumes(made.workers[0].counters).values())
