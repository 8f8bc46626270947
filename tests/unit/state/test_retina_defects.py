"""What upstream gets wrong about state; here it must be right.

Each test is named by the number in the list of upstream's defects (retina.md, 10.1: 1, 12 and 14 are about state; streaming, 13,
is in `delivery/test_upstream_defects.py`), or by the section that tells of one the list leaves out.
"""

from __future__ import annotations

import itertools
from dataclasses import replace
from typing import Any

import pytest
from support.running import collect, config, run_frames
from traffic import CLIENT, SERVER, Frame, Link, TcpConversation, UdpExchange
from traffic import packets as p
from traffic.packets import ACK, FIN, RST, SYN

A, B = ("192.0.2.1", 40000), ("198.51.100.1", 443)
START = 10**18
S = 10**9


def talk(**more: Any) -> TcpConversation:
    return TcpConversation(A, B, start_ns=START, **more)


def records(frames: list[Frame], **more: Any) -> tuple[list[Any], dict[str, int]]:
    subscription, seen = collect("ConnRecord")
    result = run_frames([subscription], frames, config(**more))
    return seen, result.counters


@pytest.mark.parametrize("data", [b"", b"last words"])
def test_defect_1_fin_ends_a_connection_without_reassembly(data):
    """Upstream needs reassembly for it, and a FIN with data breaks it even then."""
    made = talk()
    made.open()
    made.segment(CLIENT, data, flags=FIN | ACK)
    made.segment(SERVER, data, flags=FIN | ACK)
    made.segment(CLIENT)
    again = TcpConversation(A, B, start_ns=START + 2 * S)
    again.open()
    seen, counters = records(made.frames + again.frames)
    assert counters["ended_closed"] == 1
    assert [c.conn_state for c in seen] == ["SF", "S1"]
    assert seen[0].orig.missed_bytes == 0


def test_defect_12_interarrivals_packet_lists_udp_length_and_fragments():
    exchange = UdpExchange(A, B, start_ns=START)
    exchange.to_server(b"0123456789")
    frame = exchange.frames[0]
    # The datagram says that it is four bytes shorter than the packet.
    short = frame.data[:38] + (14).to_bytes(2, "big") + frame.data[40:]
    seen, _ = records([replace(frame, data=short)])
    assert seen[0].orig.nb_payload_bytes == 6
    whole = p.ipv4("192.0.2.1", "198.51.100.1", 17, frame.data[34:] + bytes(3000), ident=5)
    pieces = [Frame(START + n, Link().wrap(0x0800, x)) for n, x in enumerate(p.fragment(whole, 1000, ident=5))]
    seen, counters = records(pieces)
    # Upstream reads the later ones' bytes as ports.
    assert [c.five_tuple.orig_port for c in seen] == [40000]
    assert counters["fragment_used"] == len(pieces)


def test_defect_14_times_are_those_of_the_capture():
    made = talk()
    made.open()
    made.now_ns += 400 * S
    made.segment(CLIENT, b"x")
    seen, counters = records(made.frames, midstream=True)
    assert counters["ended_expired"] == 1
    assert [c.first_seen_ts for c in seen] == [START, made.frames[-1].ts_ns]


def of(types: str, frames: list[Frame], **more: Any) -> tuple[list[Any], dict[str, int]]:
    subscription, seen = collect(types)
    return seen, run_frames([subscription], frames, config(**more)).counters


def test_defect_12_packet_lists_have_the_last_frames():
    """Upstream leaves up to five frames of TCP out: all of a short connection."""
    made = talk()
    made.open()
    made.close(CLIENT)
    (whole,), _ = of("BidirPktStream", made.frames)
    assert [p.data for p in whole.packets] == [f.data for f in made.frames]


def test_defect_12_interarrivals_are_measured_within_a_direction():
    """Upstream keeps the originator's times where the responder's belong."""
    exchange = UdpExchange(A, B, start_ns=START)
    for pause, side in ((0, CLIENT), (10, SERVER), (1000, CLIENT), (100_000, SERVER), (7, CLIENT)):
        exchange.now_ns += pause
        exchange.datagram(side, b"x")
    times = [[f.ts_ns for f in exchange.frames if (f.data[26:30] == bytes([192, 0, 2, 1])) is (n == 0)] for n in (0, 1)]
    (found,), _ = of("InterArrivals", exchange.frames)
    pauses = [tuple(b - a for a, b in itertools.pairwise(t)) for t in times]
    assert [found.to_dict()[f"interarrivals_{n}"] for n in ("ctos", "stoc")] == pauses


def test_defect_12_overlap_before_a_fin_is_as_long_as_it_is():
    """Upstream counts the FIN of a segment that is partly old as a byte of data."""
    request = b"GET /all HTTP/1.0\r\nHost: a.example\r\n\r\n"
    made = talk(isn=(1000, 2000))
    made.open()
    made.segment(CLIENT, request[:20])
    made.segment(CLIENT, request[10:], seq=1011, flags=FIN | ACK)
    made.next_seq[CLIENT] = 1001 + len(request) + 1
    made.to_client(b"HTTP/1.0 204 No Content\r\n\r\n")
    made.segment(SERVER, flags=FIN | ACK)
    made.segment(CLIENT)
    (found,), counters = of("HttpTransaction", made.frames)
    assert (found.uri, found.host, found.status_code) == ("/all", "a.example", 204)
    assert (counters["payload_old"], counters["holes"], counters["ended_closed"]) == (10, 0, 1)


def test_section_5_1_segmentation_offload_and_odd_headers():
    """A total length of 0 is what the wire has; a version that is not 4 and a header of no size are malformed, not packets."""
    made = talk()
    made.open()
    made.segment(CLIENT, b"x" * 2000)
    big = made.frames[-1]
    made.frames[-1] = replace(big, data=big.data[:16] + b"\0\0" + big.data[18:])
    for first in (0x65, 0x44):
        made.frames.append(replace(big, data=big.data[:14] + bytes([first]) + big.data[15:]))
    (found,), counters = of("ConnRecord", made.frames)
    assert found.orig.nb_payload_bytes == 2000
    assert counters["malformed"] == 2


def test_section_5_3_vlan_and_5_2_qinq_are_looked_through():
    made = talk(link=Link(vlans=(5, 6)))
    made.open()
    (found,), _ = of("ConnRecord", made.frames)
    assert (found.vlan_id, found.inner_vlan_id, found.history) == (5, 6, "ShA")


def test_section_5_6_early_segments_over_the_cap_do_not_lose_the_connection():
    """Upstream drops it without delivery."""
    made = talk()
    made.open()
    made.skip(CLIENT, 10)
    for n in range(50):
        made.skip(CLIENT, 1)
        made.segment(CLIENT, bytes([n]) * 10)
    made.close(CLIENT)
    subscription, _ = collect("TlsHandshake")
    kept, seen = collect("ConnRecord")
    counters = run_frames([subscription, kept], made.frames, config(max_out_of_order=5)).counters
    assert [c.orig.nb_payload_bytes for c in seen] == [500]
    assert counters["held_refused"] > 0


def test_section_5_8_a_hole_does_not_stall_its_direction():
    """Upstream waits for what is lost until its buffer overflows."""
    made = talk(isn=(1000, 2000))
    made.open()
    made.to_server(b"GET /1 HTTP/1.1\r\nHost: a\r\n\r\n")
    made.skip(SERVER, 700)  # the answer was not captured
    made.segment(CLIENT)  # but has come
    made.to_server(b"GET /2 HTTP/1.1\r\nHost: a\r\n\r\n")
    made.to_client(b"HTTP/1.1 204 No Content\r\n\r\n")
    made.close(CLIENT)
    seen, counters = of("HttpTransaction", made.frames)
    assert [t.uri for t in seen] == ["/1", "/2"]
    assert (counters["holes"], counters["hole_bytes"]) == (1, 700)


def test_section_5_8_a_server_begins_with_its_answer_not_with_any_acknowledgement():
    """The answer of an old connection to this SYN says nothing of ours (RFC 9293, 3.5.1)."""
    made = talk(isn=(1000, 2000))
    made.segment(CLIENT, flags=SYN, ack=0)
    made.segment(SERVER, flags=ACK, seq=77_000, ack=5)
    made.segment(SERVER, flags=SYN | ACK)
    made.segment(CLIENT)
    made.to_server(b"GET /1 HTTP/1.0\r\n\r\n")
    made.to_client(b"HTTP/1.0 204 No Content\r\n\r\n")
    made.close(SERVER)
    (found,), counters = of("HttpTransaction", made.frames)
    assert found.status_code == 204
    assert counters["holes"] == 0


def test_section_4_2_letters_of_ecn_and_intervals_of_empty_segments():
    """Upstream writes no letter for a SYN that asks for ECN, and an interval for each empty segment and datagram."""
    made = talk(isn=(1000, 2000))
    made.segment(CLIENT, flags=SYN | 0xC0, ack=0)
    made.segment(SERVER, flags=SYN | ACK | 0x40)
    for _ in range(200):
        made.segment(CLIENT)
    made.skip(CLIENT, 5)
    made.segment(CLIENT, b"12345")
    exchange = UdpExchange(("192.0.2.9", 5), B, start_ns=START + S)
    exchange.to_server(b"12345")
    seen, _ = of("ConnRecord", made.frames + exchange.frames)
    assert [(c.history, c.orig.chunks, c.orig.missed_bytes) for c in seen] == [("ShAD", [(5, 10)], 5), ("D", [], 0)]


# ----------------------------------------------------------------------------------------- and what RFC 9293 wants


def test_simultaneous_open_with_a_repeated_syn_is_one_connection():
    made = talk()
    made.segment(CLIENT, flags=SYN, ack=0)
    for _ in range(3):
        made.segment(SERVER, flags=SYN, ack=0, seq=made.isn[SERVER])
    made.segment(CLIENT, flags=SYN | ACK, seq=made.isn[CLIENT])
    made.segment(SERVER, flags=SYN | ACK, seq=made.isn[SERVER])
    seen, _ = records(made.frames)
    assert [(c.orig.nb_pkts, c.resp.nb_pkts) for c in seen] == [(2, 4)]


def test_reset_out_of_the_window_ends_nothing():
    made = talk(isn=(1000, 2000))
    made.open()
    made.segment(SERVER, flags=RST, seq=(2001 + 2**30) % 2**32)
    made.segment(CLIENT, b"still here")
    made.segment(SERVER)
    made.now_ns += 5 * S
    made.segment(CLIENT, b"and here")
    seen, counters = records(made.frames)
    assert len(seen) == 1
    assert counters["rst_ignored"] == 1
    assert seen[0].conn_state == "S1"


@pytest.mark.parametrize("early", [b"", b"early data"])
def test_refused_attempt_is_over_at_once(early):
    made = talk()
    made.segment(CLIENT, early, flags=SYN, ack=0)
    made.segment(SERVER, flags=RST | ACK, seq=0, ack=(made.isn[CLIENT] + 1) % 2**32)
    made.now_ns += 3 * S
    made.segment(CLIENT, flags=SYN, ack=0, seq=5)
    seen, counters = records(made.frames)
    assert counters["ended_closed"] == 1
    assert [c.conn_state for c in seen] == ["REJ", "S0"]


def test_wild_sequence_number_loses_nothing():
    made = talk(isn=(1000, 2000))
    made.open()
    made.segment(CLIENT, b"C" * 50)
    for far in (2**31 - 5, 2**30 + 1, 2**29):
        made.segment(CLIENT, b"wild" * 10, seq=(1001 + far) % 2**32)
    made.segment(CLIENT, b"C" * 50, seq=1051)
    made.close(CLIENT)
    subscription, seen = collect("ConnRecord", "tls or tcp")
    result = run_frames([subscription], made.frames)
    assert result.counters["hole_bytes"] == 0
    assert seen[0].orig.missed_bytes == 0
    assert seen[0].lost_bytes == 0


def test_half_close_goes_on():
    made = talk()
    made.open()
    made.half_close(CLIENT)
    made.now_ns += 100 * S
    made.to_client(b"S" * 3000, mss=500)
    made.half_close(SERVER)
    seen, counters = records(made.frames)
    assert [c.conn_state for c in seen] == ["SF"]
    assert counters["ended_closed"] == 1


def test_capture_loss_is_what_was_acknowledged_but_not_seen():
    made = talk()
    made.open()
    for n in range(10):
        made.segment(CLIENT, bytes([65 + n]) * 100)
        made.segment(SERVER)
    whole = made.frames
    subscription, _ = collect("ConnRecord")
    assert run_frames([subscription], whole).capture_loss == 0
    lost = [f for f in whole if b"D" * 100 not in f.data and b"H" * 100 not in f.data]
    result = run_frames([subscription], lost)
    assert result.counters["acks_unseen"] == 2
    assert result.capture_loss == pytest.approx(2 / result.counters["acks"])


# ------------------------------------------------------------------------------------------------- a full table


def attempts(count: int, step: int = 1000) -> list[Frame]:
    made = []
    for n in range(count):
        syn = TcpConversation((f"10.{n >> 16 & 255}.{n >> 8 & 255}.{n & 255}", 1024), B, start_ns=START + n * step)
        syn.segment(CLIENT, flags=SYN, ack=0)
        made += syn.frames
    return made


def test_flood_of_syns_neither_fills_the_table_nor_ends_what_stands():
    made = talk()
    made.open()
    flood = attempts(3000)
    made.now_ns = flood[-1].ts_ns + 1
    made.to_server(b"still here")
    frames = sorted(made.frames + flood, key=lambda f: f.ts_ns)
    subscription, seen = collect("ConnRecord", "")
    result = run_frames([subscription], frames, config(max_connections=1000, max_half_open=100))
    assert result.extra["live_peak"] <= 601
    assert result.counters["table_full"] == 0
    assert result.counters["ended_half_open"] > 2000
    (stood,) = [c for c in seen if c.five_tuple.orig == A]
    assert stood.orig.nb_payload_bytes == 10


def test_full_table_refuses_or_makes_room():
    frames = []
    for n in range(300):
        exchange = UdpExchange((f"10.0.{n >> 8}.{n & 255}", 1024), B, start_ns=START + n * S // 10)
        exchange.to_server(b"x")
        frames += exchange.frames
    seen, counters = records(frames, max_connections=100)
    assert (len(seen), counters["table_full"]) == (100, 200)
    seen, counters = records(frames, max_connections=100, table_full="evict")
    assert (len(seen), counters["table_full"]) == (300, 0)
    assert counters["ended_evicted"] >= 200
    # The oldest go first.
    order = [c.first_seen_ts for c in seen[: counters["ended_evicted"]]]
    assert order == sorted(order)


def test_what_is_due_at_once_is_ended_in_parts_and_all_of_it():
    """A burst ends a few hundred connections, and waits for no more; a full table does not refuse while others are due."""
    frames = []
    for start, net in ((START, "10.0"), (START + 1000 * S, "10.1")):
        for n in range(3000):
            exchange = UdpExchange((f"{net}.{n >> 8}.{n & 255}", 1024), B, start_ns=start + n)
            exchange.to_server(b"x")
            frames += exchange.frames
    # Forty minutes later, many turns of the wheel, one packet at a time does for the second three thousand.
    for n in range(100):
        exchange = UdpExchange(("10.2.0.1", 1024), B, start_ns=START + 3400 * S + n)
        exchange.to_server(b"x")
        frames += exchange.frames
    seen, counters = records(frames, max_connections=3000)
    assert (len(seen), counters["table_full"]) == (6001, 0)
    assert (counters["ended_expired"], counters["ended_drained"]) == (6000, 1)
    assert len({c.five_tuple.orig for c in seen}) == 6001
