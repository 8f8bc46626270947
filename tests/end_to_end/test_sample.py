"""A sample takes whole connections, the same for any number of workers, and counts what it leaves out."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import msgspec
import pytest
from support.running import config, runtime, to
from traffic import TcpConversation, UdpExchange, write_pcap

import retina_jit as rj
from retina_jit.errors import ConfigError

COUNT = 1500


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """As many TCP conversations as UDP exchanges, side by side; and two frames of no connection."""
    frames = []
    for n in range(COUNT):
        server = ("198.51.100.1", 443)
        talk = TcpConversation((f"10.0.{n >> 8}.{n & 255}", 1024), server, start_ns=10**18 + n)
        talk.open()
        talk.to_server(b"hello")
        talk.close()
        exchange = UdpExchange((f"10.1.{n >> 8}.{n & 255}", 1024 + n), server, start_ns=10**18 + n)
        exchange.to_server(b"x")
        exchange.to_client(b"yy")
        frames += talk.frames + exchange.frames
    frames.sort(key=lambda f: f.ts_ns)
    made = tmp_path_factory.mktemp("sample") / "many.pcap"
    write_pcap(made, frames)
    return made


def run(path: Path, share: float, workers: int = 1) -> tuple[Counter[str], Counter[str], dict[str, int]]:
    """Connections, as JSON; packets of UDP, by their connection's ports; counters."""
    records: Counter[str] = Counter()
    packets: Counter[str] = Counter()

    def note(conn: rj.ConnRecord) -> None:
        records[json.dumps(conn.to_dict(), sort_keys=True)] += 1

    def frame(f: rj.ZcFrame) -> None:
        packets[f.data[26:34].hex() if f.data[36:38] == b"\x01\xbb" else (f.data[30:34] + f.data[26:30]).hex()] += 1

    settings = msgspec.structs.replace(config(), sample=share, workers=workers)
    result = runtime([to("ConnRecord", "", note), to("ZcFrame", "udp", frame)], [path], settings).run()
    assert sum(result.ledger.values()) == result.counters["frames"]
    return records, packets, result.counters


def test_whole_connections_and_all_is_counted(path: Path) -> None:
    all_, packets, counters = run(path, 1)
    assert (len(all_), len(packets), counters["not_sampled"]) == (2 * COUNT, COUNT, 0)
    taken, some, sampled = run(path, 0.25)
    # 3,000 connections: the deviation is 24.
    assert 650 < len(taken) < 850
    assert taken <= all_
    assert set(some.values()) == {2}
    assert 300 < len(some) < 450
    assert sampled["frames"] == counters["frames"] == sampled["not_sampled"] + sampled["tracked"]
    more, _, _ = run(path, 0.5)
    assert taken <= more
    assert 1350 < len(more) < 1650


def test_the_same_sample_for_any_number_of_workers(path: Path) -> None:
    alone = run(path, 0.25)
    assert run(path, 0.25, workers=2) == alone == run(path, 0.25, workers=3)


def test_packets_alone_are_sampled(path: Path) -> None:
    """A program of frames has a loop of its own, without connections: not where it has to know them."""
    seen: Counter[bytes] = Counter()

    def frame(f: rj.ZcFrame) -> None:
        seen[min(f.data[26:38], f.data[30:34] + f.data[26:30] + f.data[36:38] + f.data[34:36])] += 1

    settings = msgspec.structs.replace(config(), sample=0.25)
    counters = runtime([to("ZcFrame", "udp", frame)], [path], settings).run().counters
    assert 300 < len(seen) < 450
    assert set(seen.values()) == {2}
    assert counters["delivered"] == 2 * len(seen)
    assert counters["delivered"] + counters["not_sampled"] + counters["filtered"] == counters["frames"]


@pytest.mark.parametrize("share", [0, -1, 1.5, float("nan")])
def test_a_share_that_is_none_is_refused(share: Any) -> None:
    with pytest.raises(ConfigError, match="sample"):
        msgspec.structs.replace(config(), sample=share).check()
