"""A source without a file: packets of as many connections as one likes, made as they are asked for.

It is walked like a capture. `at`: how many places were passed; `end`: how many there are; `base`: buffer of BURST frames;
`unit`: places of a round, a power of two; `interfaces`: connections, at most that many, for the other places are left out;
`header`: 0 datagrams, 1 TCP conversations, 2 SYNs alone; `shrunk` stays 0.
"""

from __future__ import annotations

from retina_jit import memory
from retina_jit.ingest.layout import SOURCE
from retina_jit.jit import entry
from retina_jit.memory import store8, store16_be, store32_be
from retina_jit.state.layout import PACKET
from retina_jit.status import Status

SOURCE_AT, ROW_AT = memory.at(SOURCE), memory.at(PACKET)
ROW_SIZE = PACKET.itemsize
DONE = int(Status.DONE)
FRAME = 64
START = 1_700_000_000_000_000_000
SPREAD, ANOTHER = 0x9E3779B1, 0x2C1B3C6E
PAUSE = 100
"""Between two packets [ns]."""


@entry
def walk(source, rows, most):
    """Fill rows with the next packets: each round goes once through all connections, in an order without pattern."""
    s = SOURCE_AT(source)
    s.burst_at, s.burst_frames, s.burst_bytes, s.burst_captured = s.at, s.frames, s.bytes, s.captured
    n = 0
    while n < most and s.at < s.end:
        round_ = s.at // s.unit
        # Each round in an order of its own: else the records, in the order of the first round, would be met one after the other.
        which = (s.at * (SPREAD + round_ * ANOTHER)) & (s.unit - 1)
        if which >= s.interfaces:
            s.at += 1
            continue
        # The walker is asked in steps of less than a burst: a frame's place is that of its number.
        frame = s.base + (s.frames & 63) * FRAME
        back = s.header != 2 and round_ & 1
        client, server = 0x0A000000 + (which & 0xFFFFFF), 0xC6120000 + (which >> 24)
        store32_be(frame + 26, server if back else client)
        store32_be(frame + 30, client if back else server)
        port = 1024 + (which & 0x7FFF)
        store16_be(frame + 34, 443 if back else port)
        store16_be(frame + 36, port if back else 443)
        if s.header:
            store32_be(frame + 38, round_ // 2 + 1)
            store32_be(frame + 42, (round_ + 1) // 2 + (0 if round_ == 0 else 1))
            flags = 16
            if round_ == 0 or s.header == 2:
                flags = 2
            elif round_ == 1:
                flags = 18
            store8(frame + 47, flags)
        row = ROW_AT(rows + n * ROW_SIZE)
        s.at += 1
        s.frames += 1
        s.number += 1
        row.frame, row.ts, row.caplen, row.length, row.link, row.number = frame, START + s.at * PAUSE, 60, 60, 1, s.number
        n += 1
    s.bytes += 60 * n
    s.captured += 60 * n
    if n == 0:
        s.status = DONE
    return n
