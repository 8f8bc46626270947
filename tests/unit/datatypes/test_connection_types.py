"""Data types of connections: counters, pauses, packet lists, link addresses, Community ID; and what ConnRecord adds to Retina's.

Several are what Retina gets wrong (`InterArrivals` and packet lists: its timestamps and its last frames).
"""

from __future__ import annotations

import base64
import hashlib
import itertools
import random
from dataclasses import replace
from ipaddress import ip_address
from typing import Any

import numpy as np
import pytest
from support.running import collect, config, run_frames, to
from traffic import CLIENT, SERVER, Frame, Link, TcpConversation, UdpExchange
from traffic.packets import ACK, FIN, PSH, RST, SYN

from retina_jit.datatypes import packet_lists
from retina_jit.subscription import Every

A, B = ("192.0.2.1", 40000), ("198.51.100.1", 443)
MS = 1_000_000


def talk(**more: Any) -> TcpConversation:
    return TcpConversation(A, B, start_ns=10**18, **more)


def conversation(**more: Any) -> TcpConversation:
    made = talk(**more)
    made.open()
    made.to_server(b"C" * 300, mss=100)
    made.to_client(b"S" * 500, mss=100)
    made.close(CLIENT)
    return made


def of(types: str, frames: list[Frame], text: str = "", **more: Any) -> list[Any]:
    subscription, seen = collect(types, text)
    run_frames([subscription], frames, config(**more))
    return seen


def side(frame: Frame) -> int:
    return int(frame.data[26:30] != ip_address(A[0]).packed)


def test_counts_duration_and_history():
    frames = conversation().frames
    ((pkts, size, duration, history),) = of("PktCount,ByteCount,ConnDuration,ConnHistory", frames)
    per_side = [[f for f in frames if side(f) == n] for n in (0, 1)]
    assert pkts.to_dict() == {"pkt_count": len(frames), "orig": len(per_side[0]), "resp": len(per_side[1])}
    assert size.raw() == sum(f.length for f in frames)
    assert (size.orig, size.resp) == tuple(sum(f.length for f in x) for x in per_side)
    assert duration.duration_ms() == (frames[-1].ts_ns - frames[0].ts_ns) // 10**6
    assert duration.to_dict()["duration"] == duration.duration_ms()
    assert history.to_dict() == {"history": "ShADadFf"}


def test_flags_of_all_packets_of_a_side_are_put_together():
    made = talk()
    made.open()
    made.to_server(b"C")
    made.close(CLIENT)
    assert of("TcpFlags", made.frames)[0].to_dict() == {"orig": SYN | ACK | PSH | FIN, "resp": SYN | ACK | FIN}
    exchange = UdpExchange(A, B, start_ns=10**18)
    exchange.to_server(b"x")
    assert of("TcpFlags", exchange.frames)[0].to_dict() == {"orig": 0, "resp": 0}


def test_why_a_connection_is_over():
    def many(n: int, start_ns: int) -> list[Frame]:
        return [f for k in range(n) for f in conversation_of(k, start_ns)]

    def conversation_of(k: int, start_ns: int, *, closed: bool = False, isn: tuple[int, int] = (1, 1)) -> list[Frame]:
        made = TcpConversation((A[0], 1000 + k), B, start_ns=start_ns, isn=isn)
        made.open()
        if closed:
            made.close(CLIENT)
        return made.frames

    second, start = 10**9, 10**18
    frames = conversation_of(0, start, closed=True) + conversation_of(1, start) + conversation_of(2, start + 400 * second)
    frames += conversation_of(2, start + 401 * second, isn=(1 << 20, 1))  # the same ports again
    found = {(r.five_tuple.orig_port, r.first_seen_ts): r.end_reason for r in of("ConnRecord", sorted(frames, key=lambda f: f.ts_ns))}
    assert found == {
        (1000, start): "closed", (1001, start): "idle", (1002, start + 400 * second): "closed", (1002, start + 401 * second): "end of input",
    }  # fmt: skip
    evicted = of("ConnRecord", many(80, start), max_connections=64, table_full="evict")
    assert {r.end_reason for r in evicted} == {"no room", "end of input"}
    told: list[str] = []
    s = replace(to("ConnRecord", "", lambda c: told.append(c.end_reason)), every=Every("packets", 1, at_end=True))
    run_frames([s], conversation_of(0, start, closed=True))
    assert told[-1] == "closed" and set(told[:-1]) == {""}


@pytest.mark.parametrize("link", [Link(), Link(vlans=(5, 6))], ids=["plain", "tagged"])
@pytest.mark.parametrize("ends", [(A, B), (("2001:db8::1", 5), ("2001:db8::2", 6))], ids=["ipv4", "ipv6"])
def test_ip_bytes_are_what_the_headers_say_whatever_is_around_them(ends, link):
    made = TcpConversation(*ends, start_ns=10**18, link=link)
    made.open()
    made.to_server(b"C" * 300, mss=100)
    made.to_client(b"S" * 5)
    made.close(CLIENT)
    # Ethernet fills short frames up.
    frames = [replace(f, data=f.data.ljust(90, b"\0"), length=max(f.length, 90)) for f in made.frames]
    start = 14 + 4 * len(link.vlans)
    expected = [0, 0]
    for f in made.frames:
        ip = f.data[start:]
        is_resp = ip[8:24] != ip_address(ends[0][0]).packed if ip[0] >> 4 == 6 else ip[12:16] != ip_address(ends[0][0]).packed
        expected[is_resp] += 40 + int.from_bytes(ip[4:6], "big") if ip[0] >> 4 == 6 else int.from_bytes(ip[2:4], "big")
    ((count, frame_bytes),) = of("IpByteCount,ByteCount", frames)
    assert [count.orig, count.resp] == expected and count.raw() == int(count) == sum(expected) < frame_bytes.raw()


def test_parts_side_by_side_do_not_disturb_each_other():
    frames = conversation().frames
    alone = [of(t, frames)[0].to_dict() for t in ("ConnRecord", "PktCount", "ConnHistory", "InterArrivals", "BidirPktStream")]
    together = of("ConnRecord,PktCount,ConnHistory,InterArrivals,BidirPktStream", frames)[0]
    assert [x.to_dict() for x in together] == alone


def test_inter_arrivals_are_measured_within_their_direction():
    frames = conversation().frames
    (pauses,) = of("InterArrivals", frames)
    for n, got in enumerate((pauses.interarrivals_ctos, pauses.interarrivals_stoc)):
        times = [f.ts_ns for f in frames if side(f) == n]
        assert list(got) == [b - a for a, b in itertools.pairwise(times)]


def test_inter_arrivals_are_capped():
    exchange = UdpExchange(A, B, start_ns=10**18)
    exchange.to_server(b"x")
    frames = [replace(exchange.frames[0], ts_ns=10**18 + n) for n in range(65_540)]
    subscription, seen = collect("InterArrivals")
    result = run_frames([subscription], frames)
    assert len(seen[0].interarrivals_ctos) == 65_536
    assert result.counters["left_out"] == 3


@pytest.mark.parametrize("zc", ["", "Zc"])
def test_packet_lists_hold_every_frame(zc):
    frames = conversation().frames
    both, orig, resp = of(f"Bidir{zc}PktStream,Orig{zc}PktStream,Resp{zc}PktStream", frames)[0]
    assert [p.data for p in both] == [f.data for f in frames]
    assert [p.ts for p in both] == [f.ts_ns for f in frames]
    assert [p.data for p in orig] == [f.data for f in frames if side(f) == 0]
    assert [p.data for p in resp] == [f.data for f in frames if side(f) == 1]
    assert both.left_out == 0


def test_one_direction_alone_is_kept():
    frames = conversation().frames
    (resp,) = of("RespPktStream", frames)
    assert [p.data for p in resp] == [f.data for f in frames if side(f) == 1]


def test_packet_lists_are_capped_and_say_so():
    frames = conversation().frames
    (both,) = of("BidirPktStream", frames, packet_list_bytes=1000)
    assert 0 < len(both) < len(frames)
    assert both.left_out == len(frames) - len(both)
    assert sum(32 + -(-p.caplen // 8) * 8 for p in both) <= 1000


def in_order(frames: list[Frame]) -> list[Frame]:
    """What a receiver takes in: `OrigPktsReassembled` by hand, for frames of one direction without options."""
    reach, held, out = None, [], []

    def start(f: Frame) -> int:
        return int.from_bytes(f.data[38:42], "big") + bool(f.data[47] & SYN)

    def end(f: Frame) -> int:
        header = 34 + (f.data[46] >> 4) * 4
        return start(f) + len(f.data) - header + (f.data[47] & FIN)

    def take(f: Frame) -> None:
        nonlocal reach
        if end(f) > reach or start(f) == reach or f.data[47] & SYN:
            out.append(f)
        reach = max(reach, end(f))

    for f in frames:
        reach = start(f) if reach is None else reach
        if start(f) > reach:
            held.append(f)
        elif f.data[47] & SYN or end(f) > reach or start(f) == reach:
            take(f)
        held.sort(key=start)
        while held and start(held[0]) <= reach:
            f = held.pop(0)
            if end(f) > reach or start(f) >= reach:
                out.append(f)
            reach = max(reach, end(f))
    return out + held


@pytest.mark.parametrize("seed", range(5))
def test_reassembled_lists_are_in_the_order_of_the_stream(seed):
    rng = random.Random(seed)
    made = talk(isn=(1000, 5000))
    made.open()
    opening, made.frames = made.frames, []
    for n in range(30):
        made.segment(CLIENT, bytes([n]) * 10, flags=ACK | PSH)
    body = made.frames[:]
    body = [f for f in body for _ in range(rng.choice((1, 1, 2)))]
    rng.shuffle(body)
    frames = [replace(f, ts_ns=10**18 + k) for k, f in enumerate([*opening, *body])]
    (listed,) = of("OrigPktsReassembled", frames)
    want = in_order([f for f in frames if side(f) == 0])
    assert [p.data for p in listed] == [f.data for f in want]
    assert len([f for f in want if len(f.data) > 60]) >= 30


def test_link_addresses_and_tag_of_the_first_packet():
    link = Link(vlans=(10, 0x6014))
    frames = conversation(link=link).frames
    ((eth, tci, conn),) = of("EthAddr,EtherTCI,ConnRecord", frames)
    assert eth.to_dict() == {"src": "02:00:00:00:00:0a", "dst": "02:00:00:00:00:0b"}
    assert (tci.tci, tci.vlan_id) == (10, 10)
    assert (conn.vlan_id, conn.inner_vlan_id) == (10, 0x14)
    ((eth, tci),) = of("EthAddr,EtherTCI", conversation().frames)
    assert tci.to_dict() == {"tci": None}
    packets = of("ZcFrame,EthAddr", conversation(link=link).frames)
    assert {str(e.src) for _, e in packets} == {"02:00:00:00:00:0a", "02:00:00:00:00:0b"}


def test_link_addresses_beside_a_session():
    from support.running import SAMPLES

    from retina_jit.runtime import Runtime

    subscription, seen = collect("TlsHandshake,EthAddr")
    Runtime([subscription], [SAMPLES / "tls.pcap"], config()).run()
    assert seen
    frames, listed = collect("ZcFrame")
    Runtime([frames], [SAMPLES / "tls.pcap"], config()).run()
    assert {e.src for _, e in seen} <= {f.data[6:12].hex(":") for f in listed}


def community(a: tuple[str, int], b: tuple[str, int], proto: int) -> str:
    ends = sorted((ip_address(x).packed, port.to_bytes(2, "big")) for x, port in (a, b))
    message = bytes(2) + ends[0][0] + ends[1][0] + bytes([proto, 0]) + ends[0][1] + ends[1][1]
    return "1:" + base64.b64encode(hashlib.sha1(message, usedforsecurity=False).digest()).decode()


@pytest.mark.parametrize("swap", [False, True])
@pytest.mark.parametrize(
    ("a", "b", "expected"),
    [
        (("128.232.110.120", 34855), ("66.35.250.204", 80), "1:LQU9qZlK+B5F3KDmev6m5PMibrg="),  # the specification's own
        (("192.0.2.1", 5), ("192.0.2.1", 4), None),
        (("2001:db8::1", 70), ("fe80::1", 60), None),
        (("200.0.0.1", 70), ("10.0.0.1", 60), None),
    ],
)
def test_community_id(a, b, expected, swap):
    ends = (b, a) if swap else (a, b)
    made = TcpConversation(*ends, start_ns=10**18)
    made.open()
    (found,) = of("CommunityId", made.frames)
    assert str(found) == community(a, b, 6)
    assert expected in (None, str(found))
    exchange = UdpExchange(*ends, start_ns=10**18)
    exchange.to_server(b"x")
    assert str(of("CommunityId", exchange.frames)[0]) == community(a, b, 17)


# ------------------------------------------------------------------------------------- what ConnRecord adds


def refused(t: TcpConversation) -> None:
    t.segment(CLIENT, flags=SYN, ack=0)
    t.segment(SERVER, flags=RST | ACK)


def unanswered(t: TcpConversation) -> None:
    t.segment(CLIENT, flags=SYN, ack=0)


def opened(t: TcpConversation) -> None:
    t.open()


def half(by: int) -> Any:
    def play(t: TcpConversation) -> None:
        t.open()
        t.segment(by, flags=FIN | ACK)

    return play


def aborted(by: int) -> Any:
    def play(t: TcpConversation) -> None:
        t.open()
        t.reset(by)

    return play


def closed(t: TcpConversation) -> None:
    t.open()
    t.close(CLIENT)


def given_up(t: TcpConversation) -> None:
    t.segment(CLIENT, flags=SYN, ack=0)
    t.segment(CLIENT, flags=RST, ack=0)


def half_open(t: TcpConversation) -> None:
    t.segment(CLIENT, flags=SYN, ack=0)
    t.segment(CLIENT, flags=FIN, ack=0)


def answer_only(flags: int) -> Any:
    def play(t: TcpConversation) -> None:
        t.segment(SERVER, flags=SYN | ACK)
        t.segment(SERVER, flags=flags)

    return play


STATES = {
    "S0": unanswered, "S1": opened, "SF": closed, "REJ": refused, "S2": half(CLIENT), "S3": half(SERVER), "RSTO": aborted(CLIENT),
    "RSTR": aborted(SERVER), "RSTOS0": given_up, "SH": half_open, "SHR": answer_only(FIN | ACK), "RSTRH": answer_only(RST),
    "OTH": lambda t: t.segment(CLIENT, b"x"),
}  # fmt: skip


@pytest.mark.parametrize("state", STATES)
def test_conn_state(state):
    made = talk()
    STATES[state](made)
    (record,) = of("ConnRecord", made.frames, midstream=True)
    assert record.conn_state == state
    assert record.to_dict()["conn_state"] == state


@pytest.mark.parametrize(("sides", "state"), [((0,), "S0"), ((0, 1), "SF")])
def test_conn_state_of_datagrams(sides, state):
    exchange = UdpExchange(A, B, start_ns=10**18)
    for n in sides:
        exchange.datagram(n, b"x")
    assert of("ConnRecord", exchange.frames)[0].conn_state == state


def test_round_trip_of_the_handshake():
    made = talk(step_ns=0)
    made.segment(CLIENT, flags=SYN, ack=0)
    made.now_ns += 1000 * MS
    made.segment(CLIENT, flags=SYN, ack=0, seq=made.isn[CLIENT])  # repeated: the answer is taken for this one's
    made.now_ns += 30 * MS
    made.next_seq[CLIENT] = made.isn[CLIENT] + 1
    made.segment(SERVER, flags=SYN | ACK)
    made.now_ns += 7 * MS
    made.segment(CLIENT)
    (record,) = of("ConnRecord", made.frames)
    assert (record.rtt_resp, record.rtt_orig, record.rtt) == (0.03, 0.007, 0.037)
    (record,) = of("ConnRecord", made.frames[:1])
    assert record.to_dict()["rtt_orig"] is record.rtt is None


def test_retransmissions_and_late_segments():
    made = talk(isn=(100, 200))
    made.open()
    for at in (1, 11, 31, 21, 1, 36):  # 21 is late, 1 is sent again, 36 lies in what is there
        made.segment(CLIENT, b"x" * 10 if at != 36 else b"x" * 5, seq=100 + at)
    made.segment(CLIENT, b"\0", seq=100 + 40)  # keep-alive: nothing
    made.segment(SERVER, flags=ACK)
    (record,) = of("ConnRecord", made.frames)
    assert (record.orig.nb_out_of_order, record.orig.nb_retransmits, record.resp.nb_retransmits) == (1, 2, 0)
    assert record.zeek_history == "ShADTa"


def test_zeek_history_says_what_is_odd():
    made = talk()
    made.open()
    made.frames[-1] = replace(made.frames[-1], data=made.frames[-1].data[:48] + b"\0\0" + made.frames[-1].data[50:])
    made.segment(SERVER, flags=SYN | FIN | ACK)
    made.segment(SERVER, flags=FIN | RST)
    (record,) = of("ConnRecord", made.frames)
    assert record.zeek_history == "ShAWfqri"
    assert record.to_dict()["zeek_history"] == record.zeek_history


def test_service_is_told_where_it_is_looked_for():
    made = talk()
    made.open()
    made.to_server(bytes.fromhex("16030100050100000100"))
    (record,) = of("ConnRecord", made.frames)
    assert record.service == ""
    (record,) = of("ConnRecord", made.frames, "tls or tcp")
    assert record.service in ("", "tls")


def test_lists_reach_a_compiled_callback():
    totals: list[int] = []
    s = to("BidirPktStream,PktCount", "", lambda packets, count: totals.append(len(packets) - count.pkt_count), "each")
    run_frames([s], conversation().frames)
    assert totals == [0]


def test_a_packet_without_its_bytes_says_why():
    item = np.zeros(1, packet_lists.ITEM)
    item["caplen"], item["number"] = 60, 7
    packet = packet_lists.Packet(item.tobytes(), 0, 0)
    assert bytes(packet.data) == b"" and len(packet) == 60
    for ask in (bytes, packet_lists.Packet.to_scapy):
        with pytest.raises(ValueError, match=r"packet 7 of the list has no bytes: .*packet_list_bytes"):
            ask(packet)
    item["caplen"] = 0
    assert bytes(packet_lists.Packet(item.tobytes(), 0, 0)) == b""
