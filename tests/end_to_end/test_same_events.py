"""The same traffic in other files gives the same events: cut in two, in several, or disordered by less than a millisecond."""

from __future__ import annotations

import itertools
import json
import random
from typing import Any

import pytest
from oracle.tracker import Settings
from support.mixes import mix
from support.running import SAMPLES, MemoryFile, collect, config, runtime
from traffic import Frame, TcpConversation, pcap_bytes

SETTINGS = config(midstream=True)


def events(parts: list[list[Frame]], types: str = "ConnRecord") -> list[str]:
    subscription, seen = collect(types)
    files = [MemoryFile(pcap_bytes(part, nanoseconds=True)) for part in parts]
    try:
        runtime([subscription], [f.path for f in files], SETTINGS).run()
    finally:
        for f in files:
            f.__exit__()
    return sorted(json.dumps(x.to_dict()) for x in seen)


@pytest.fixture(scope="module")
def frames() -> list[Frame]:
    return sorted((f for n in range(60) for f in mix(n, n, Settings()).frames), key=lambda f: f.ts_ns)


@pytest.mark.parametrize("pieces", [2, 7])
def test_a_capture_in_several_files(frames, pieces):
    cuts = [len(frames) * n // pieces for n in range(pieces + 1)]
    assert events([frames[a:b] for a, b in itertools.pairwise(cuts)]) == events([frames])


@pytest.mark.parametrize("seed", range(3))
def test_streams_are_the_same_when_frames_are_disordered(seed):
    """Handshakes and the data's counters do not depend on the order in which cards and kernels hand frames over."""
    rng = random.Random(seed)
    made: list[Frame] = []
    for n in range(20):
        talk = TcpConversation((f"10.0.0.{n + 1}", 40000 + n), ("198.51.100.1", 443), start_ns=10**18 + n * 10**6, step_ns=50_000)
        talk.open()
        talk.now_ns += 2 * 10**6
        for _ in range(6):
            talk.to_server(rng.randbytes(300), mss=100)
            talk.to_client(rng.randbytes(500), mss=100)
        talk.now_ns += 2 * 10**6
        talk.close(rng.randint(0, 1))
        made += talk.frames
    made.sort(key=lambda f: f.ts_ns)
    disordered = sorted(made, key=lambda f: f.ts_ns + rng.randint(-500_000, 500_000))

    def told(parts: list[list[Frame]]) -> list[Any]:
        kept = []
        for line in events(parts):
            c = json.loads(line)
            sides = [{k: c[s][k] for k in ("nb_pkts", "nb_pkt_bytes", "nb_payload_bytes", "missed_bytes")} for s in ("orig", "resp")]
            kept.append((c["five_tuple"], c["conn_state"], sides))
        return sorted(kept, key=str)

    assert told([disordered]) == told([made])


def test_handshakes_of_a_sample_in_two_files():
    content = (SAMPLES / "tls.pcap").read_bytes()
    frames = []
    at = 24
    while at < len(content):
        seconds, fraction, caplen, length = (int.from_bytes(content[at + 4 * k : at + 4 * k + 4], "little") for k in range(4))
        unit = 1 if content[:4] == bytes.fromhex("4d3cb2a1") else 1000
        frames.append(Frame(seconds * 10**9 + fraction * unit, content[at + 16 : at + 16 + caplen], length))
        at += 16 + caplen
    whole = events([frames], "TlsHandshake")
    assert whole
    assert events([frames[: len(frames) // 2], frames[len(frames) // 2 :]], "TlsHandshake") == whole
