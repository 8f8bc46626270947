"""Hard times for a run over an interface, in a network namespace of its own; prints what came of it as JSON.

`python -m support.hardship overload SECONDS`, `... down`, `... raise`, within `unshare --user --map-root-user --net`.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

from retina_jit.errors import CallbackError
from retina_jit.monitor.reading import resident
from retina_jit.runtime import Runtime
from support.live import PATIENCE, RECEIVING, SENDING, make_pair
from support.running import SAMPLES, config, runtime, to

SLOW = 0.001
"""How long the callback that is too slow takes [s]."""


def sample() -> list[bytes]:
    """The frames of a capture that comes with the package."""
    content, at, found = (SAMPLES / "mixed.pcap").read_bytes(), 24, []
    order = "<" if content[0] in (0xD4, 0x4D) else ">"
    while at < len(content):
        length = struct.unpack_from(order + "I", content, at + 8)[0]
        found.append(content[at + 16 : at + 16 + length])
        at += 16 + length
    return found


def send(frames: list[bytes], *, forever: bool = False) -> None:
    """Send frames as fast as the system takes them."""
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0) as out:
        out.bind((SENDING, 0))
        while True:
            for frame in frames:
                with contextlib.suppress(BlockingIOError):
                    out.send(frame)
            if not forever:
                return


def when_receiving(made: Runtime, then: Callable[[], None]) -> threading.Thread:
    """Do something in a thread once a run receives."""

    def wait() -> None:
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline and not all(w.source is not None and w.source.status for w in made.workers):
            time.sleep(0.02)
        then()

    thread = threading.Thread(target=wait)
    thread.start()
    return thread


def until_frames(made: Runtime, count: int) -> None:
    """Wait until so many frames were read."""
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline and made.stats()["frames"] < count:
        time.sleep(0.02)


def until_up() -> None:
    """Wait until both ends of the pair say that they are up."""
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline and any(not is_up(name) for name in (SENDING, RECEIVING)):
        time.sleep(0.02)


def is_up(name: str) -> bool:
    # Not by /sys, which shows the interfaces of where it was mounted.
    told = subprocess.run(["ip", "-json", "link", "show", name], check=True, capture_output=True).stdout
    return bool(json.loads(told)[0]["operstate"] == "UP")


def overload(seconds: float) -> dict[str, Any]:
    """Run a callback that is too slow under full load, then press Ctrl-C."""
    calls, memory, asked = 0, [], 0.0

    def slow(_: Any) -> None:
        nonlocal calls
        time.sleep(SLOW)
        calls += 1

    made = runtime([to("ZcFrame", "", slow)], [f"af_packet:{RECEIVING}"], config(max_connections=10_000))
    feeder = subprocess.Popen([sys.executable, "-m", "support.hardship", "feed"])

    def watch() -> None:
        nonlocal asked
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            time.sleep(seconds / 40)
            memory.append(resident())
        asked = time.perf_counter()
        os.kill(os.getpid(), signal.SIGINT)

    thread = when_receiving(made, watch)
    try:
        result = made.run()
    finally:
        feeder.kill()
        feeder.wait()
    took = time.perf_counter() - asked
    thread.join()
    return {"calls": calls, "memory": memory, "stop": took, "counters": result.counters, "ledger": result.ledger, "interrupted": result.interrupted}


def down() -> dict[str, Any]:
    """Pull the interface down in the middle, and up again."""
    frames = sample()
    made = runtime([to("ZcFrame", "", lambda _: None)], [f"af_packet:{RECEIVING}"])

    def play() -> None:
        send(frames[:75])
        until_frames(made, 75)
        subprocess.run(["ip", "link", "set", RECEIVING, "down"], check=True)
        time.sleep(0.6)
        subprocess.run(["ip", "link", "set", RECEIVING, "up"], check=True)
        until_up()
        send(frames[75:])
        until_frames(made, len(frames))
        made.stop()

    thread = when_receiving(made, play)
    result = made.run()
    thread.join()
    return {"frames": result.counters["frames"], "outages": made.workers[0].source.outages, "ports": made.reading().ports}  # type: ignore[union-attr]


def raises() -> dict[str, Any]:
    """Let the callback raise while packets come."""

    def broken(_: Any) -> None:
        raise ValueError("of the callback")

    made = runtime([to("ZcFrame", "", broken)], [f"af_packet:{RECEIVING}"])
    thread = when_receiving(made, lambda: send(sample()))
    begun, text = time.perf_counter(), ""
    try:
        made.run()
    except CallbackError as error:
        text = str(error)
    took = time.perf_counter() - begun
    thread.join()
    return {"text": text, "took": took, "alive": [w._thread.is_alive() for w in made.workers if w._thread is not None]}


if __name__ == "__main__":
    if sys.argv[1] == "feed":
        send(sample(), forever=True)
    make_pair()
    jobs: dict[str, Callable[[], dict[str, Any]]] = {"overload": lambda: overload(float(sys.argv[2])), "down": down, "raise": raises}
    told = jobs[sys.argv[1]]()
    print(json.dumps(told))
