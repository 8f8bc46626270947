"""Sessions of a connection in callbacks at its end: the first that matches, all of them, one or none."""

from __future__ import annotations

import random
from collections import defaultdict
from typing import Any

import pytest
from oracle.talk import NAMES, Talk
from support import talkers
from support.running import MemoryFile, check, config, runtime
from support.talkers import TalkA, TalkB
from traffic import Frame, UdpExchange, pcap_bytes

from retina_jit.datatypes import ConnRecord, FiveTuple, SessionList, TlsHandshake, sessions
from retina_jit.datatypes.base import DataType
from retina_jit.datatypes.sessions import list_of, optional
from retina_jit.errors import SubscriptionError
from retina_jit.pipeline.layout import MOST_KINDS
from retina_jit.program import Program
from retina_jit.subscription import Subscription, subscribe, take_collected


def run(frames: list[Frame], subscriptions: list[Subscription], **settings: Any) -> dict[str, int]:
    for s in subscriptions:
        s.check()
    with talkers.declared(), MemoryFile(pcap_bytes(frames, nanoseconds=True)) as path:
        made = runtime(subscriptions, [path], config(**settings))
        talkers.install(made.program)
        result = made.run()
    check(result)
    return result.counters


def traffic(flows: int) -> tuple[list[Frame], dict[int, Talk]]:
    """UDP flows with up to six messages each, and what each of the two protocols should find."""
    rng = random.Random(flows)
    frames, talks = [], {}
    for port in range(20000, 20000 + flows):
        flow, talk = UdpExchange(("192.0.2.1", port), ("198.51.100.1", 9)), Talk()
        for k in range(rng.randint(1, 6)):
            data = rng.choice((b"A", b"B", b"U") if k == 0 else (b".",)) + rng.choice((b"R", b"R", b".", b"S", b"!")) + b"." * rng.choice((0, 10, 600))
            flow.to_server(data, checksum=0)
            talk.datagram(0, data)
        talk.end()
        frames += flow.frames
        talks[port] = talk
    return sorted(frames, key=lambda f: f.ts_ns), talks


def test_all_shapes_agree_with_the_plain_twin():
    frames, talks = traffic(300)
    got: dict[str, dict[int, Any]] = defaultdict(dict)

    def note(name: str, make: Any) -> Any:
        def callback(t: Any, *more: Any) -> None:
            assert t.orig_port not in got[name], "twice"
            got[name][t.orig_port] = make(*more)

        return callback

    log = lambda one: None if one is None else (type(one).__name__, one.log())
    logs = lambda many: [log(s) for s in many]
    subscriptions = [
        Subscription("", (FiveTuple, TalkA, ConnRecord), note("first a", lambda one, conn: (log(one), conn.total_pkts))),
        Subscription("", (FiveTuple, ConnRecord, TalkB), note("first b", lambda conn, one: (conn.total_pkts, log(one)))),
        Subscription("", (FiveTuple, list_of(TalkA)), note("all a", logs)),
        Subscription("", (FiveTuple, list_of(TalkA), list_of(TalkB)), note("all both", lambda a, b: (logs(a), logs(b)))),
        Subscription("", (FiveTuple, optional(TalkA), optional(TalkB), ConnRecord), note("perhaps", lambda a, b, _: (log(a), log(b)))),
        Subscription("zz_b", (FiveTuple, SessionList), note("list", logs)),
        Subscription("", (FiveTuple, TalkA, list_of(TalkA), optional(TalkB), ConnRecord), note("mixed", lambda a, all_, b, _: (log(a), logs(all_), log(b)))),
        Subscription("zz_a", (FiveTuple, ConnRecord), note("record", lambda c: c.total_pkts)),
    ]
    counters = run(frames, subscriptions)
    want: dict[str, dict[int, Any]] = defaultdict(dict)
    packets = defaultdict(int)
    for f in frames:
        packets[int.from_bytes(f.data[34:36], "big")] += 1
    for port, talk in talks.items():
        of = {name: [("TalkA" if name == "zz_a" else "TalkB", s) for n, s in talk.sessions if n == name] for name in NAMES}
        a, b = of["zz_a"], of["zz_b"]
        first = lambda found: found[0] if found else None
        if a:
            want["first a"][port] = first(a), packets[port]
            want["mixed"][port] = first(a), a, first(b)
        if b:
            want["first b"][port] = packets[port], first(b)
        want["all a"][port] = a
        want["all both"][port] = a, b
        want["perhaps"][port] = first(a), first(b)
        if talk.state == "zz_b" or b:
            want["list"][port] = b
        if talk.state == "zz_a" or a:
            want["record"][port] = packets[port]
    assert {len(a) for a in want["all a"].values()} > {0, 1, 2, 3}
    for name in want:
        assert got[name] == want[name], name
    assert got.keys() == want.keys()
    assert counters["sessions_left_out"] == 0


def test_caps_leave_sessions_out_and_count_them():
    frames, _ = traffic(100)
    lists: list[Any] = []
    subscription = Subscription("", (list_of(TalkA),), lists.append)
    counters = run(frames, [subscription], max_sessions=2)
    assert max(map(len, lists)) == 2
    assert sum(map(len, lists)) == counters["sessions_kept"]
    assert counters["sessions_left_out"] == counters["sessions"] - counters["sessions_kept"] > 0


def test_batches_give_lists_too():
    frames, talks = traffic(50)
    lengths: list[int] = []

    def callback(columns: Any) -> None:
        lengths.extend(columns["count"].tolist())
        assert [len(found) for found in columns] == columns["count"].tolist()

    run(frames, [Subscription("", (list_of(TalkA),), callback, "batch")])
    assert sorted(lengths) == sorted(sum(n == "zz_a" for n, _ in t.sessions) for t in talks.values())


def test_annotations_name_lists_and_optional_sessions():
    take_collected()

    @subscribe("")
    def several(all_: list[TlsHandshake], first: TlsHandshake | None, conn: ConnRecord) -> None: ...

    subscribe("", "list[TlsHandshake]", "TlsHandshake | None", "ConnRecord")(lambda *_: None)
    one, two = take_collected()
    assert one.types == two.types == (list_of(TlsHandshake), optional(TlsHandshake), ConnRecord)
    assert (one.level, one.must_services, one.services) == ("connection", frozenset(), {"tls"})


@pytest.mark.parametrize(
    ("types", "reason"),
    [
        ((TalkA, TalkB, ConnRecord), "a connection has one session protocol, not zz_a and zz_b; write TalkB | None"),
        ((list_of(TalkA), list_of(TalkA)), "the same data type twice"),
    ],
)
def test_combinations_that_cannot_work_are_refused(types, reason):
    with pytest.raises(SubscriptionError, match=reason.replace("|", r"\|")):
        Subscription("", types, print).check()


def test_lists_of_what_is_no_session_are_refused():
    with pytest.raises(SubscriptionError, match="ConnRecord is no session"):
        subscribe("", "list[ConnRecord]")(print)


@pytest.mark.parametrize("types", [(TalkA,), (list_of(TalkA),), (optional(TalkA), ConnRecord)])
def test_filter_and_type_that_never_meet_are_refused(types):
    # Upstream compiles `http` with a TlsHandshake and never calls (retina.md 3.4).
    with talkers.declared(), pytest.raises(SubscriptionError, match="comes from zz_a, but the filter 'zz_b' holds for zz_b only"):
        Program([Subscription("zz_b", types, print, name="x")])


def test_numbers_of_types_that_nothing_uses_are_given_anew(monkeypatch):
    monkeypatch.setattr(sessions, "_kinds", list(sessions._kinds))
    kept = [type("Kept", (DataType,), {"__slots__": ()}) for _ in range(3)]
    numbers = [sessions.kind_of(k) for k in kept]
    made = [sessions.kind_of(type("Edited", (DataType,), {"__slots__": ()})) for _ in range(5 * MOST_KINDS)]
    assert max(made) < MOST_KINDS and not set(made) & set(numbers)
    assert [sessions.kind_of(k) for k in kept] == numbers
    kept += [type("Many", (DataType,), {"__slots__": ()}) for _ in range(MOST_KINDS)]
    with pytest.raises(SubscriptionError, match="more than 62"):
        list(map(sessions.kind_of, kept))
