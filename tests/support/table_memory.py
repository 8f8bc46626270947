"""What memory a table takes beside what its columns hold: measured in a process of its own, `python table_memory.py CAPTURE WHAT TYPES`."""

from __future__ import annotations

import json
import struct
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np

FRAME = np.dtype(
    [
        *[(n, "<u4") for n in ("sec", "ns", "caplen", "length")], ("ethernet", "u1", 14), ("version", "u1"), ("tos", "u1"), ("total", ">u2"), ("id", ">u4"),
        ("ttl", "u1"), ("protocol", "u1"), ("checksum", ">u2"), ("src", ">u4"), ("dst", ">u4"), ("sport", ">u2"), ("dport", ">u2"), ("udp", ">u2"),
        ("no_checksum", ">u2"), ("data", "u1", 8),
    ]
)  # fmt: skip


def write_capture(path: Path, connections: int, step_ns: int = 10_000_000) -> None:
    """Write a question and an answer each of so many UDP connections, one after the other: few of them live at once."""
    made = np.zeros(2 * connections, FRAME)
    number, back = np.divmod(np.arange(2 * connections), 2)
    ts = 10**18 + number * step_ns + back * 1000
    made["sec"], made["ns"] = np.divmod(ts, 10**9)
    made["caplen"] = made["length"] = FRAME.itemsize - 16
    made["ethernet"] = [2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 8, 0]
    made["version"], made["total"], made["ttl"], made["protocol"], made["udp"] = 0x45, 36, 64, 17, 16
    client, server = 0x0A000000 + number, 0xC0A80001
    made["src"], made["dst"] = np.where(back, server, client), np.where(back, client, server)
    made["sport"], made["dport"] = np.where(back, 9, 20000), np.where(back, 20000, 9)
    path.write_bytes(struct.pack("<IHHiIII", 0xA1B23C4D, 2, 4, 0, 0, 65535, 1) + made.tobytes())


def write_again_and_again(path: Path, sample: Path, copies: int) -> None:
    """Write a capture many times one after the other, each time with other IPv4 addresses."""
    data = sample.read_bytes()
    frames, addresses, at = [], [], 24
    while at < len(data):
        frames.append(at)
        if data[at + 28 : at + 30] == b"\x08\x00":
            addresses += [at + 42, at + 46]
        at += 16 + int.from_bytes(data[at + 8 : at + 12], "little")
    made = np.tile(np.frombuffer(data[24:], np.uint8), (copies, 1))
    for number, octet in enumerate(np.arange(copies, dtype=">u2").view(np.uint8).reshape(copies, 2).T):
        for address in addresses:
            made[:, address - 24 + 1 + number] ^= octet
    sec = np.concatenate([np.arange(f, f + 4) for f in frames]) - 24
    begun = np.ascontiguousarray(made[:, sec]).view("<u4")
    lasts = int(begun[0].max()) - int(begun[0].min()) + 1
    made[:, sec] = (begun + (np.arange(copies) * lasts)[:, None]).astype("<u4").view(np.uint8)
    path.write_bytes(data[:24] + made.tobytes())


TYPES = {"connections": ("ConnRecord", "FiveTuple"), "handshakes": ("TlsHandshake",)}


def measured(path: Path, what: str, types: str = "connections") -> dict[str, Any]:
    """Measure in another process; `what`: batches, or a method of the table."""
    done = subprocess.run([sys.executable, __file__, str(path), what, types], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def own() -> int:
    """Memory of this process alone [byte], mapped files left out."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * sum(int(line.split()[1]) for line in lines if line.startswith(("RssAnon", "RssShmem")))


def main(path: str, what: str, types: str) -> dict[str, Any]:
    import retina_jit as rj

    def table(capture: Any) -> rj.Table:
        return rj.read(capture).select("", *TYPES[types])

    def work(t: rj.Table) -> tuple[Any, list[int]]:
        if what != "batches":
            return getattr(t, what)(), []
        levels, rows = [], 0
        for batch in t.batches():
            rows += len(batch)
            levels.append(own() - before)
        return rows, levels

    before = 0
    small = rj.sample_capture("tls")
    work(table(small))  # what is loaded once does not count
    before = peak = own()
    over = threading.Event()

    def watch() -> None:
        nonlocal peak
        while not over.wait(0.002):
            peak = max(peak, own())

    watcher = threading.Thread(target=watch)
    watcher.start()
    begun = time.perf_counter()
    kept, levels = work(table(path))
    seconds = time.perf_counter() - begun
    peak = max(peak, own())
    over.set()
    watcher.join()
    del kept
    whole = table(path).collect()
    return {"rows": len(whole), "arrow": whole.nbytes, "peak": peak - before, "levels": levels, "seconds": seconds}


if __name__ == "__main__":
    print(json.dumps(main(*sys.argv[1:])))
