"""Times of a card's own clock for frames of an interface: asked for, and the card left as it was.

Source: Documentation/networking/timestamping.rst of Linux, `linux/net_tstamp.h`, `linux/ethtool.h`.
"""

from __future__ import annotations

import contextlib
import ctypes
import logging
import os
import socket
import struct
import threading
import time
from dataclasses import dataclass

log = logging.getLogger(__name__)

SOL_PACKET, PACKET_TIMESTAMP = 263, 17
RAW_HARDWARE = 1 << 6
"""SOF_TIMESTAMPING_RAW_HARDWARE."""
SIOCETHTOOL, SIOCSHWTSTAMP, SIOCGHWTSTAMP = 0x8946, 0x89B0, 0x89B1
GET_TS_INFO = 0x41
NONE, ALL = 0, 1
"""HWTSTAMP_FILTER_...: which received frames get a time."""
APART = 1.0
"""A card's clock that is further off the system's is not kept by anybody [s]."""


@dataclass(frozen=True)
class Setting:
    """struct hwtstamp_config."""

    flags: int = 0
    sent: int = 0
    received: int = NONE


def _exchange(s: socket.socket, name: str, request: int, content: bytes) -> bytes:
    """Ask the system about an interface; returns what it made of the content."""
    import fcntl

    buffer = ctypes.create_string_buffer(content, len(content))
    fcntl.ioctl(s.fileno(), request, struct.pack("16sP16x", name.encode(), ctypes.addressof(buffer)))
    return buffer.raw


def setting(s: socket.socket, name: str) -> Setting:
    """Return what an interface does now.

    Raises
    ------
    OSError
        It has no clock.
    """
    return Setting(*struct.unpack("3i", _exchange(s, name, SIOCGHWTSTAMP, bytes(12))))


def change(s: socket.socket, name: str, wanted: Setting) -> Setting:
    """Set what an interface does. Returns what it has made of it: more, maybe.

    Raises
    ------
    OSError
        It cannot, or we may not.
    """
    return Setting(*struct.unpack("3i", _exchange(s, name, SIOCSHWTSTAMP, struct.pack("3i", wanted.flags, wanted.sent, wanted.received))))


def clock_of(s: socket.socket, name: str) -> str:
    """Return the file of an interface's own clock that stamps received frames; empty if it has none."""
    try:
        kinds, number = struct.unpack_from("Ii", _exchange(s, name, SIOCETHTOOL, struct.pack("I", GET_TS_INFO) + bytes(40)), 4)
    except OSError:
        return ""
    return f"/dev/ptp{number}" if number >= 0 and kinds & RAW_HARDWARE else ""


def clock_offset(s: socket.socket, name: str) -> int:
    """Return what to add to a card's times so that they are the system's [ns]: 0 if somebody keeps its clock, or it cannot be asked."""
    file = clock_of(s, name)
    try:
        clock = os.open(file, os.O_RDONLY)
    except OSError:
        return 0
    try:
        # FD_TO_CLOCKID of linux/posix-timers.h
        apart = time.time_ns() - time.clock_gettime_ns(~clock << 3 | 3)
    except OSError:
        return 0
    finally:
        os.close(clock)
    return apart if abs(apart) > APART * 1e9 else 0


class _Cards:
    """The interfaces whose cards stamp for us, and how they were before: several workers share one."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._users: dict[str, int] = {}
        self._before: dict[str, Setting] = {}
        self._reasons: dict[str, str] = {}

    def begin(self, s: socket.socket, name: str) -> bool:
        """Let the card stamp all that it receives. Returns whether it does; if not, the first one is told why."""
        with self._lock:
            if self._users.get(name, 0) == 0:
                self._reasons[name] = self._switch_on(s, name)
            self._users[name] = self._users.get(name, 0) + 1
            return not self._reasons[name]

    def _switch_on(self, s: socket.socket, name: str) -> str:
        before = Setting()
        with contextlib.suppress(OSError):
            before = setting(s, name)
        reason = ""
        if before.received != ALL:
            try:
                if change(s, name, Setting(before.flags, before.sent, ALL)).received == ALL:
                    self._before[name] = before
                else:
                    change(s, name, before)
                    reason = "its clock is for some frames only"
            except OSError as fault:
                may = ". Fix: the capability CAP_NET_ADMIN, as root has" if isinstance(fault, PermissionError) else ""
                reason = f"{fault.strerror}{may}"
        if reason:
            log.warning("%s: times are the system's, for the interface gives none of its own (%s)", name, reason)
        else:
            log.info("%s: times are those of the interface's own clock", name)
        return reason

    def end(self, s: socket.socket, name: str) -> None:
        """Leave the card as it was, when the last one ends."""
        with self._lock:
            self._users[name] -= 1
            if self._users[name]:
                return
            before = self._before.pop(name, None)
            if before is None:
                return
            try:
                change(s, name, before)
            except PermissionError:
                log.warning(
                    "%s: its clock goes on stamping, for the right to switch it off was given up. Fix: sudo hwstamp_ctl -i %s -t %d -r %d",
                    name, name, before.sent, before.received,
                )  # fmt: skip
            except OSError as fault:
                log.info("%s: its clock could not be left as it was: %s", name, fault.strerror)


cards = _Cards()


class Stamping:
    """A card's times for one socket.

    Parameters
    ----------
    s : socket
        A packet socket.
    name : str
        The interface.

    Attributes
    ----------
    works : bool
        Whether the card stamps; else frames have the system's times.
    offset : int
        What to add to the card's times [ns].
    """

    def __init__(self, s: socket.socket, name: str) -> None:
        self._name = name
        # What is given back is asked for on a socket of its own, for the other one is closed by then.
        self._asking = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._ended = False
        self.works = cards.begin(self._asking, name)
        self.offset = 0
        if self.works:
            try:
                s.setsockopt(SOL_PACKET, PACKET_TIMESTAMP, struct.pack("i", RAW_HARDWARE))
            except BaseException:
                self.end()
                raise
            self.offset = clock_offset(self._asking, name)
            if self.offset:
                log.warning("%s: its clock is %.0f s off the system's, and is shifted by that. Fix: phc2sys -s CLOCK_REALTIME -c %s -O 0", name, self.offset / 1e9, name)

    def end(self) -> None:
        """Leave the card as it was."""
        if not self._ended:
            self._ended = True
            cards.end(self._asking, self._name)
            self._asking.close()
