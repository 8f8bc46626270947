"""Streaming: the first call, the following ones, the last one, and False; against a few lines of Python."""

from __future__ import annotations

import random
from collections import defaultdict
from typing import Any

import numpy as np
import pytest
from support import talkers
from support.running import MemoryFile, check, config, run_frames, runtime
from support.talkers import TalkA
from traffic import Frame, UdpExchange, pcap_bytes

from retina_jit.datatypes import ConnRecord, FiveTuple, ZcFrame
from retina_jit.delivery.event import EVENT
from retina_jit.delivery.streams import Streams
from retina_jit.errors import SubscriptionError
from retina_jit.pipeline.layout import MAIL, MOST_MAIL
from retina_jit.subscription import Every, Subscription, subscribe, take_collected

MS = 10**6
EVERY = [Every("packets", 1), Every("packets", 3), Every("bytes", 100), Every("bytes", 1500), Every("seconds", 500 * MS), Every("seconds", 3 * MS)]


def traffic(flows: int = 60, first: bytes = b".") -> list[Frame]:
    rng = random.Random(flows)
    frames: list[Frame] = []
    for port in range(20000, 20000 + flows):
        flow = UdpExchange(("192.0.2.1", port), ("198.51.100.1", 9), start_ns=10**18 + rng.randrange(10**9))
        for k in range(rng.randint(1, 30)):
            side = rng.randint(0, 1) if k else 0
            flow.datagram(side, (first if k == 0 else b".") + b"." * rng.choice((1, 50, 1300)), checksum=0)
            flow.wait(rng.choice((0, 1, 2, 400, 900)) * MS)
        frames += flow.frames
    return sorted(frames, key=lambda f: f.ts_ns)


def port_of(f: Frame) -> int:
    return next(p for p in (int.from_bytes(f.data[34:36], "big"), int.from_bytes(f.data[36:38], "big")) if p != 9)


def model(frames: list[Frame], every: Every, stop_after: int = 0, since: int = 0) -> dict[int, list[tuple[int, int, int]]]:
    """Calls by port: (time, packets, bytes) of the connection so far. since: with which packet the filter matches."""
    calls: dict[int, list[tuple[int, int, int]]] = defaultdict(list)
    seen: dict[int, list[Frame]] = defaultdict(list)
    count: dict[int, int] = {}
    for f in frames:
        port = port_of(f)
        so_far = seen[port]
        so_far.append(f)
        if len(so_far) <= since or (stop_after and len(calls[port]) == stop_after):
            continue
        if len(so_far) == since + 1:
            due, count[port] = True, f.ts_ns + every.interval if every.unit == "seconds" else 0
        elif every.unit == "seconds":
            due = f.ts_ns >= count[port]
            while f.ts_ns >= count[port]:
                count[port] += every.interval
        else:
            count[port] += 1 if every.unit == "packets" else f.length
            due = count[port] >= every.interval
            count[port] %= every.interval
        if due:
            calls[port].append((f.ts_ns, len(so_far), sum(x.length for x in so_far)))
    if every.at_end:
        for port, so_far in seen.items():
            if len(so_far) > since and not (stop_after and len(calls[port]) >= stop_after):
                calls[port].append((so_far[-1].ts_ns, len(so_far), sum(x.length for x in so_far)))
    return {p: c for p, c in calls.items() if c}


def note(calls: dict[int, list[Any]], stop_after: int = 0) -> Any:
    def callback(t: FiveTuple, c: ConnRecord, *_: Any) -> bool:
        calls[t.orig_port].append((c.last_seen_ts, c.total_pkts, c.total_pkt_bytes))
        return len(calls[t.orig_port]) != stop_after

    return callback


@pytest.mark.parametrize("at_end", [False, True])
@pytest.mark.parametrize("stop_after", [0, 1, 2])
def test_calls_are_those_of_the_model(at_end, stop_after):
    # Upstream counts twice while a connection is reassembled, and never starts with an empty filter (retina.md 3.5, 10.1-13).
    frames = traffic()
    all_calls: list[Any] = []
    subscriptions = []
    for every in EVERY:
        every = Every(every.unit, every.interval, at_end)
        calls: dict[int, list[Any]] = defaultdict(list)
        all_calls.append((every, calls))
        subscriptions.append(Subscription("", (FiveTuple, ConnRecord), note(calls, stop_after), every=every))
    # Others beside them take nothing from them, and get nothing of theirs.
    records: list[Any] = []
    subscriptions.insert(1, Subscription("", (ConnRecord,), records.append))
    result = run_frames(subscriptions, frames, config(udp_inactivity_timeout=10**6))
    for every, calls in all_calls:
        assert calls == model(frames, every, stop_after), every
    assert len(records) == 60
    # How many the worker has heard of in time is another matter: it may be through with a capture before Python answers.
    assert stop_after or result.counters["unsubscribed"] == 0


def test_one_subscription_alone_that_wants_no_more_ends_its_connections():
    frames = traffic()
    calls: dict[int, list[Any]] = defaultdict(list)
    s = Subscription("", (FiveTuple, ConnRecord), note(calls, 1), every=Every("packets", 1, True))
    result = run_frames([s], frames, config(udp_inactivity_timeout=10**6))
    assert calls == model(frames, Every("packets", 1, True), 1)
    assert result.counters["events"] >= len(calls)


def test_batches_answer_with_an_array():
    frames = traffic()
    calls: dict[int, list[Any]] = defaultdict(list)
    one = note(calls, 2)

    def callback(tuples: Any, records: Any) -> Any:
        answers = []
        for t, c in zip(tuples, records):
            # Several events of one stream may stand in one batch: what comes behind a False of the same batch is seen still.
            answers.append(len(calls[t.orig_port]) < 2 and one(t, c))
        return np.array(answers)

    run_frames([Subscription("", (FiveTuple, ConnRecord), callback, "batch", every=Every("packets", 3))], frames, config(udp_inactivity_timeout=10**6))
    assert calls == model(frames, Every("packets", 3), 2)


def test_compiled_callbacks_answer_at_once():
    frames = traffic()
    state = np.zeros(1, [("calls", "i8"), ("packets", "i8")])

    def twice(record, seen):
        seen.calls += 1
        seen.packets += record.orig.nb_pkts + record.resp.nb_pkts
        return record.orig.nb_pkts + record.resp.nb_pkts < 4

    def always(record, seen):
        seen.calls += 1

    every = Every("packets", 3)
    first, second = (Subscription("", (ConnRecord,), f, "jit", state, every=every, name="x") for f in (twice, always))
    result = run_frames([first, second], frames, config(udp_inactivity_timeout=10**6))
    want = [c for calls in model(frames, every, 2).values() for c in calls]
    assert (first.result["calls"], first.result["packets"]) == (len(want), sum(n for _, n, _ in want))
    assert result.counters["unsubscribed"] == sum(len(c) == 2 for c in model(frames, every, 2).values())
    assert second.result["calls"] == sum(map(len, model(frames, every).values()))


def test_a_session_type_begins_with_its_session():
    # The second datagram completes the session ("R").
    frames = []
    for port in range(20000, 20020):
        flow = UdpExchange(("192.0.2.1", port), ("198.51.100.1", 9))
        for data in (b"A.", b"AR", b"A.", b"AR", b"A."):
            flow.to_server(data, checksum=0)
        frames += flow.frames
    calls: dict[int, list[Any]] = defaultdict(list)
    logs = []
    one = note(calls)

    def callback(t: FiveTuple, c: ConnRecord, talk: TalkA) -> None:
        one(t, c)
        logs.append(talk.log())

    s = Subscription("zz_a", (FiveTuple, ConnRecord, TalkA), callback, every=Every("packets", 2, True))
    s.check()
    with talkers.declared(), MemoryFile(pcap_bytes(frames, nanoseconds=True)) as path:
        made = runtime([s], [path], config())
        check(made.run())
    assert calls == model(frames, Every("packets", 2, True), since=1)
    assert logs == [[(0, b"A."), (0, b"AR")]] * len(logs)


def test_the_decorator_says_how_often():
    take_collected()

    @subscribe("", every_seconds=0.5, at_end=True)
    def half(conn: ConnRecord) -> None: ...

    assert take_collected()[0].every == Every("seconds", 500 * MS, True)


@pytest.mark.parametrize(
    ("how", "reason"),
    [
        ({"every_packets": 1, "every_bytes": 2}, "every_packets and every_bytes together"),
        ({"every_packets": 0}, "must be more than 0"),  # upstream underflows (retina.md 3.5)
        ({"every_packets": 1.5}, "no whole number"),
        ({"every_seconds": "1"}, "no number"),
        ({"at_end": True}, "at_end goes with"),
    ],
)
def test_what_makes_no_sense_is_refused(how, reason):
    with pytest.raises(SubscriptionError, match=reason):
        subscribe("", "ConnRecord", **how)(print)


def test_packets_do_not_stream():
    with pytest.raises(SubscriptionError, match="ZcFrame is delivered for each packet"):
        Subscription("", (ZcFrame,), print, every=Every("packets", 1)).check()


def test_streams_of_a_subscription_that_is_gone_are_forgotten_when_its_tail_has_passed():
    mail = np.zeros(MOST_MAIL, MAIL)
    worker = {"mail": mail.ctypes.data, "mail_head": 0, "mail_tail": 0, "head": 0}
    calls: list[int] = []

    def handlers(streams: Streams) -> list[Any]:
        def handler(buffer: bytes, at: int) -> bool:
            calls.append(at)
            return False

        return [streams.asking(n, handler) for n in range(2)]

    def event(stream: int) -> bytes:
        return bytes(EVENT.itemsize) + stream.to_bytes(8, "little")

    def settled(tail: int) -> set[int]:
        last.settle(worker["head"], tail)
        return last._over

    first = Streams(worker)
    stays, goes = handlers(first)
    # Two end before the program changes, too many for the mail; the ring has grown to 1000 by then.
    worker["mail_head"], worker["mail_tail"] = MOST_MAIL, 0
    stays(event(1), 0), goes(event(2), 0)
    worker["head"] = 1000
    last = Streams(worker, Streams(worker, first, {0: 1}), {1: 0})
    # And two of what lies in the ring then.
    stays(event(3), 0), goes(event(4), 0)
    assert settled(999) == {1, 2, 3, 4}
    assert settled(1000) == {1, 3}, "nothing of 2 and 4 is written by the new program"
    worker["mail_tail"] = MOST_MAIL
    last.settle(1000, 1000)
    assert mail["id"][:2].tolist() == [1, 3] and mail["subscription"][:2].tolist() == [0, 0]
    worker["mail_tail"] += 2
    assert settled(1000) == set()
    assert len(calls) == 4
