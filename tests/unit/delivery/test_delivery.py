"""From kernels to callbacks: the ring, the tiers, the levels, and callbacks that fail."""

from __future__ import annotations

import time
from collections import Counter
from typing import Any

import numpy as np
import pytest
from support.running import SAMPLES, check, collect, config, run_content, run_frames, runtime, to
from traffic import Frame, TcpConversation, UdpExchange, merge

from retina_jit import text
from retina_jit.datatypes import ConnRecord, CoreId, FilterStr, FiveTuple, TlsHandshake, ZcFrame
from retina_jit.errors import CallbackError, ConfigError, SubscriptionError
from retina_jit.hints import user_traceback
from retina_jit.subscription import Subscription

TLS = SAMPLES / "tls.pcap"
CONTENT = TLS.read_bytes()


def datagrams(sizes: list[int]) -> list[Frame]:
    talk = UdpExchange(("192.0.2.1", 1000), ("198.51.100.1", 2000), step_ns=1000)
    for n, size in enumerate(sizes):
        talk.to_server(n.to_bytes(4, "big") + bytes([n & 255]) * size, checksum=0)
    return talk.frames


SIZES = [int(n) for n in np.random.default_rng(1).integers(0, 1400, 3000)]


# ---------------------------------------------------------------------------------------------------------- the ring


@pytest.mark.parametrize("ring", [2048, 4096, 1 << 14, 1 << 16])
def test_everything_arrives_in_order_through_a_small_ring(ring):
    frames = datagrams(SIZES)
    subscription, rows = collect("ZcFrame")
    result = run_frames([subscription], frames, ring=ring)
    assert [bytes(r) for r in rows] == [f.data for f in frames]
    assert [r.number for r in rows] == list(range(1, len(frames) + 1))
    assert result.counters["events"] == len(frames) and result.counters["events_lost"] == 0


def test_slow_callback_holds_the_worker_up():
    frames = datagrams(SIZES[:400])
    seen: list[bytes] = []

    def slow(frame: Any) -> None:
        if len(seen) % 40 == 0:
            time.sleep(0.01)
        seen.append(bytes(frame))

    result = run_frames([to("ZcFrame", "", slow)], frames, ring=4096)
    assert seen == [f.data for f in frames]
    assert result.counters["events_lost"] == result.counters["events_cut"] == 0


def test_several_subscriptions_share_the_ring():
    frames = datagrams(SIZES[:1000])
    made = [collect(t, f) for t, f in (("ZcFrame", ""), ("Payload,FiveTuple", "udp.dst_port = 2000"), ("FiveTuple", "udp"), ("ZcFrame", "tcp"))]
    run_frames([s for s, _ in made], frames, ring=8192)
    whole, payloads, tuples, none = (rows for _, rows in made)
    assert len(whole) == len(payloads) == 1000 and len(tuples) == 1 and none == []
    assert [bytes(p) for p, _ in payloads] == [f.data[42:] for f in frames]


def test_views_stay_valid_after_the_run():
    subscription, rows = collect("TlsHandshake,ConnRecord,FiveTuple")
    run_content([subscription], CONTENT)
    again, others = collect("TlsHandshake,ConnRecord,FiveTuple")
    run_content([again], CONTENT)
    assert [[v.to_dict() for v in row] for row in rows] == [[v.to_dict() for v in row] for row in others]


def test_ring_too_small_is_refused():
    with pytest.raises(ConfigError, match=r"delivery\.ring = 1"):
        runtime([collect("ZcFrame")[0]], [TLS], config(ring=1))


# ---------------------------------------------------------------------------------------------------------- the tiers


def test_batch_gets_the_same_as_each():
    each, rows = collect("FiveTuple,ConnRecord")
    batches: list[Any] = []
    batch = to("FiveTuple,ConnRecord", "", lambda t, c: batches.append((t, c)), "batch")
    run_content([each, batch], CONTENT)
    assert sum(len(t) for t, _ in batches) == len(rows)
    views = [pair for t, c in batches for pair in zip(t, c)]
    assert [(t.to_dict(), c.to_dict()) for t, c in views] == [(t.to_dict(), c.to_dict()) for t, c in rows]
    first = [int(x) for _, c in batches for x in c["first_seen_ts"]]
    assert first == [c.first_seen_ts for _, c in rows]
    assert batches[0][0][0].to_dict() == rows[0][0].to_dict()


def test_batch_columns_of_text_and_bytes():
    frames = datagrams([3, 0, 9])
    batches: list[Any] = []
    run_frames([to("Payload", "", batches.append, "batch")], frames)
    assert [raw for b in batches for raw in b.raw("data")] == [f.data[42:] for f in frames]


def test_batch_through_a_small_ring():
    frames = datagrams(SIZES)
    batches: list[Any] = []
    run_frames([to("ZcFrame", "", batches.append, "batch")], frames, ring=1 << 15)
    assert [bytes(v) for b in batches for v in b] == [f.data for f in frames]
    assert len(batches) > 1


def test_compiled_callback_counts_the_same():
    def count(frame: ZcFrame, state: Any) -> None:
        state.packets += 1
        state.bytes += frame.length

    kind = np.dtype([("packets", "i8"), ("bytes", "i8")])
    jit = Subscription("tcp.port = 443", (ZcFrame,), count, "jit", np.zeros(1, kind), name="count")
    each, rows = collect("ZcFrame", "tcp.port = 443")
    result = run_content([jit, each], CONTENT)
    assert jit.result["packets"] == len(rows) > 100
    assert jit.result["bytes"] == sum(r.length for r in rows)
    assert result.counters["events"] == 2 * len(rows)


def test_compiled_callback_with_merge_and_connection_level():
    def add(conn: ConnRecord, state: Any) -> None:
        state.sum += conn.orig.nb_pkts + conn.resp.nb_pkts

    jit = Subscription("", (ConnRecord,), add, "jit", np.zeros(1, [("sum", "i8")]), merge=lambda states: sum(int(s["sum"]) for s in states), name="add")
    result = run_content([jit], CONTENT)
    assert jit.result == result.counters["tracked"] == 416


def test_compiled_callback_that_does_not_compile_is_named():
    def bad(frame: Any) -> None:
        sorted({frame: print})

    def misspelt(frame: Any) -> None:
        frame.lenght += 1

    with pytest.raises(SubscriptionError, match=r"'bad'.*does not compile"):
        runtime([Subscription("", (ZcFrame,), bad, "jit", name="bad")], [TLS])
    with pytest.raises(SubscriptionError, match=r"'misspelt'.*'lenght'; there are: caplen, data, length, link, number, ts"):
        runtime([Subscription("", (ZcFrame,), misspelt, "jit", name="misspelt")], [TLS])


# --------------------------------------------------------------------------------------------------- failing callbacks


def test_error_stops_the_run_and_names_the_subscription():
    calls = []

    def explode(frame: Any) -> None:
        calls.append(frame)
        if len(calls) == 3:
            raise ValueError("the user's own")  # this line is shown

    subscription = to("ZcFrame", "tcp", explode)
    subscription.name = "explode"
    with pytest.raises(CallbackError, match=r"'explode'.*'tcp'.*ValueError: the user's own") as caught:
        run_content([subscription], CONTENT)
    assert isinstance(caught.value.__cause__, ValueError)
    assert len(calls) == 3
    shown = user_traceback(caught.value)
    assert "this line is shown" in shown and "dispatch.py" not in shown


@pytest.mark.parametrize("ring", [0, 4096])
def test_errors_are_counted_and_the_run_goes_on(ring):
    calls = []

    def explode(frame: Any) -> None:
        calls.append(frame.number)
        if len(calls) % 2:
            raise ValueError

    subscription = to("ZcFrame", "", explode)
    other, rows = collect("ZcFrame")
    result = run_content([subscription, other], CONTENT, config(on_error="continue"), ring=ring)
    assert calls == list(range(1, 417)) and len(rows) == 416
    assert result.failed == {"ZcFrame": 208}


def test_error_in_a_batch_callback():
    def explode(columns: Any) -> None:
        raise KeyError(len(columns))

    result = run_content([to("ZcFrame", "", explode, "batch")], CONTENT, config(on_error="continue"))
    assert result.failed["ZcFrame"] >= 1
    with pytest.raises(CallbackError, match="KeyError"):
        run_content([to("ZcFrame", "", explode, "batch")], CONTENT)


def test_error_while_the_ring_is_full_does_not_hang():
    def explode(frame: Any) -> None:
        raise ValueError

    with pytest.raises(CallbackError):
        run_frames([to("ZcFrame", "", explode)], datagrams(SIZES), ring=2048)


# ---------------------------------------------------------------------------------------------------------- the levels


def talks() -> list[Frame]:
    web = TcpConversation(("192.0.2.1", 40000), ("198.51.100.1", 443))
    web.open()
    web.to_server(b"hello")
    web.to_client(b"x" * 3000)
    web.close()
    other = TcpConversation(("192.0.2.2", 40001), ("198.51.100.1", 80), start_ns=web.frames[0].ts_ns + 50)
    other.open()
    other.reset()
    dns = UdpExchange(("192.0.2.3", 5000), ("198.51.100.9", 53), start_ns=web.frames[0].ts_ns + 70)
    dns.to_server(b"question")
    dns.to_client(b"")
    return merge(web.frames, other.frames, dns.frames)


def test_packet_level_is_delivered_at_once_and_needs_no_connection():
    subscription, rows = collect("ZcFrame", "tcp.port = 443")
    frames = talks()
    result = run_frames([subscription], frames)
    assert len(rows) == sum(b"\x01\xbb" in f.data[34:38] for f in frames)
    assert result.counters["connections"] == 0
    assert result.ledger["delivered"] == len(rows) and result.ledger["filtered"] == len(frames) - len(rows)


def test_packets_of_connections_with_a_session():
    subscription, rows = collect("ZcFrame,FiveTuple", "tls.sni = 'www.example.com'")
    everything, all_rows = collect("TlsHandshake,FiveTuple", "tls")
    run_content([subscription, everything], CONTENT)
    wanted = {t.orig for tls, t in all_rows if tls.sni == "www.example.com"}
    counted = Counter(t.orig for _, t in rows)
    assert wanted and set(counted) == wanted


def test_payload_is_never_empty():
    subscription, rows = collect("Payload")
    run_frames([subscription], talks())
    assert sorted(bytes(p) for p in rows) == sorted([b"hello", *[b"x" * n for n in (1460, 1460, 80)], b"question"])
    assert all(len(p) == p.length == p.captured for p in rows)


def test_static_fires_once_per_connection_as_soon_as_it_matches():
    tuples, rows = collect("FiveTuple", "tcp")
    conns, records = collect("ConnRecord", "tcp")
    order: list[str] = []
    for s, name, kept in ((tuples, "static", rows), (conns, "end", records)):
        s.callback = lambda view, name=name, kept=kept: (order.append(name), kept.append(view))
    run_frames([tuples, conns], talks())
    assert order == ["static"] * 2 + ["end"] * 2
    assert {t.orig_addr for t in rows} == {"192.0.2.1", "192.0.2.2"}


def test_session_and_connection_in_one_callback():
    both, rows = collect("TlsHandshake,ConnRecord", "tls")
    sessions, handshakes = collect("TlsHandshake", "tls")
    run_content([both, sessions], CONTENT)
    assert len(rows) == len(handshakes) > 10
    assert sorted(str(t.to_dict()) for t, _ in rows) == sorted(str(t.to_dict()) for t in handshakes)
    # It fires at the end of the connection, when all packets are counted.
    assert sum(c.total_pkts for _, c in rows) > 300


def test_filter_text_and_worker_number():
    subscription, rows = collect("FilterStr,CoreId,FiveTuple", "tcp.port = 443")
    run_frames([subscription], talks())
    ((text, core, five),) = rows
    assert isinstance(text, FilterStr) and isinstance(core, CoreId) and isinstance(five, FiveTuple)
    assert str(text) == "tcp.port = 443" and int(core) == 0 and [10, 20][core] == 10
    assert five.resp == ("198.51.100.1", 443)


def test_types_that_never_go_together_are_refused():
    with pytest.raises(SubscriptionError, match="same data type twice"):
        to("FiveTuple,FiveTuple", "", print)
    with pytest.raises(SubscriptionError, match="asks for no data type"):
        Subscription("", (), print, name="nothing").check()
    with pytest.raises(SubscriptionError, match="deliver='often'"):
        to("ZcFrame", "", print, "often")
    with pytest.raises(SubscriptionError, match="one packet data type at most, not ZcFrame and Payload"):
        to("ZcFrame,Payload", "", print)
    with pytest.raises(SubscriptionError, match="ZcFrame is delivered for each packet, TlsHandshake later; take two subscriptions"):
        to("ZcFrame,TlsHandshake", "", print)
    with pytest.raises(SubscriptionError, match="state= belongs to deliver='jit'"):
        Subscription("", (ZcFrame,), print, state=np.zeros(1, [("n", "i8")])).check()
    with pytest.raises(SubscriptionError, match=r"more than|at most 8"):
        Subscription("", (FiveTuple,) * 9, print).check()


def test_long_event_waits_for_room():
    # Each event takes nearly the whole ring.
    frames = datagrams([1850 + n % 50 for n in range(300)])
    subscription, rows = collect("ZcFrame")
    check(run_frames([subscription], frames, ring=2048))
    assert [len(r) for r in rows] == [len(f.data) for f in frames]


def test_compiled_callbacks_read_texts():
    """Also at the end of connections, where the session was kept."""

    def names(tls, total):
        name = text(tls.sni)
        total.n += 1
        if name.endswith(".example.com") and "shop" not in name:
            total.com += 1
        total.letters += len(name)

    kind = [("n", "i8"), ("com", "i8"), ("letters", "i8")]
    seen: list[str] = []
    plain = Subscription("tls", (TlsHandshake,), lambda t: seen.append(t.sni or ""), name="plain")
    at_once = Subscription("tls", (TlsHandshake,), names, "jit", np.zeros(1, kind), name="names")
    at_end = Subscription("tls", (TlsHandshake, ConnRecord), lambda tls, record, total: names_compiled(tls, total), "jit", np.zeros(1, kind), name="ends")
    import numba

    names_compiled = numba.njit(names)
    runtime([plain, at_once, at_end], [TLS]).run()
    want = (len(seen), sum(s.endswith(".example.com") and "shop" not in s for s in seen), sum(map(len, seen)))
    assert 0 < want[1] < want[0] and 0 < want[2]
    assert tuple(at_once.result) == want == tuple(at_end.result)
