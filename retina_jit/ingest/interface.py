"""Capturing from a network interface through AF_PACKET: a ring of blocks that the kernel fills (TPACKET_V3). Linux only.

Source: Documentation/networking/packet_mmap.rst of Linux, and `linux/if_packet.h`. Frames stay where the kernel put them
until their block is given back, so a burst never reaches over a block's end.
"""

from __future__ import annotations

import difflib
import errno
import logging
import mmap
import socket
import struct
import threading
from collections.abc import Sequence
from types import TracebackType
from typing import Any

import numpy as np

from retina_jit import memory, objects
from retina_jit.errors import SourceError
from retina_jit.ingest.bpf import Instruction
from retina_jit.ingest.layout import RING, SOURCE
from retina_jit.ingest.packet_socket import SOL_PACKET, RingSettings, device_counters
from retina_jit.ingest.refill import POLLIN, WAIT_MS, poll
from retina_jit.ingest.socket_filter import for_socket, packed
from retina_jit.ingest.stamps import Stamping
from retina_jit.ingest.walked import Walked
from retina_jit.jit import entry
from retina_jit.memory import atomic_load, atomic_store, load32, prefetch_read, shift_right, store16_be
from retina_jit.parsers.packet.link import EN10MB, RAW
from retina_jit.parsers.wire import u16_le, u32_le
from retina_jit.state.layout import PACKET
from retina_jit.status import Status

PREFIX = "af_packet:"
"""What a source's name begins with to be an interface: `af_packet:eth0`."""

BLOCK = 1 << 20
RETIRE_MS = 10
"""A block that is not full is handed over after so long."""

STAMPS = np.dtype(
    [
        ("offset", "i8"),  # to be added to times of the card's own clock [ns]
        ("hardware", "i8"),  # frames that had one
    ]
)
"""Stands behind the RING."""

SOURCE_AT, RING_AT, STAMPS_AT, ROW_AT = memory.at(SOURCE), memory.at(RING), memory.at(STAMPS), memory.at(PACKET)
ROW_LEN, RING_LEN = PACKET.itemsize, RING.itemsize
NEED_INPUT = int(Status.NEED_INPUT)
RING_POLL = int(RING.fields["poll"][1])  # type: ignore[index]

# struct tpacket_block_desc: status and number of packets are one word, 1 in its low half says that the block is ours.
BLOCK_STATUS, FIRST_PACKET, OURS = 8, 16, 1

# struct tpacket3_hdr
NEXT, SECONDS, NANOSECONDS, CAPTURED, LENGTH, STATUS, MAC, TCI, TPID = 0, 4, 8, 12, 16, 20, 24, 32, 36
VLAN_VALID, TPID_VALID = 1 << 4, 1 << 6
TS_RAW_HARDWARE = 1 << 31
TAG = 4


@entry
def walk(source, rows, most):
    """Fill up to `most` rows with the next frames of the block at hand. Returns how many; if none, `status` is NEED_INPUT."""
    s = SOURCE_AT(source)
    r = RING_AT(s.device)
    clock = STAMPS_AT(s.device + RING_LEN)
    at, left, n, hardware = r.at, r.left, 0, 0
    wire, captured, number_before = s.bytes, s.captured, s.number
    while n < most and left > 0:
        span = (at, r.held + BLOCK - at)
        step = u32_le(span, NEXT)
        prefetch_read(at + step)
        prefetch_read(at + step + 64)
        status = u32_le(span, STATUS)
        frame, caplen, length = at + u16_le(span, MAC), u32_le(span, CAPTURED), u32_le(span, LENGTH)
        if status & VLAN_VALID and caplen >= 12:
            # The kernel takes the tag out of the frame; room for it was reserved in front.
            memory.move(frame - TAG, frame, 12)
            frame -= TAG
            store16_be(frame + 12, u16_le(span, TPID) if status & TPID_VALID else 0x8100)
            store16_be(frame + 14, u32_le(span, TCI) & 0xFFFF)
            caplen += TAG
            length += TAG
        row = ROW_AT(rows + n * ROW_LEN)
        n += 1
        ts = u32_le(span, SECONDS) * 1_000_000_000 + u32_le(span, NANOSECONDS)
        if status & TS_RAW_HARDWARE:
            ts += clock.offset
            hardware += 1
        row.frame = frame
        row.ts = ts
        row.caplen = caplen
        row.length = length
        row.link = s.link
        row.number = number_before + n
        wire += length
        captured += caplen
        at += step
        left -= 1
    r.at, r.left, s.bytes, s.captured = at, left, wire, captured
    s.frames += n
    s.number += n
    clock.hardware += hardware
    if n == 0:
        s.status = NEED_INPUT
    return n


@entry
def more(source):
    """Give the walked block back and wait for the next. Returns 1, or 0 if none came for a while."""
    ring = SOURCE_AT(source).device + 0
    r = RING_AT(ring)
    if r.held:
        atomic_store(r.held + BLOCK_STATUS, 0)
        r.held = 0
        r.next = (r.next + 1) % r.blocks
    block = r.base + r.next * r.block
    word = atomic_load(block + BLOCK_STATUS)
    if not word & OURS:
        r.poll = r.fd | POLLIN << 32
        poll(ring + RING_POLL, 1, WAIT_MS)
        word = atomic_load(block + BLOCK_STATUS)
        if not word & OURS:
            return 0
    r.held = block
    r.left = shift_right(word, 32)
    r.at = block + load32(block + FIRST_PACKET)
    return 1


# ------------------------------------------------------------------------------------------------ seen by Python

ADD_MEMBERSHIP, RX_RING, STATISTICS, VERSION, RESERVE, IGNORE_OUTGOING = 1, 5, 6, 10, 12, 23
TPACKET_V3, PROMISCUOUS = 2, 1
ETH_P_ALL = 3
ARPHRD_ETHERNET, ARPHRD_LOOPBACK = 1, 772
ARPHRD_IP = {512: "PPP", 768: "IPIP", 769: "IP6IP6", 776: "SIT", 778: "IPGRE", 65534: "no header"}
ATTACH_FILTER, DETACH_FILTER = 26, 27
NOTHING_PASSES = struct.pack("HBBI", 0x06, 0, 0, 0)
"""A BPF program: return 0."""


class InterfaceSource(Walked):
    """A network interface as a source of frames, with the attributes of `CaptureSource` that a worker uses.

    Parameters
    ----------
    name : str
        The interface.
    first : int
        Number of the last frame before.
    settings : RingSettings, optional

    Raises
    ------
    SourceError
        No such interface, no permission, no Linux, or a link type that is not supported.
    """

    walk_unit = "retina_jit.ingest.interface:walk"
    unsupported, unsupported_link, size, position = 0, "", 0, 0

    def __init__(self, name: str, *, first: int = 0, settings: RingSettings | None = None) -> None:
        settings = settings or RingSettings()
        self.name = name
        self._blocks, self._hardware_times = settings.blocks, settings.hardware_times
        self._promiscuous, self._groups = settings.promiscuous, settings.groups
        self._stamping: Stamping | None = None
        self._early: list[Instruction] | None = None
        self._receives = False
        self._region = memory.Region(SOURCE.itemsize)
        self._words = self._region.array(SOURCE, 1)[0]
        self.address = self._region.address
        self._ring_home = memory.Region(RING.itemsize + STAMPS.itemsize)
        self._ring = self._ring_home.array(RING, 1)[0]
        self._stamps = self._ring_home.array(STAMPS, 1, RING.itemsize)[0]
        self._words["number"], self._words["device"] = first, self._ring_home.address
        self._words["more"] = objects.address(f"{__name__}:more")
        self._map: mmap.mmap | None = None
        self._dropped = 0
        self._asking = threading.Lock()
        self._before: dict[str, int] = {}
        self.problem = ""
        self.outages = 0
        if not hasattr(socket, "AF_PACKET"):
            raise SourceError(f"{name}: capturing from an interface needs Linux; here pipe a capture in: tcpdump -i {name} -w - | retina-jit ... -r -")
        try:
            # Protocol 0: nothing is received before `give_to`.
            self._socket = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
        except PermissionError as error:
            raise SourceError(
                f"{name}: capturing needs the capability CAP_NET_RAW: run as root, or once: sudo setcap cap_net_raw+ep $(readlink -f $(which python3)); "
                f"interfaces of a namespace of your own need neither: unshare --map-root-user --net"
            ) from error
        except OSError as error:
            raise SourceError(f"{name}: this system has no packet sockets ({error.strerror})") from error
        try:
            self._open()
        except BaseException:
            self.close()
            raise

    def _open(self) -> None:
        names = [n for _, n in socket.if_nameindex()]
        if self.name not in names:
            near = difflib.get_close_matches(self.name, names, 1)
            hint = f" Did you mean {near[0]}?" if near else ""
            raise SourceError(f"{self.name}: no such interface.{hint} There are: {', '.join(names)}")
        kind = self._hardware()
        if kind in (ARPHRD_ETHERNET, ARPHRD_LOOPBACK):
            self._words["link"] = EN10MB
        elif kind in ARPHRD_IP:
            self._words["link"] = RAW
        else:
            raise SourceError(f"{self.name}: interfaces of hardware type {kind} are not supported: Ethernet, loopback and IP tunnels are")
        s = self._socket
        s.setsockopt(SOL_PACKET, VERSION, TPACKET_V3)
        s.setsockopt(SOL_PACKET, RESERVE, TAG)
        if kind == ARPHRD_LOOPBACK:
            # There each packet is seen going out and coming in.
            s.setsockopt(SOL_PACKET, IGNORE_OUTGOING, 1)
        try:
            self._map = self._new_ring()
        except OSError as fault:
            fix = "Fix: a smaller ring in [interface], fewer workers, or more memory"
            raise SourceError(f"{self.name}: no room for a ring of {self._blocks} MiB ({fault.strerror}). {fix}") from fault
        base = np.frombuffer(self._map, np.uint8)
        ring = self._ring
        ring["base"], ring["blocks"], ring["block"], ring["fd"] = base.ctypes.data, self._blocks, BLOCK, s.fileno()
        del base

    def _new_ring(self) -> mmap.mmap:
        frame = 1 << 11
        self._socket.setsockopt(SOL_PACKET, RX_RING, struct.pack("7I", BLOCK, self._blocks, frame, BLOCK * self._blocks // frame, RETIRE_MS, 0, 0))
        return mmap.mmap(self._socket.fileno(), BLOCK * self._blocks, flags=mmap.MAP_SHARED)

    def _hardware(self) -> int:
        """ARPHRD number of the interface."""
        import fcntl

        request = fcntl.ioctl(self._socket.fileno(), 0x8927, struct.pack("16s24x", self.name.encode()))  # SIOCGIFHWADDR
        return int(struct.unpack_from("H", request, 16)[0])

    def give_to(self, worker: int, workers: int) -> int:
        """Begin to receive, for one of some workers; the kernel shares the packets out by connection. Returns 1: what comes is all the worker's."""
        self._before = device_counters(self.name)
        s = self._socket
        self._attach(NOTHING_PASSES)
        if self._hardware_times:
            self._stamping = Stamping(s, self.name)
            self._stamps["offset"] = self._stamping.offset
        s.bind((self.name, ETH_P_ALL))
        if workers > 1:
            self._groups.join(s, self.name)
        if self._promiscuous:
            index = socket.if_nametoindex(self.name)
            s.setsockopt(SOL_PACKET, ADD_MEMBERSHIP, struct.pack("iHH8s", index, PROMISCUOUS, 0, b""))
        self._receives = True
        if self._early is None or not self._attach(packed(self._early)):
            s.setsockopt(socket.SOL_SOCKET, DETACH_FILTER, 0)
        return 1

    def _attach(self, program: bytes) -> bool:
        """Let a BPF program judge what the socket gets, in place of the one before. Returns whether the system takes it."""
        home = np.frombuffer(program, np.uint8).copy()
        try:
            self._socket.setsockopt(socket.SOL_SOCKET, ATTACH_FILTER, struct.pack("HxxxxxxP", len(home) // 8, home.ctypes.data))
        except OSError as fault:
            logging.getLogger(__name__).info("%s: the system does not take the expression of -F (%s): it is for the workers alone", self.name, fault.strerror)
            return False
        return True

    def refuse_early(self, program: Sequence[Instruction]) -> None:
        """Let the system keep what a program refuses out of the ring, but for a byte of each; the program judges again."""
        self._early = for_socket(program)
        if self._receives and self._early is not None:
            self._attach(packed(self._early))

    @property
    def is_live(self) -> bool:
        """Time goes on while nothing comes."""
        return True

    def refill(self, timeout: float | None = None) -> bool:
        """Nothing came for a while. False if nothing will: the interface is gone."""
        fault = self._socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if fault in (errno.ENODEV, errno.ENXIO) or self.name not in (n for _, n in socket.if_nameindex()):
            self.problem = f"{self.name}: the interface is gone; {self.frames} frames before that were read"
            return False
        if fault == errno.ENETDOWN:
            self.outages += 1
            logging.getLogger(__name__).warning("%s: the interface is down; waiting until it is up again", self.name)
        self._tell_of_times()
        return True

    def _tell_of_times(self) -> None:
        """Say once that a card that promised times gives none."""
        if self._stamping is not None and self._stamping.works and self.frames and not self._stamps["hardware"]:
            self._stamping.works = False
            logging.getLogger(__name__).warning("%s: times are the system's, for the interface gives none of its own, though it said so", self.name)

    @property
    def dropped(self) -> int:
        """Frames that the ring had no room for; may be asked by any thread."""
        with self._asking:
            if self._socket.fileno() >= 0:
                _, drops, _ = struct.unpack("3I", self._socket.getsockopt(SOL_PACKET, STATISTICS, 12))  # reading sets it to 0
                self._dropped += drops
            return self._dropped

    def port_stats(self) -> dict[str, dict[str, int]]:
        """Return the device's counters since the beginning, under DPDK's names of extended statistics; may be asked by any thread."""
        found = {k: max(v - self._before.get(k, 0), 0) for k, v in device_counters(self.name).items()}
        if not found:
            return {}
        hardware = found["drop"] + found["fifo"]
        device = {
            "rx_good_packets": found["packets"],
            "rx_good_bytes": found["bytes"],
            "rx_missed_errors": self.dropped,
            "rx_errors": found["errs"],
            "rx_phy_packets": found["packets"] + hardware,
            # The card's own has the check sequence in it, the kernel's has not.
            "rx_phy_bytes": found["bytes"] + 4 * found["packets"],
            "rx_phy_discard_packets": hardware,
            "link_down": self.outages,
            "rx_hardware_timestamps": int(self._stamps["hardware"]),
        }
        return {self.name: device}

    def close(self) -> None:
        """Stop receiving. Frames of the last walk must not be read any more."""
        if self._stamping is not None:
            self._tell_of_times()
            self._stamping.end()
            self._stamping = None
        if self._map is not None:
            self._map.close()
            self._map = None
        with self._asking:
            self._socket.close()

    def __enter__(self) -> InterfaceSource:
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<InterfaceSource {self.name}: {self.frames} frames>"


__all__ = ["PREFIX", "InterfaceSource"]


def numpy_ring(source: InterfaceSource) -> Any:
    """Return the RING record (tests and tools)."""
    return source._ring
