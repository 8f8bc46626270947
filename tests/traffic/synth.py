"""Conversations: bytes of an application wrapped into the packets that would have carried them.

A conversation is told in the order in which things happen; each call appends frames and moves its clock::

    talk = TcpConversation(("192.0.2.10", 40000), ("198.51.100.20", 443))
    talk.open()
    talk.to_server(client_hello)
    talk.to_client(server_flight)
    talk.close(by=SERVER)
    write_pcap("x.pcap", talk.frames)

All values are functions of the arguments (initial sequence numbers, IP identification, times), so the same calls
give the same capture. What the high-level calls cannot say (a lost, repeated, overlapping or reordered segment) is
said by `segment(...)`, or by changing the list `frames` and calling `retime`.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterable
from dataclasses import dataclass, replace
from ipaddress import ip_address

from traffic import packets
from traffic.packets import ACK, FIN, PSH, RST, SYN, Frame, Link

CLIENT = 0
SERVER = 1

DEFAULT_START_NS = 1_767_225_600 * 10**9  # 2026-01-01T00:00:00Z
MTU = 1500

Address = tuple[str, int]


@dataclass(slots=True)
class Tally:
    """Packets, frame bytes (link header included) and transport payload bytes of one direction."""

    packets: int = 0
    bytes: int = 0
    payload: int = 0


class _Conversation:
    """Two endpoints, a clock, and the frames so far."""

    protocol: int

    def __init__(
        self,
        client: Address,
        server: Address,
        *,
        start_ns: int = DEFAULT_START_NS,
        step_ns: int = 100_000,
        link: Link | None = None,
        ttl: tuple[int, int] = (64, 57),
    ) -> None:
        if ip_address(client[0]).version != ip_address(server[0]).version:
            raise ValueError(f"{client[0]} and {server[0]} are of different IP versions")
        self.ends = (client, server)
        self.is_ipv6 = ip_address(client[0]).version == 6
        self.link = link or Link()
        self.ttl = ttl
        self.now_ns = start_ns
        self.step_ns = step_ns
        self.frames: list[Frame] = []
        self.tally = (Tally(), Tally())
        self._ident = [
            zlib.crc32(repr((client, server, side)).encode()) & 0xFFFF for side in (CLIENT, SERVER)
        ]

    def wait(self, ns: int) -> None:
        """Let time pass before the next frame."""
        self.now_ns += ns

    def _addresses(self, side: int) -> tuple[str, str, int, int]:
        (src, src_port), (dst, dst_port) = self.ends[side], self.ends[1 - side]
        return src, dst, src_port, dst_port

    def _emit(self, side: int, message: bytes, payload_len: int, *, mtu: int | None = None) -> None:
        src, dst, _, _ = self._addresses(side)
        self._ident[side] = (self._ident[side] + 1) & 0xFFFF
        ident = self._ident[side]
        ethertype, packet = packets.ip(src, dst, self.protocol, message, ttl=self.ttl[side], ident=ident)
        pieces = [packet] if mtu is None or len(packet) <= mtu else packets.fragment(packet, mtu, ident=ident)
        for piece in pieces:
            frame = Frame(self.now_ns, self.link.wrap(ethertype, piece, from_server=side == SERVER))
            self.frames.append(frame)
            self.now_ns += self.step_ns
            self.tally[side].packets += 1
            self.tally[side].bytes += frame.length
        self.tally[side].payload += payload_len


class TcpConversation(_Conversation):
    """One TCP connection.

    Parameters
    ----------
    client, server : (str, int)
        Address and port; both IPv4 or both IPv6.
    start_ns : int [ns since 1970]
        Time of the first frame.
    step_ns : int [ns]
        Time from one frame to the next.
    link : Link
        Link type, VLAN tags, MAC addresses. Ethernet without tags by default.
    ttl : (int, int)
        TTL or hop limit of client and server.
    mss : int [byte]
        Largest payload of a segment; by default what fits 1500 bytes of IP.
    timestamps : bool
        Whether segments carry the timestamps option (RFC 7323).
    isn : (int, int)
        Initial sequence numbers of client and server; by default derived from the addresses.
    window : int
        The window that both sides announce all the time.

    Attributes
    ----------
    frames : list of Frame
        What was sent so far, in order of sending.
    tally : (Tally, Tally)
        Packets, frame bytes and payload bytes that client and server sent.
    next_seq : list of int
        The sequence number that client and server will send next.
    now_ns : int
        The time of the next frame.
    """

    protocol = packets.PROTO_TCP

    def __init__(
        self,
        client: Address,
        server: Address,
        *,
        start_ns: int = DEFAULT_START_NS,
        step_ns: int = 100_000,
        link: Link | None = None,
        ttl: tuple[int, int] = (64, 57),
        mss: int | None = None,
        timestamps: bool = False,
        isn: tuple[int, int] | None = None,
        window: int = 64240,
    ) -> None:
        super().__init__(client, server, start_ns=start_ns, step_ns=step_ns, link=link, ttl=ttl)
        self.timestamps = timestamps
        self.window = window
        headers = (40 if self.is_ipv6 else 20) + 20
        self.announced_mss = MTU - headers
        self.mss = mss or self.announced_mss - (12 if timestamps else 0)
        self.isn = isn or (
            zlib.crc32(repr((client, server, "client isn")).encode()),
            zlib.crc32(repr((client, server, "server isn")).encode()),
        )
        self.next_seq = list(self.isn)

    def open(self) -> None:
        """Three-way handshake."""
        self.segment(CLIENT, flags=SYN, ack=0, options=self._syn_options())
        self.segment(SERVER, flags=SYN | ACK, options=self._syn_options())
        self.segment(CLIENT)

    def to_server(self, data: bytes, *, mss: int | None = None, ack: bool = True) -> None:
        """Client sends `data` in segments of at most `mss`; the server acknowledges every second and the last."""
        self.send(CLIENT, data, mss=mss, ack=ack)

    def to_client(self, data: bytes, *, mss: int | None = None, ack: bool = True) -> None:
        """Server sends `data` in segments of at most `mss`; the client acknowledges every second and the last."""
        self.send(SERVER, data, mss=mss, ack=ack)

    def send(self, side: int, data: bytes, *, mss: int | None = None, ack: bool = True) -> None:
        """`side` sends `data`; without `ack` the other side stays silent."""
        size = mss or self.mss
        starts = range(0, len(data), size)
        for count, at in enumerate(starts, start=1):
            last = count == len(starts)
            self.segment(side, data[at : at + size], flags=ACK | (PSH if last else 0))
            if ack and (last or count % 2 == 0):
                self.segment(1 - side)

    def segment(
        self,
        side: int,
        payload: bytes = b"",
        *,
        flags: int = ACK,
        seq: int | None = None,
        ack: int | None = None,
        options: bytes | None = None,
        window: int | None = None,
        urgent: int = 0,
        checksum: int | None = None,
    ) -> None:
        """Send one segment as told.

        Without `seq` it continues what `side` has sent and `next_seq` moves on (SYN and FIN count one). With `seq`
        it stands beside the stream (a repetition, an overlap, a segment from the future) and `next_seq` stays.
        """
        src, dst, src_port, dst_port = self._addresses(side)
        in_order = seq is None
        number = self.next_seq[side] if seq is None else seq
        acknowledged = self.next_seq[1 - side] if ack is None else ack
        message = packets.tcp(
            src,
            dst,
            src_port,
            dst_port,
            payload,
            seq=number,
            ack=acknowledged,
            flags=flags,
            window=self.window if window is None else window,
            urgent=urgent,
            options=self._options(side) if options is None else options,
            checksum=checksum,
        )
        self._emit(side, message, len(payload))
        if in_order:
            step = len(payload) + bool(flags & SYN) + bool(flags & FIN)
            self.next_seq[side] = (number + step) % 2**32

    def skip(self, side: int, count: int) -> None:
        """Move `side` on by `count` bytes that the capture never sees: a hole."""
        self.next_seq[side] = (self.next_seq[side] + count) % 2**32

    def close(self, by: int = CLIENT) -> None:
        """FIN, FIN+ACK, ACK."""
        self.segment(by, flags=FIN | ACK)
        self.segment(1 - by, flags=FIN | ACK)
        self.segment(by)

    def half_close(self, by: int) -> None:
        """FIN of one side, acknowledged; the other side may go on sending."""
        self.segment(by, flags=FIN | ACK)
        self.segment(1 - by)

    def reset(self, by: int = CLIENT) -> None:
        """RST."""
        self.segment(by, flags=RST | ACK)

    def _syn_options(self) -> bytes:
        out = struct.pack("!BBH", 2, 4, self.announced_mss) + bytes.fromhex("0402")  # MSS, SACK permitted
        out += self._timestamp_option(CLIENT) if self.timestamps else bytes.fromhex("0101")
        return out + bytes.fromhex("01030307")  # NOP, window scale 7

    def _options(self, side: int) -> bytes:
        return b"\x01\x01" + self._timestamp_option(side) if self.timestamps else b""

    def _timestamp_option(self, side: int) -> bytes:
        value = self.now_ns // 10**6 % 2**32  # a clock of 1 ms, the same on both sides
        return struct.pack(
            "!BBII", 8, 10, value, 0 if self.next_seq[1 - side] == self.isn[1 - side] else value - 1
        )


class UdpExchange(_Conversation):
    """Datagrams between two UDP endpoints; parameters and attributes as in `TcpConversation`."""

    protocol = packets.PROTO_UDP

    def to_server(self, data: bytes, *, mtu: int | None = None, checksum: int | None = None) -> None:
        """Client sends one datagram, in IP fragments if it does not fit `mtu`."""
        self.datagram(CLIENT, data, mtu=mtu, checksum=checksum)

    def to_client(self, data: bytes, *, mtu: int | None = None, checksum: int | None = None) -> None:
        """Server sends one datagram, in IP fragments if it does not fit `mtu`."""
        self.datagram(SERVER, data, mtu=mtu, checksum=checksum)

    def datagram(
        self, side: int, data: bytes, *, mtu: int | None = None, checksum: int | None = None
    ) -> None:
        """Send one datagram as told; `checksum=0` means none (IPv4)."""
        src, dst, src_port, dst_port = self._addresses(side)
        message = packets.udp(src, dst, src_port, dst_port, data, checksum=checksum)
        self._emit(side, message, len(data), mtu=mtu)


def merge(*parts: Iterable[Frame]) -> list[Frame]:
    """Frames of several conversations in the order of their times (stable for equal times)."""
    return sorted((frame for part in parts for frame in part), key=lambda frame: frame.ts_ns)


def retime(
    frames: Iterable[Frame], *, start_ns: int = DEFAULT_START_NS, step_ns: int = 100_000
) -> list[Frame]:
    """Give frames, in the order in which they stand, times that increase by `step_ns`."""
    return [replace(frame, ts_ns=start_ns + at * step_ns) for at, frame in enumerate(frames)]
