"""When captures begin."""

from __future__ import annotations

from retina_jit import memory, objects
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
    row = memory.Region(PACKET.itemsize)
    with open_source(path, peek=True) as source:
        walk = objects.function(source.walk_unit)
        while walk(source.address, row.address, 1) == 0:
            if source.status not in (Status.NEED_INPUT, Status.SHRUNK) or not source.refill():
                return -1
        return int(row.array(PACKET, 1)[0]["ts"])
