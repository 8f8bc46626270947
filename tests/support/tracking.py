"""Connection tracking beside its plain twin: the same frames through both, and what differs."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

from oracle.fragments import Defragmenter
from oracle.tracker import MS, Settings, Tracker
from traffic import Frame, pcap_bytes

from retina_jit.datatypes import ConnRecord, FiveTuple
from retina_jit.stats import COUNTERS, PAYLOAD
from retina_jit.subscription import Subscription
from support import streams
from support.running import MemoryFile, check, collect, config, runtime


def flow(f: Any) -> dict[str, Any]:
    return {
        **f.to_dict(),
        "data_start": f.data_start,
        "chunks": f.chunks,
        "gaps": f.gaps,
    }


def ends(t: FiveTuple) -> tuple[Any, ...]:
    return t.orig_addr, t.orig_port, t.resp_addr, t.resp_port, t.proto


def record(c: ConnRecord) -> dict[str, Any]:
    return {
        "five_tuple": ends(c.five_tuple),
        "first_seen_ts": c.first_seen_ts,
        "second_seen_ts": c.second_seen_ts,
        "last_seen_ts": c.last_seen_ts,
        "max_inactivity": round(c.max_inactivity * 1e9),
        "history": c.history,
        "zeek_history": c.zeek_history,
        "conn_state": c.conn_state,
        "rtt_orig": c.rtt_orig,
        "rtt_resp": c.rtt_resp,
        "nb_overlaps": c.nb_overlaps,
        "nb_inconsistent": c.nb_inconsistent,
        "lost_bytes": c.lost_bytes,
        "orig": flow(c.orig),
        "resp": flow(c.resp),
    }


def key(ends_: tuple[Any, ...]) -> Any:
    return frozenset((ends_[:2], ends_[2:4])), ends_[4]


def grouped(items: list[tuple[Any, Any]]) -> dict[Any, list[Any]]:
    out = defaultdict(list)
    for k, v in items:
        out[k].append(v)
    return dict(out)


def run(frames: list[Frame], s: Settings, *, link: int = 1, **more: int) -> tuple[list[dict[str, Any]], list[tuple[Any, Any]], dict[str, int]]:
    """Records, (five-tuple, what the parser saw) pairs, counters."""
    subscription, records = collect("ConnRecord")
    subscriptions, seen = [subscription], []
    if s.parse:
        subscriptions.append(Subscription("", (streams.StreamLog, FiveTuple), lambda log, t: seen.append((ends(t), log.tokens()))))
    conntrack = {
        "tcp_establish_timeout": s.tcp_establish, "tcp_inactivity_timeout": s.tcp_inactivity, "udp_inactivity_timeout": s.udp_inactivity,
        "tcp_close_timeout": s.tcp_close, "midstream": s.midstream, "max_out_of_order": s.most_held,
    }  # fmt: skip
    with MemoryFile(pcap_bytes(frames, link_type=link, nanoseconds=True)) as path:
        made = runtime(subscriptions, [path], config(**conntrack, **more))
        if s.parse:
            streams.install(made.program)
        result = made.run()
    check(result)
    return [record(c) for c in records], seen, result.counters


def compare(frames: list[Frame], s: Settings, *, link: int = 1, **more: int) -> dict[str, int]:
    """Records, streams and counters must be those of the twin. Returns the twin's counters."""
    records, seen, counters = run(frames, s, link=link, **more)
    oracle, whole = Tracker(s), Defragmenter(4096, 30_000 * MS)
    for f in frames:
        oracle.counters["frames"] += 1
        for data, length in whole.take(f.ts_ns, f.data, f.length, link):
            before = dict(oracle.counters)
            oracle.frame(f.ts_ns, data, length, link)
            # A datagram that was put together is no frame of its own: it is in no counter of frames.
            for name in ("frames",) if data is f.data else ("frames", "tracked", "not_syn"):
                oracle.counters[name] = before[name]
    wanted = oracle.finish()
    assert oracle.payload == sum(oracle.counters[n] for n in PAYLOAD if n in oracle.counters)
    want = grouped([(key(r["five_tuple"]), r) for r in (c.result() for c in wanted)])
    got = grouped([(key(r["five_tuple"]), r) for r in records])
    assert got.keys() == want.keys()
    for k in want:
        assert got[k] == want[k], (k, difference(got[k], want[k]))
    if s.parse:
        wanted_streams = grouped([(key(r["five_tuple"]), c.tokens) for c in wanted if any(c.tokens) and c.phase == "parsing" for r in (c.result(),)])
        assert grouped([(key(e), t) for e, t in seen]) == wanted_streams
    told = {name: counters[name] for name in oracle.counters if name in COUNTERS}
    assert told == oracle.counters
    assert counters["datagrams"] == whole.count
    return dict(oracle.counters)


def difference(got: Any, want: Any) -> Any:
    """What differs, (got, wanted)."""
    if isinstance(got, list) and isinstance(want, list) and len(got) == len(want):
        return [difference(a, b) for a, b in zip(got, want)]
    if isinstance(got, dict) and isinstance(want, dict):
        return {k: difference(got.get(k), want.get(k)) for k in want if got.get(k) != want.get(k)}
    return got, want
