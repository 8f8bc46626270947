"""What upstream gets wrong about state, each by the number of the list of its defects; here it must be right."""

from __future__ import annotations

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
