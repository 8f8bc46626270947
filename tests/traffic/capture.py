"""Capture files from frames: pcap and pcapng in every byte order, clock resolution and link type.

Written from draft-ietf-opsawg-pcap and draft-ietf-opsawg-pcapng.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from traffic.packets import Frame, LinkType

MAGIC_US = 0xA1B2C3D4
MAGIC_NS = 0xA1B23C4D
BYTE_ORDER_MAGIC = 0x1A2B3C4D

BLOCK_SECTION = 0x0A0D0D0A
BLOCK_INTERFACE = 1
BLOCK_PACKET = 2  # obsolete, still written by old tools
BLOCK_SIMPLE_PACKET = 3
BLOCK_INTERFACE_STATISTICS = 5
BLOCK_ENHANCED_PACKET = 6

OPTION_COMMENT = 1
OPTION_IF_NAME = 2
OPTION_IF_TSRESOL = 9
OPTION_IF_TSOFFSET = 14

SNAPLEN = 262144  # what tcpdump writes


def pcap_bytes(
    frames: Iterable[Frame],
    *,
    link_type: int = LinkType.ETHERNET,
    nanoseconds: bool = False,
    big_endian: bool = False,
    snaplen: int = SNAPLEN,
) -> bytes:
    """Return a pcap file.

    Parameters
    ----------
    frames : iterable of Frame
        Written in the order given. Without `nanoseconds` times are cut to µs.
    link_type : int
        Must fit the `Link` that the frames were made with.
    big_endian : bool
        Byte order of the file's headers.
    snaplen : int [byte]
        Written into the header, and frames are cut to it.
    """
    order = ">" if big_endian else "<"
    unit = 1 if nanoseconds else 1000
    magic = MAGIC_NS if nanoseconds else MAGIC_US
    out = [struct.pack(order + "IHHiIII", magic, 2, 4, 0, 0, snaplen, link_type)]
    for frame in frames:
        seconds, ns = divmod(frame.ts_ns, 10**9)
        data = frame.data[:snaplen]
        out.append(struct.pack(order + "IIII", seconds, ns // unit, len(data), frame.length))
        out.append(data)
    return b"".join(out)


@dataclass(frozen=True, slots=True)
class Interface:
    """An interface of a pcapng section.

    Parameters
    ----------
    link_type : int
    tsresol : int or None
        Raw value of `if_tsresol`: 6 is µs, 9 is ns, 0x80 | n is 2^-n s. None leaves the option out, which means µs.
    tsoffset : int [s]
        `if_tsoffset`; times in the packets are written smaller by it.
    name : str
    snaplen : int [byte]
        0 means no limit.
    """

    link_type: int = LinkType.ETHERNET
    tsresol: int | None = 9
    tsoffset: int = 0
    name: str = ""
    snaplen: int = 0

    def ticks(self, ts_ns: int) -> int:
        """Time in units of this interface."""
        ns = ts_ns - self.tsoffset * 10**9
        resolution = 6 if self.tsresol is None else self.tsresol
        per_second = 1 << (resolution & 0x7F) if resolution & 0x80 else 10**resolution
        return ns * per_second // 10**9


class PcapngWriter:
    """Builds a pcapng file block by block.

    Parameters
    ----------
    big_endian : bool
        Byte order of the section that follows; `section()` begins another one.
    """

    def __init__(self, *, big_endian: bool = False) -> None:
        self._out: list[bytes] = []
        self._interfaces: list[Interface] = []
        self._order = "<"
        self.section(big_endian=big_endian)

    def section(self, *, big_endian: bool = False, comment: str = "") -> None:
        """Begin a section (SHB); its interfaces are numbered from 0 again."""
        self._order = ">" if big_endian else "<"
        self._interfaces = []
        options = [(OPTION_COMMENT, comment.encode())] if comment else []
        self.block(BLOCK_SECTION, self._pack("IHHq", BYTE_ORDER_MAGIC, 1, 0, -1), options)

    def interface(self, interface: Interface | None = None) -> int:
        """Declare an interface (IDB) and return its number."""
        interface = interface or Interface()
        options: list[tuple[int, bytes]] = []
        if interface.name:
            options.append((OPTION_IF_NAME, interface.name.encode()))
        if interface.tsresol is not None:
            options.append((OPTION_IF_TSRESOL, bytes([interface.tsresol])))
        if interface.tsoffset:
            options.append((OPTION_IF_TSOFFSET, self._pack("q", interface.tsoffset)))
        self.block(BLOCK_INTERFACE, self._pack("HHI", interface.link_type, 0, interface.snaplen), options)
        self._interfaces.append(interface)
        return len(self._interfaces) - 1

    def packet(self, frame: Frame, interface: int = 0, *, comment: str = "") -> None:
        """Add a frame (EPB)."""
        ticks = self._interfaces[interface].ticks(frame.ts_ns)
        head = self._pack("IIIII", interface, ticks >> 32, ticks & 0xFFFFFFFF, frame.caplen, frame.length)
        options = [(OPTION_COMMENT, comment.encode())] if comment else []
        self.block(BLOCK_ENHANCED_PACKET, head + _padded(frame.data), options)

    def simple_packet(self, frame: Frame) -> None:
        """Add a frame without time, on interface 0 (SPB)."""
        self.block(BLOCK_SIMPLE_PACKET, self._pack("I", frame.length) + _padded(frame.data))

    def old_packet(self, frame: Frame, interface: int = 0, *, drops: int = 0xFFFF) -> None:
        """Add a frame in the obsolete packet block."""
        ticks = self._interfaces[interface].ticks(frame.ts_ns)
        head = self._pack(
            "HHIIII", interface, drops, ticks >> 32, ticks & 0xFFFFFFFF, frame.caplen, frame.length
        )
        self.block(BLOCK_PACKET, head + _padded(frame.data))

    def block(self, kind: int, body: bytes, options: Sequence[tuple[int, bytes]] = ()) -> None:
        """Add any block; `body` must be a multiple of four bytes."""
        for code, value in options:
            body += self._pack("HH", code, len(value)) + _padded(value)
        if options:
            body += self._pack("HH", 0, 0)
        length = self._pack("I", 12 + len(body))
        self._out.append(self._pack("I", kind) + length + body + length)

    def getvalue(self) -> bytes:
        """Return the file so far."""
        return b"".join(self._out)

    def _pack(self, form: str, *values: int) -> bytes:
        return struct.pack(self._order + form, *values)


def pcapng_bytes(
    frames: Iterable[Frame],
    *,
    link_type: int = LinkType.ETHERNET,
    tsresol: int | None = 9,
    tsoffset: int = 0,
    big_endian: bool = False,
) -> bytes:
    """Return a pcapng file with one section and one interface; `PcapngWriter` makes all others."""
    writer = PcapngWriter(big_endian=big_endian)
    writer.interface(Interface(link_type, tsresol, tsoffset))
    for frame in frames:
        writer.packet(frame)
    return writer.getvalue()


def write_pcap(
    path: str | Path,
    frames: Iterable[Frame],
    *,
    link_type: int = LinkType.ETHERNET,
    nanoseconds: bool = False,
    big_endian: bool = False,
    snaplen: int = SNAPLEN,
) -> Path:
    """Write what `pcap_bytes` returns, and return the path."""
    path = Path(path)
    path.write_bytes(
        pcap_bytes(
            frames, link_type=link_type, nanoseconds=nanoseconds, big_endian=big_endian, snaplen=snaplen
        )
    )
    return path


def write_pcapng(
    path: str | Path,
    frames: Iterable[Frame],
    *,
    link_type: int = LinkType.ETHERNET,
    tsresol: int | None = 9,
    tsoffset: int = 0,
    big_endian: bool = False,
) -> Path:
    """Write what `pcapng_bytes` returns, and return the path."""
    path = Path(path)
    path.write_bytes(
        pcapng_bytes(frames, link_type=link_type, tsresol=tsresol, tsoffset=tsoffset, big_endian=big_endian)
    )
    return path


def _padded(data: bytes) -> bytes:
    return data + bytes(-len(data) % 4)
