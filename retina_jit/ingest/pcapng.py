"""Walking a pcapng file. Source: draft-ietf-opsawg-pcapng.

Sections, interfaces and packets (enhanced, simple, obsolete) are understood; all other blocks are stepped over. A section
header always begins a burst of its own, so that going back to where a burst began (`CaptureSource.refill`) never needs the
interfaces of an earlier section.
"""

from __future__ import annotations

from retina_jit import memory
from retina_jit.ingest.guard import is_gone
from retina_jit.ingest.layout import (
    INTERFACE,
    MAX_BLOCK,
    MAX_CAPLEN,
    MAX_INTERFACES,
    PREFETCH,
    SOURCE,
    Reason,
)
from retina_jit.ingest.pcap import number, prefetch_to
from retina_jit.jit import entry, kernel, leaf
from retina_jit.memory import shift_right
from retina_jit.parsers.packet.link import is_known
from retina_jit.parsers.wire import u8, u16, u16_le, u32, u64, u64_le
from retina_jit.state.layout import PACKET
from retina_jit.status import Status

SOURCE_AT, ROW_AT, INTERFACE_AT = memory.at(SOURCE), memory.at(PACKET), memory.at(INTERFACE)
ROW_LEN, INTERFACE_LEN = PACKET.itemsize, INTERFACE.itemsize
DONE, NEED_INPUT, SHRUNK, BROKEN = int(Status.DONE), int(Status.NEED_INPUT), int(Status.SHRUNK), int(Status.BROKEN)
BLOCK, TRAILER, BYTE_ORDER, VERSION, NO_INTERFACE, INTERFACES, RESOLUTION, ZEROS, CAPLEN, TOO_LONG = (
    int(Reason.BLOCK), int(Reason.TRAILER), int(Reason.BYTE_ORDER), int(Reason.VERSION), int(Reason.NO_INTERFACE),
    int(Reason.INTERFACES), int(Reason.RESOLUTION), int(Reason.ZEROS), int(Reason.CAPLEN), int(Reason.PACKET),
)  # fmt: skip

SECTION, DESCRIPTION, OBSOLETE_PACKET, SIMPLE_PACKET, ENHANCED_PACKET = 0x0A0D0D0A, 1, 2, 3, 6
ORDER_MARK = 0x1A2B3C4D
IF_TSRESOL, IF_TSOFFSET = 9, 14
SECOND = 1_000_000_000

GO_ON, STOP = 0, -1
"""What reading a block gives beside a reason (above zero): STOP is a block that is not whole."""


@leaf
def short(span, at, swap):
    """A 16-bit number in the byte order of the section."""
    if swap:
        return u16(span, at)
    return u16_le(span, at)


@leaf
def block_length(span, swap):
    """Length of the block that `span` begins with; 0 if not yet known, or minus a reason."""
    if span[1] < 12:
        return 0
    total = number(span, 4, swap)
    if total < 12 or total > MAX_BLOCK or total & 3:
        if total == 0 and number(span, 0, swap) == 0:
            return -ZEROS
        return -BLOCK
    if span[1] < total:
        return 0
    if number(span, total - 4, swap) != total:
        # A mapped file that became shorter within its last page reads as zeros there.
        return -ZEROS if number(span, total - 4, swap) == 0 else -TRAILER
    return total


@leaf
def to_ns(interface, ticks):
    """Capture time [ns] of a time stamp of an interface."""
    i = INTERFACE_AT(interface)
    multiply, divide = i.multiply, i.divide
    if multiply:
        return ticks * multiply + i.offset
    if divide:
        # Ticks are unsigned: halve first, for every divisor is even.
        return shift_right(ticks, 1) // (divide >> 1) + i.offset
    shift = i.shift
    whole = shift_right(ticks, shift) if shift < 64 else 0
    rest = ticks & ((1 << shift) - 1) if shift < 63 else ticks
    if shift > 33:  # the product below has to fit 63 bits
        rest = shift_right(rest, shift - 33) if shift - 33 < 64 else 0
        shift = 33
    return whole * SECOND + ((rest * SECOND) >> shift) + i.offset


@entry
def walk(source, rows, most):
    """Fill up to `most` rows with the next frames; see `retina_jit.ingest.pcap.walk`."""
    s = SOURCE_AT(source)
    s.burst_at = s.at
    s.burst_interfaces, s.burst_unknown = s.interface_count, s.unknown
    s.burst_frames, s.burst_bytes, s.burst_captured = s.frames, s.bytes, s.captured
    if is_gone(source):
        s.status = SHRUNK
        return 0
    at, end, swap, table, count = s.at, s.end, s.swap, s.interfaces, s.interface_count
    wire, captured, number_before, last = s.bytes, s.captured, s.number, s.ts
    ahead = max(s.ahead, at)
    unknown = 0
    why = GO_ON
    n = 0
    while n < most:
        ahead = prefetch_to(ahead, at + PREFETCH)
        span = (at, end - at)
        # A section header reads the same in both byte orders, and tells which one its section has.
        if span[1] >= 12 and number(span, 0, 0) == SECTION:
            if n or span[1] < 28:
                break
            why = begin_section(source, span)
            if why:
                break
            swap, count = s.swap, 0
        total = block_length(span, swap)
        if total <= 0:
            why = -total if total else STOP
            break
        kind = number(span, 0, swap)
        if kind == ENHANCED_PACKET or kind == OBSOLETE_PACKET or kind == SIMPLE_PACKET:
            interface = 0
            data = 28
            if kind == SIMPLE_PACKET:
                data = 12
            elif kind == ENHANCED_PACKET:
                interface = number(span, 8, swap)
            else:
                interface = short(span, 8, swap)
            if interface >= count:
                why = NO_INTERFACE
                break
            i = INTERFACE_AT(table + interface * INTERFACE_LEN)
            room = total - data - 4
            if room < 0:
                why = BLOCK
                break
            if kind == SIMPLE_PACKET:
                # It has no time stamp and no captured length: what the snapshot length leaves of the packet.
                length = number(span, 8, swap)
                caplen = length
                if 0 < i.snaplen < caplen:
                    caplen = i.snaplen
                caplen = min(caplen, room)
                ts = last
            else:
                ts = to_ns(table + interface * INTERFACE_LEN, (number(span, 12, swap) << 32) | number(span, 16, swap))
                caplen = number(span, 20, swap)
                length = number(span, 24, swap)
                if caplen > room:
                    why = TOO_LONG
                    break
            if caplen > MAX_CAPLEN:
                why = CAPLEN
                break
            row = ROW_AT(rows + n * ROW_LEN)
            n += 1
            row.frame = at + data
            row.ts = ts
            row.caplen = caplen
            row.length = length
            row.link = i.link
            if i.unknown:
                unknown += 1
                s.unknown_link = i.link
            row.number = number_before + n
            last = ts
            wire += length
            captured += caplen
        elif kind == DESCRIPTION:
            why = describe_interface(table, count, (at, total), swap)
            if why:
                break
            count += 1
        at += total
    s.at, s.ahead, s.bytes, s.captured, s.ts, s.interface_count = at, ahead, wire, captured, last, count
    s.frames += n
    s.number += n
    s.unknown += unknown
    if n == 0:
        stop(source, why)
    return n


@kernel
def begin_section(source, span):
    """Take the byte order of a section header. Returns GO_ON, or why it is none."""
    s = SOURCE_AT(source)
    if u32(span, 8) == ORDER_MARK:
        s.swap = 1
    elif number(span, 8, 0) == ORDER_MARK:
        s.swap = 0
    else:
        return BYTE_ORDER
    if short(span, 12, s.swap) != 1:
        return VERSION
    return GO_ON


@kernel
def describe_interface(table, position, block, swap):
    """Read an interface description into the table. Returns GO_ON or why not."""
    if position >= MAX_INTERFACES:
        return INTERFACES
    if block[1] < 20:
        return BLOCK
    i = INTERFACE_AT(table + position * INTERFACE_LEN)
    i.link = short(block, 8, swap)
    i.unknown = 0 if is_known(i.link) else 1
    i.snaplen = number(block, 12, swap)
    resolution, offset = 6, 0
    at, end = 16, block[1] - 4
    while at + 4 <= end:
        code, length = short(block, at, swap), short(block, at + 2, swap)
        at += 4
        if code == 0 or at + length > end:
            break
        if code == IF_TSRESOL and length >= 1:
            resolution = u8(block, at)
        elif code == IF_TSOFFSET and length >= 8:
            offset = u64(block, at) if swap else u64_le(block, at)
        at += (length + 3) & ~3
    i.offset = offset * SECOND
    i.multiply, i.divide, i.shift = 0, 0, 0
    if resolution & 0x80:
        i.shift = resolution & 0x7F
    elif resolution <= 9:
        unit = 1
        for _ in range(9 - resolution):
            unit *= 10
        i.multiply = unit
    elif resolution <= 18:
        unit = 1
        for _ in range(resolution - 9):
            unit *= 10
        i.divide = unit
    else:
        return RESOLUTION
    return GO_ON


@kernel
def stop(source, why):
    """Set the status of a source that gives no frame, for the reason `why`."""
    s = SOURCE_AT(source)
    if why > 0:
        s.reason = why
        s.status = SHRUNK if s.guard and why == ZEROS else BROKEN
    elif not s.final:
        s.status = NEED_INPUT
    else:
        s.status = DONE
        if s.end > s.at:
            s.cut = 1
    return 0
