"""`from_bytes`: frames that are in memory already, as a capture."""

from __future__ import annotations

import struct
from collections.abc import Iterable
from typing import Any

from retina_jit.datatypes.packets import ETHERNET, ZcFrame
from retina_jit.datatypes.scapy_packet import taken_apart
from retina_jit.errors import SourceError
from retina_jit.tables.read import Capture, read

SECOND = 10**9
SNAPLEN = 0x40000
LATEST = SECOND << 32
"""A capture has 32 bits for seconds."""


def from_bytes(frames: Iterable[Any], *, link: int = ETHERNET, **options: Any) -> Capture:
    """Return frames that are in memory as a capture, to be selected from as from what `read` returns.

    Parameters
    ----------
    frames : iterable of bytes, (time [ns since 1970], bytes), ZcFrame, or packets of scapy
        Bytes without a time come a microsecond after one another, from 1970 on.
    link : int
        LINKTYPE_ number of those that are bytes.
    **options
        As of `read`.

    Raises
    ------
    SourceError
        Something else, a time outside the years 1970 to 2106, or frames of several link types.

    Examples
    --------
    >>> rj.from_bytes([bytes(packet) for packet in made]).select("tls", "sni")
    """
    parts, links = [b""], set()
    for n, given in enumerate(frames):
        ts, data, length, kind = _frame(n, given, link)
        if not 0 <= ts < LATEST:
            raise SourceError(f"frames[{n}]: time {ts}: nanoseconds since 1970 are meant, up to 2106")
        links.add(kind)
        if len(links) > 1:
            raise SourceError(f"frames[{n}]: link type {kind} beside {min(links - {kind})}: frames of one link type at a time")
        parts += [struct.pack("<IIII", ts // SECOND, ts % SECOND, len(data), length), data]
    parts[0] = struct.pack("<IHHiIII", 0xA1B23C4D, 2, 4, 0, 0, SNAPLEN, min(links, default=link))
    return read(b"".join(parts), **options)


def _frame(n: int, given: Any, link: int) -> tuple[int, bytes, int, int]:
    """Time [ns], bytes, length on the wire, link type."""
    if isinstance(given, bytes | bytearray | memoryview):
        data = bytes(given)  # of a memoryview of numbers there are more than its length
        return n * 1000, data, len(data), link
    if isinstance(given, tuple) and len(given) == 2 and isinstance(given[0], int) and isinstance(given[1], bytes):
        return given[0], given[1], len(given[1]), link
    if isinstance(given, ZcFrame):
        return given.ts, bytes(given.data), given.length, given.link
    found = taken_apart(given)
    if found is None:
        raise SourceError(f"frames[{n}]: {type(given).__name__} is no frame: give bytes, (time in ns, bytes), ZcFrame, or packets of scapy")
    return found
