"""Programs over ports of DPDK: a process of its own for each, for DPDK can be begun once.

`python -m support.ports JOB`. Prints what was seen as JSON.
"""

from __future__ import annotations

import ctypes
import json
import logging
import struct
import sys
import threading
import time
from collections import Counter
from pathlib import Path
from typing import Any

import msgspec
from oracle.captures import read_capture

from retina_jit.config_network import MempoolConfig
from retina_jit.errors import SourceError
from retina_jit.ingest.dpdk import links, selfcheck
from retina_jit.ingest.dpdk.abi import KNOWN
from retina_jit.ingest.dpdk.eal import arguments, start
from retina_jit.ingest.dpdk.layout import MBUF
from retina_jit.ingest.dpdk.library import Library, folder
from retina_jit.ingest.dpdk.mempool import Pool
from retina_jit.ingest.dpdk.port import Port
from retina_jit.ingest.dpdk.receive import POLLS
from support.running import config, runtime, to

TYPES = ("TlsHandshake,FiveTuple", "DnsTransaction,FiveTuple", "FiveTuple,ConnRecord")
PATIENCE = 60


def run(sources: list[str], frames: int, workers: int = 1, capacity: int = 4096, before: Any = None, prepare: Any = None, seconds: float = 0.0) -> dict[str, Any]:
    """Run until so many frames have come or been lost, or for some seconds."""
    seen: Counter[str] = Counter()
    raw: list[tuple[int, str]] = []
    subscriptions = [to(t, "", lambda *a, t=t: seen.update([f"{t} {a[0] if t.startswith('F') else ''} {a[-1]}"])) for t in TYPES]
    subscriptions.append(to("ZcFrame", "frame.len > 0", lambda f: raw.append((f.ts, bytes(f.data).hex()))))
    settings = msgspec.structs.replace(config(), workers=workers, mempool=MempoolConfig(capacity=capacity, cache_size=32))
    made = runtime(subscriptions if not seconds else subscriptions[:1], sources, settings)
    stopped, idles, polls = [0.0], list[int](), list[int]()
    if before is not None:
        before(made)

    def watch() -> None:
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline and not all(w.source is not None and w.source.status for w in made.workers):
            time.sleep(0.01)
        if prepare is not None:
            prepare(made)
        time.sleep(seconds)
        while frames and time.monotonic() < deadline and sum(w.source.dropped for w in made.workers) + made.stats()["frames"] < frames:
            time.sleep(0.01)
        # All has come, so from now on each worker asks in vain.
        while frames and time.monotonic() < deadline and not all(idle := [w["idle_polls"] for w in made.reading().workers]):
            time.sleep(0.01)
        idles.extend(idle if frames else [])
        polls.extend(w["polls"] for w in made.reading().workers if frames)
        stopped[0] = time.monotonic()
        made.stop()

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        result = made.run()
    finally:
        thread.join()
    return {
        "seen": seen, "raw": raw, "counters": result.counters, "ledger": result.ledger, "problems": result.problems, "left": result.extra.get("buffers_left", 0),
        "stop": time.monotonic() - stopped[0], "idle": idles, "polls": polls,
    }  # fmt: skip


def replay(paths: list[str], frames: int, capacity: int = 4096) -> dict[str, Any]:
    """Through net_pcap, a queue and a worker for each file; and twice, for a process may use ports more than once."""
    device = f"dpdk:net_pcap0,{','.join(f'rx_pcap={p}' for p in paths)}"
    first = run([device], frames, len(paths), capacity)
    return {"first": first, "second": run([device], frames, len(paths), capacity)}


def inject(frames: list[dict[str, Any]] = [], path: str = "") -> dict[str, Any]:  # noqa: B006 - only read
    """Through net_ring, as a card would give them: tags taken out, times and hashes beside the bytes, several segments. Or a capture's."""
    if path:
        frames = [{"pieces": [f.data.hex()], "ts": f.ts} for f in read_capture(Path(path).read_bytes()).frames]
    eal = start(arguments([], 64 << 20))
    call, abi = eal.dpdk.call, eal.dpdk.abi
    pool = Pool(eal, 1023, 32, 1500, 0, packed=True)
    empty = Port(eal, "net_null_taps,size=64")
    empty.configure(pool, 1, 64, 1500)
    empty.start(promiscuous=False)

    def set_up(made: Any) -> None:
        # What is sent on this device is received on it.
        conf = (ctypes.c_uint8 * 4096)()
        number, pools = made._receiver.ports[0].number, made._receiver.pools
        assert call["rte_eth_dev_configure"](number, 1, 1, conf) == 0
        assert call["rte_eth_rx_queue_setup"](number, 0, 64, 0, None, pools[0].address) == 0
        assert call["rte_eth_tx_queue_setup"](number, 0, 64, 0, None) == 0

    def send(made: Any) -> None:
        source = made.workers[0].source
        # The device does not stamp: what is in the buffers is taken as nanoseconds.
        q = source.queues[0]
        q["stamped"], q["whole_ns"] = 1, 1
        if path:
            # These times are long ago: while nothing comes, time must not go on to now. What the loop has set before it saw this is taken back.
            q["clock"] = 0
            polls, deadline = int(q["polls"]), time.monotonic() + PATIENCE
            while int(q["polls"]) - polls <= 2 * POLLS and time.monotonic() < deadline:
                time.sleep(0.001)
            source._words["clock"] = 0
        at = eal.dpdk.data(abi.fast["symbol"]) + made._receiver.ports[0].number * abi.fast["stride"]
        function = ctypes.c_uint64.from_address(at + abi.fast["send"]).value
        queue = ctypes.c_uint64.from_address(ctypes.c_uint64.from_address(at + abi.fast["send_queues"]).value).value
        burst = ctypes.CFUNCTYPE(ctypes.c_uint16, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_uint16)
        for frame in frames:
            pieces = [bytes.fromhex(p) for p in frame["pieces"]]
            found = (ctypes.c_void_p * len(pieces))()
            assert burst(empty.receiver(0)[0])(empty.receiver(0)[1], found, len(pieces)) == len(pieces)
            buffers = [int(b or 0) for b in found]
            for piece, buffer, following in zip(pieces, buffers, [*buffers[1:], 0], strict=True):
                data, offset = ctypes.c_uint64.from_address(buffer).value, ctypes.c_uint16.from_address(buffer + 16).value
                ctypes.memmove(data + offset, piece, len(piece))
                put(buffer, "data_len", len(piece))
                ctypes.c_uint64.from_address(buffer + selfcheck.prove(eal)).value = following
            put(buffers[0], "pkt_len", sum(map(len, pieces)))
            put(buffers[0], "nb_segs", len(pieces))
            flags = frame.get("flags", 0)
            if "ts" in frame:
                flags |= int(source.receive["stamp_flag"])
                ctypes.c_uint64.from_address(buffers[0] + int(source.receive["stamp"])).value = frame["ts"]
            put(buffers[0], "ol_flags", flags)
            for name in ("vlan_tci", "vlan_tci_outer", "rss"):
                put(buffers[0], name, frame.get(name, 0))
            assert burst(function)(queue, (ctypes.c_void_p * 1)(buffers[0]), 1) == 1

    got = run(["dpdk:net_ring0"], len(frames), before=set_up, prepare=send)
    empty.close()
    got["left"] += pool.in_use
    pool.close()
    return got


def put(buffer: int, name: str, value: int) -> None:
    """Set a field of a packet buffer."""
    kind, at = MBUF.fields[name][:2]  # type: ignore[index]
    ctypes.memmove(buffer + at, value.to_bytes(kind.itemsize, "little"), kind.itemsize)


def refuse() -> dict[str, str]:
    """What is said of each row that is not the library's own."""
    eal = start(arguments([], 64 << 20))
    own, said = eal.dpdk, {}
    for node, row in KNOWN.items():
        eal.dpdk = Library(folder() or own.folder, row) if node != own.node else own
        selfcheck._proven.clear()
        try:
            selfcheck.prove(eal)
        except SourceError as error:
            said[row.release] = str(error)
    return said | {"own": own.abi.release}


def drift() -> dict[str, Any]:
    """Times of a card whose clock ticks at 3 ns and runs away: what the receive loop makes of them."""
    from retina_jit import jit

    begun = time.time_ns()
    ticks = lambda: 1000 + (time.time_ns() - begun) // 3
    prototype = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_uint16, ctypes.POINTER(ctypes.c_uint64))

    def read(port: int, where: Any) -> int:
        where[0] = ticks()
        return 0

    keep = prototype(read)
    errors = []

    def set_clock(made: Any) -> None:
        q = made.workers[0].source.queues[0]
        q["ticks"], q["since"], q["tick_ns"], q["set_at"] = ticks(), time.time_ns(), 3.5, 0
        q["port"], q["read_clock"] = 0, ctypes.cast(keep, ctypes.c_void_p).value
        for _ in range(25):
            time.sleep(0.1)
            told = int(q["since"]) + int((ticks() - int(q["ticks"])) * float(q["tick_ns"]))
            errors.append(told - time.time_ns())

    got = run(["dpdk:net_null0,size=64"], 0, prepare=set_clock, seconds=0.01)
    return {"errors": errors, "left": got["left"], "entry": bool(jit)}


def unplug() -> dict[str, Any]:
    """A port whose link goes down and comes up: what is said of it, and counted."""
    said: list[str] = []
    log = logging.Handler()
    log.emit = lambda record: said.append(record.getMessage()) if "link" in record.getMessage() else None  # type: ignore[method-assign]
    logging.getLogger("retina_jit.dpdk").addHandler(log)
    links.LOOK = 0.02
    counted = []

    def pull(made: Any) -> None:
        deadline = time.monotonic() + PATIENCE
        for switch, word in (("up", ""), ("down", "is down"), ("up", "is up again")):
            time.sleep(0.1)  # some looks; more or fewer change nothing
            assert ctypes.CDLL(None)[f"rte_eth_dev_set_link_{switch}"](made._receiver.ports[0].number) == 0
            while word and not any(word in s for s in said) and time.monotonic() < deadline:
                time.sleep(0.01)
        counted.append(made.reading().ports["net_ring0"]["link_down"])

    got = run(["dpdk:net_ring0"], 0, prepare=pull, seconds=0.01)
    return {"said": said, "counted": counted, "left": got["left"], "problems": got["problems"]}


def dropped() -> dict[str, Any]:
    """A receiver that nobody closes: the threads that it leaves, and whether its device may be had again."""
    import gc

    from retina_jit.ingest.dpdk.source import Lane, Receiver, Settings

    lane = Lane(((0, 0),))
    made = Receiver(["net_null0"], [lane], Settings(capacity=1023, cache=32))
    made.start()
    during = [t.name for t in threading.enumerate()]
    del made
    gc.collect()
    after = [t.name for t in threading.enumerate()]
    again = Receiver(["net_null0"], [lane], Settings(capacity=1023, cache=32))
    again.close()
    return {"during": during, "after": after, "left": again.left}


class Copied(ctypes.Structure):
    """struct rte_flow_conv_rule."""

    _fields_ = [("attributes", ctypes.c_void_p), ("pattern", ctypes.c_void_p), ("actions", ctypes.c_void_p)]


def flows(rules: list[list[list[Any]]]) -> dict[str, Any]:
    """What DPDK itself takes our rules for: its copies of them; and what a device says that has no hardware filter."""
    from retina_jit.ingest.dpdk import flow

    eal = start(arguments([], 64 << 20))
    call, abi = eal.dpdk.call, eal.dpdk.abi
    items, actions = ({number: name for name, number in table.items()} for table in (abi.items, abi.actions))
    null = Port(eal, "net_null0")
    sizes = {"ETH": 14, "IPV4": 20, "IPV6": 40, "TCP": 20, "UDP": 8}
    copies = []
    for pattern, priority, queues in [*((p, 0, [0, 1, 2]) for p in flow.patterns([[tuple(c) for c in rule] for rule in rules])), ([flow.Header("eth")], 1, [])]:
        made = flow.Flow(null, pattern, priority, queues)
        own = Copied(made.attributes, made.pattern, made.actions)
        operation = abi.flow_names[0] - 3  # RTE_FLOW_CONV_OP_RULE
        size = call["rte_flow_conv"](operation, None, 0, ctypes.addressof(own), None)
        room = ctypes.create_string_buffer(size)
        assert call["rte_flow_conv"](operation, room, size, ctypes.addressof(own), None) == size
        copy = Copied.from_buffer(room)
        headers, at = [], copy.pattern
        while True:
            kind, spec, _, mask = struct.unpack("IxxxxQQQ", ctypes.string_at(at, 32))
            if items[kind] == "END":
                break
            size = sizes[items[kind]]
            headers.append([items[kind].lower(), *(ctypes.string_at(p, size).hex() if p else "" for p in (spec, mask))])
            at += 32
        kind, conf = struct.unpack("IxxxxQ", ctypes.string_at(copy.actions, 16))
        numbers = []
        if actions[kind] == "RSS":
            count, _, where = struct.unpack("=IQQ", ctypes.string_at(conf + 20, 20))
            numbers = list(struct.unpack(f"{count}H", ctypes.string_at(where, 2 * count)))
        copies.append([*struct.unpack("III", ctypes.string_at(copy.attributes, 12)), headers, actions[kind], numbers])
    installed = flow.install(null, [], [0])
    null.close()
    return {"copies": copies, "installed": installed, "log": list(eal.log.lines)}


JOBS = {"flows": flows, "replay": replay, "inject": inject, "run": run, "refuse": refuse, "drift": drift, "unplug": unplug, "dropped": dropped}

if __name__ == "__main__":
    job = json.loads(sys.argv[1])
    print(json.dumps(JOBS[job.pop("what")](**job)))
