"""Named, seeded traffic for measurements: the same bytes on every machine."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

MIX_VERSION = 2
"""Part of the file name: change it with the mix."""

# Share and frame length [byte] of each kind of packet: what a campus link carries, roughly.
SIZES = ((0.40, 66, 100), (0.15, 100, 800), (0.45, 1300, 1514))
SHARE_IPV6, SHARE_UDP, SHARE_VLAN, SHARE_443 = 0.15, 0.20, 0.03, 0.6


SHARED = Path(__file__).resolve().parents[2] / "shared"
"""Real captures and what is known of them; not part of the project, used where it is there."""


def folder() -> Path:
    """Return the folder where traces are kept."""
    found = Path(os.environ.get("RETINA_JIT_BENCH_DIR") or Path.home() / ".cache" / "retina_jit_bench")
    found.mkdir(parents=True, exist_ok=True)
    return found


def _kept(name: str, make: Callable[[Path], None]) -> Path:
    """Return the file of that name in the folder, made on first use."""
    path = folder() / name
    if not path.exists():
        scratch = folder() / f"{os.getpid()}-{name}"
        make(scratch)
        for made in (scratch.with_name(f"{scratch.name}.json"), scratch):
            if made.exists():
                made.replace(folder() / made.name.partition("-")[2])
    return path


def trace(megabytes: int = 100, seed: int = 1) -> Path:
    """Return a pcap of mixed packets (Ethernet; IPv4, IPv6; TCP, UDP; some tags): headers without conversations."""
    return _kept(f"mix-v{MIX_VERSION}-{megabytes}MB-{seed}.pcap", lambda path: _write(path, _mix(megabytes << 20, seed)))


def capture(megabytes: int) -> Path:
    """Return a pcap of whole conversations: the one that is named, else one of real traffic, else a made-up one."""
    if named := os.environ.get("RETINA_JIT_BENCH_TRACE"):
        return Path(named)
    maker = SHARED / "bench" / "make_trace.py"
    if maker.exists():
        command = [sys.executable, str(maker), "--mb", str(megabytes), "--out"]
        return _kept(f"real-{megabytes}MB.pcap", lambda path: _run([*command, str(path)]))
    import conversations

    name = f"talks-v{conversations.VERSION}-{megabytes}MB.pcap"
    return _kept(name, lambda path: conversations.write(path, megabytes << 20))


def _run(command: list[str]) -> None:
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)


def _write(path: Path, content: bytes) -> None:
    path.write_bytes(content)


def into_page_cache(path: Path) -> None:
    """Read a file once."""
    with path.open("rb") as file:
        while file.read(1 << 24):
            pass


def beginning(path: Path, packets: int) -> Path:
    """Return a capture (little-endian pcap) of the first packets of another one."""
    target = folder() / f"{path.stem}-{path.stat().st_size}-first{packets}.pcap"
    if not target.exists():
        with path.open("rb") as source, target.open("wb") as out:
            out.write(source.read(24))
            for _ in range(packets):
                head = source.read(16)
                out.write(head + source.read(int.from_bytes(head[8:12], "little")))
    return target


def known(path: Path) -> dict[str, Any]:
    """Return what the maker of a trace says about it: see `make_trace.py`; empty if nobody says anything."""
    said = path.with_name(f"{path.name}.json")
    content: dict[str, Any] = json.loads(said.read_text()) if said.exists() else {}
    return content


def digest(path: Path) -> str:
    """Short hash of a trace, to be noted beside a measurement."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:12]


def _put(out: Any, at: Any, width: int, value: Any) -> None:
    """Store big-endian numbers at many positions."""
    for byte in range(width):
        out[at + byte] = (np.asarray(value) >> (8 * (width - 1 - byte))) & 0xFF


def _mix(size: int, seed: int) -> bytes:
    rng = np.random.default_rng(seed)
    mean = sum(share * (low + high) / 2 for share, low, high in SIZES) + 16
    count = int(size / mean)
    kind = rng.choice(len(SIZES), count, p=[s[0] for s in SIZES])
    low, high = np.array([s[1] for s in SIZES])[kind], np.array([s[2] for s in SIZES])[kind]
    length = rng.integers(low, high + 1)
    # Flows of very different weight, as in real traffic.
    flows = max(1, count // 7)
    flow = np.minimum((rng.pareto(1.1, count) * flows / 50).astype(np.int64), flows - 1)
    scattered = (flow * 0x9E3779B1) & 0xFFFFFFFF
    is_v6, is_udp = scattered % 100 < SHARE_IPV6 * 100, (scattered >> 8) % 100 < SHARE_UDP * 100
    is_tagged, is_443 = (scattered >> 16) % 100 < SHARE_VLAN * 100, (scattered >> 5) % 100 < SHARE_443 * 100
    backwards = rng.random(count) < 0.5

    l3 = np.where(is_tagged, 18, 14)
    length = np.maximum(length, l3 + 40 + 20 + 0)
    record = np.concatenate(([0], np.cumsum(length + 16)))
    out = np.zeros(24 + int(record[-1]), np.uint8)
    out[:24] = np.frombuffer(bytes.fromhex("d4c3b2a1 0200 0400 00000000 00000000 00000400 01000000"), np.uint8)
    at = 24 + record[:-1]
    micro = np.cumsum(rng.exponential(1.0, count)).astype(np.int64)
    for offset, value in ((0, 1_700_000_000 + micro // 1_000_000), (4, micro % 1_000_000), (8, length), (12, length)):
        for byte in range(4):  # the file is little-endian
            out[at + offset + byte] = (value >> (8 * byte)) & 0xFF

    frame = at + 16
    _put(out, frame, 6, 0x02000000000B)
    _put(out, frame + 6, 6, 0x02000000000A)
    _put(out, frame[is_tagged] + 12, 4, 0x81000064)
    _put(out, frame + l3 - 2, 2, np.where(is_v6, 0x86DD, 0x0800))
    net, total = frame + l3, length - l3
    client, server = (0x0A000000 | (scattered & 0xFFFFFF)), (0xC6120000 | ((scattered >> 7) & 0xFFFF))
    src, dst = np.where(backwards, server, client), np.where(backwards, client, server)
    v4, v6 = net[~is_v6], net[is_v6]
    _put(out, v4, 1, 0x45)
    _put(out, v4 + 2, 2, total[~is_v6])
    _put(out, v4 + 6, 2, 0x4000)
    _put(out, v4 + 8, 1, 64)
    _put(out, v4 + 9, 1, np.where(is_udp, 17, 6)[~is_v6])
    _put(out, v4 + 12, 4, src[~is_v6])
    _put(out, v4 + 16, 4, dst[~is_v6])
    _put(out, v6, 1, 0x60)
    _put(out, v6 + 4, 2, total[is_v6] - 40)
    _put(out, v6 + 6, 1, np.where(is_udp, 17, 6)[is_v6])
    _put(out, v6 + 7, 1, 64)
    for offset, value in ((8, src), (24, dst)):
        _put(out, v6 + offset, 4, 0x20010DB8)
        _put(out, v6 + offset + 12, 4, value[is_v6])
    l4 = net + np.where(is_v6, 40, 20)
    port, service = 1024 + (scattered >> 3) % 60000, np.where(is_443, 443, 80 + scattered % 900)
    _put(out, l4, 2, np.where(backwards, service, port))
    _put(out, l4 + 2, 2, np.where(backwards, port, service))
    tcp, udp = l4[~is_udp], l4[is_udp]
    _put(out, tcp + 4, 4, rng.integers(0, 2**32, len(tcp)))
    _put(out, tcp + 12, 1, 0x50)
    _put(out, tcp + 13, 1, 0x10)
    _put(out, tcp + 14, 2, 64240)
    _put(out, udp + 4, 2, (total - np.where(is_v6, 40, 20))[is_udp])
    return out.tobytes()
