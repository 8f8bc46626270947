"""What workers read from: the queues of DPDK's ports."""

from __future__ import annotations

import ctypes
import os
import threading
import weakref
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any

import numpy as np

from retina_jit import memory, objects
from retina_jit.errors import SourceError
from retina_jit.ingest.dpdk import eal as environment
from retina_jit.ingest.dpdk import flow, mempool
from retina_jit.ingest.dpdk.layout import MOST_BYTES, QUEUE, RECEIVE
from retina_jit.ingest.dpdk.library import library
from retina_jit.ingest.dpdk.links import Links
from retina_jit.ingest.dpdk.port import PCI, Port
from retina_jit.ingest.dpdk.selfcheck import prove
from retina_jit.ingest.layout import SOURCE
from retina_jit.ingest.walked import Walked
from retina_jit.parsers.packet.link import EN10MB
from retina_jit.state.layout import BURST

HOME = "retina_jit.ingest.dpdk.receive"


@dataclass(frozen=True)
class Settings:
    """What does not depend on the port; Retina's defaults (see `retina_jit.config_network`)."""

    capacity: int = 65536
    cache: int = 512
    mtu: int = 1500
    descriptors: int = 4096
    promiscuous: bool = True
    main_core: int | None = None
    channels: int = 1
    shown: bool = False
    arguments: tuple[str, ...] = ()


@dataclass(frozen=True)
class Lane:
    """What one worker receives: queues, each a device's place in the list and a number, and the core to run on."""

    queues: tuple[tuple[int, int], ...]
    core: int | None = None


@dataclass(frozen=True)
class Sink:
    """A core that receives and throws away what is not processed: queue 0 of a device.

    Attributes
    ----------
    device : int
        Place in the list.
    core : int
    share : int
        Of `WHOLE` parts of the connections, how many are processed.
    """

    device: int
    core: int
    share: int


WHOLE = 512


class Receiver:
    """Ports, configured for some workers.

    Parameters
    ----------
    devices : sequence of str
        PCI addresses and virtual devices.
    lanes : sequence of Lane
        One for each worker.
    settings : Settings
    sinks : sequence of Sink

    Attributes
    ----------
    ports : list of Port
    pools : dict
        NUMA socket -> Pool.
    rules : list
        What the cards have to let through, as conditions that hold together; empty: everything. To be set before `start`.
    hardware_rules : int
        How many rules the cards have taken.
    left : int
        After `close`: buffers that did not come back.

    Raises
    ------
    SourceError
        No DPDK, no such device, no memory.
    """

    def __init__(self, devices: Sequence[str], lanes: Sequence[Lane], settings: Settings, sinks: Sequence[Sink] = ()) -> None:
        self.workers, self.settings, self.sinks = len(lanes), settings, tuple(sinks)
        self.lanes = (*lanes, *(Lane(((s.device, 0),), s.core) for s in sinks))
        self._draining: list[threading.Thread] = []
        self._control = np.zeros(1, np.int64)
        self._watching: list[Links] = []
        self._sunk: list[int] = []
        self.rules: list[list[flow.Condition]] = []
        self.hardware_rules = 0
        library()
        # Compiled before anything is received: while a worker waits for its code, the card loses frames.
        objects.ensure([f"{HOME}:{name}" for name in ("walk", "more", "release", *(["drain"] if sinks else []))])
        self.left = 0
        self._end: weakref.finalize[..., Receiver] | None = None
        self.ports: list[Port] = []
        self.pools: dict[int, mempool.Pool] = {}
        self._lock, self._started = threading.Lock(), False
        self._fault: BaseException | None = None
        self.links: Links | None = None
        virtual = [d for d in devices if not PCI.fullmatch(d.partition(",")[0])]
        need = mempool.size(settings.capacity, settings.mtu)
        self.eal = environment.start(
            environment.arguments(
                [d for d in devices if d not in virtual], need, main_core=settings.main_core, channels=settings.channels, further=settings.arguments
            ),
            shown=settings.shown,
        )
        self.next = prove(self.eal)
        self.stamp, self.stamp_flag = self._stamps()
        try:
            for device in devices:
                self.ports.append(Port(self.eal, device))
            packed = len(virtual) == len(devices)
            for index, port in enumerate(self.ports):
                if port.socket not in self.pools:
                    self.pools[port.socket] = mempool.Pool(self.eal, settings.capacity, settings.cache, settings.mtu, port.socket, packed=packed)
                queues = sum(place == index for lane in self.lanes for place, _ in lane.queues)
                port.configure(self.pools[port.socket], queues, settings.descriptors, settings.mtu)
            for socket, pool in self.pools.items():
                # Virtual devices fill no descriptors.
                cards = {n for n, (p, d) in enumerate(zip(self.ports, devices, strict=True)) if p.socket == socket and d not in virtual}
                workers = sum(any(place in cards for place, _ in lane.queues) for lane in self.lanes)
                mempool.check(pool.capacity, settings.cache, sum(self.ports[n].descriptors for n in cards), workers)
            for sink in sinks:
                if not self.ports[sink.device].buckets:
                    raise SourceError(f"{self.ports[sink.device].name}: has no table of buckets (RETA), so a sink cannot have a part of them. Fix: no [online.ports.sink]")
        except BaseException:
            self.close()
            raise
        self._end = weakref.finalize(self, _end, self.ports, self.pools, self._control, self._watching)
        self.eal.before_end.append(self._end)

    def _stamps(self) -> tuple[int, int]:
        """Where a buffer's time stands, and the flag that says so; drivers that stamp register them, or we do."""
        at, flag = ctypes.c_int(), ctypes.c_uint64()
        code = self.eal.dpdk.call["rte_mbuf_dyn_rx_timestamp_register"](ctypes.byref(at), ctypes.byref(flag))
        return (at.value, flag.value) if code == 0 else (0, 0)

    def start(self) -> None:
        """Begin to receive, if it has not begun; the first worker that asks does it. What fails then is an error of each that asks later,
        too: it would poll ports that never start.
        """
        with self._lock:
            if self._fault is not None:
                raise self._fault
            if self._started:
                return
            try:
                self._begin()
            except BaseException as fault:
                self._fault = fault
                raise
            self._started = True

    def _begin(self) -> None:
        for index, port in enumerate(self.ports):
            port.start(promiscuous=self.settings.promiscuous)
            if port.queues > 1:
                port.share_out(self._table(index))
            if self.rules and not any(s.device == index for s in self.sinks):
                self.hardware_rules += flow.install(port, self.rules, range(port.queues))
        self.links = Links(self.ports, self._lock)
        self.links.start()
        self._watching.append(self.links)
        for n in range(self.workers, len(self.lanes)):
            thread = threading.Thread(target=self._drain, args=(n,), daemon=True, name=f"retina-jit sink {n - self.workers}")
            thread.start()
            self._draining.append(thread)

    def _table(self, index: int) -> list[int]:
        """Return the queue of each bucket of a port's hash."""
        port = self.ports[index]
        sink = next((s for s in self.sinks if s.device == index), None)
        if sink is None:
            return [b % port.queues for b in range(port.buckets)]
        kept = max(port.queues - 1, sink.share * port.buckets // WHOLE)
        return [1 + b % (port.queues - 1) if b < kept else 0 for b in range(port.buckets)]

    def _drain(self, lane: int) -> None:
        """Receive and throw away, until `close`."""
        try:
            with PortSource(self, lane) as source:
                source.give_to(lane, len(self.lanes))
                objects.function(f"{HOME}:drain")(source.address, self._control.ctypes.data)
                self._sunk.append(sum(int(q["frames"]) for q in source.queues))
        except Exception:  # noqa: BLE001 - the run goes on without it, and its frames are counted as dropped
            environment.log.exception("a sink has ended")

    def sources(self, worker: int) -> Iterator[PortSource]:
        """Return the source of one worker; to be asked and closed by its thread."""
        with PortSource(self, worker) as source:
            yield source

    @property
    def dropped(self) -> int:
        """Frames that the cards had no room or no buffer for."""
        with self._lock:
            return sum(s["imissed"] + s["rx_nombuf"] for s in (p.statistics for p in self.ports))

    def port_stats(self) -> dict[str, dict[str, int]]:
        """Return each device's counters, and how many packet buffers are free and in use; from any thread."""
        with self._lock:
            found = {}
            for port in self.ports:
                used = self.pools[port.socket].in_use
                pool = {"mempool_avail_cnt": self.settings.capacity - used, "mempool_inuse_cnt": used}
                found[port.name] = {**port.details, **pool, "link_down": self.links.outages[port.name] if self.links else 0}
            return found

    @property
    def sunk(self) -> int:
        """After `close`: frames that sinks threw away."""
        return sum(self._sunk)

    def close(self) -> None:
        """Stop and detach the ports, give the pools back. Workers must have ended."""
        self._control[0] = 1
        if self.links is not None:
            self.links.end()
        for thread in self._draining:
            thread.join()
        self._draining.clear()
        if self._end in self.eal.before_end:
            self.eal.before_end.remove(self._end)
        with self._lock:
            self.left += _close(self.ports, self.pools)
        if self.left:
            environment.log.warning("%d packet buffers did not come back", self.left)


def _end(ports: list[Port], pools: dict[int, mempool.Pool], control: np.ndarray[Any, Any], watching: list[Links]) -> None:
    """Give back what nobody closed: the receiver was dropped, or the process ends."""
    control[0] = 1
    for links in watching:
        links.end()
    _close(ports, pools)


def _close(ports: list[Port], pools: dict[int, mempool.Pool]) -> int:
    left = 0
    for port in ports:
        port.close()
    for pool in pools.values():
        left += pool.in_use
        pool.close()
    ports.clear()
    pools.clear()
    return left


class PortSource(Walked):
    """Queues as a source of frames, with the attributes of `CaptureSource` that a worker uses."""

    walk_unit = f"{HOME}:walk"
    unsupported, unsupported_link, size, position, problem = 0, "", 0, 0, ""

    def __init__(self, receiver: Receiver, worker: int) -> None:
        self._receiver, self._worker = receiver, worker
        self._lane = receiver.lanes[worker]
        self.name = ", ".join(dict.fromkeys(receiver.ports[place].name for place, _ in self._lane.queues))
        count = len(self._lane.queues)
        self._homes = [memory.Region(n) for n in (SOURCE.itemsize, RECEIVE.itemsize, QUEUE.itemsize * count, 2 * 8 * BURST, MOST_BYTES * BURST)]
        source, receive, queues, mbufs, scratch = self._homes
        self.address = source.address
        self._words: Any = source.array(SOURCE, 1)[0]
        self._words["link"] = EN10MB
        self._words["device"], self._words["more"] = receive.address, objects.address(f"{HOME}:more")
        self._release = objects.function(f"{HOME}:release")
        self.receive: Any = receive.array(RECEIVE, 1)[0]
        self.queues = queues.array(QUEUE, count)
        r = self.receive
        r["queues"], r["count"], r["scratch"] = queues.address, count, scratch.address
        r["mbufs"], r["coming"] = mbufs.address, mbufs.address + 8 * BURST
        r["free"] = receiver.eal.dpdk.address("rte_pktmbuf_free_bulk")
        r["next"] = receiver.next
        r["stamp"], r["stamp_flag"] = receiver.stamp, np.uint64(receiver.stamp_flag).astype(np.int64)
        self._registered = False
        self._open = True

    def give_to(self, worker: int, workers: int) -> int:
        """Begin to receive, on the lane's core. Returns 1: what comes is all the worker's."""
        if self._lane.core is not None:
            try:
                os.sched_setaffinity(0, {self._lane.core})
            except OSError as fault:
                usable = ", ".join(map(str, sorted(os.sched_getaffinity(0))))
                raise SourceError(f"core {self._lane.core}: not usable ({fault.strerror}); there are: {usable}") from fault
            self.core = self._lane.core
        # With a number of its own the thread has a cache in the pool.
        self._registered = self._receiver.eal.dpdk.call["rte_thread_register"]() == 0
        self._receiver.start()
        for n, (place, queue) in enumerate(self._lane.queues):
            port = self._receiver.ports[place]
            q = self.queues[n]
            q["burst"], q["queue"] = port.receiver(queue)
            for name, value in port.clock().items():
                q[name] = value
        return 1

    @property
    def is_live(self) -> bool:
        """Time goes on while nothing comes; the kernel itself looks at the clock."""
        return True

    def refill(self, timeout: float | None = None) -> bool:
        """The kernel asks the queues itself."""
        return True

    @property
    def idle_polls(self) -> int:  # type: ignore[override]
        """Polls of the queues that gave nothing."""
        return int(self.queues["empty"].sum())

    @property
    def polls(self) -> int:  # type: ignore[override]
        """Polls of the queues."""
        return int(self.queues["polls"].sum())

    @property
    def dropped(self) -> int:
        """Frames that the cards had no room or no buffer for; told by the first worker for all."""
        return self._receiver.dropped if self._worker == 0 else 0

    def port_stats(self) -> dict[str, dict[str, int]]:
        """Return the counters of all devices, and of the buffers that each receives into; told by the first worker for all."""
        return self._receiver.port_stats() if self._worker == 0 else {}

    def close(self) -> None:
        """Give buffers back. By the thread that has received."""
        if self._open:
            self._open = False
            self._release(self.address)
            if self._registered:
                self._receiver.eal.dpdk.call["rte_thread_unregister"]()

    def __enter__(self) -> PortSource:
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<PortSource {self.name}: {self.frames} frames>"


__all__ = ["Lane", "PortSource", "Receiver", "Settings", "Sink"]
