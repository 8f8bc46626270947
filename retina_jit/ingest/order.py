"""When captures begin."""

from __future__ import annotations

import os
import stat
import struct

from retina_jit import memory, objects
from retina_jit.ingest.formats import WALK_PCAP, pcap_header, walker
from retina_jit.ingest.layout import MAX_CAPLEN
from retina_jit.ingest.linktypes import is_supported
from retina_jit.ingest.source import open_source
from retina_jit.state.layout import PACKET
from retina_jit.status import Status


def first_time(path: str) -> int:
    """Return the time of a capture's first packet [ns since 1970]; -1 without any.

    Raises
    ------
    SourceError
        It cannot be opened, or is no capture.
    """
    if (found := _of_plain_pcap(path)) is not None:
        return found
    row = memory.Region(PACKET.itemsize)
    with open_source(path, peek=True) as source:
        walk = objects.function(source.walk_unit)
        while walk(source.address, row.address, 1) == 0:
            if source.status not in (Status.NEED_INPUT, Status.SHRUNK) or not source.refill():
                return -1
        return int(row.array(PACKET, 1)[0]["ts"])


def _of_plain_pcap(path: str) -> int | None:
    """Say it of a plain pcap file whose first record is whole, with a single read: an archive may be ten thousand files."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError:
        return None
    try:
        found = os.fstat(fd)
        head = os.pread(fd, 24 + 16, 0) if stat.S_ISREG(found.st_mode) else b""
    except OSError:
        return None
    finally:
        os.close(fd)
    if len(head) < 24 + 16 or walker(head) != WALK_PCAP:
        return None
    swap, unit, header, link = pcap_header(head)
    seconds, fraction, caplen, _ = struct.unpack_from((">" if swap else "<") + "4I", head, 24)
    if not is_supported(link) or not 0 < caplen <= min(MAX_CAPLEN, found.st_size - 24 - header):
        return None
    return int(seconds) * 1_000_000_000 + int(fraction) * unit
