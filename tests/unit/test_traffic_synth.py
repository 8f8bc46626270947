"""The traffic synthesiser against two independent readers, scapy and dpkt: an error here would be in every test."""

import json
import logging
import socket
from io import BytesIO
from pathlib import Path

import dpkt
import pytest
from traffic import (
    CLIENT,
    SERVER,
    Frame,
    Link,
    LinkType,
    TcpConversation,
    UdpExchange,
    merge,
    packets,
    pcap_bytes,
    pcapng_bytes,
    retime,
    write_pcap,
    write_pcapng,
)
from traffic.capture import BLOCK_INTERFACE_STATISTICS, Interface, PcapngWriter

logging.getLogger("scapy").setLevel(logging.ERROR)  # it warns of missing interfaces at import
scapy = pytest.importorskip("scapy.all")

V4 = (("192.0.2.10", 40000), ("198.51.100.20", 443))
V6 = (("2001:db8:a::10", 40000), ("2001:db8:100::20", 443))
BOTH = pytest.mark.parametrize("ends", [V4, V6], ids=["ipv4", "ipv6"])
SAMPLES = Path(__file__).resolve().parents[2] / "retina_jit" / "samples"
EXPECTED = json.loads((Path(__file__).resolve().parents[1] / "traffic" / "expected.json").read_text())


def small_talk(ends, **settings):
    talk = TcpConversation(*ends, **settings)
    talk.open()
    talk.to_server(b"question" * 500)
    talk.to_client(b"answer")
    talk.close(by=SERVER)
    return talk


def rebuilt(data, layer=scapy.Ether):
    """The same packet with all lengths and checksums computed by scapy."""
    packet = layer(data)
    for part in packet.layers():
        for name in ("chksum", "cksum", "len", "plen", "ihl", "dataofs"):
            if name in packet[part].fields:
                packet[part].delfieldval(name)
    return bytes(packet)


@BOTH
@pytest.mark.parametrize("timestamps", [False, True])
def test_lengths_and_checksums_are_those_of_scapy(ends, timestamps):
    for frame in small_talk(ends, timestamps=timestamps).frames:
        assert rebuilt(frame.data) == frame.data


@BOTH
def test_udp_lengths_and_checksums_are_those_of_scapy(ends):
    talk = UdpExchange(*ends)
    for payload in (b"", b"x", b"even", bytes(range(256)) * 5):
        talk.to_server(payload)
        talk.to_client(payload)
    for frame in talk.frames:
        assert rebuilt(frame.data) == frame.data


def test_udp_checksum_that_comes_out_as_zero_is_sent_as_all_ones():
    # the payload is chosen so that the sum of the datagram is 0xffff
    empty = packets.udp("192.0.2.1", "192.0.2.2", 1, 2, b"\0\0")
    payload = empty[6:8]
    datagram = packets.udp("192.0.2.1", "192.0.2.2", 1, 2, payload)
    assert datagram[6:8] == b"\xff\xff"


@BOTH
def test_dpkt_reassembles_what_was_said(ends):
    talk = small_talk(ends)
    streams = {CLIENT: b"", SERVER: b""}
    expected_seq = {}
    for frame in talk.frames:
        segment = dpkt.ethernet.Ethernet(frame.data).data.data
        side = CLIENT if segment.sport == ends[CLIENT][1] else SERVER
        if side in expected_seq:
            assert segment.seq == expected_seq[side]
        step = len(segment.data) + bool(segment.flags & 2) + bool(segment.flags & 1)
        expected_seq[side] = (segment.seq + step) % 2**32
        if segment.flags & 0x10:
            assert segment.ack == expected_seq[1 - side]
        streams[side] += segment.data
    assert streams == {CLIENT: b"question" * 500, SERVER: b"answer"}


def test_sequence_numbers_wrap():
    talk = TcpConversation(*V4, isn=(2**32 - 3, 2**32 - 1))
    talk.open()
    talk.to_server(b"abcdef")
    assert talk.next_seq == [4, 0]
    assert dpkt.ethernet.Ethernet(talk.frames[-1].data).data.data.ack == 4


def test_a_segment_with_a_number_of_its_own_leaves_the_stream_alone():
    talk = TcpConversation(*V4)
    talk.open()
    before = list(talk.next_seq)
    talk.segment(CLIENT, b"from the future", seq=talk.next_seq[CLIENT] + 100)
    assert talk.next_seq == before
    talk.skip(CLIENT, 10)
    assert talk.next_seq[CLIENT] == (before[CLIENT] + 10) % 2**32


def test_times_increase_by_the_step_and_merge_sorts():
    a = small_talk(V4, start_ns=10**18, step_ns=1001).frames
    assert [frame.ts_ns for frame in a[:3]] == [10**18, 10**18 + 1001, 10**18 + 2002]
    b = small_talk(V6, start_ns=10**18 + 500, step_ns=1001).frames
    together = merge(a, b)
    assert [frame.ts_ns for frame in together] == sorted(frame.ts_ns for frame in a + b)
    again = retime(reversed(together), start_ns=0, step_ns=7)
    assert [frame.ts_ns for frame in again[:3]] == [0, 7, 14]
    assert again[0].data == together[-1].data


def test_tally_counts_each_direction():
    talk = small_talk(V4)
    client, server = talk.tally
    assert (client.payload, server.payload) == (4000, 6)
    assert client.packets + server.packets == len(talk.frames)
    assert client.bytes + server.bytes == sum(frame.length for frame in talk.frames)


def test_the_same_calls_give_the_same_frames():
    assert small_talk(V4).frames == small_talk(V4).frames


def test_ends_of_different_versions_are_refused():
    with pytest.raises(ValueError, match="different IP versions"):
        TcpConversation(V4[0], V6[1])


@pytest.mark.parametrize(
    ("vlans", "tags"),
    [
        ((5,), [(0x8100, 5)]),
        ((100, 7), [(0x88A8, 100), (0x8100, 7)]),
        (((0x9100, 0xE001),), [(0x9100, 0xE001)]),
    ],
)
def test_vlan_tags(vlans, tags):
    frame = small_talk(V4, link=Link(vlans=vlans)).frames[0]
    at = 12
    for tpid, tci in tags:
        assert (int.from_bytes(frame.data[at : at + 2]), int.from_bytes(frame.data[at + 2 : at + 4])) == (
            tpid,
            tci,
        )
        at += 4
    assert frame.data[at : at + 2] == b"\x08\x00"


def test_vlan_tags_are_read_by_scapy():
    packet = scapy.Ether(small_talk(V4, link=Link(vlans=(100, 7))).frames[0].data)
    assert packet[scapy.Dot1AD].vlan == 100
    assert packet[scapy.Dot1Q].vlan == 7
    assert packet[scapy.TCP].dport == 443


@pytest.mark.parametrize(
    ("ends", "link_type"),
    [(V4, link_type) for link_type in LinkType if link_type is not LinkType.IPV6]
    + [(V6, link_type) for link_type in LinkType if link_type is not LinkType.IPV4],
)
def test_link_types_are_read_by_scapy(ends, link_type, tmp_path):
    version = 6 if ends is V6 else 4
    talk = small_talk(ends, link=Link(link_type))
    path = write_pcap(tmp_path / "x.pcap", talk.frames, link_type=link_type)
    read = scapy.rdpcap(str(path))
    assert len(read) == len(talk.frames)
    first = read[0]
    if version == 6 and link_type in (LinkType.NULL, LinkType.LOOP):
        # scapy knows only Linux's number for IPv6, which no such capture carries
        assert (
            int.from_bytes(talk.frames[0].data[:4], "big" if link_type is LinkType.LOOP else "little") == 30
        )
        first = scapy.IPv6(talk.frames[0].data[4:])
    assert first[scapy.TCP].dport == 443
    assert first[scapy.IPv6 if version == 6 else scapy.IP].src == ends[CLIENT][0]
    for packet, frame in zip(read, talk.frames, strict=True):
        assert bytes(packet) == frame.data


@pytest.mark.parametrize("big_endian", [False, True])
def test_null_link_in_both_byte_orders(big_endian):
    data = small_talk(V4, link=Link(LinkType.NULL, big_endian=big_endian)).frames[0].data
    assert data[:4] == (2).to_bytes(4, "big" if big_endian else "little")


@pytest.mark.parametrize("nanoseconds", [False, True])
@pytest.mark.parametrize("big_endian", [False, True])
def test_pcap_is_read_by_dpkt(nanoseconds, big_endian):
    frames = small_talk(V4, start_ns=1_700_000_000_123_456_789).frames
    data = pcap_bytes(frames, nanoseconds=nanoseconds, big_endian=big_endian)
    reader = dpkt.pcap.Reader(BytesIO(data))
    assert reader.datalink() == LinkType.ETHERNET
    unit = 1 if nanoseconds else 1000
    read = list(reader)
    assert [payload for _, payload in read] == [frame.data for frame in frames]
    for (seconds, _), frame in zip(read, frames, strict=True):
        assert round(float(seconds) * 10**6) == pytest.approx(frame.ts_ns // unit * unit / 1000, abs=1)


def test_pcap_times_are_exact_and_frames_are_cut_to_the_snapshot_length(tmp_path):
    frames = small_talk(V4, start_ns=1_700_000_000_123_456_789).frames
    path = write_pcap(tmp_path / "x.pcap", frames, nanoseconds=True, snaplen=60)
    with scapy.RawPcapReader(str(path)) as reader:
        for (data, meta), frame in zip(reader, frames, strict=True):
            assert meta.sec * 10**9 + meta.usec == frame.ts_ns  # scapy names it usec in nanosecond files too
            assert meta.wirelen == frame.length
            assert data == frame.cut(60).data


@pytest.mark.parametrize("big_endian", [False, True])
@pytest.mark.parametrize("tsresol", [None, 6, 9, 3, 0x80 | 20])
def test_pcapng_is_read_by_scapy(tsresol, big_endian, tmp_path):
    frames = small_talk(V4, start_ns=1_700_000_000_123_456_789).frames
    path = write_pcapng(tmp_path / "x.pcapng", frames, tsresol=tsresol, big_endian=big_endian)
    with scapy.RawPcapNgReader(str(path)) as reader:
        read = list(reader)
    assert [data for data, _ in read] == [frame.data for frame in frames]
    per_second = Interface(tsresol=tsresol).ticks(10**9)
    for (_, meta), frame in zip(read, frames, strict=True):
        assert (meta.tshigh << 32 | meta.tslow) == frame.ts_ns * per_second // 10**9
        assert meta.tsresol == per_second
        assert meta.wirelen == frame.length


@pytest.mark.parametrize("big_endian", [False, True])
def test_pcapng_is_read_by_dpkt(big_endian):
    frames = small_talk(V4, start_ns=1_700_000_000_123_456_000).frames
    for tsresol in (None, 6, 9):
        read = list(dpkt.pcapng.Reader(BytesIO(pcapng_bytes(frames, tsresol=tsresol, big_endian=big_endian))))
        assert [payload for _, payload in read] == [frame.data for frame in frames]
        assert float(read[0][0]) == pytest.approx(frames[0].ts_ns / 10**9, abs=1e-6)


def test_pcapng_time_offset_is_taken_off():
    frames = small_talk(V4, start_ns=1_700_000_000 * 10**9).frames
    assert Interface(tsresol=6, tsoffset=1_600_000_000).ticks(frames[0].ts_ns) == 10**8 * 10**6
    read = list(dpkt.pcapng.Reader(BytesIO(pcapng_bytes(frames, tsoffset=1_600_000_000))))
    assert float(read[0][0]) == 1_700_000_000


def test_pcapng_with_sections_interfaces_and_other_blocks(tmp_path):
    frames = small_talk(V4).frames
    raw = small_talk(V4, link=Link(LinkType.RAW)).frames
    writer = PcapngWriter()
    writer.interface(Interface(name="eth0", snaplen=65535))  # scapy takes 0 for a limit, in simple packets
    writer.interface(Interface(LinkType.RAW, tsresol=6))
    writer.packet(frames[0], comment="the first")
    writer.packet(raw[1], interface=1)
    writer.block(BLOCK_INTERFACE_STATISTICS, bytes(12))
    writer.simple_packet(frames[2])
    writer.old_packet(frames[3])
    writer.section(big_endian=True, comment="another host")
    writer.interface()
    writer.packet(frames[4])
    path = tmp_path / "x.pcapng"
    path.write_bytes(writer.getvalue())
    with scapy.RawPcapNgReader(str(path)) as reader:
        read = [(data, meta.linktype) for data, meta in reader]
    ethernet = [(frame.data, LinkType.ETHERNET) for frame in (frames[0], frames[2], frames[3], frames[4])]
    assert read == [ethernet[0], (raw[1].data, LinkType.RAW), *ethernet[1:]]


def test_a_cut_frame_keeps_its_length():
    frame = Frame(0, bytes(100)).cut(40)
    assert (frame.caplen, frame.length) == (40, 100)


@BOTH
def test_fragments_are_put_together_by_scapy(ends):
    talk = UdpExchange(*ends)
    payload = bytes(range(251)) * 20
    talk.to_server(payload, mtu=1280)
    assert len(talk.frames) == 5
    assert talk.tally[CLIENT].packets == 5
    parts = [scapy.Ether(frame.data).payload for frame in talk.frames]
    for part in parts:
        assert len(bytes(part)) <= 1280
    if ends is V4:
        whole = scapy.defragment(parts)[0]
    else:
        whole = scapy.defragment6(scapy.PacketList(parts))
        whole = scapy.IPv6(bytes(whole))
    assert bytes(whole[scapy.UDP].payload) == payload


def test_ipv4_options_and_ipv6_extension_headers_are_read_by_scapy():
    segment = packets.tcp("192.0.2.1", "192.0.2.2", 1, 2, b"data")
    packet = packets.ipv4(
        "192.0.2.1", "192.0.2.2", 6, segment, options=b"\x94\x04\0\0\x01"
    )  # router alert, NOP
    assert rebuilt(packet, scapy.IP) == packet
    assert bytes(scapy.IP(packet)[scapy.TCP].payload) == b"data"

    segment = packets.tcp("2001:db8::1", "2001:db8::2", 1, 2, b"data")
    extensions = ((0, b"\x05\x02\0\0\x01\0"), (60, b"\x01\x0a" + bytes(10)))
    packet = packets.ipv6("2001:db8::1", "2001:db8::2", 6, segment, extensions=extensions)
    read = scapy.IPv6(packet)
    assert [layer.__name__ for layer in read.layers()][:4] == [
        "IPv6",
        "IPv6ExtHdrHopByHop",
        "IPv6ExtHdrDestOpt",
        "TCP",
    ]
    assert bytes(read[scapy.TCP].payload) == b"data"


def test_icmp_and_arp_are_read_by_dpkt():
    echo = dpkt.icmp.ICMP(packets.icmp(8, 0, 0x00010002, b"ping"))
    assert (echo.type, echo.data.id, echo.data.seq) == (8, 1, 2)
    assert rebuilt(packets.icmp(8, 0, 1, b"ping"), scapy.ICMP) == packets.icmp(8, 0, 1, b"ping")
    message = packets.icmpv6("2001:db8::1", "2001:db8::2", 128, 0, 1, b"ping")
    packet = packets.ipv6("2001:db8::1", "2001:db8::2", 58, message)
    assert rebuilt(packet, scapy.IPv6) == packet
    arp = dpkt.arp.ARP(packets.arp(b"\x02" + bytes(5), "192.0.2.1", "192.0.2.2"))
    assert (arp.op, socket.inet_ntoa(arp.tpa)) == (1, "192.0.2.2")


@pytest.mark.parametrize("name", sorted(EXPECTED))
def test_the_shipped_samples_hold_what_expected_json_says(name):
    """Counts by scapy; what the stacks said stands in the table and needs no second opinion."""
    path = SAMPLES / name
    assert path.stat().st_size < 150_000
    counted = {}
    frames = 0
    with scapy.RawPcapReader(str(path)) as reader:
        for data, _ in reader:
            frames += 1
            packet = scapy.Ether(data)
            for layer in (scapy.TCP, scapy.UDP):
                if layer in packet:
                    network = packet[scapy.IPv6] if scapy.IPv6 in packet else packet[scapy.IP]
                    key = (network.src, packet[layer].sport, network.dst, packet[layer].dport)
                    count = counted.setdefault(key, {"packets": 0, "bytes": 0})
                    count["packets"] += 1
                    count["bytes"] += len(data)
    assert frames == EXPECTED[name]["frames"]
    for connection in EXPECTED[name]["connections"]:
        client, server = tuple(connection["client"]), tuple(connection["server"])
        for key, side in ((client + server, "orig"), (server + client, "resp")):
            seen = counted.pop(key, {"packets": 0, "bytes": 0})
            assert seen == {part: connection[side][part] for part in seen}
    assert not counted
