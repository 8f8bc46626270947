"""A source without a file: packets of as many connections as one likes, made as they are asked for.

It is walked like a capture. `at`: how many places were passed; `end`: how many there are; `base`: buffer of BURST frames;
`unit`: places of a round, a power of two; `interfaces`: connections, at most that many, for the other places are left out;
`header`: 0 datagrams, 1 TCP conversations, 2 those and a flood of SYNs; `limit`: the place before which all but a few connections
fall silent for longer than any timeout; `device`: a PAUSES record; `shrunk` stays 0.
"""

from __future__ import annotations

import numpy as np

from retina_jit import memory
from retina_jit.ingest.layout import SOURCE
from retina_jit.jit import entry, external, kernel
from retina_jit.memory import load64, store8, store16_be, store32_be
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
LATE = 4096
"""How many others' SYNs a SYN/ACK comes after."""
SYN, ACK, SYN_ACK = 2, 16, 18
UDP, TCP, FLOOD = range(3)
DATA = 6
"""Payload of each TCP packet after the handshake [byte]."""
SILENCE = 3600 * 10**9
"""[ns]"""
FEW = 1024
REST = 16
"""One packet in so many is not of the flood."""


PAUSES = np.dtype(
    [
        ("now", "i8", (2,)),  # a struct timespec
        *[(f"{what}{clock}", "i8") for clock in (0, 1) for what in ("last", "longest", "at")],
    ]
)
"""Longest time between two bursts [ns], and the place at which it ended: by the clock, and by the processor time of the worker."""
PAUSES_AT = memory.at(PAUSES)
MONOTONIC, THREAD = 1, 3

clock_gettime = external("clock_gettime", "int32", "int32", "int64")


@kernel
def _note_pause(pauses, at):
    p = PAUSES_AT(pauses)
    clock_gettime(MONOTONIC, pauses)
    now = load64(pauses) * 1_000_000_000 + load64(pauses + 8)
    if p.last0 and now - p.last0 > p.longest0:
        p.longest0, p.at0 = now - p.last0, at
    p.last0 = now
    clock_gettime(THREAD, pauses)
    now = load64(pauses) * 1_000_000_000 + load64(pauses + 8)
    if p.last1 and now - p.last1 > p.longest1:
        p.longest1, p.at1 = now - p.last1, at
    p.last1 = now


@kernel
def _fill(frame, which, back, far):
    """Write addresses and ports of a connection."""
    client, server = (0x40000000 if far else 0x0A000000) + (which & 0xFFFFFF), 0xC6120000 + (which >> 24)
    store32_be(frame + 26, server if back else client)
    store32_be(frame + 30, client if back else server)
    port = 1024 + (which & 0x7FFF)
    store16_be(frame + 34, 443 if back else port)
    store16_be(frame + 36, port if back else 443)


@kernel
def _fill_tcp(frame, seq, ack, flags, length):
    store16_be(frame + 16, 40 + length)
    store32_be(frame + 38, seq)
    store32_be(frame + 42, ack)
    store8(frame + 47, flags)


@kernel
def _next(s, frame):
    """Write the packet of the next place. Returns 1, or 0 if that has none."""
    at = s.at + 0
    s.at += 1
    round_ = at // s.unit
    if s.header and round_ < 2:
        # Two rounds in one: SYNs, and the answers to earlier ones.
        answer = at & 1
        place = (at >> 1) - LATE * answer
        which = (place * SPREAD) & (s.unit - 1)
        if place < 0 or which >= s.interfaces:
            return 0
        _fill(frame, which, answer != 0, False)
        _fill_tcp(frame, 1, 2 * answer, SYN_ACK if answer else SYN, 0)
        return 1
    # Each round in an order of its own: else the records, in the order of the first round, would be met one after the other.
    which = (at * (SPREAD + round_ * ANOTHER)) & (s.unit - 1)
    if s.header == FLOOD and at % REST:
        _fill(frame, at * SPREAD & 0xFFFFFFFF, False, True)
        _fill_tcp(frame, 1, 0, SYN, 0)
        return 1
    if at >= s.limit:
        which &= FEW - 1
    if which >= s.interfaces:
        return 0
    back = round_ & 1 and s.header != FLOOD
    _fill(frame, which, back, False)
    if s.header == TCP:
        _fill_tcp(frame, 2 + (round_ - 2) // 2 * DATA, 2 + (round_ - 1) // 2 * DATA, ACK, DATA)
    elif s.header == FLOOD:
        _fill_tcp(frame, 2, 2, ACK, 0)
    return 1


@entry
def walk(source, rows, most):
    """Fill rows with the next packets."""
    s = SOURCE_AT(source)
    s.burst_at, s.burst_frames, s.burst_bytes, s.burst_captured = s.at, s.frames, s.bytes, s.captured
    if s.frames & 63 == 0:
        _note_pause(s.device, s.at)
    n = 0
    while n < most and s.at < s.end:
        # The walker is asked in steps of less than a burst: a frame's place is that of its number.
        frame = s.base + (s.frames & 63) * FRAME
        if _next(s, frame) == 0:
            continue
        row = ROW_AT(rows + n * ROW_SIZE)
        s.frames += 1
        s.number += 1
        ts = START + s.at * PAUSE + (SILENCE if s.at > s.limit else 0)
        row.frame, row.ts, row.caplen, row.length, row.link, row.number = frame, ts, 60, 60, 1, s.number
        n += 1
    s.bytes += 60 * n
    s.captured += 60 * n
    if n == 0:
        s.status = DONE
    return n
