"""What packet sockets are asked for, beside their rings; and what the system counts of an interface. Linux only."""

from __future__ import annotations

import socket
import struct
import threading
from dataclasses import dataclass, field
from pathlib import Path

SOL_PACKET, FANOUT = 263, 18
FANOUT_HASH, FANOUT_DEFRAG, FANOUT_UNIQUE = 0, 0x8000, 0x2000


class Groups:
    """Numbers of the groups of sockets among which the system shares an interface's packets."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._numbers: dict[str, int] = {}

    def join(self, s: socket.socket, name: str) -> None:
        """Put a socket that receives already into the group of its interface; the first one asks for a number that nobody has."""
        kind = FANOUT_HASH | FANOUT_DEFRAG
        with self._lock:
            if name in self._numbers:
                s.setsockopt(SOL_PACKET, FANOUT, struct.pack("I", self._numbers[name] | kind << 16))
                return
            s.setsockopt(SOL_PACKET, FANOUT, struct.pack("I", (kind | FANOUT_UNIQUE) << 16))
            self._numbers[name] = struct.unpack("I", s.getsockopt(SOL_PACKET, FANOUT, 4))[0] & 0xFFFF


@dataclass(frozen=True)
class RingSettings:
    """What does not depend on the interface.

    Attributes
    ----------
    blocks : int
        Of the ring, 1 MiB each.
    hardware_times : bool
        Whether frames shall have the times of the card's own clock, if it gives any.
    promiscuous : bool
        Whether the card shall also receive what is addressed to others.
    groups : Groups
        Those of the run: its workers share the packets of an interface with each other, and with nobody else.
    """

    blocks: int = 64
    hardware_times: bool = False
    promiscuous: bool = True
    groups: Groups = field(default_factory=Groups)


def device_counters(name: str) -> dict[str, int]:
    """Return what the kernel counts of an interface's receiving: bytes, packets, errs, drop, fifo. Empty if it is gone."""
    try:
        # Not /sys/class/net: that may be another network namespace's.
        lines = Path("/proc/self/net/dev").read_text().splitlines()
    except OSError:
        return {}
    for line in lines[2:]:
        device, _, counters = line.partition(":")
        if device.strip() == name:
            return dict(zip(("bytes", "packets", "errs", "drop", "fifo"), map(int, counters.split()), strict=False))
    return {}
