"""What receiving through DPDK costs, in a process of its own, for DPDK can be begun once. Prints JSON.

`python bench/dpdk_jobs.py free` : receive and free on net_null, beside dpdk-testpmd with the same kind of pool, in turn.
`python bench/dpdk_jobs.py log CAPTURE FOLDER`: the worker's processor time per packet of a TLS log, from a file and from a net_ring port that
gets the same frames; and of frames that are no IP, from a file and from net_null. The file is read in two ways: mapped, by the one core that
also works on it, and by a helper on another core. The port's frames a thread on another core brings, as a card does: it keeps the ring full. (Brought by the worker's own thread, in turn with
its work, they push its tables out of the core's caches: 25 ns per packet.)
"""

from __future__ import annotations

import contextlib
import ctypes
import io
import json
import os
import shutil
import struct
import subprocess
import sys
import time
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from retina_jit import memory, objects
from retina_jit.config import ConntrackConfig, DeliveryConfig, RuntimeConfig
from retina_jit.ingest.dpdk.eal import Eal, arguments, start
from retina_jit.ingest.dpdk.mempool import Pool
from retina_jit.ingest.dpdk.port import Port
from retina_jit.runtime import Runtime
from retina_jit.sinks import JsonLines
from retina_jit.subscription import named

KERNELS = str(Path(__file__).with_name("dpdk_kernels.py"))
BUFFERS, CACHE, ROUNDS = 16383, 256, 5
PACKETS = 60_000_000
DEPTH = 4096
"""Frames in a port's ring, as in a card's."""
FEEDS = 9
"""Most rounds with a port that is fed: DPDK has 32 ports."""
TESTPMD = [
    "dpdk-testpmd", "-l", "0,1", "--no-huge", "-m", "256", "--no-shconf", "--no-pci", "--no-telemetry", "--vdev", "net_null0", "--", "--forward-mode=rxonly",
    "--burst=64", f"--total-num-mbufs={BUFFERS}", f"--mbcache={CACHE}", "--nb-cores=1", "--stats-period=1", "--no-mlockall",
]  # fmt: skip


def with_testpmd(seconds: float = 1.5) -> float:
    """Return how many packets testpmd receives and frees per second of its forwarding thread's processor time [M]."""
    child = subprocess.Popen(TESTPMD, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    used: dict[str, int] = {}
    begun = time.monotonic()
    # It goes on for a while after the signal: its thread is watched to its end.
    while child.poll() is None:
        with contextlib.suppress(OSError, IndexError):
            for task in Path(f"/proc/{child.pid}/task").glob("*"):
                if (task / "comm").read_text().startswith(("rte-worker", "lcore-worker")):
                    used[task.name] = int((task / "schedstat").read_text().split()[0])
        if time.monotonic() - begun > seconds:
            child.terminate()
        time.sleep(0.005)
    out, _ = child.communicate()
    received = [int(line.split()[1]) for line in out.splitlines() if "RX-packets:" in line]
    return received[-1] / max(used.values()) * 1e3


def free() -> dict[str, Any]:
    """Receive and free on net_null."""
    eal = start(arguments([], 256 << 20))
    rows = {}
    for name, packed in (("same pool", False), ("packed pool", True)):
        pool = Pool(eal, BUFFERS, CACHE, 1500, 0, packed=packed)
        port = Port(eal, f"net_null{int(packed)}")
        port.configure(pool, 1, 512, 1500)
        port.start(promiscuous=False)
        rows[name] = (pool, port)
    mbufs = memory.Region(8 * 64)
    release = eal.dpdk.address("rte_pktmbuf_free_bulk")
    rates: dict[str, list[float]] = {}
    loops = {loop: objects.function(f"{KERNELS}:{loop}") for loop in ("receive_and_free", "receive_read_and_free")}
    for _ in range(ROUNDS):
        if shutil.which("dpdk-testpmd"):
            rates.setdefault("testpmd", []).append(with_testpmd())
        for name, (_, port) in rows.items():
            for loop, run in loops.items():
                begun = time.thread_time()
                run(*port.receiver(0), mbufs.address, release, PACKETS)
                rates.setdefault(f"{loop}, {name}", []).append(PACKETS / (time.thread_time() - begun) / 1e6)
    for pool, port in rows.values():
        port.close()
        pool.close()
    return {name: [round(r, 1) for r in found] for name, found in rates.items()}


def cost(runtime: Runtime, most: int = 0, fed: Fed | None = None) -> float | None:
    """Return the processor time per frame of a worker over its source, in this thread [ns]; None if it had to wait for frames.

    Parameters
    ----------
    most : int
        Frames to take from a port; one that is fed gets no more.
    """
    worker = runtime.workers[0]
    worker._backing._step()  # in a run it is done by a thread of its own
    run = objects.function(f"{worker.program.loop}:run")
    (source,) = [next(sources) for sources in runtime.sources]
    worker.words["source"], worker.words["walk"] = source.address, objects.address(source.walk_unit)
    worker.words["workers"] = source.give_to(0, 1)
    cores = sorted(os.sched_getaffinity(0))
    os.sched_setaffinity(0, cores[-1:])
    if hasattr(source, "receive"):
        source._words["end"] = most
        source._words["more"] = objects.address(f"{KERNELS}:once")
    if fed is not None:
        fed.start(cores[0])
    seconds, waited = 0.0, False
    while not seconds or source.frames < most:
        begun = time.thread_time()
        run(worker.address)
        seconds += time.thread_time() - begun
    if fed is not None:
        fed.join()
        waited = int(source.queues["empty"].sum()) > most // 100
    frames = source.frames
    source.close()
    if runtime._receiver is not None:
        runtime._receiver.close()
    os.sched_setaffinity(0, cores)
    return None if waited else seconds / max(frames, 1) * 1e9


def program(sources: list[Any], workers: int | None = None) -> Runtime:
    """A TLS log; with one worker the one core does all."""
    s = named(["TlsHandshake"], "tls", lambda *_: None, "each")
    s.deliver, s.sink = "sink", JsonLines(io.BytesIO())
    return Runtime([s], sources, RuntimeConfig(conntrack=ConntrackConfig(max_connections=1_000_000), delivery=DeliveryConfig(ring=256), workers=workers))


class Image:
    """Frames in memory, and a table of where each stands and how long it is."""

    def __init__(self, frames: list[bytes]) -> None:
        self._memory = memory.Region(sum(map(len, frames)) + 64).advise_huge()
        ctypes.memmove(self._memory.address, b"".join(frames), sum(map(len, frames)))
        lengths = np.array([len(f) for f in frames])
        self.table = np.stack([self._memory.address + np.cumsum(lengths) - lengths, lengths], axis=1).astype(np.int64)


class Fed:
    """A net_ring port, and a thread that keeps it full with the frames of a capture until there are no more."""

    def __init__(self, eal: Eal, name: str, image: Image, threads: ThreadPoolExecutor) -> None:
        self.name, self._eal, self._image, self._threads = name, eal, image, threads
        size = DEPTH
        self.pool = Pool(eal, size - 1, 512, 1500, 0, packed=True)
        self._buffers = memory.Region(8 * 64)
        self._feeding: Future[None] | None = None
        folder = eal.dpdk.folder
        driver = ctypes.CDLL(str(next(folder.glob("dpdk/pmds-*/librte_net_ring.so.*"))))
        rings = ctypes.CDLL(str(next(folder.glob("librte_ring.so.[0-9]*"))))
        rings.rte_ring_create.restype, rings.rte_ring_create.argtypes = ctypes.c_void_p, [ctypes.c_char_p, ctypes.c_uint, ctypes.c_int, ctypes.c_uint]
        ring = (ctypes.c_void_p * 1)(rings.rte_ring_create(f"{name}_ring".encode(), size, 0, 3))
        driver.rte_eth_from_rings.argtypes = [ctypes.c_char_p, ctypes.c_void_p, ctypes.c_uint, ctypes.c_void_p, ctypes.c_uint, ctypes.c_uint]
        for port in (name, f"{name}_in"):
            assert driver.rte_eth_from_rings(port.encode(), ring, 1, ring, 1, 0) >= 0
        call = eal.dpdk.call
        into, empty = Port(eal, f"net_ring_{name}_in"), Port(eal, f"net_null_{name}")
        empty.configure(self.pool, 1, 512, 1500)
        empty.start(promiscuous=False)
        conf = (ctypes.c_uint8 * 4096)()
        assert call["rte_eth_dev_configure"](into.number, 1, 1, conf) == 0
        assert call["rte_eth_rx_queue_setup"](into.number, 0, 64, 0, None, self.pool.address) == 0
        assert call["rte_eth_tx_queue_setup"](into.number, 0, 64, 0, None) == 0
        into.start(promiscuous=False)
        abi = eal.dpdk.abi
        at = eal.dpdk.data(abi.fast["symbol"]) + into.number * abi.fast["stride"]
        word = lambda a: ctypes.c_uint64.from_address(a).value
        self._ways = (*empty.receiver(0), word(at + abi.fast["send"]), word(word(at + abi.fast["send_queues"])))
        self._ports = (into, empty)

    def start(self, core: int) -> None:
        """Begin, and wait until the ring is full."""
        self._feeding = self._threads.submit(self._feed, core)
        while self.pool.in_use < DEPTH - 512 and not self._feeding.done():
            time.sleep(0.001)

    def _feed(self, core: int) -> None:
        os.sched_setaffinity(0, {core})
        self._eal.dpdk.call["rte_thread_register"]()
        table = self._image.table
        objects.function(f"{KERNELS}:feed")(table.ctypes.data, len(table), *self._ways, self._buffers.address)
        self._eal.dpdk.call["rte_thread_unregister"]()

    def join(self) -> None:
        """Wait until all frames are sent."""
        assert self._feeding is not None
        self._feeding.result()

    def close(self) -> None:
        """Give all back."""
        for port in self._ports:
            port.close()
        self.pool.close()


def frames_of(path: Path, most: int) -> list[bytes]:
    """The first frames of a pcap in this machine's byte order."""
    found = []
    with path.open("rb") as file:
        file.seek(24)
        while len(found) < most and (head := file.read(16)):
            found.append(file.read(struct.unpack("=IIII", head)[2]))
    return found


def write(path: Path, frames: list[bytes]) -> Path:
    """A pcap of frames, 1 us apart."""
    with path.open("wb") as file:
        file.write(struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 1 << 18, 1))
        for n, frame in enumerate(frames):
            file.write(struct.pack("<IIII", 1_700_000_000 + n // 1_000_000, n % 1_000_000, len(frame), len(frame)) + frame)
    return path


def log(capture: str, scratch: str) -> dict[str, Any]:
    """A TLS log from a file and from a port with the same frames."""
    frames = [f for f in frames_of(Path(capture), 200_000) if len(f) <= 2048]
    same = write(Path(scratch) / "same.pcap", frames)
    zeros = write(Path(scratch) / "zeros.pcap", [bytes(64)] * 1_000_000)
    image = Image(frames)
    eal = start(arguments([], 256 << 20))
    costs: dict[str, list[float]] = {}
    objects.ensure([f"{KERNELS}:feed"])

    def note(what: str, runtime: Runtime, most: int = 0, fed: Fed | None = None) -> None:
        found = cost(runtime, most, fed)
        if found is not None:
            costs.setdefault(what, []).append(round(found, 1))

    with ThreadPoolExecutor(1) as threads:
        for n in range(FEEDS):
            note("file", program([same], 1))
            note("file, with a helper", program([same]))
            fed = Fed(eal, f"bench{n}", image, threads)
            note("net_ring", program([f"dpdk:net_ring_{fed.name}"]), len(frames), fed)
            fed.close()
            if n < ROUNDS:
                note("file, no IP", program([zeros], 1))
                note("file, no IP, with a helper", program([zeros]))
                note("net_null, no IP", program(["dpdk:net_null0,size=64"]), 1_000_000)
    return {"frames": len(frames), **costs}


if __name__ == "__main__":
    print(json.dumps({"free": free, "log": log}[sys.argv[1]](*sys.argv[2:])))
