"""Walking a pcap file. Source: draft-ietf-opsawg-pcap; the modified format: libpcap's sf-pcap.c describes it.

The file header is read by `retina_jit.ingest.source`; here are the records.
"""

from __future__ import annotations

from retina_jit import memory
from retina_jit.ingest.guard import is_gone
from retina_jit.ingest.layout import HINTS_AHEAD, MAX_CAPLEN, PREFETCH, SOURCE, Reason
from retina_jit.jit import entry, kernel, leaf
from retina_jit.memory import load64, prefetch_read, shift_right
from retina_jit.parsers.wire import u32, u32_le, u64, u64_le
from retina_jit.state.layout import PACKET
from retina_jit.status import Status

FILE_HEADER = 24
WORD = 0xFFFFFFFF
SOURCE_AT, ROW_AT = memory.at(SOURCE), memory.at(PACKET)
ROW_LEN = PACKET.itemsize
DONE, NEED_INPUT, SHRUNK, BROKEN = int(Status.DONE), int(Status.NEED_INPUT), int(Status.SHRUNK), int(Status.BROKEN)
CAPLEN, ZEROS = int(Reason.CAPLEN), int(Reason.ZEROS)


@leaf
def number(span, at, swap):
    """A 32-bit number in the byte order of the file."""
    if swap:
        return u32(span, at)
    return u32_le(span, at)


@leaf
def prefetch_to(ahead, goal):
    """Prefetch every cache line from `ahead` to `goal`; returns how far that came."""
    while ahead < goal:
        prefetch_read(ahead)
        ahead += 64
    return ahead


@leaf
def fill_row(row, at, end, swap, unit, header, link):
    """Fill the row at `row` from the record at `at`, but for its number. Returns (captured, wire length); -1 and 0 if there is none."""
    span = (at, end - at)
    if span[1] < header:
        return -1, 0
    # Two loads for four numbers: where a record ends is known by the second one alone.
    if swap:
        time, lengths = u64(span, 0), u64(span, 8)
        seconds, fraction = shift_right(time, 32), time & WORD
        caplen, length = shift_right(lengths, 32), lengths & WORD
    else:
        time, lengths = u64_le(span, 0), u64_le(span, 8)
        seconds, fraction = time & WORD, shift_right(time, 32)
        caplen, length = lengths & WORD, shift_right(lengths, 32)
    if caplen > MAX_CAPLEN or span[1] - header < caplen or time | lengths == 0:
        return -1, 0
    r = ROW_AT(row)
    r.frame = at + header
    r.ts = seconds * 1_000_000_000 + fraction * unit
    r.caplen = caplen
    r.length = length
    r.link = link
    return caplen, length


@entry
def walk(source, rows, most):
    """Fill up to `most` rows with the next frames. Returns how many; if none, `status` says why.

    Rows hold frame, ts, caplen, length, link and number. The frames stay where they are until the source is refilled.
    """
    s = SOURCE_AT(source)
    s.burst_at = s.at
    s.burst_frames, s.burst_bytes, s.burst_captured = s.frames, s.bytes, s.captured
    if is_gone(source):
        s.status = SHRUNK
        return 0
    at, end, swap, unit, header, link = s.at, s.end, s.swap, s.unit, s.header, s.link
    wire, captured, number_before = s.bytes, s.captured, s.number
    ahead = max(s.ahead, at)
    hints, hints_end, hints_base = s.hints, s.hints_end, s.hints_base
    n = 0
    while n < most:
        if hints < hints_end:
            # Behind the last hint stands an old one: a prefetch for nothing.
            soon = hints_base + (load64(hints + 8 * HINTS_AHEAD) & WORD)
            prefetch_read(soon)
            prefetch_read(soon + 64)
            hints += 8
        else:
            ahead = prefetch_to(ahead, at + PREFETCH)
        row = rows + n * ROW_LEN
        caplen, length = fill_row(row, at, end, swap, unit, header, link)
        if caplen < 0:
            break
        n += 1
        ROW_AT(row).number = number_before + n
        wire += length
        captured += caplen
        at += header + caplen
    s.at, s.ahead, s.hints, s.bytes, s.captured = at, ahead, hints, wire, captured
    s.frames += n
    s.number += n
    if n == 0:
        stop(source)
    return n


@kernel
def stop(source):
    """Set the status of a source whose next record cannot be given out."""
    s = SOURCE_AT(source)
    span = (s.at, s.end - s.at)
    header = s.header
    if span[1] >= header:
        caplen = number(span, 8, s.swap)
        if caplen > MAX_CAPLEN:
            s.status, s.reason = BROKEN, CAPLEN
            return 0
        if number(span, 0, s.swap) | number(span, 4, s.swap) | caplen | number(span, 12, s.swap) == 0:
            # A mapped file that became shorter within its last page reads as zeros, with no fault.
            s.status, s.reason = SHRUNK if s.guard else BROKEN, ZEROS
            return 0
    if not s.final:
        s.status = NEED_INPUT
        return 0
    s.status = DONE
    if span[1] > 0:
        s.cut = 1
    return 0
