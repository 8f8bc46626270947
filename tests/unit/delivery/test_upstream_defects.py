"""What Retina gets wrong about subscriptions (reference/retina.md, 3.3 to 3.5 and 10.1), done as documented here."""

from __future__ import annotations

from typing import Any

from support import talkers
from support.running import MemoryFile, check, config, run_frames, runtime
from support.talkers import TalkA
from traffic import Frame, TcpConversation, UdpExchange, pcap_bytes

from retina_jit.datatypes import ConnRecord, FiveTuple, ZcFrame
from retina_jit.subscription import Every, Subscription


def run(frames: list[Frame], *subscriptions: Subscription) -> dict[str, int]:
    for s in subscriptions:
        s.check()
    with talkers.declared(), MemoryFile(pcap_bytes(frames, nanoseconds=True)) as path:
        made = runtime(list(subscriptions), [path], config())
        talkers.install(made.program)
        result = made.run()
    check(result)
    return result.counters


def udp(*datagrams: bytes) -> list[Frame]:
    flow = UdpExchange(("192.0.2.1", 20000), ("198.51.100.1", 9))
    for data in datagrams:
        flow.to_server(data, checksum=0)
    return flow.frames


def note(log: list[Any], name: str) -> Any:
    return lambda *_: log.append(name)


def test_10_1_3_every_session_is_delivered_with_a_protocol_filter_not_only_the_first():
    log: list[Any] = []
    run(udp(b"AR", b"AR", b"x.", b"AR"), Subscription("zz_a", (TalkA, FiveTuple), note(log, "session")))
    assert log == ["session"] * 4  # the fourth one is what the end of the connection completes


def test_10_1_4_a_filter_on_one_side_sees_both_directions():
    talk = TcpConversation(("192.0.2.1", 20000), ("198.51.100.1", 9))
    talk.open()
    talk.to_client(b"." * 300)
    talk.close()
    got: list[Any] = []
    for text in ("tcp.dst_port = 9", "ipv4.src_addr = 192.0.2.1 and tcp.src_port = 20000", "ipv4.dst_addr = 192.0.2.1"):
        run(talk.frames, Subscription(text, (ConnRecord,), got.append))
    assert [(c.orig.nb_pkts + c.resp.nb_pkts, c.resp.nb_payload_bytes) for c in got] == [(len(talk.frames), 300)] * 2


def test_10_1_10_several_packet_subscriptions_with_session_predicates_get_packets_behind_the_match():
    log: list[Any] = []
    run(udp(b"U.", b"A.", b"x.", b"x."), *[Subscription("zz_a", (ZcFrame,), note(log, n)) for n in "pq"])
    assert sorted(log) == ["p"] * 4 + ["q"] * 4


def test_10_1_10_several_static_subscriptions_with_session_predicates_fire():
    log: list[Any] = []
    run(udp(b"U.", b"A.", b"x."), *[Subscription("zz_a", (FiveTuple,), note(log, n)) for n in "st"])
    assert sorted(log) == ["s", "t"]


def test_10_1_13_an_empty_filter_streams():
    log: list[Any] = []
    run(udp(b"U.", b"A.", b"x."), Subscription("", (ConnRecord,), note(log, "call"), every=Every("packets", 1)))
    assert log == ["call"] * 3


def test_10_1_13_a_stream_counts_once_while_its_connection_is_reassembled():
    talk = TcpConversation(("192.0.2.1", 20000), ("198.51.100.1", 9))
    talk.open()
    talk.to_server(b"A." + b"." * 5000, mss=500)
    talk.close()
    log: list[Any] = []
    got: list[int] = []
    run(
        talk.frames,
        Subscription("", (ConnRecord,), lambda c: got.append(c.total_pkts), every=Every("packets", 2)),
        Subscription("zz_a", (TalkA,), note(log, "session")),  # so that it is reassembled
    )
    assert got == list(range(1, len(talk.frames) + 1, 2))
    assert log


def test_3_3_static_subscriptions_fire_as_soon_as_the_filter_matches():
    log: list[Any] = []
    run(
        udp(b"A.", b"AR", b"x."),
        Subscription("", (ConnRecord,), note(log, "end")),
        Subscription("zz_a", (TalkA,), note(log, "session")),
        Subscription("zz_a", (FiveTuple,), note(log, "static")),
    )
    assert log == ["static", "session", "session", "end"]


def test_3_3_a_static_subscription_fires_once_although_the_syn_is_repeated():
    talk = TcpConversation(("192.0.2.1", 20000), ("198.51.100.1", 9))
    talk.segment(0, flags=2, ack=0)
    talk.next_seq[0] = talk.isn[0]
    talk.open()
    talk.close()
    log: list[Any] = []
    run_frames([Subscription("tcp", (FiveTuple,), note(log, "static"))], talk.frames)
    assert log == ["static"]


def test_3_5_a_subscription_before_a_streaming_one_does_not_shift_its_callback():
    log: list[Any] = []
    run(
        udp(b"A.", b"x."),
        Subscription("", (ConnRecord,), note(log, "record")),
        Subscription("", (FiveTuple,), note(log, "stream"), every=Every("packets", 1)),
    )
    assert log == ["stream", "stream", "record"]
