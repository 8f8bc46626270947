"""Blocks of an interface's ring as the system writes them, and times of a card's own clock: without an interface."""

from __future__ import annotations

import ctypes
import fcntl
import logging
import socket
import struct
from typing import Any

import numpy as np
import pytest

from retina_jit import memory, objects
from retina_jit.errors import SourceError
from retina_jit.ingest import interface, stamps
from retina_jit.ingest.interface import InterfaceSource
from retina_jit.ingest.layout import RING, SOURCE
from retina_jit.ingest.packet_socket import RingSettings
from retina_jit.ingest.stamps import ALL, SIOCGHWTSTAMP, SIOCSHWTSTAMP, Setting, Stamping
from retina_jit.state.layout import PACKET

SOFTWARE, HARDWARE, TAG_THERE, TAG_TYPE = 1 << 29, 1 << 31, 1 << 4, 1 << 6
SECOND = 1_000_000_000


def block(frames: list[tuple[int, int, int, bytes]]) -> bytes:
    """What a block has of frames of (time [ns], status, tag, bytes): a `struct tpacket3_hdr` each, and room for a tag."""
    made = b""
    for at, status, tag, data in frames:
        size = -(-(100 + len(data)) // 16) * 16
        head = struct.pack("<6I", size, at // SECOND, at % SECOND, len(data), len(data), status)
        head += struct.pack("<HHIIHH", 100, 114, 0, tag, 0x8100, 0)
        made += (head.ljust(100, b"\0") + data).ljust(size, b"\0")
    return made


def walked(frames: list[tuple[int, int, int, bytes]], offset: int = 0) -> tuple[list[tuple[int, bytes]], int]:
    """Times and bytes of the rows that the walker makes of a block, and how many had a time of the card."""
    home, source, device, rows = (memory.Region(n) for n in (interface.BLOCK, SOURCE.itemsize, RING.itemsize + interface.STAMPS.itemsize, 64 * PACKET.itemsize))
    content = block(frames)
    home.array(np.uint8, len(content))[:] = np.frombuffer(content, np.uint8)
    ring, clock = device.array(RING, 1)[0], device.array(interface.STAMPS, 1, RING.itemsize)[0]
    ring["held"], ring["at"], ring["left"], clock["offset"] = home.address, home.address, len(frames), offset
    source.array(SOURCE, 1)["device"] = device.address
    n = objects.function("retina_jit.ingest.interface:walk")(source.address, rows.address, 64)
    found = rows.array(PACKET, n)
    return [(int(r["ts"]), ctypes.string_at(int(r["frame"]), int(r["caplen"]))) for r in found], int(clock["hardware"])


def test_the_status_says_which_clock_a_time_is_of() -> None:
    data, tagged = bytes(range(60)), bytes(range(12)) + b"\x81\0\0\x07" + bytes(range(12, 60))
    frames = [
        (1_700_000_000 * SECOND + 5, SOFTWARE, 0, data),
        (1_000 * SECOND + 7, HARDWARE, 0, data),
        (1_001 * SECOND, HARDWARE | TAG_THERE | TAG_TYPE, 7, data),
        (1_700_000_001 * SECOND, 0, 0, data),
    ]
    rows, hardware = walked(frames, offset=1_699_999_000 * SECOND)
    assert hardware == 2
    assert rows == [
        (1_700_000_000 * SECOND + 5, data),
        (1_700_000_000 * SECOND + 7, data),
        (1_700_000_001 * SECOND, tagged),
        (1_700_000_001 * SECOND, data),
    ]


def write(address: int, content: bytes) -> None:
    ctypes.memmove(address, content, len(content))


class Card:
    """What an interface's driver answers."""

    def __init__(self, *, can: int = ALL, now: Setting = Setting(), fault: OSError | None = None) -> None:  # noqa: B008
        self.can, self.now, self.fault = can, now, fault
        self.set: list[Setting] = []

    def ioctl(self, _: int, request: int, content: bytes) -> bytes:
        name, address = struct.unpack("16sP16x", content)
        assert name.rstrip(b"\0") == b"eth9"
        if request == SIOCGHWTSTAMP:
            write(address, struct.pack("3i", *vars(self.now).values()))
        elif request == SIOCSHWTSTAMP:
            if self.fault is not None:
                raise self.fault
            flags, sent, received = struct.unpack("3i", ctypes.string_at(address, 12))
            self.now = Setting(flags, sent, min(received, self.can) if received == ALL else received)
            self.set.append(self.now)
            write(address, struct.pack("3i", *vars(self.now).values()))
        else:
            raise OSError(95, "Operation not supported")
        return content


@pytest.fixture
def sock() -> Any:
    class Quiet:
        asked: list[Any]

        def __init__(self) -> None:
            self.asked = []

        def setsockopt(self, *what: Any) -> None:
            self.asked.append(what)

    return Quiet()


def test_a_card_stamps_for_all_workers_and_is_left_as_it_was(monkeypatch: pytest.MonkeyPatch, sock: Any) -> None:
    card = Card(now=Setting(0, 1, 0))
    monkeypatch.setattr(fcntl, "ioctl", card.ioctl)
    first, second = Stamping(sock, "eth9"), Stamping(sock, "eth9")
    assert (first.works, second.works, first.offset) == (True, True, 0)
    assert sock.asked == [(263, 17, struct.pack("i", 1 << 6))] * 2
    assert card.set == [Setting(0, 1, ALL)]
    first.end()
    first.end()
    assert card.now == Setting(0, 1, ALL)
    second.end()
    assert card.set == [Setting(0, 1, ALL), Setting(0, 1, 0)]


def test_a_card_that_stamps_already_is_left_alone(monkeypatch: pytest.MonkeyPatch, sock: Any) -> None:
    card = Card(now=Setting(0, 0, ALL), fault=PermissionError(1, "Operation not permitted"))
    monkeypatch.setattr(fcntl, "ioctl", card.ioctl)
    stamping = Stamping(sock, "eth9")
    assert stamping.works
    stamping.end()
    assert card.set == []


@pytest.mark.parametrize(
    ("card", "reason"),
    [
        (Card(fault=OSError(95, "Operation not supported")), "Operation not supported"),
        (Card(fault=PermissionError(1, "Operation not permitted")), "CAP_NET_ADMIN"),
        (Card(can=0, now=Setting(0, 0, 0)), "for some frames only"),
    ],
)
def test_without_a_clock_times_are_the_system_s_and_that_is_told_once(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, sock: Any, card: Card, reason: str
) -> None:
    before = card.now
    monkeypatch.setattr(fcntl, "ioctl", card.ioctl)
    with caplog.at_level(logging.INFO):
        both = [Stamping(sock, "eth9") for _ in range(2)]
        assert not any(s.works for s in both) and sock.asked == []
        for s in both:
            s.end()
    (line,) = caplog.messages
    assert line.startswith("eth9: times are the system's") and reason in line
    assert card.now == before


def test_rights_that_are_gone_at_the_end_are_told(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, sock: Any) -> None:
    card = Card()
    monkeypatch.setattr(fcntl, "ioctl", card.ioctl)
    stamping = Stamping(sock, "eth9")
    card.fault = PermissionError(1, "Operation not permitted")
    stamping.end()
    assert "hwstamp_ctl -i eth9 -t 0 -r 0" in caplog.text


def test_a_clock_that_nobody_keeps_is_shifted(monkeypatch: pytest.MonkeyPatch) -> None:
    def ioctl(_: int, request: int, content: bytes) -> bytes:
        assert request == stamps.SIOCETHTOOL
        write(struct.unpack("16sP16x", content)[1], struct.pack("IIi", stamps.GET_TS_INFO, stamps.RAW_HARDWARE, 3))
        return content

    opened: list[str] = []
    monkeypatch.setattr(fcntl, "ioctl", ioctl)
    monkeypatch.setattr(stamps.os, "open", lambda path, _: opened.append(path) or 77)
    monkeypatch.setattr(stamps.os, "close", lambda _: None)
    monkeypatch.setattr(stamps.time, "time_ns", lambda: 1_700_000_000 * SECOND)
    shown = {"clock": 12 * SECOND}
    monkeypatch.setattr(stamps.time, "clock_gettime_ns", lambda _: shown["clock"])
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
        assert stamps.clock_offset(s, "eth9") == (1_700_000_000 - 12) * SECOND
        shown["clock"] = 1_700_000_000 * SECOND - 1000
        assert stamps.clock_offset(s, "eth9") == 0, "kept by somebody, to a microsecond"
    assert opened == ["/dev/ptp3"] * 2


def test_a_ring_that_there_is_no_memory_for_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    class Quiet:
        def __init__(self, *_: Any) -> None: ...

        def setsockopt(self, _: int, what: int, __: Any) -> None:
            if what == interface.RX_RING:
                raise OSError(12, "Cannot allocate memory")

        def close(self) -> None: ...

    monkeypatch.setattr(socket, "socket", Quiet)
    monkeypatch.setattr(socket, "if_nameindex", lambda: [(1, "eth9")])
    monkeypatch.setattr(InterfaceSource, "_hardware", lambda _: interface.ARPHRD_ETHERNET)
    with pytest.raises(SourceError, match=r"eth9: no room for a ring of 99 MiB \(Cannot allocate memory\)\. Fix: a smaller ring in \[interface\]"):
        InterfaceSource("eth9", settings=RingSettings(99))


def test_a_socket_that_takes_no_times_leaves_the_card_as_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    class Old:
        def setsockopt(self, *_: Any) -> None:
            raise OSError(92, "Protocol not available")

    card = Card(now=Setting(0, 1, 0))
    monkeypatch.setattr(fcntl, "ioctl", card.ioctl)
    with pytest.raises(OSError, match="Protocol not available"):
        Stamping(Old(), "eth9")  # type: ignore[arg-type]
    assert card.now == Setting(0, 1, 0)
