"""What the decoder says of frames whose meaning is known; agreement on everything else is `tests/property/test_decode.py`."""

from __future__ import annotations

import ipaddress
import struct

import pytest
from support.decoding import decode_frames
from traffic import packets
from traffic.packets import Link, LinkType

from retina_jit.ingest.linktypes import is_supported
from retina_jit.parsers.packet.link import SUPPORTED, is_known
from retina_jit.state import layout

C4, S4, C6, S6 = "192.0.2.10", "198.51.100.20", "2001:db8::10", "2001:db8::20"


def decode(data: bytes, link: int = 1, length: int = 0) -> dict[str, int]:
    return decode_frames([(data, link, length or len(data))])[0]


def tcp4(payload: bytes = b"hello", **more) -> bytes:
    return packets.ipv4(C4, S4, 6, packets.tcp(C4, S4, 40000, 443, payload, seq=7, ack=9, flags=0x18), **more)


def tcp6(payload: bytes = b"hello", **more) -> bytes:
    return packets.ipv6(C6, S6, 6, packets.tcp(C6, S6, 40000, 443, payload, seq=7, ack=9, flags=0x18), **more)


def udp4(payload: bytes = b"hello", **more) -> bytes:
    return packets.ipv4(C4, S4, 17, packets.udp(C4, S4, 5353, 53, payload), **more)


@pytest.mark.parametrize("link", [LinkType.ETHERNET, LinkType.RAW, LinkType.NULL, LinkType.LOOP, LinkType.LINUX_SLL, LinkType.LINUX_SLL2])
@pytest.mark.parametrize("v6", [False, True])
def test_link_types(link, v6):
    for big_endian in (False, True):
        row = decode(Link(link, big_endian=big_endian).wrap(0x86DD if v6 else 0x0800, tcp6() if v6 else tcp4()), link)
        assert row["verdict"] == layout.PENDING
        assert (row["src_port"], row["dst_port"], row["protocol"]) == (40000, 443, 6)
        assert (row["seq"], row["ack"], row["tcp_flags"], row["window"]) == (7, 9, 0x18, 64240)
        assert (row["payload_len"], row["captured_len"]) == (5, 5)
        assert row["l4"] == row["l3"] + (40 if v6 else 20)
        assert bool(row["layers"] & layout.ETHERNET) == (link == LinkType.ETHERNET)
        assert bool(row["layers"] & layout.IPV6) == v6
        if v6:
            src = (row["src_hi"] % 2**64) << 64 | row["src_lo"] % 2**64
            assert ipaddress.ip_address(src) == ipaddress.ip_address(C6)
        else:
            assert (row["src_hi"], row["src_lo"]) == (0, int(ipaddress.ip_address(C4)))


@pytest.mark.parametrize("link", [228, 12, 14])
def test_raw_ipv4(link):
    assert decode(tcp4(), link)["verdict"] == layout.PENDING


@pytest.mark.parametrize("family", [10, 24, 28, 30])
@pytest.mark.parametrize("order", ["<", ">"])
def test_loopback_ipv6_of_every_system(family, order):
    assert decode(struct.pack(order + "I", family) + tcp6(), 0)["verdict"] == layout.PENDING


def test_every_supported_link_type_is_known_to_the_kernel():
    for link in range(300):
        row = decode(bytes.fromhex("45") + bytes(60), link)
        if not is_supported(link):
            assert row["verdict"] == layout.NOT_IP
    assert is_supported(1)
    assert set(SUPPORTED) == {n for n in range(300) if is_known.function(n)}


def tagged(*tags: int, packet: bytes | None = None) -> bytes:
    return Link(vlans=tags).wrap(0x0800, packet or tcp4())


def test_vlan_tag_is_stripped_and_kept():
    row = decode(tagged(0x6064))
    assert (row["verdict"], row["l3"], row["vlan_tci"], row["l2_type"]) == (layout.PENDING, 18, 0x6064, 0x0800)
    assert row["layers"] & layout.VLAN
    assert not row["layers"] & layout.QINQ


def test_of_several_tags_the_outermost_is_kept():
    row = decode(tagged(100, 200, 300))
    assert (row["verdict"], row["l3"], row["vlan_tci"]) == (layout.PENDING, 26, 100)
    assert row["layers"] & layout.QINQ


def test_too_many_tags_are_malformed():
    assert decode(tagged(*range(15)))["verdict"] == layout.PENDING
    assert decode(tagged(*range(16)))["verdict"] == layout.MALFORMED


def test_mpls_pppoe_snap_and_security_tag():
    def ether(kind: int, content: bytes) -> bytes:
        return Link().wrap(kind, content)

    labels = bytes.fromhex("00064040 00007140")  # the second one ends the stack
    ppp = b"\x11\0\0\1" + struct.pack("!H", len(tcp6()) + 2) + b"\0\x57" + tcp6()
    snap = bytes.fromhex("aaaa03000000 0800") + tcp4()
    for data, bit, l3 in (
        (ether(0x8847, labels + tcp4()), layout.MPLS, 22),
        (ether(0x8864, ppp), layout.PPPOE, 22),
        (ether(len(snap), snap), 0, 22),
        (ether(0x8909, bytes.fromhex("0101 0001 0007 0800") + tcp4()), 0, 22),
    ):
        row = decode(data)
        assert (row["verdict"], row["l3"], row["payload_len"]) == (layout.PENDING, l3, 5)
        assert row["layers"] & bit == bit


def test_not_ip():
    arp = decode(Link().wrap(0x0806, packets.arp(bytes(6), C4, S4)))
    assert (arp["verdict"], arp["l2_type"]) == (layout.NOT_IP, 0x0806)
    assert arp["layers"] == layout.ETHERNET | layout.ARP
    assert decode(Link().wrap(0x88CC, bytes(50)))["verdict"] == layout.NOT_IP
    assert decode(Link().wrap(0x0026, b"\x42\x42\x03" + bytes(40)))["verdict"] == layout.NOT_IP  # spanning tree
    assert decode(tcp4(), 105)["verdict"] == layout.NOT_IP


def test_ethernet_padding_is_no_payload():
    row = decode(Link().wrap(0x0800, tcp4(b"x")) + bytes(5))
    assert (row["payload_len"], row["captured_len"]) == (1, 1)
    assert decode(Link().wrap(0x0800, tcp4(b"")) + bytes(6))["payload_len"] == 0


def test_snapshot_length_cuts_what_is_captured_only():
    data = Link().wrap(0x0800, tcp4(b"x" * 1000))
    row = decode(data[:100], length=len(data))
    assert (row["verdict"], row["payload_len"], row["captured_len"]) == (layout.PENDING, 1000, 100 - 54)


def test_segmentation_offload_has_length_zero():
    for packet, kind, head in ((tcp4(b"x" * 3000, total_length=0), 0x0800, 54), (tcp6(b"x" * 3000, payload_length=0), 0x86DD, 74)):
        data = Link().wrap(kind, packet)
        assert decode(data)["payload_len"] == 3000
        row = decode(data[:500], length=len(data))
        assert (row["payload_len"], row["captured_len"]) == (3000, 500 - head)


def test_udp_length_bounds_the_payload():
    packet = udp4(b"hello" + bytes(7))
    packet = packet[:24] + struct.pack("!H", 13) + packet[26:]
    assert decode(Link().wrap(0x0800, packet))["payload_len"] == 5
    assert decode(Link().wrap(0x0800, packet[:24] + b"\0\7" + packet[26:]))["verdict"] == layout.MALFORMED
    assert decode(Link().wrap(0x0800, packet[:24] + b"\0\0" + packet[26:]))["payload_len"] == 12


@pytest.mark.parametrize(
    ("data", "verdict"),
    [
        (Link().wrap(0x0800, b"\x65" + tcp4()[1:]), layout.MALFORMED),  # version
        (Link().wrap(0x86DD, tcp4()), layout.MALFORMED),
        (Link().wrap(0x0800, b"\x44" + tcp4()[1:]), layout.MALFORMED),  # header length 16
        (Link().wrap(0x0800, tcp4(total_length=19)), layout.MALFORMED),
        (Link().wrap(0x0800, tcp4(total_length=39)), layout.MALFORMED),  # ends inside the TCP header
        (Link().wrap(0x0800, tcp4())[:32] + b"\x40" * 30, layout.MALFORMED),  # data offset 16
        (Link().wrap(0x0800, tcp4())[:53], layout.TRUNCATED_HEADER),
        (Link().wrap(0x0800, tcp4())[:33], layout.TRUNCATED_HEADER),
        (Link().wrap(0x0800, tcp4())[:13], layout.TRUNCATED_HEADER),
        (b"", layout.TRUNCATED_HEADER),
    ],
)
def test_refusals(data, verdict):
    row = decode(data, length=100)
    assert row["verdict"] == verdict
    assert (row["src_port"], row["payload"], row["payload_len"], row["captured_len"]) == (0, 0, 0, 0)


def test_cut_transport_header_keeps_the_network_layer():
    row = decode(Link().wrap(0x0800, tcp4())[:40], length=60)
    assert row["layers"] == layout.ETHERNET | layout.IPV4
    assert (row["src_lo"], row["protocol"], row["l4"]) == (int(ipaddress.ip_address(C4)), 6, 34)


def test_ipv4_options_are_stepped_over():
    row = decode(Link().wrap(0x0800, tcp4(options=b"\x94\x04\0\0\1\1\1\0")))
    assert (row["verdict"], row["l4"], row["payload_len"]) == (layout.PENDING, 42, 5)


def test_ipv4_fragments():
    whole = tcp4(b"x" * 2000)
    first, *later = packets.fragment(whole, 600)
    row = decode(Link().wrap(0x0800, first))
    assert (row["verdict"], row["src_port"]) == (layout.PENDING, 40000)
    assert row["layers"] & (layout.FRAGMENT | layout.LATER_FRAGMENT | layout.TCP) == layout.FRAGMENT | layout.TCP
    for piece in later:
        row = decode(Link().wrap(0x0800, piece))
        assert (row["verdict"], row["src_port"], row["protocol"]) == (layout.NOT_TRANSPORT, 0, 6)
        assert row["layers"] & (layout.LATER_FRAGMENT | layout.TCP) == layout.LATER_FRAGMENT


def test_ipv6_fragments():
    first, *later = packets.fragment(tcp6(b"x" * 2000), 600)
    row = decode(Link().wrap(0x86DD, first))
    assert (row["verdict"], row["src_port"], row["l4"]) == (layout.PENDING, 40000, 62)
    assert row["layers"] & (layout.FRAGMENT | layout.LATER_FRAGMENT) == layout.FRAGMENT
    for piece in later:
        row = decode(Link().wrap(0x86DD, piece))
        assert (row["verdict"], row["src_port"], row["protocol"]) == (layout.NOT_TRANSPORT, 0, 6)
        assert row["layers"] & layout.LATER_FRAGMENT


def test_atomic_ipv6_fragment_is_a_whole_packet():
    row = decode(Link().wrap(0x86DD, tcp6(extensions=((44, bytes(6)),))))
    assert row["verdict"] == layout.PENDING
    assert not row["layers"] & layout.FRAGMENT


def test_ipv6_extension_headers():
    chain = ((0, bytes(4)), (60, bytes(14)), (43, bytes(6)), (60, b""))
    row = decode(Link().wrap(0x86DD, tcp6(extensions=chain)))
    assert (row["verdict"], row["protocol"], row["payload_len"]) == (layout.PENDING, 6, 5)
    assert row["l4"] == 54 + 8 + 16 + 8 + 8


@pytest.mark.parametrize("v6", [False, True])
def test_authentication_header(v6):
    segment = packets.tcp(C4, S4, 40000, 443, b"hello")
    header = struct.pack("!BBHII", 6, 4, 0, 1, 2) + bytes(12)  # 24 bytes: six words less two
    if v6:
        row = decode(packets.ipv6(C6, S6, 51, header + segment), 101)
    else:
        row = decode(packets.ipv4(C4, S4, 51, header + segment), 101)
    assert (row["verdict"], row["protocol"], row["src_port"], row["payload_len"]) == (layout.PENDING, 6, 40000, 5)


@pytest.mark.parametrize("number", [50, 59, 47, 132])
def test_other_transports(number):
    row = decode(packets.ipv6(C6, S6, number, bytes(30), extensions=((0, b""),)), 101)
    assert (row["verdict"], row["protocol"], row["l4"], row["payload_len"]) == (layout.NOT_TRANSPORT, number, 48, 30)


def test_icmp_type_and_code_stand_in_the_ports():
    inner = tcp4()[:28]
    row = decode(Link().wrap(0x0800, packets.ipv4(C4, S4, 1, packets.icmp(3, 4, payload=inner))))
    assert (row["verdict"], row["src_port"], row["dst_port"], row["payload_len"]) == (layout.NOT_TRANSPORT, 3, 4, 28)
    assert row["layers"] == layout.ETHERNET | layout.IPV4 | layout.ICMP
    row = decode(Link().wrap(0x86DD, packets.ipv6(C6, S6, 58, packets.icmpv6(C6, S6, 135, 0))))
    assert (row["src_port"], row["dst_port"]) == (135, 0)
    assert row["layers"] & layout.ICMPV6


def test_icmp_of_the_other_family_is_none():
    assert not decode(packets.ipv6(C6, S6, 1, bytes(20)), 101)["layers"] & (layout.ICMP | layout.ICMPV6)
    assert not decode(packets.ipv4(C4, S4, 58, bytes(20)), 101)["layers"] & (layout.ICMP | layout.ICMPV6)


def test_agrees_with_scapy_and_dpkt():
    scapy = pytest.importorskip("scapy.layers.all")
    dpkt = pytest.importorskip("dpkt")
    made = [
        scapy.Ether() / scapy.IP(src=C4, dst=S4, ttl=3) / scapy.TCP(sport=1, dport=65535, flags="SA", options=[("MSS", 1400)]) / b"abc",
        scapy.Ether() / scapy.Dot1Q(vlan=5) / scapy.Dot1Q(vlan=6) / scapy.IP(src=C4, dst=S4) / scapy.UDP(sport=9, dport=10) / b"abcd",
        scapy.Ether() / scapy.IPv6(src=C6, dst=S6) / scapy.IPv6ExtHdrHopByHop() / scapy.TCP(sport=7, dport=8, flags="F"),
        scapy.CookedLinux() / scapy.IP(src=C4, dst=S4) / scapy.UDP(sport=9, dport=10) / b"x",
    ]
    for packet in made:
        data = bytes(packet)
        link = 113 if isinstance(packet, scapy.CookedLinux) else 1
        row = decode(data, link)
        transport = scapy.Ether(data) if link == 1 else scapy.CookedLinux(data)
        layer = transport[scapy.TCP] if transport.haslayer(scapy.TCP) else transport[scapy.UDP]
        assert (row["src_port"], row["dst_port"]) == (layer.sport, layer.dport)
        assert row["payload_len"] == len(bytes(layer.payload))
        assert row["verdict"] == layout.PENDING
    data = bytes(made[0])
    segment = dpkt.ethernet.Ethernet(data).data.data
    row = decode(data)
    assert (row["seq"], row["ack"], row["tcp_flags"], row["window"]) == (segment.seq, segment.ack, segment.flags, segment.win)

