"""Going over to another program during a run: `Runtime.go_over`, `run --reload`."""

from __future__ import annotations

import os
import re
import struct
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from oracle.captures import read_capture
from oracle.decode import decode
from oracle.ipfix import Collector, messages
from support.running import SAMPLES, check, config, runtime, to
from traffic import UdpExchange, pcap_bytes

import retina_jit as rj
from retina_jit.datatypes import data_types
from retina_jit.delivery.sinks import Sinks
from retina_jit.errors import ConfigError, FilterError, SubscriptionError
from retina_jit.exchange import Exchange
from retina_jit.parsers.protocol import forget, protocols
from retina_jit.program import Program
from retina_jit.runtime import Result
from retina_jit.state.layout import TCP, UDP
from retina_jit.subscription import Subscription, take_collected

ROOT = Path(rj.__file__).parents[1]


def until(holds: Callable[[], Any], seconds: float = 60) -> Any:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if found := holds():
            return found
        time.sleep(0.002)
    raise AssertionError("it has not come to hold")


def cut(path: Path, every: int) -> list[bytes]:
    """A capture in pieces of so many frames; the header is with the first one."""
    content = path.read_bytes()
    at, places = 24, [0]
    order = "<" if content[0] in (0xD4, 0x4D) else ">"
    while at < len(content):
        at += 16 + struct.unpack_from(order + "I", content, at + 8)[0]
        places.append(at)
    chosen = [0, *places[every::every]]
    if chosen[-1] != len(content):
        chosen.append(len(content))
    return [content[a:b] for a, b in zip(chosen, chosen[1:], strict=False)]  # noqa: RUF007


class Fed:
    """A run over a pipe that a test feeds."""

    def __init__(self, tmp_path: Path, subscriptions: Sequence[Subscription]) -> None:
        fifo = tmp_path / "fifo"
        os.mkfifo(fifo)
        self.runtime = runtime(subscriptions, [fifo])
        self._results: list[Result] = []
        self._thread = threading.Thread(target=lambda: self._results.append(self.runtime.run()))
        self._thread.start()
        self._out = fifo.open("wb")
        self.frames = 0

    def feed(self, piece: bytes, frames: int) -> None:
        self._out.write(piece)
        self._out.flush()
        self.frames += frames
        until(lambda: self.runtime.stats()["frames"] == self.frames)

    def go_over(self, program: Program) -> None:
        """As `Runtime.go_over`, to a program that is compiled already."""
        done = threading.Event()
        self.runtime._pause_at = 0.0
        sinks = Sinks(program.subscriptions, program.offsets, self.runtime._sinks, len(self.runtime.workers))
        self.runtime._next = Exchange(self.runtime.program, program), sinks, done
        assert done.wait(60)

    def finish(self) -> Result:
        self._out.close()
        self._thread.join(60)
        return self._results[0]


ASKING = """
import numpy as np

from retina_jit import memory
from retina_jit.jit import entry
from retina_jit.parsers.protocol import declare, session_field
from retina_jit.parsers.session.contract import READY, STOP
from retina_jit.parsers.wire import u8
from retina_jit.state.layout import INPUT
from retina_jit.status import Probe

PROBE_LIMIT = 4
STATE = np.dtype([{fields}])
STATE_AT, INPUT_AT = memory.at(STATE), memory.at(INPUT)
CERTAIN, REJECTED = int(Probe.CERTAIN), int(Probe.NOT_OURS)


@entry
def probe(address, length, direction, transport):
    return CERTAIN if length >= 4 and u8((address, length), 0) == 0xA5 and u8((address, length), 1) == 0xA6 else REJECTED


@entry
def parse(state, given):
    s, i = STATE_AT(state), INPUT_AT(given)
    s.total = s.total + u8((i.address, i.length), 3)
    i.at = i.length
    s.count = s.count + 1
    return READY | STOP if s.count == 3 else 0


@entry
def finish(state, arena):
    return 0


@entry
def release(state, arena):
    STATE_AT(state).total = 0
    return 0


@session_field("int", "Sum of what was asked for.", bits=32)
def total(session):
    return STATE_AT(session).total + 0


declare("asking", "A protocol of a test", level="session", within=["udp"])
"""

ONE_LAYOUT = "('total', 'i8'), ('count', 'i8')"
OTHER_LAYOUT = "('room', 'i8', (40,)), ('count', 'i8'), ('total', 'i8')"


@pytest.fixture
def asking(tmp_path):
    file = tmp_path / "asking.py"

    def edit(fields: str) -> None:
        file.write_text(ASKING.format(fields=fields))
        rj.load_protocol(file)

    yield edit
    for p in list(protocols().values()):
        if p.name == "asking":
            forget(p.declared_in)
    data_types()


# --------------------------------------------------------------------- what goes on is as if nothing had happened


class Seen:
    """What callbacks were given, by subscription."""

    def __init__(self) -> None:
        self.events: Counter[str] = Counter()

    def to(self, label: str, types: str, text: str) -> Subscription:
        s = to(types, text, lambda *a: self.events.update([f"{label} {a!r}"]))
        s.name = label
        return s

    def streaming(self, label: str) -> Subscription:
        def callback(five: Any, packets: Any) -> bool | None:
            self.events.update([f"{label} {five!r} {packets!r}"])
            return False if packets.pkt_count >= 5 else None

        take_collected()
        rj.subscribe("tcp", "FiveTuple", "PktCount", every_packets=2)(callback)
        (s,) = take_collected()
        s.name = label
        return s


def going_on(seen: Seen) -> list[Subscription]:
    return [
        seen.to("records", "ConnRecord", ""),
        seen.to("kept", "TlsHandshake,ConnRecord", "tls"),
        seen.to("sessions", "SessionList,FiveTuple", ""),
        seen.to("packets", "ZcFrame,FiveTuple", "tls or http"),
        seen.to("lists", "BidirPktStream", "udp"),
        seen.to("http", "HttpTransaction,FiveTuple", "http"),
        seen.to("dns", "DnsTransaction,FiveTuple", "dns"),
        seen.to("watched", "ConnRecord", "frame.len > 1000 and tls"),
        seen.to("late", "InterArrivals,FiveTuple", "conn.packets > 4"),
        seen.streaming("stream"),
    ]


@pytest.mark.parametrize(("sample", "every"), [("mixed.pcap", 7), ("tls.pcap", 23)])
def test_what_goes_on_gets_the_same_however_often_the_program_changes(tmp_path, asking, sample, every):
    path = SAMPLES / sample
    whole, seen = Seen(), Seen()
    expected = runtime(going_on(whole), [path]).run()
    noise = Seen()
    one = Program([*going_on(seen), noise.to("gone", "TlsHandshake", "tls"), noise.to("gone too", "EthAddr,ConnHistory", "")])
    asking(ONE_LAYOUT)  # one more session protocol, by whose name all others have other numbers
    others = [noise.to(f"new {n}", "PktCount", f"tcp.port = {n + 1}") for n in range(70)]
    other = Program([*others, *reversed(going_on(seen))])
    fed = Fed(tmp_path, one.subscriptions)
    for n, piece in enumerate(cut(path, every)):
        left = expected.counters["frames"] - fed.frames
        fed.feed(piece, min(every, left))
        fed.go_over(one if n % 2 else other)
    result = fed.finish()
    check(result)
    assert seen.events == whole.events
    assert all(any(e.startswith(f"{s.name} ") for e in whole.events) for s in going_on(whole) if sample != "tls.pcap" or s.name not in ("http", "dns", "lists"))
    for name in ("connections", "sessions", "ended_closed", "ended_drained", "frames", "bytes"):
        assert result.counters[name] == expected.counters[name], name


STATE = np.dtype([("packets", "i8"), ("connections", "i8")])


def counting(rounds: int) -> list[Subscription]:
    """Compiled callbacks with a state, a data type and a predicate of the user's own; made anew, as by an app that is executed again."""
    take_collected()

    @rj.data_type
    class Sums:
        state = np.dtype([("bytes", "i8"), ("packets", "i8")])

        def update(state: Any, packet: Any) -> None:  # noqa: N805
            state.bytes += packet.length
            state.packets += 1

    @rj.predicate
    class third_packet:  # noqa: N801 - as filters call it
        state = np.dtype([("packets", "i8")])

        def update(state: Any, packet: Any) -> int:  # noqa: N805
            state.packets += 1
            return rj.ACCEPT if state.packets == 3 else rj.CONTINUE

    sums: list[tuple[int, int]] = []

    @rj.subscribe("", "ZcFrame", deliver="jit", state=STATE)
    def packets(frame: Any, state: Any) -> None:
        state.packets += 1

    @rj.subscribe("", "PktCount", deliver="jit", state=STATE)
    def connections(count: Any, state: Any) -> None:
        state.connections += 1

    rj.subscribe("", "Sums")(lambda s: sums.append((s.bytes, s.packets)))
    rj.subscribe("third_packet", "Sums")(lambda s: sums.append((-s.bytes, s.packets)))
    made = take_collected()
    made[2].workers = made[3].workers = [sums]  # type: ignore[list-item] - out of the way of other attributes
    return made[::-1] if rounds % 2 else made


def test_states_of_the_users_own_go_on(tmp_path):
    path = SAMPLES / "mixed.pcap"

    def told(subscriptions: Sequence[Subscription]) -> list[list[int]]:
        by_name = {s.name: s for s in subscriptions}
        return [[int(by_name[n].result[f]) for f in STATE.names or ()] for n in ("packets", "connections")]

    first = counting(0)
    sums = first[2].workers[0]
    runtime(first, [path]).run()
    expected, whole = told(first), Counter(sums)
    assert expected[0][0] == 150 and expected[1][1] > 10 and any(b < 0 for b, _ in whole)
    programs = [Program(counting(n)) for n in range(3)]
    lists = [next(s for s in p.subscriptions if s.types[0].__name__ == "Sums").workers[0] for p in programs]
    fed = Fed(tmp_path, programs[0].subscriptions)
    for n, piece in enumerate(cut(path, 50)):
        fed.feed(piece, 50)
        if n < 2:
            fed.go_over(programs[n + 1])
    check(fed.finish())
    assert told(programs[2].subscriptions) == expected
    assert sum((Counter(s) for s in lists), Counter()) == whole


def test_a_new_subscription_gets_what_comes_from_then_on(tmp_path):
    pieces, early, late = cut(SAMPLES / "mixed.pcap", 75), Seen(), Seen()
    fed = Fed(tmp_path, [early.to("frames", "ZcFrame", "")])
    fed.feed(pieces[0], 75)
    assert fed.runtime.go_over([late.to("frames", "ZcFrame", "frame.len > 100"), late.to("connections", "ConnRecord", "")]).startswith("0 of its")
    fed.feed(pieces[1], 75)
    result = fed.finish()
    check(result)
    assert early.events.total() == 75
    assert 0 < sum(n for e, n in late.events.items() if e.startswith("frames")) < 75
    assert sum(n for e, n in late.events.items() if e.startswith("connections")) == result.counters["connections"] > 0
    assert fed.runtime.go_over([late.to("frames", "ZcFrame", "")]) == ""


def test_several_workers_go_over_together(tmp_path):
    """They read a large file together, and may wait for one another."""
    frames = cut(SAMPLES / "mixed.pcap", 1)
    large = tmp_path / "large.pcap"
    head, body = frames[0][:24], b"".join([frames[0][24:], *frames[1:]])
    times = 40_000_000 // len(body)
    large.write_bytes(head + body * times)
    counts = []

    def counting_frames() -> Subscription:
        seen: list[int] = []
        counts.append(seen)

        def callback(columns: Any) -> None:
            seen.append(len(columns))
            time.sleep(0.005)  # so that the run takes longer than the changes

        return to("ZcFrame", "frame.len > 300", callback, "batch")

    def a_file() -> Subscription:
        return written("ZcFrame", tmp_path / "long.pcap", "frame.len > 1000")

    made = runtime([counting_frames(), a_file()], [large], msgspec.structs.replace(config(), workers=2), ring=1 << 18)
    both = [[counting_frames(), made._with_sink(a_file())] for _ in range(8)]
    programs = [Program(s if n % 2 else s[::-1]) for n, s in enumerate(both)]
    results: list[Result] = []
    thread = threading.Thread(target=lambda: results.append(made.run()))
    thread.start()
    changes = 0
    for program in programs:
        done = threading.Event()
        made._pause_at = 0.0
        made._next = Exchange(made.program, program), Sinks(program.subscriptions, program.offsets, made._sinks, 2), done
        until(lambda done=done: done.is_set() or not thread.is_alive())  # type: ignore[misc]
        changes += done.is_set()
    thread.join(60)
    check(results[0])
    assert changes > 1
    assert sum(map(sum, counts)) == results[0].ledger["delivered"] > 10_000
    long_ones = len(frames_of(tmp_path / "long.pcap"))
    assert long_ones == times * sum(len(data) > 1000 for _, data in frames_of(SAMPLES / "mixed.pcap")) > 10_000
    assert sum(map(sum, counts)) + long_ones == results[0].counters["events"]


def test_what_is_counted_for_a_monitor_goes_on(tmp_path):
    """From frames alone, which have a loop of their own, to connections."""
    pieces, half = cut(SAMPLES / "mixed.pcap", 75), 75
    fed = Fed(tmp_path, [to("ZcFrame", "udp", lambda _: None)])
    (worker,) = fed.runtime.workers
    worker.count_volumes()
    fed.feed(pieces[0], half)
    fed.runtime.go_over([to("ConnRecord", "tcp", lambda _: None)])
    fed.feed(pieces[1], half)
    check(fed.finish())
    lengths: Counter[str] = Counter()
    for n, f in enumerate(read_capture((SAMPLES / "mixed.pcap").read_bytes()).frames):
        layers = decode(f.data, f.link, f.length)["layers"]
        kind = "tcp" if layers & TCP else "udp" if layers & UDP else ""
        lengths[kind if kind == ("tcp" if n >= half else "udp") else "filtered" if kind else "neither"] += f.length
    received = fed.runtime.reading().received
    assert {name: received[f"{name}_bytes"] for name in ("tcp", "udp", "filtered")} == {n: lengths[n] for n in ("tcp", "udp", "filtered")}
    assert min(lengths[n] for n in ("tcp", "udp", "filtered")) > 0 and received["not_syn_bytes"] > 0


def test_no_frame_is_lost_where_frames_were_shared_by_turns(tmp_path):
    """From a program of frames only to one with connections; the workers are not at the same frame then."""
    frames = cut(SAMPLES / "mixed.pcap", 1)
    large = tmp_path / "large.pcap"
    head, body = frames[0][:24], b"".join([frames[0][24:], *frames[1:]])
    times = 40_000_000 // len(body)
    large.write_bytes(head + body * times)
    began = threading.Event()

    def slow(columns: Any) -> None:
        began.set()
        time.sleep(0.005)

    made = runtime([to("ZcFrame", "frame.len > 300", slow, "batch")], [large], msgspec.structs.replace(config(), workers=2), ring=1 << 18)
    program = Program([to("ConnRecord", "", lambda conn: None, "batch")])  # compiled before the run begins
    results: list[Result] = []
    thread = threading.Thread(target=lambda: results.append(made.run()))
    thread.start()
    until(began.is_set)
    done = threading.Event()
    made._next = Exchange(made.program, program), Sinks(program.subscriptions, program.offsets, made._sinks, 2), done
    until(done.is_set)
    thread.join(60)
    check(results[0])
    assert results[0].counters["connections"] > 0
    assert results[0].counters["frames"] == times * len(frames)


# --------------------------------------------------------------------------------------- other session protocols


def talks(ports: range, *values: int) -> list[bytes]:
    """For each value a piece of a capture, without its header: a datagram of every port."""
    pieces = []
    for n, value in enumerate(values):
        frames = []
        for port in ports:
            talk = UdpExchange(("192.0.2.1", port), ("192.0.2.2", 7), start_ns=10**18 + n * 10**6 + port)
            talk.to_server(bytes([0xA5, 0xA6, 0, value]))
            frames += talk.frames
        pieces.append(pcap_bytes(frames)[24:])
    return pieces



def test_connections_keep_their_parsers_when_protocols_come_and_change(tmp_path, asking):
    seen: list[tuple[str, int, int]] = []

    def wants(label: str) -> list[Subscription]:
        return [*unasked(), to("AskingSession,FiveTuple", "asking", lambda s, five: seen.append((label, five.orig_port, s.total)))]

    def unasked() -> list[Subscription]:
        return [to("ConnRecord", "", records.append), to("TlsHandshake", "tls", print)]

    records: list[rj.ConnRecord] = []
    without = Program(unasked())  # the numbers are others than with one more protocol
    asking(ONE_LAYOUT)
    first, again = Program(wants("first")), Program(wants("again"))
    asking(OTHER_LAYOUT)
    edited = Program(wants("edited"))
    begin, middle = talks(range(1000, 1010), 1, 2)
    late = talks(range(2000, 2010), 4, 5, 6)
    fed = Fed(tmp_path, without.subscriptions)
    fed.feed(pcap_bytes([])[:24] + talks(range(999, 1000), 0)[0], 1)
    fed.go_over(first)
    fed.feed(begin, 10)
    fed.go_over(again)
    fed.feed(middle, 10)
    fed.feed(talks(range(1000, 1003), 3)[0], 3)
    assert until(lambda: len(seen) == 3) and set(seen) == {("again", port, 6) for port in range(1000, 1003)}
    fed.go_over(edited)
    for piece in late[:2]:
        fed.feed(piece, 10)
    fed.feed(talks(range(1003, 1006), 3)[0], 3)  # of the parser that is no more: nothing, and nothing is torn
    fed.go_over(without)
    fed.feed(late[2], 10)
    fed.go_over(edited)
    fed.feed(talks(range(1006, 1010), 3)[0], 4)
    for piece in talks(range(3000, 3010), 7, 8, 9):
        fed.feed(piece, 10)
    result = fed.finish()
    check(result)
    assert Counter(label for label, _, _ in seen) == {"again": 3, "edited": 10}
    assert {(port, total) for label, port, total in seen if label == "edited"} == {(port, 24) for port in range(3000, 3010)}
    ports = [*range(1000, 1010), *range(2000, 2010), *range(3000, 3010)]
    assert {r.five_tuple.orig_port: r.service for r in records} == dict.fromkeys(ports, "asking") | {999: ""}


# ------------------------------------------------------------------------------------------------------ files go on


def written(types: str, target: Any, text: str = "", **options: Any) -> Subscription:
    take_collected()
    rj.subscribe(text, *types.split(","), sink=str(target), **options)(lambda *_: None)
    (made,) = take_collected()
    made.name = f"{types} {text}"
    return made


def into(folder: Path) -> list[Subscription]:
    """A subscription for each way to write: its file is begun once, whatever its subscription's number."""
    return [
        written("ConnRecord", folder / "both.jsonl", "tcp"),
        written("DnsTransaction,FiveTuple", folder / "both.jsonl", "dns"),
        written("ConnRecord", folder / "conns.csv"),
        written("ConnRecord", folder / "conns.parquet"),
        written("ZcFrame", folder / "frames.pcapng", "tcp"),
        written("ZcFrame", folder / "frames.pcap", "udp"),
        written("ConnRecord", f"zeek:{folder}/zeek"),
        written("HttpTransaction", f"zeek:{folder}/zeek"),
        written("TlsHandshake", f"zeek:{folder}/zeek"),
        written("ZcFrame", folder / "parts.pcap", rotate="1k"),
        written("ConnRecord", folder / "flows.ipfix", "udp"),
    ]


def told_by(folder: Path) -> dict[str, Any]:
    """What the files of `into` hold, whatever the order of lines of one burst."""
    import polars as pl

    def lines(content: str) -> list[str]:
        return sorted(line for line in content.splitlines() if not line.startswith(("#open", "#close")))

    flows = Collector()
    for message in messages((folder / "flows.ipfix").read_bytes()):
        flows.take(message)
    return {
        **{p.name: lines(p.read_text()) for p in [folder / "both.jsonl", folder / "conns.csv", *folder.glob("zeek/*")]},
        "conns.parquet": sorted(map(str, pl.read_parquet(folder / "conns.parquet").rows())),
        **{p.name: frames_of(p) for p in folder.glob("frames.pcap*")},
        "flows.ipfix": sorted(str(sorted(map(str, flow.items()))) for flow in flows.flows),
        "parts.pcap": [f for p in sorted(folder.glob("parts.*.pcap")) for f in frames_of(p)],
    }


def frames_of(path: Path) -> list[tuple[int, bytes]]:
    return [(f.ts, f.data) for f in read_capture(path.read_bytes()).frames]


def without_uids(found: dict[str, Any]) -> dict[str, Any]:
    """Uids are random, and the same within a log only."""
    return {name: sorted(re.sub(r"\bC[0-9A-Za-z]{10,}\b", "uid", str(line)) for line in lines) for name, lines in found.items()}


def test_files_go_on_when_the_program_changes(tmp_path):
    path = SAMPLES / "mixed.pcap"
    (tmp_path / "whole").mkdir(), (tmp_path / "changed").mkdir()
    runtime(into(tmp_path / "whole"), [path]).run()
    fed = Fed(tmp_path, into(tmp_path / "changed"))
    for n, piece in enumerate(cut(path, 30)):
        if n:
            new = [written("ZcFrame", tmp_path / "changed" / "new.pcap"), to("TlsHandshake", "tls", lambda _: None)]
            same = into(tmp_path / "changed")
            told = fed.runtime.go_over(new + same[::-1] if n % 2 else same)
            assert told.startswith("11 of its subscriptions go on")
        fed.feed(piece, 30)
    result = fed.finish()
    check(result)
    expected, found = (without_uids(told_by(tmp_path / name)) for name in ("whole", "changed"))
    assert found == expected
    assert len(list((tmp_path / "changed").glob("parts.*.pcap"))) > 1
    # It was written to twice for a while, and goes on where it was.
    frames = frames_of(path)
    assert frames_of(tmp_path / "changed" / "new.pcap") == frames[30:60] + frames[90:120]
    assert all(len(lines) > 1 for lines in found.values()), "it would say nothing otherwise"


def test_a_file_is_known_after_a_program_that_writes_to_none(tmp_path):
    pieces = cut(SAMPLES / "mixed.pcap", 50)
    frames = written("ZcFrame", tmp_path / "frames.csv")
    fed = Fed(tmp_path, [frames])
    fed.feed(pieces[0], 50)
    fed.runtime.go_over([to("TlsHandshake", "tls", lambda _: None)])
    fed.feed(pieces[1], 50)
    with pytest.raises(ConfigError, match="csv has one header, which stands in the file already"):
        fed.runtime.go_over([written("DnsTransaction", tmp_path / "frames.csv")])
    fed.runtime.go_over([frames])
    fed.feed(pieces[2], 50)
    check(fed.finish())
    header, *rows = (tmp_path / "frames.csv").read_text().splitlines()
    assert len(rows) == 100 and {row.count(",") for row in rows} == {header.count(",")}


def test_a_file_that_cannot_go_on_changes_nothing(tmp_path):
    folder = tmp_path / "x"
    folder.mkdir()
    pieces = cut(SAMPLES / "mixed.pcap", 75)
    fed = Fed(tmp_path, into(folder))
    fed.feed(pieces[0], 75)
    for wrong, reason in [
        (written("DnsTransaction", folder / "conns.csv"), "'DnsTransaction ': csv has one header, which stands in the file already: name another file"),
        (written("FiveTuple", folder / "conns.parquet"), "'FiveTuple ': a table has one kind of row, and the file has begun with it"),
        (written("TlsHandshake", folder / "frames.pcap"), "TlsHandshake: a capture file holds packets"),
        (written("SessionList", f"zeek:{folder}/zeek"), "SessionList: no log of Zeek's"),
        (written("ZcFrame", folder / "parts.pcap"), "parts.pcap: rotate '1k' and ''"),
        (written("ConnRecord", folder / "no" / "x.jsonl"), "No such file or directory"),
    ]:
        with pytest.raises(ConfigError, match=re.escape(reason)):
            fed.runtime.go_over([written("ConnRecord", folder / "beside.jsonl"), wrong])
    fed.feed(pieces[1], 75)
    check(fed.finish())
    assert (folder / "beside.jsonl").read_bytes() == b""
    (folder / "beside.jsonl").unlink()
    (tmp_path / "whole").mkdir()
    runtime(into(tmp_path / "whole"), [SAMPLES / "mixed.pcap"]).run()
    assert without_uids(told_by(folder)) == without_uids(told_by(tmp_path / "whole"))


def test_what_cannot_be_compiled_changes_nothing(tmp_path):
    pieces, seen = cut(SAMPLES / "mixed.pcap", 75), Seen()
    fed = Fed(tmp_path, [seen.to("frames", "ZcFrame", "")])
    fed.feed(pieces[0], 75)
    with pytest.raises(FilterError):
        fed.runtime.go_over([seen.to("frames", "ZcFrame", "nosuch.field = 1")])
    with pytest.raises(SubscriptionError):
        fed.runtime.go_over([])
    fed.feed(pieces[1], 75)
    check(fed.finish())
    assert seen.events.total() == 150


# ------------------------------------------------------------------------------------------------------ the command

APP = """
from pathlib import Path
from retina_jit import ConnRecord, subscribe
from retina_jit.app import at_end
from beside import WORD

@subscribe("")
def records(conn: ConnRecord):
    print(WORD, conn.five_tuple, conn.orig.nb_pkts + conn.resp.nb_pkts, flush=True)

@subscribe("", sink=str(Path(__file__).with_suffix(".jsonl")))
def in_file(conn: ConnRecord):
    pass

@at_end
def over(result):
    print("over", WORD, flush=True)
"""


def test_reload_on_the_command_line(tmp_path):
    app, beside, fifo = tmp_path / "app.py", tmp_path / "beside.py", tmp_path / "fifo"
    app.write_text(APP)
    beside.write_text("WORD = 'first'\n")
    os.mkfifo(fifo)
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1"}
    with subprocess.Popen(
        [sys.executable, "-m", "retina_jit", "run", str(app), "-r", str(fifo), "--reload", "--status", "0"],
        env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    ) as process:  # fmt: skip
        assert process.stderr is not None and process.stdout is not None
        told: list[str] = []
        reader = threading.Thread(target=lambda: told.extend(iter(process.stderr.readline, "")))  # type: ignore[union-attr]
        reader.start()
        # For reading too: so it does not wait for a process that may have failed.
        with os.fdopen(os.open(fifo, os.O_RDWR), "wb") as out:
            pieces = cut(SAMPLES / "mixed.pcap", 75)
            out.write(pieces[0])
            out.flush()
            until(lambda: any("status: http://" in line for line in told) or process.poll() is not None, 200)
            beside.write_text("WORD = 'second'\n")
            until(lambda: any("2 of its subscriptions go on, 0 are new, 0 are gone" in line for line in told))
            app.write_text(APP.replace('("")', '("no such thing")'))
            until(lambda: any("the program before goes on" in line for line in told))
            app.write_text(APP + "1 / 0\n")
            until(lambda: any("ZeroDivisionError" in line for line in told))
            out.write(pieces[1])
            out.flush()
        output = process.stdout.read()
        assert process.wait(60) == 0
        reader.join()
    lines = output.splitlines()
    assert len(app.with_suffix(".jsonl").read_text().splitlines()) == len(lines) - 1
    assert lines[-1] == "over second"
    expected: list[Any] = []
    result = runtime([to("ConnRecord", "", expected.append)], [SAMPLES / "mixed.pcap"]).run()
    assert sorted(line.partition(" ")[2] for line in lines[:-1]) == sorted(f"{c.five_tuple} {c.orig.nb_pkts + c.resp.nb_pkts}" for c in expected)
    assert result.counters["connections"] == len(lines) - 1
    assert {line.split()[0] for line in lines} == {"second", "over"} or {line.split()[0] for line in lines} == {"first", "second", "over"}
    caret = next(n for n, line in enumerate(told) if "the program before goes on" in line)
    assert "no such thing" in "".join(told[caret : caret + 4])
