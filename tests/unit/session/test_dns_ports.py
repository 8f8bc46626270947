"""DNS, multicast DNS and LLMNR have the same messages: ports tell them apart."""

from __future__ import annotations

import pytest
from support.running import collect, run_frames
from traffic import Frame, TcpConversation, UdpExchange

from retina_jit.subscription import Subscription

NAME = b"\4host\5local\0\0\1\0\1"
QUERY = bytes.fromhex("1234 0000 0001 0000 0000 0000") + NAME
RESPONSE = bytes.fromhex("1234 8400 0001 0001 0000 0000") + NAME + bytes.fromhex("c00c 0001 0001 00000078 0004 c0000201")
TYPES = {"dns": "DnsTransaction", "mdns": "MdnsTransaction", "llmnr": "LlmnrTransaction"}


def udp(client: int, server: int) -> list[Frame]:
    talk = UdpExchange(("192.0.2.1", client), ("198.51.100.1", server))
    talk.datagram(0, QUERY)
    talk.datagram(1, RESPONSE)
    return talk.frames


def tcp(client: int, server: int) -> list[Frame]:
    talk = TcpConversation(("192.0.2.1", client), ("198.51.100.1", server))
    talk.open()
    talk.send(0, len(QUERY).to_bytes(2, "big") + QUERY)
    talk.send(1, len(RESPONSE).to_bytes(2, "big") + RESPONSE)
    talk.close()
    return talk.frames


FLOWS = {
    "dns": [udp(40000, 53), udp(40000, 9), udp(5353, 53), udp(53, 5353), udp(5355, 853), tcp(40000, 53), tcp(40000, 5353)],
    "mdns": [udp(5353, 5353), udp(40001, 5353), udp(5353, 40002)],
    "llmnr": [udp(40000, 5355), udp(5355, 40000), tcp(40000, 5355)],
}
"""A port below 1024 belongs to a server: a client that has port 5353 by chance speaks DNS with port 53 all the same."""
ALL = [frame for flows in FLOWS.values() for flow in flows for frame in flow]



@pytest.mark.parametrize("wanted", [["dns"], ["mdns"], ["llmnr"], ["mdns", "dns"], ["llmnr", "mdns", "dns"]])
def test_the_ports_say_which_of_them_it_is(wanted: list[str]) -> None:
    collected = {name: collect(f"{TYPES[name]},FiveTuple") for name in wanted}
    run_frames([s for s, _ in collected.values()], ALL)
    for name, (_, rows) in collected.items():
        assert len(rows) == len(FLOWS[name]), name
        assert all(t.has_query and t.has_response and t.query_domain == "host.local" for t, _ in rows)
        assert type(rows[0][0]).__name__ == TYPES[name]


def test_filters_know_them_by_their_names() -> None:
    texts = ["dns", "mdns", "llmnr", "mdns.query_domain = 'host.local'", "llmnr.qtype = A", "dns or mdns", "not mdns", "udp and not (dns or llmnr)"]
    collected = [collect("FiveTuple", text) for text in texts]
    run_frames([s for s, _ in collected], ALL)
    d, m, n = (len(FLOWS[name]) for name in ("dns", "mdns", "llmnr"))
    assert [len(rows) for _, rows in collected] == [d, m, n, m, n, d + m, d + n, m]


def test_a_list_of_all_sessions_has_them() -> None:
    seen: list[str] = []

    def note(sessions):  # type: ignore[no-untyped-def]
        seen.extend(type(s).__name__ for s in sessions)

    subscription, rows = collect("SessionList")
    run_frames([subscription], ALL)
    for row in rows:
        note(row)
    assert {name: seen.count(t) for name, t in TYPES.items()} == {name: len(flows) for name, flows in FLOWS.items()}


def test_what_is_asked_of_a_protocol_counts_no_wrong_guess() -> None:
    subscriptions: list[Subscription] = [collect(t)[0] for t in TYPES.values()]
    assert run_frames(subscriptions, ALL).counters["wrong_guesses"] == 0
