"""Runs in checked mode, where a read outside a packet raises: a process of its own, driven by lines of JSON.

`python -m support.checked` reads one job per line, `{"path": ..., "seed": ..., "kind": ...}`, and answers each with a line:
the counters, or what went wrong. "state" needs no path: traffic mixes, fragmented, tunnelled and damaged, for the data types
that keep something of a connection, with caps so low that each is reached.
"""

from __future__ import annotations

import json
import os
import random
import struct
import subprocess
import sys
from pathlib import Path
from typing import Any

from oracle.captures import read_capture
from oracle.tracker import Settings
from traffic import Frame, packets, pcap_bytes

from support.mixes import mix

ETHERNET = 14
ROOT = Path(__file__).resolve().parents[2]
KINDS = ("whole", "prefixes", "mutated", "state")


def mutate(rng: random.Random, data: bytes) -> bytes:
    """One damaged frame: bits, bytes, length fields, truncation, doubled or missing ranges."""
    if not data:
        return data
    out = bytearray(data)
    # Most of what can go wrong stands in headers.
    near = min(len(out), rng.choice((60, 100, 200, len(out))))
    for _ in range(rng.choice((1, 1, 2, 5))):
        kind = rng.random()
        at = rng.randrange(near)
        if not out:
            break
        at = min(at, len(out) - 1)
        if kind < 0.3:
            out[at] ^= 1 << rng.randrange(8)
        elif kind < 0.5:
            out[at] = rng.choice((0, 1, 0x7F, 0x80, 0xFF, rng.randrange(256)))
        elif kind < 0.7:
            word = rng.choice((0, 1, 4, 0xFF, 0xFFFF, len(out), len(out) + 1, len(out) - at))
            out[at : at + 2] = (word & 0xFFFF).to_bytes(2, "big")
        elif kind < 0.85:
            del out[rng.randrange(len(out)) :]
        elif kind < 0.93:
            out[at:at] = rng.randbytes(rng.randint(1, 12))
        else:
            del out[at : at + rng.randint(1, 12)]
        near = max(1, min(near, len(out)))
    return bytes(out)


def mutated_capture(content: bytes, seed: int, count: int) -> bytes:
    """A capture (nanosecond pcap, the link type of the first frame) of `count` damaged frames, some left as they are."""
    rng = random.Random(seed)
    frames = read_capture(content).frames
    link = frames[0].link
    out = []
    for n in range(count):
        f = frames[n % len(frames)]
        data = mutate(rng, f.data) if rng.random() < 0.8 else f.data
        ts = f.ts if rng.random() < 0.98 else f.ts + rng.choice((-1, 1)) * rng.getrandbits(rng.choice((30, 40, 58)))
        seconds = min(max(ts // 10**9, 0), 2**32 - 1)
        length = f.length if rng.random() < 0.8 else rng.choice((0, 1, len(data), len(data) + 1000, 2**32 - 1))
        out.append(Frame(seconds * 10**9 + ts % 10**9, data[:65000], min(length, 2**32 - 1) or len(data)))
    return pcap_bytes(out, link_type=link, nanoseconds=True)


def _sampled(data: bytes, times: int) -> bytes:
    """An sFlow datagram with the first bytes of a frame, so many times."""
    head = data[:80]
    record = struct.pack(">6I", 1, 16 + len(head), 1, len(data) + 4, 4, len(head)) + head
    sample = struct.pack(">2I", 1, 32 + len(record)) + bytes(28) + struct.pack(">I", 1) + record
    return struct.pack(">7I", 5, 1, 0, 9, 1, 1000, times) + sample * times


def _disguised(rng: random.Random, frame: Frame) -> list[Frame]:
    """The frame in fragments, in a tunnel, or both, or as it is; an IPv4 or IPv6 packet on Ethernet without tags."""
    data, kind = frame.data, rng.random()
    size = ETHERNET
    if kind < 0.5 or len(data) < size + 20 or len(data) != frame.length:
        return [frame]
    if kind < 0.7:
        network = rng.choice((1, 1, 2)).to_bytes(3, "big") + b"\0"
        port, inside = 4789, b"\x08\0\0\0" + network + data
        if rng.random() < 0.3:
            port, inside = 6343, _sampled(data, rng.choice((1, 2, 30)))
        header = packets.udp("192.0.2.1", "192.0.2.2", 50000, port, inside, checksum=0)
        data = data[: size - 2] + b"\x08\0" + packets.ipv4("192.0.2.1", "192.0.2.2", 17, header)
    if kind > 0.6:
        pieces = packets.fragment(data[size:], rng.choice((48, 64, 80, 120)) + 40 * (data[size] >> 4 == 6), ident=rng.randrange(3))
        rng.shuffle(pieces)
        if rng.random() < 0.2:
            pieces[rng.randrange(len(pieces))] = rng.choice(pieces)
        return [Frame(frame.ts_ns, data[:size] + x) for x in pieces]
    return [Frame(frame.ts_ns, data)]


def mixed_capture(seed: int, count: int) -> bytes:
    """At least `count` frames of traffic mixes (`support.mixes`); some are fragmented, tunnelled, damaged or out of time."""
    rng = random.Random(seed)
    settings = Settings(tcp_inactivity=1000, udp_inactivity=300, tcp_close=50)
    out: list[Frame] = []
    number = 0
    while len(out) < count:
        # A few at a time, for they are to be told apart by little.
        frames = sorted((f for n in range(5) for f in mix(rng.getrandbits(40), (number + n) % 40, settings).frames), key=lambda f: f.ts_ns)
        number += 5
        for f in frames:
            for made in _disguised(rng, f):
                data = mutate(rng, made.data) if rng.random() < 0.15 else made.data
                jump = rng.choice((-1, 1)) * rng.getrandbits(rng.choice((20, 30, 40))) if rng.random() < 0.02 else 0
                out.append(Frame(made.ts_ns + jump, data, max(made.length, len(data))))
    return pcap_bytes(out, nanoseconds=True)


# ------------------------------------------------------------------------------------------------- in the process


def _run(content: bytes) -> dict[str, Any]:
    from retina_jit.filters.predicates import ACCEPT, CONTINUE, predicate
    from support.running import collect, config, run_content, to

    @predicate("tls")
    def alike(sni: Any, server_version: Any) -> bool:
        return sni.upper() == sni or sni.find(".") > server_version or sni.endswith("m")

    @predicate
    def steep(packet: Any, least: int = 100) -> bool:
        return bool(packet.payload_len >= least and packet.tcp_flags != 0)

    @predicate
    class thrice:  # noqa: N801
        def update(state: Any, packet: Any) -> int:  # noqa: N805
            state.spare += 1
            return ACCEPT if state.spare >= 3 else CONTINUE

    def touch(view: Any) -> None:
        view.to_dict()

    subscriptions = [
        to("ConnRecord", "", touch),
        to("TlsHandshake", "", lambda tls: tls.to_dict(raw=True)),
        to("ZcFrame", "", touch),
        to("Payload", "tcp or udp", touch),
        collect("FiveTuple", "tls.sni ~ 'a' or tls.version > 0x0300")[0],
        to("ConnRecord", "thrice and steep", touch),
        to("TlsHandshake", "alike or thrice", touch),
        to("ZcFrame", "alike and steep(10)", touch),
    ]
    settings = config(midstream=True, max_out_of_order=5, memory=8, tcp_inactivity_timeout=1000, max_connections=1000, decap=("all",))
    result = run_content(subscriptions, content, settings)
    return {k: result.counters[k] for k in ("frames", "connections", "sessions", "events")}


KEEPING = (
    "ConnRecord", "InterArrivals", "BidirPktStream,ConnHistory,PktCount", "OrigPktsReassembled,RespPktsReassembled",
    "ByteCount,ConnDuration,EtherTCI,EthAddr,Tunnel", "FiveTuple,SessionList",
)  # fmt: skip
REACHED = ("fragment_used", "fragment_timeout", "fragment_refused", "held_refused", "holes", "left_out", "overlap", "tunnelled", "ended_expired")


def _run_state(content: bytes, seed: int) -> dict[str, Any]:
    from support.running import config, run_content, to

    def touch(*views: Any) -> None:
        for view in views:
            view.to_dict()

    rng = random.Random(seed)
    subscriptions = [to(types, "", touch) for types in KEEPING]
    subscriptions += [to("ZcFrame", "tls.sni ~ 'a' and tcp.psh = 1", touch), to("Payload", "udp", touch)]
    settings = config(
        midstream=rng.random() < 0.7, max_out_of_order=rng.choice((1, 3, 100)), memory=rng.choice((1, 8)), max_datagrams=rng.choice((1, 4, 64)),
        max_connections=rng.choice((5, 60, 1000)), table_full=rng.choice(("refuse", "evict")), max_half_open=rng.choice((1, 10)),
        packet_list_bytes=rng.choice((200, 4000, 1 << 20)), timeout_resolution=rng.choice((1, 100)), fragment_timeout=rng.choice((1, 500)),
        tcp_inactivity_timeout=1000, udp_inactivity_timeout=300, tcp_close_timeout=50, vlan_in_key=rng.random() < 0.5,
        vni_in_key=rng.random() < 0.5, decap=rng.choice(((), ("all",), ("all",))),
    )  # fmt: skip
    result = run_content(subscriptions, content, settings)
    told = {k: result.counters[k] for k in ("frames", "events", *REACHED)}
    return told | {"evicted": result.counters["ended_evicted"] + result.counters["ended_half_open"], "refused": result.counters["table_full"]}


def _job(job: dict[str, Any]) -> dict[str, Any]:
    if job["kind"] == "state":
        return _run_state(mixed_capture(job["seed"], job["count"]), job["seed"])
    content = Path(job["path"]).read_bytes()
    rng = random.Random(job["seed"])
    if job["kind"] == "whole":
        return _run(content)
    if job["kind"] == "mutated":
        return _run(mutated_capture(content, job["seed"], job["count"]))
    frames = 0
    for _ in range(job["count"]):
        frames += _run(content[: rng.randint(25, len(content))])["frames"]
    return {"frames": frames}


def main() -> None:
    for line in sys.stdin:
        job = json.loads(line)
        try:
            answer = _job(job)
        except Exception as error:  # noqa: BLE001 - told to the parent
            answer = {"error": f"{type(error).__name__}: {error}"}
        print(json.dumps(answer), flush=True)


# --------------------------------------------------------------------------------------------------- seen by tests


class Checked:
    """The process. One that dies says so in the answer to the job that it was given last."""

    def __init__(self) -> None:
        path = os.pathsep.join([str(ROOT), str(ROOT / "tests"), os.environ.get("PYTHONPATH", "")])
        self._process = subprocess.Popen(
            [sys.executable, "-X", "faulthandler", "-m", "support.checked"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
            env={**os.environ, "RETINA_JIT_CHECKED": "1", "PYTHONPATH": path}, cwd=ROOT / "tests",
        )  # fmt: skip

    def do(self, path: Path, kind: str, *, seed: int = 0, count: int = 0) -> dict[str, Any]:
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.write(json.dumps({"path": str(path), "kind": kind, "seed": seed, "count": count}) + "\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        if not line:
            raise AssertionError(f"the process died of {path.name}, {kind}, seed {seed}: status {self._process.wait()}")
        answer: dict[str, Any] = json.loads(line)
        assert "error" not in answer, (path.name, kind, seed, answer["error"])
        return answer

    def close(self) -> None:
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.close()
        self._process.stdout.close()
        self._process.wait()


if __name__ == "__main__":
    main()
