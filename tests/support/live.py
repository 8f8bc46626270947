"""In a network namespace of its own: frames go into one end of a veth pair, and are captured at the other.

`python -m support.live JOB`, within `unshare --user --map-root-user --net`. Prints what was seen as JSON.
"""

from __future__ import annotations

import json
import logging
import os
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from pathlib import Path

import msgspec

import retina_jit as rj
from retina_jit.config_network import InterfaceConfig, OnlineConfig
from retina_jit.subscription import Subscription
from support.running import config, runtime, to

SENDING, RECEIVING = "rj0", "rj1"
TYPES = ("TlsHandshake,FiveTuple", "DnsTransaction,FiveTuple")
PATIENCE = 120


def make_pair() -> None:
    """Two interfaces, joined, on which nobody else speaks."""
    subprocess.run(["ip", "link", "add", SENDING, "type", "veth", "peer", "name", RECEIVING], check=True)
    for name in (SENDING, RECEIVING):
        Path(f"/proc/sys/net/ipv6/conf/{name}/disable_ipv6").write_text("1")
        subprocess.run(["ip", "link", "set", name, "up"], check=True)


def frames_of(path: Path) -> list[bytes]:
    """The frames of a capture."""
    seen: list[bytes] = []
    rj.run([Subscription("", (rj.ZcFrame,), lambda f: seen.append(bytes(f.data)))], path)
    return seen


def rights() -> int:
    """Capabilities of this process, a bit each."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1], 16) for line in lines if line.startswith("CapEff:"))


def capture(frames: list[bytes], workers: int, *, remove: bool = False, source: str = f"af_packet:{RECEIVING}", bpf: str = "", timestamps: str = "system", cores: tuple[int, ...] = (), online: OnlineConfig | None = None) -> dict[str, object]:
    """Send frames while a program captures them. What it has seen."""
    seen: Counter[str] = Counter()
    raw: list[str] = []
    bound: list[list[int]] = []

    subscriptions = [to(t, "", lambda _, five, t=t: seen.update([f"{t} {five}"])) for t in TYPES]
    subscriptions.append(to("FiveTuple,PktCount,ByteCount", "", lambda t, p, b: seen.update([f"{t} {p} {b}"])))
    subscriptions.append(to("ZcFrame", "", lambda f: raw.append(bytes(f.data).hex())))
    settings = msgspec.structs.replace(config(), workers=workers, bpf=bpf, cores=tuple(cores), online=online, interface=InterfaceConfig(timestamps, 8))
    if online is not None:
        settings = msgspec.structs.replace(settings, workers=None, main_core=min(os.sched_getaffinity(0)))
    made = runtime(subscriptions, [source] if source else [], settings)

    def send() -> None:
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline and not all(w.source is not None and w.source.status for w in made.workers):
            time.sleep(0.05)
        # They wait for frames.
        bound.extend(sorted(os.sched_getaffinity(w._thread.native_id or 0)) for w in made.workers if w._thread is not None)
        with socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0) as out:
            out.bind((SENDING, 0))
            for frame in frames:
                out.send(frame)
        while time.monotonic() < deadline and made.stats()["frames"] < len(frames):
            time.sleep(0.05)
        if remove:
            subprocess.run(["ip", "link", "del", SENDING], check=True)
        else:
            made.stop()

    thread = threading.Thread(target=send)
    thread.start()
    result = made.run()
    thread.join()
    captured = sum(int(w.source.record["captured"]) for w in made.workers)  # type: ignore[union-attr]
    return {"seen": seen, "raw": raw, "counters": result.counters, "ledger": result.ledger, "problems": result.problems, "captured": captured, "bound": bound, "sample": made.config.sample, "rights": rights()}


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    job = json.loads(sys.argv[1])
    if not job.get("made"):
        make_pair()
    if job.pop("right_to_capture_only", False):
        # What is not in the bounding set is not had after this, though we are root here.
        again = [sys.executable, "-m", "support.live", json.dumps({**job, "made": True})]
        os.execvp("setpriv", ["setpriv", "--bounding-set=-all,+net_raw", *again])
    sent = [bytes.fromhex(f) for f in job["frames"]] if "frames" in job else frames_of(Path(job["path"]))
    given = {"workers": 1, **{k: job[k] for k in ("workers", "remove", "source", "bpf", "timestamps", "cores") if k in job}}
    if "online" in job:
        given["online"] = msgspec.convert(job["online"], OnlineConfig)
    print(json.dumps(capture(sent, **given)))
