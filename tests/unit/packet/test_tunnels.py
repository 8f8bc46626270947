"""Packets in tunnels: each encapsulation written by hand from its standard, the inner connection is found."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest
from traffic import CLIENT, Frame, Link, TcpConversation, UdpExchange, write_pcap
from traffic import packets as p

import retina_jit as rj
from retina_jit.config import ConntrackConfig, RuntimeConfig
from retina_jit.subscription import Subscription

INNER_CLIENT, INNER_SERVER = ("10.1.0.1", 40000), ("10.1.0.2", 80)
OUTER_A, OUTER_B = "192.0.2.1", "192.0.2.2"
MACS = bytes.fromhex("020000000001020000000002")


def inner_frames() -> list[Frame]:
    talk = TcpConversation(INNER_CLIENT, INNER_SERVER, start_ns=1_700_000_000_000_000_000)
    talk.open()
    talk.to_server(b"GET / HTTP/1.0\r\n\r\n")
    talk.close(by=CLIENT)
    return talk.frames


def ip_of(frame: Frame) -> bytes:
    return frame.data[14:]


def over_udp(port: int, payload: bytes, ts: int, src_port: int = 50000) -> Frame:
    exchange = UdpExchange((OUTER_A, src_port), (OUTER_B, port), start_ns=ts)
    exchange.to_server(payload)
    return exchange.frames[0]


def over_ip(protocol: int, payload: bytes, ts: int) -> Frame:
    return Frame(ts, Link().wrap(0x0800, p.ipv4(OUTER_A, OUTER_B, protocol, payload), from_server=False))


def gre(kind: int, flags: int = 0, options: bytes = b"") -> bytes:
    return struct.pack(">HH", flags, kind) + options


def raw_header(data: bytes, *, protocol: int = 1, stripped: int = 4, captured: int = 128) -> bytes:
    """An sFlow record of a sampled packet."""
    head = data[:captured]
    body = struct.pack(">IIII", protocol, len(data) + stripped, stripped, len(head)) + head + bytes(-len(head) % 4)
    return struct.pack(">II", 1, len(body)) + body


def flow_sample(*records: bytes, expanded: bool = False) -> bytes:
    body = bytes(40 if expanded else 28) + struct.pack(">I", len(records)) + b"".join(records)
    return struct.pack(">II", 3 if expanded else 1, len(body)) + body


def sflow(*samples: bytes, ipv6_agent: bool = False) -> bytes:
    """An sFlow datagram of sub-agent 9."""
    address = struct.pack(">I", 2) + bytes(16) if ipv6_agent else struct.pack(">I", 1) + bytes(4)
    return struct.pack(">I", 5) + address + struct.pack(">IIII", 9, 1, 1000, len(samples)) + b"".join(samples)


COUNTERS_SAMPLE = struct.pack(">II", 2, 12) + bytes(12)
OTHER_RECORD = struct.pack(">II", 1001, 16) + bytes(16)


ENCAPSULATIONS = {
    "ipip": lambda f: over_ip(4, ip_of(f), f.ts_ns),
    "gre ip": lambda f: over_ip(47, gre(0x0800) + ip_of(f), f.ts_ns),
    "gre with checksum, key and sequence": lambda f: over_ip(47, gre(0x0800, 0xB000, bytes(12)) + ip_of(f), f.ts_ns),
    "gre bridged": lambda f: over_ip(47, gre(0x6558) + f.data, f.ts_ns),
    "erspan 1": lambda f: over_ip(47, gre(0x88BE) + f.data, f.ts_ns),
    "erspan 2": lambda f: over_ip(47, gre(0x88BE, 0x1000, bytes(4)) + bytes.fromhex("1000000000000000") + f.data, f.ts_ns),
    "erspan 3": lambda f: over_ip(47, gre(0x22EB, 0x1000, bytes(4)) + bytes.fromhex("200000000000000000000000") + f.data, f.ts_ns),
    "vxlan": lambda f: over_udp(4789, bytes.fromhex("0800000000000500") + f.data, f.ts_ns),
    "vxlan-gpe": lambda f: over_udp(4790, bytes.fromhex("0c00000300000500") + f.data, f.ts_ns),
    "vxlan-gpe of no said protocol": lambda f: over_udp(4790, bytes.fromhex("0800000000000500") + f.data, f.ts_ns),
    "vxlan-gpe ip": lambda f: over_udp(4790, bytes.fromhex("0c00000100000500") + ip_of(f), f.ts_ns),
    "geneve": lambda f: over_udp(6081, bytes.fromhex("0000655800000500") + f.data, f.ts_ns),
    "geneve with options": lambda f: over_udp(6081, bytes.fromhex("02000800000005000102800000000000") + ip_of(f), f.ts_ns),
    "gtp": lambda f: over_udp(2152, struct.pack(">BBHI", 0x30, 255, len(ip_of(f)), 7) + ip_of(f), f.ts_ns),
    "gtp with sequence number": lambda f: over_udp(2152, struct.pack(">BBHII", 0x32, 255, len(ip_of(f)) + 4, 7, 0) + ip_of(f), f.ts_ns),
    "sflow": lambda f: over_udp(6343, sflow(flow_sample(raw_header(f.data))), f.ts_ns),
    "sflow among others": lambda f: over_udp(6343, sflow(COUNTERS_SAMPLE, flow_sample(OTHER_RECORD), flow_sample(OTHER_RECORD, raw_header(f.data), expanded=True), ipv6_agent=True), f.ts_ns),
    "sflow ip": lambda f: over_udp(6343, sflow(flow_sample(raw_header(ip_of(f), protocol=11))), f.ts_ns),
    "vxlan in sflow": lambda f: over_udp(6343, sflow(flow_sample(raw_header(over_udp(4789, bytes.fromhex("0800000000000500") + f.data, f.ts_ns).data))), f.ts_ns),
    "vxlan in gre": lambda f: over_ip(47, gre(0x0800) + ip_of(over_udp(4789, bytes.fromhex("0800000000000500") + f.data, f.ts_ns)), f.ts_ns),
}  # fmt: skip


def connections(path: Path, *decap: str) -> list[rj.ConnRecord]:
    seen: list[rj.ConnRecord] = []
    result = rj.run([Subscription("", (rj.ConnRecord,), seen.append)], path, config=RuntimeConfig(decap=decap))
    assert sum(result.ledger.values()) == result.counters["frames"]
    return seen


@pytest.mark.parametrize("name", ENCAPSULATIONS)
def test_inner_connection_is_found(name: str, tmp_path: Path) -> None:
    inside = inner_frames()
    write_pcap(tmp_path / "x.pcap", [ENCAPSULATIONS[name](f) for f in inside])
    found = [c for c in connections(tmp_path / "x.pcap", "all") if c.five_tuple.orig == INNER_CLIENT]
    assert len(found) == 1
    assert found[0].five_tuple.resp == INNER_SERVER
    assert found[0].total_pkts == len(inside)
    assert found[0].history == "ShADaFf"


def test_nothing_is_looked_into_unasked(tmp_path: Path) -> None:
    write_pcap(tmp_path / "x.pcap", [ENCAPSULATIONS["vxlan"](f) for f in inner_frames()])
    for decap in ((), ("gre",)):
        assert [c.five_tuple.proto for c in connections(tmp_path / "x.pcap", *decap)] == ["udp"]


def test_one_direction_in_the_tunnel_only(tmp_path: Path) -> None:
    """The two halves meet, in their order, although one is found inside a tunnel."""
    frames = [ENCAPSULATIONS["geneve"](f) if ip_of(f)[12:16] == b"\x0a\x01\x00\x01" else f for f in inner_frames()]
    write_pcap(tmp_path / "x.pcap", frames)
    (found,) = [c for c in connections(tmp_path / "x.pcap", "geneve") if c.five_tuple.orig == INNER_CLIENT]
    assert found.history == "ShADaFf"
    assert found.orig.nb_pkts
    assert found.resp.nb_pkts


def test_a_tunnel_within_itself_ends(tmp_path: Path) -> None:
    frame = inner_frames()[0]
    packet = ip_of(frame)
    for _ in range(20):
        packet = p.ipv4(OUTER_A, OUTER_B, 4, packet)
    write_pcap(tmp_path / "x.pcap", [Frame(frame.ts_ns, Link().wrap(0x0800, packet, from_server=False))])
    assert connections(tmp_path / "x.pcap", "all") == []


def test_unknown_tunnel_is_refused(tmp_path: Path) -> None:
    with pytest.raises(rj.RetinaJitError, match="no tunnel 'vxlen'"):
        RuntimeConfig(decap=("vxlen",)).check()


IDENTIFIERS = {
    "ipip": ("ipip", 0), "gre ip": ("gre", 0), "gre with checksum, key and sequence": ("gre", 0), "erspan 1": ("erspan", 0),
    "erspan 2": ("erspan", 0), "vxlan": ("vxlan", 5), "vxlan-gpe ip": ("vxlan", 5), "geneve": ("geneve", 5), "geneve with options": ("geneve", 5), "gtp": ("gtp", 7),
    "gtp with sequence number": ("gtp", 7), "vxlan in gre": ("vxlan", 5), "sflow": ("sflow", 9), "sflow among others": ("sflow", 9),
}  # fmt: skip


@pytest.mark.parametrize("name", IDENTIFIERS)
def test_inner_connection_knows_its_tunnel(name: str, tmp_path: Path) -> None:
    write_pcap(tmp_path / "x.pcap", [ENCAPSULATIONS[name](f) for f in inner_frames()])
    seen: dict[tuple[str, int], dict[str, object]] = {}

    def note(tunnel: rj.Tunnel, ends: rj.FiveTuple) -> None:
        seen[ends.orig] = tunnel.to_dict()

    rj.run([Subscription("", (rj.Tunnel, rj.FiveTuple), note)], tmp_path / "x.pcap", config=RuntimeConfig(decap=("all",)))
    found = seen.pop(INNER_CLIENT)
    assert (found["kind"], found["ident"]) == IDENTIFIERS[name]
    assert (found["outer_src_addr"], found["outer_dst_addr"]) == (OUTER_A, OUTER_B)
    if name == "vxlan":
        assert (found["outer_proto"], found["outer_dst_port"]) == ("udp", 4789)
        assert set(seen) == {(OUTER_A, 50000)}
    for outer in seen.values():
        around = "gre" if name == "vxlan in gre" else None
        assert outer["kind"] == around
        assert outer["outer_src_addr"] == (OUTER_A if around else None)


def test_samples_of_one_datagram(tmp_path: Path) -> None:
    """Each is a packet, whatever stands beside it; the packet around them is the datagram."""
    frames = inner_frames()
    other = UdpExchange(("10.1.0.3", 5000), ("10.1.0.4", 5001), start_ns=frames[0].ts_ns)
    other.to_server(b"x" * 200)
    datagram = sflow(*(flow_sample(raw_header(f.data)) for f in [*frames, *other.frames]))
    write_pcap(tmp_path / "x.pcap", [over_udp(6343, datagram, frames[0].ts_ns)])
    seen: dict[tuple[str, int], tuple[int, int, str]] = {}

    def note(conn: rj.ConnRecord, tunnel: rj.Tunnel) -> None:
        seen[conn.five_tuple.orig] = conn.total_pkts, conn.orig.nb_pkt_bytes, str(tunnel.outer_src_port)

    rj.run([Subscription("", (rj.ConnRecord, rj.Tunnel), note)], tmp_path / "x.pcap", config=RuntimeConfig(decap=("sflow",)))
    bytes_sent = sum(f.length for f in frames if ip_of(f)[12:16] == b"\x0a\x01\x00\x01")
    assert seen.pop(INNER_CLIENT) == (len(frames), bytes_sent, "50000")
    assert seen.pop(("10.1.0.3", 5000)) == (1, 14 + 28 + 200, "50000")
    assert set(seen) == {(OUTER_A, 50000)}


@pytest.mark.parametrize("name", ["vxlan", "ipip", "vxlan in gre", "sflow"])
def test_a_datagram_put_together_within_a_tunnel_knows_it(name: str, tmp_path: Path) -> None:
    """Its bytes are not among those of the packet around."""
    exchange = UdpExchange(INNER_CLIENT, INNER_SERVER, start_ns=1_700_000_000_000_000_000)
    exchange.to_server(b"x" * 64)
    whole = exchange.frames[0]
    pieces = [Frame(whole.ts_ns + n, whole.data[:14] + x) for n, x in enumerate(p.fragment(ip_of(whole), 40, ident=77))]
    write_pcap(tmp_path / "x.pcap", [ENCAPSULATIONS[name](f) for f in pieces])
    seen: dict[tuple[str, int], rj.Tunnel] = {}

    def note(tunnel: rj.Tunnel, ends: rj.FiveTuple) -> None:
        seen[ends.orig] = tunnel

    rj.run([Subscription("", (rj.Tunnel, rj.FiveTuple), note)], tmp_path / "x.pcap", config=RuntimeConfig(decap=("all",)))
    found = seen[INNER_CLIENT]
    assert (found.kind, found.ident) == IDENTIFIERS[name]
    assert (found.outer_src_addr, found.outer_dst_addr) == (OUTER_A, OUTER_B)


def test_a_sample_ends_where_the_next_one_begins(tmp_path: Path) -> None:
    """However much of its packet it says there is: the packet around the next one is the datagram."""
    frame = inner_frames()[0]
    other = UdpExchange(("10.1.0.3", 5000), ("10.1.0.4", 5001), start_ns=frame.ts_ns)
    other.to_server(b"x" * 64)
    record = bytearray(raw_header(frame.data))
    record[20:24] = struct.pack(">I", 1000)
    datagram = sflow(flow_sample(bytes(record)), flow_sample(raw_header(other.frames[0].data)))
    write_pcap(tmp_path / "x.pcap", [over_udp(6343, datagram, frame.ts_ns)])
    seen: dict[tuple[str, int], tuple[str, str]] = {}

    def note(tunnel: rj.Tunnel, ends: rj.FiveTuple) -> None:
        seen[ends.orig] = tunnel.kind, tunnel.outer_src_addr

    rj.run([Subscription("", (rj.Tunnel, rj.FiveTuple), note)], tmp_path / "x.pcap", config=RuntimeConfig(decap=("all",)))
    assert seen[INNER_CLIENT] == seen[("10.1.0.3", 5000)] == ("sflow", OUTER_A)


def test_samples_of_a_fragmented_datagram_count_once(tmp_path: Path) -> None:
    frame = inner_frames()[0]
    whole = over_udp(6343, sflow(*[flow_sample(raw_header(frame.data))] * 4), frame.ts_ns)
    pieces = [Frame(whole.ts_ns + n, whole.data[:14] + x) for n, x in enumerate(p.fragment(ip_of(whole), 400, ident=77))]
    write_pcap(tmp_path / "x.pcap", pieces)
    found = [c for c in connections(tmp_path / "x.pcap", "sflow") if c.five_tuple.orig == INNER_CLIENT]
    assert [c.total_pkts for c in found] == [4]


@pytest.mark.parametrize("vni_in_key", [False, True])
@pytest.mark.parametrize("inside", ["", "vxlan", "ipip"])
def test_samples_do_not_count_for_what_is_seen_itself(inside: str, vni_in_key: bool, tmp_path: Path) -> None:
    """A packet and the report of it: two connections, whatever stands around it."""
    frames = []
    for frame in inner_frames():
        seen_here = ENCAPSULATIONS[inside](frame) if inside else frame
        report = over_udp(6343, sflow(flow_sample(raw_header(seen_here.data))), frame.ts_ns + 1)
        frames += [seen_here, report]
    write_pcap(tmp_path / "x.pcap", frames)
    seen: list[rj.ConnRecord] = []
    config = RuntimeConfig(conntrack=ConntrackConfig(vni_in_key=vni_in_key), decap=("all",))
    rj.run([Subscription("", (rj.ConnRecord,), seen.append)], tmp_path / "x.pcap", config=config)
    found = [c.total_pkts for c in seen if c.five_tuple.orig == INNER_CLIENT]
    assert found == [len(frames) // 2] * 2


@pytest.mark.parametrize(("samples", "refused"), [(8, 0), (40, 64)])
def test_a_burst_has_room_for_so_many_samples(samples: int, refused: int, tmp_path: Path) -> None:
    frame = inner_frames()[0]
    datagram = over_udp(6343, sflow(*[flow_sample(raw_header(frame.data))] * samples), frame.ts_ns)
    write_pcap(tmp_path / "x.pcap", [datagram] * 64)
    seen: list[rj.ConnRecord] = []
    result = rj.run([Subscription("", (rj.ConnRecord,), seen.append)], tmp_path / "x.pcap", config=RuntimeConfig(decap=("sflow",)))
    assert result.counters["samples_refused"] == refused
    assert result.counters["tunnelled"] == 64 * min(samples, 9)
    assert sum(result.ledger.values()) == result.counters["frames"] == 64


@pytest.mark.parametrize("damage", ["version", "agent", "cut", "lengths"])
def test_a_damaged_datagram_of_samples(damage: str, tmp_path: Path) -> None:
    frame = inner_frames()[0]
    whole = bytearray(sflow(flow_sample(raw_header(frame.data)), flow_sample(raw_header(frame.data))))
    if damage == "version":
        whole[3] = 4
    elif damage == "agent":
        whole[7] = 3
    elif damage == "cut":
        del whole[40:]
    else:
        whole[32:36], whole[72:76] = b"\xff\xff\xff\xf8", bytes(4)
    write_pcap(tmp_path / "x.pcap", [over_udp(6343, bytes(whole), frame.ts_ns)])
    assert [c.five_tuple.proto for c in connections(tmp_path / "x.pcap", "sflow")] == ["udp"]


@pytest.mark.parametrize("apart", [False, True])
def test_vlan_is_a_part_of_the_key_on_request(apart: bool, tmp_path: Path) -> None:
    frames = []
    for vlan in (5, 6):
        talk = TcpConversation(INNER_CLIENT, INNER_SERVER, start_ns=1_700_000_000_000_000_000, link=Link(vlans=(vlan,)))
        talk.open()
        frames += talk.frames
    write_pcap(tmp_path / "x.pcap", sorted(frames, key=lambda f: f.ts_ns))
    seen: list[rj.ConnRecord] = []
    config = RuntimeConfig(conntrack=ConntrackConfig(vlan_in_key=apart))
    rj.run([Subscription("", (rj.ConnRecord,), seen.append)], tmp_path / "x.pcap", config=config)
    assert [c.total_pkts for c in seen] == ([3, 3] if apart else [6])
    assert [c.five_tuple.orig for c in seen] == [INNER_CLIENT] * len(seen)


def in_network(kind: str, number: int, frame: Frame) -> Frame:
    """The frame in a virtual network."""
    vni = (number << 8).to_bytes(4, "big")
    if kind == "vxlan":
        return over_udp(4789, bytes.fromhex("08000000") + vni + frame.data, frame.ts_ns)
    if kind == "geneve":
        return over_udp(6081, bytes.fromhex("00006558") + vni + frame.data, frame.ts_ns)
    if kind == "nvgre":  # the low byte is a FlowID, another one for each frame
        return over_ip(47, gre(0x6558, 0x2000, (number << 8 | frame.ts_ns & 0xFF).to_bytes(4, "big")) + frame.data, frame.ts_ns)
    if kind == "ipip in vxlan":
        return in_network("vxlan", number, over_ip(4, ip_of(frame), frame.ts_ns))
    # No virtual network: a TEID is another one in each direction, other keys of GRE mean what they like.
    if kind == "gtp":
        return over_udp(2152, struct.pack(">BBHI", 0x30, 255, len(ip_of(frame)), number) + ip_of(frame), frame.ts_ns)
    return over_ip(47, gre(0x0800, 0x2000, number.to_bytes(4, "big")) + ip_of(frame), frame.ts_ns)


@pytest.mark.parametrize("apart", [False, True])
@pytest.mark.parametrize("kind", ["vxlan", "geneve", "nvgre", "ipip in vxlan", "gtp", "gre"])
def test_virtual_network_is_a_part_of_the_key_on_request(kind: str, apart: bool, tmp_path: Path) -> None:
    """Numbers that differ in their highest bit, or their lowest one; each network's frames fragmented alike."""
    frames = []
    for number in (5, 4, 0xFFFFFF, 0x7FFFFF):
        talk = TcpConversation(INNER_CLIENT, INNER_SERVER, start_ns=1_700_000_000_000_000_000)
        talk.open()
        frames += [in_network(kind, number, f) for f in talk.frames]
        talk.frames = []
        talk.to_server(number.to_bytes(4, "big") * 10)
        for n, piece in enumerate(p.fragment(ip_of(talk.frames[0]), 32, ident=77)):
            frames.append(in_network(kind, number, Frame(talk.now_ns + 10 * n, talk.frames[0].data[:14] + piece)))
    write_pcap(tmp_path / "x.pcap", sorted(frames, key=lambda f: f.ts_ns))
    seen: list[rj.ConnRecord] = []
    config = RuntimeConfig(conntrack=ConntrackConfig(vni_in_key=apart), decap=("all",))
    rj.run([Subscription("", (rj.ConnRecord,), seen.append)], tmp_path / "x.pcap", config=config)
    found = [c for c in seen if c.five_tuple.orig == INNER_CLIENT]
    if apart and kind not in ("gtp", "gre"):
        assert [(c.total_pkts, c.orig.nb_payload_bytes, c.history) for c in found] == [(4, 40, "ShAD")] * 4
    else:
        assert len(found) == 1
        assert found[0].total_pkts >= 13


@pytest.mark.parametrize("apart", [False, True])
def test_fragments_of_two_vlans_are_not_mixed(apart: bool, tmp_path: Path) -> None:
    frames = []
    for vlan in (5, 6):
        exchange = UdpExchange(INNER_CLIENT, INNER_SERVER, start_ns=1_700_000_000_000_000_000)
        exchange.to_server(bytes([vlan]) * 64)
        pieces = p.fragment(ip_of(exchange.frames[0]), 40, ident=77)
        frames += [Frame(exchange.frames[0].ts_ns + n, Link(vlans=(vlan,)).wrap(0x0800, x)) for n, x in enumerate(pieces)]
    write_pcap(tmp_path / "x.pcap", sorted(frames, key=lambda f: f.ts_ns))
    seen: list[bytes] = []
    config = RuntimeConfig(conntrack=ConntrackConfig(vlan_in_key=apart))
    result = rj.run([Subscription("", (rj.ConnRecord,), seen.append)], tmp_path / "x.pcap", config=config)
    assert result.counters["datagrams"] == (2 if apart else 1)
    assert (result.counters["fragment_inconsistent"] > 0) is not apart


def test_samples_end_with_the_datagram(tmp_path: Path) -> None:
    """What a frame has behind it, padding or a trailer, is none, though it looks like one; nor is a part of one."""
    frame = inner_frames()[0]
    other = UdpExchange(("10.1.0.3", 5000), ("10.1.0.4", 5001), start_ns=frame.ts_ns)
    other.to_server(b"x" * 64)
    whole = over_udp(6343, sflow(flow_sample(raw_header(frame.data))), frame.ts_ns)
    behind = flow_sample(raw_header(other.frames[0].data))
    write_pcap(tmp_path / "x.pcap", [Frame(whole.ts_ns, whole.data + behind)])
    found = connections(tmp_path / "x.pcap", "sflow")
    assert {c.five_tuple.orig for c in found} == {INNER_CLIENT, (OUTER_A, 50000)}
    # The datagram's end stands in the middle of a sample's packet: the packet ends there.
    data = flow_sample(raw_header(other.frames[0].data))
    cut = over_udp(6343, sflow(data)[:-40], frame.ts_ns)
    write_pcap(tmp_path / "y.pcap", [Frame(cut.ts_ns, cut.data + data[-40:])])
    seen: list[int] = []
    rj.run([Subscription("udp.dst_port = 5001", (rj.ZcFrame,), lambda f: seen.append(f.caplen))], tmp_path / "y.pcap", config=RuntimeConfig(decap=("sflow",)))
    assert seen == [len(other.frames[0].data) + 2 - 40]  # two of padding


def test_a_tunnel_to_the_port_of_samples_is_what_it_is(tmp_path: Path) -> None:
    inside = UdpExchange(("2001:db8::1", 5000), ("2001:db8::2", 5001), start_ns=1_700_000_000_000_000_000)
    inside.to_server(b"x" * 20)
    teredo = over_udp(6343, inside.frames[0].data[14:], inside.frames[0].ts_ns, src_port=3544)
    write_pcap(tmp_path / "x.pcap", [teredo])
    seen: dict[tuple[str, int], str | None] = {}

    def note(tunnel: rj.Tunnel, ends: rj.FiveTuple) -> None:
        seen[ends.orig] = tunnel.kind

    rj.run([Subscription("", (rj.Tunnel, rj.FiveTuple), note)], tmp_path / "x.pcap", config=RuntimeConfig(decap=("all",)))
    assert seen == {("2001:db8::1", 5000): "teredo", (OUTER_A, 3544): ""}
